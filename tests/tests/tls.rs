//! TLS on a node's ports.

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use pollux_testkit::{
    Certificates, Connection, Leave, Node, NodeBuilder, PATIENCE, Request, Response, Secure,
    assert_eventually, frames, free_port, run,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

/// The bytes with which a record of the handshake begins, and its length.
const HALF_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1];

const ABORTS: u64 = 100;
/// As in the tests of polls without TLS.
const SPREAD: Duration = Duration::from_micros(1_500);

/// Certificates in a folder of their own.
struct Issued {
    certificates: Certificates,
    folder: TempDir,
}

impl Issued {
    fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let certificates = Certificates::make(folder.path())?;
        Ok(Self {
            certificates,
            folder,
        })
    }

    fn node(&self) -> NodeBuilder {
        with_files(
            &self.certificates.server_certificate(),
            &self.certificates.server_key(),
        )
    }

    async fn open(&self, node: &Node) -> Result<Secure> {
        Secure::open(node.address(), &[&self.certificates]).await
    }

    async fn metric(&self, node: &Node, name: &str) -> Result<f64> {
        let page = self
            .open(node)
            .await?
            .ask(&Request::get("/metrics"))
            .await?;
        let line = page
            .text()?
            .lines()
            .find_map(|line| line.strip_prefix("pollux_")?.strip_prefix(name));
        Ok(line.context("no such metric")?.trim().parse()?)
    }

    async fn publish(&self, node: &Node, stream: &str, data: Value) -> Result<()> {
        let address = node.broadcast_address();
        let mut publisher = Secure::open(address, &[&self.certificates]).await?;
        let request = node.broadcast_request(&frames::publication(stream, &data));
        ensure!(publisher.ask(&request).await?.status == 201, "not accepted");
        Ok(())
    }

    async fn curl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.certificates.ca())
            .args(arguments);
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }
}

fn with_files(cert: &Path, key: &Path) -> NodeBuilder {
    Node::builder()
        .flag("ssl_cert", &cert.to_string_lossy())
        .flag("ssl_key", &key.to_string_lossy())
        .flag("poll_flush_interval", "0")
}

fn poll(id: Option<&str>, body: &str) -> Request {
    let request = Request::post("/lp").body(body);
    match id {
        Some(id) => request.header("X-Anycable-Poll-ID", id),
        None => request,
    }
}

/// Opens a session that hears `a`, and returns its id.
async fn subscribed(client: &mut Secure) -> Result<String> {
    let opened = client.ask(&poll(None, "")).await?;
    let id = opened
        .header("x-anycable-poll-id")
        .context("no id")?
        .to_owned();
    let subscribe = frames::subscribe(&frames::public("a"));
    let confirmed = client.ask(&poll(Some(&id), &subscribe)).await?;
    ensure!(frames::kinds(&confirmed.frames()?) == ["confirm_subscription"]);
    Ok(id)
}

fn messages(response: &Response) -> Result<Vec<Value>> {
    Ok(frames::messages(&response.frames()?))
}

#[tokio::test]
async fn curl_polls_and_publishes_over_both_versions_of_http() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued.node().own_broadcast_port().spawn().await?;
    let poll = format!("https://{}/lp", node.address());
    let publish = format!("https://{}/_broadcast", node.broadcast_address());
    for (number, (flag, version)) in [("--http1.1", "1.1"), ("--http2", "2")].iter().enumerate() {
        let opened = issued
            .curl(&[flag, "--include", "--data", "", &poll])
            .await?;
        let said = String::from_utf8(opened.stdout)?;
        assert!(said.starts_with(&format!("HTTP/{version} 200")), "{said}");
        let line = said
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("x-anycable-poll-id:"));
        let (_, id) = line
            .and_then(|line| line.split_once(": "))
            .context("no id")?;
        let header = format!("X-Anycable-Poll-ID: {id}");
        let subscribe = frames::subscribe(&frames::public("a"));
        let ask = async |body: &str| {
            let arguments = [flag, "--header", &header, "--data", body, &poll];
            anyhow::Ok(String::from_utf8(issued.curl(&arguments).await?.stdout)?)
        };
        assert!(ask(&subscribe).await?.contains("confirm_subscription"));
        let publication = frames::publication("a", &json!(number));
        let both = async {
            assert_eventually!(issued.metric(&node, "parked_polls").await? == 1.0, PATIENCE);
            issued.curl(&[flag, "--data", &publication, &publish]).await
        };
        let (answer, published) = tokio::join!(ask(""), both);
        assert!(published?.status.success());
        assert!(answer?.contains(&format!("\"message\":{number}")));
    }
    Ok(())
}

#[tokio::test]
async fn events_stream_to_curl() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued.node().spawn().await?;
    let url = format!("https://{}/events?stream=a", node.address());
    for flag in ["--http1.1", "--http2"] {
        // Its end is curl's.
        let arguments = ["--no-buffer", "--max-time", "3", flag, &url];
        let listen = issued.curl(&arguments);
        let publish = async {
            assert_eventually!(
                issued.metric(&node, "sse_clients_num").await? == 1.0,
                PATIENCE
            );
            issued.publish(&node, "a", json!("hello")).await
        };
        let (heard, published) = tokio::join!(listen, publish);
        published?;
        let heard = String::from_utf8(heard?.stdout)?;
        assert!(heard.contains("data: hello\n"), "{heard}");
    }
    Ok(())
}

#[tokio::test]
async fn sockets_work() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued.node().spawn().await?;
    let stream = issued.open(&node).await?.into_inner();
    let mut request = format!("wss://{}/cable", node.address()).into_client_request()?;
    let protocol = HeaderValue::from_static("actioncable-v1-json");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let (mut socket, _) = Box::pin(client_async(request, stream)).await?;
    let subscribe = frames::subscribe(&frames::public("a"));
    socket.send(Message::text(subscribe)).await?;
    let mut seen = Vec::new();
    while !seen.iter().any(|kind| kind == "confirm_subscription") {
        seen.push(next(&mut socket).await?["type"].clone());
    }
    issued
        .publish(&node, "a", json!("x".repeat(100_000)))
        .await?;
    loop {
        let frame = next(&mut socket).await?;
        if frame.get("message").is_some() {
            assert_eq!(frame["message"], json!("x".repeat(100_000)));
            break;
        }
    }
    socket.close(None).await?;
    assert_eventually!(
        issued.metric(&node, "websocket_clients_num").await? == 0.0,
        PATIENCE
    );
    Ok(())
}

async fn next<S>(socket: &mut S) -> Result<Value>
where
    S: futures_util::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    let message = timeout(PATIENCE, socket.next()).await?;
    let message = message.context("the socket ended")??;
    Ok(serde_json::from_str(message.to_text()?)?)
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_or_dropped_and_harms_nobody() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued
        .node()
        .flag("header_read_timeout", "2")
        .spawn()
        .await?;
    let mut healthy = issued.open(&node).await?;
    let id = subscribed(&mut healthy).await?;
    healthy.send(&poll(Some(&id), "")).await?;
    let mut plain = Connection::open(node.address()).await?;
    let answer = plain.ask(&Request::get("/health")).await?;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.text()?, "this port speaks HTTPS\n");
    plain.closed_within(PATIENCE).await?;
    let mut failures = 1.0;
    for bytes in [HALF_HELLO, &[0; 3], &[22, 3, 1, 0, 1, 99], b"\x16\x03"] {
        let mut connection = Connection::open(node.address()).await?;
        let start = Instant::now();
        connection.send_bytes(bytes).await?;
        failures += 1.0;
        assert_eventually!(
            issued.metric(&node, "tls_handshake_failures_total").await? == failures,
            PATIENCE
        );
        assert!(start.elapsed() < Duration::from_secs(10), "{bytes:?}");
    }
    // A look whether the port is open is no failure.
    drop(Connection::open(node.address()).await?);
    // The poll's connection, and that of the question.
    assert_eventually!(issued.metric(&node, "connections").await? == 2.0, PATIENCE);
    assert_eq!(
        issued.metric(&node, "tls_handshake_failures_total").await?,
        failures
    );
    issued.publish(&node, "a", json!(1)).await?;
    assert_eq!(messages(&healthy.response().await?)?, [json!(1)]);
    // It is idle now.
    healthy.ended().await
}

#[tokio::test]
async fn a_connection_too_many_is_closed() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued.node().flag("max_connections", "1").spawn().await?;
    let mut first = issued.open(&node).await?;
    assert_eq!(first.ask(&Request::get("/health")).await?.status, 200);
    let mut second = Connection::open(node.address()).await?;
    second.closed_within(PATIENCE).await?;
    assert_eq!(first.ask(&Request::get("/health")).await?.status, 200);
    Ok(())
}

/// Polls until a message comes. Earlier ones may come again before it.
async fn wait_for(issued: &Issued, node: &Node, id: &str, number: u64) -> Result<()> {
    let mut client = issued.open(node).await?;
    loop {
        for message in messages(&client.ask(&poll(Some(id), "")).await?)? {
            match message.as_u64() {
                Some(seen) if seen == number => return Ok(()),
                Some(seen) if seen < number => {}
                _ => anyhow::bail!("a message from nowhere: {message}"),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_crosses_the_end_of_its_connection_is_not_lost() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued.node().flag("poll_interval", "2").spawn().await?;
    let mut publisher = issued.open(&node).await?;
    for how in [Leave::Politely, Leave::Silently, Leave::Abruptly] {
        let id = subscribed(&mut issued.open(&node).await?).await?;
        for number in 0..ABORTS {
            let mut client = issued.open(&node).await?;
            client.send(&poll(Some(&id), "")).await?;
            assert_eventually!(issued.metric(&node, "parked_polls").await? == 1.0, PATIENCE);
            let publication = frames::publication("a", &number.into());
            publisher
                .send(&node.broadcast_request(&publication))
                .await?;
            let micros = SPREAD.as_micros() as u64 * number / ABORTS;
            // Sleeping is too coarse for this.
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(micros) {
                std::hint::spin_loop();
            }
            client.leave(how).await?;
            assert_eq!(publisher.response().await?.status, 201);
            timeout(PATIENCE, wait_for(&issued, &node, &id, number))
                .await
                .with_context(|| format!("message {number} is lost: {how:?}, {micros} µs"))??;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_was_read_does_not_come_again() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued
        .node()
        .flag("poll_interval", "1")
        .flag("poll_keepalive_timeout", "20")
        .spawn()
        .await?;
    for how in [Leave::Politely, Leave::Silently] {
        for closes in ["keep-alive", "close"] {
            let id = subscribed(&mut issued.open(&node).await?).await?;
            for number in 0..20 {
                let mut client = issued.open(&node).await?;
                let request = poll(Some(&id), "").header("Connection", closes);
                client.send(&request).await?;
                issued.publish(&node, "a", json!(number)).await?;
                let answer = client.response().await?;
                assert_eq!(messages(&answer)?, [json!(number)], "{how:?} {closes}");
                client.leave(how).await?;
                // The connection has ended for the node, too.
                assert_eventually!(issued.metric(&node, "connections").await? == 1.0, PATIENCE);
            }
        }
    }
    assert_eq!(issued.metric(&node, "failed_server_msg_total").await?, 0.0);
    assert_eq!(issued.metric(&node, "redelivered_frames_total").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_nobody_takes_comes_back() -> Result<()> {
    let issued = Issued::new()?;
    let node = issued
        .node()
        .flag("poll_write_timeout", "1")
        .flag("poll_outbox_max_bytes", "16MiB")
        .spawn()
        .await?;
    // More than any socket buffer takes.
    let mut client = issued.open(&node).await?;
    let id = subscribed(&mut client).await?;
    for number in 0..24 {
        let chunk = json!({"n": number, "x": "x".repeat(500_000)});
        issued.publish(&node, "a", chunk).await?;
    }
    client.send(&poll(Some(&id), "")).await?;
    assert_eventually!(
        issued.metric(&node, "timeout_server_msg_total").await? >= 1.0,
        PATIENCE
    );
    let mut other = issued.open(&node).await?;
    let answer = other.ask(&poll(Some(&id), "")).await?;
    assert_eq!(messages(&answer)?.len(), 24);
    client.leave(Leave::Abruptly).await
}

/// Whose certificate new connections see.
async fn shows(address: SocketAddr, issued: &Issued, others: &[&Issued]) -> Result<bool> {
    let mut trusted = vec![&issued.certificates];
    trusted.extend(others.iter().map(|other| &other.certificates));
    Secure::open(address, &trusted)
        .await?
        .met(&issued.certificates)
}

#[tokio::test]
async fn new_certificates_are_for_new_connections() -> Result<()> {
    let (first, second) = (Issued::new()?, Issued::new()?);
    // As Kubernetes does it: links to a link to a folder, which is exchanged.
    let folder = TempDir::new()?;
    let path = |name: &str| folder.path().join(name);
    symlink(first.folder.path(), path("..data"))?;
    symlink("..data/server.crt", path("tls.crt"))?;
    symlink("..data/server.key", path("tls.key"))?;
    let exchange = |target: &Path| -> Result<()> {
        symlink(target, path("..next"))?;
        Ok(fs::rename(path("..next"), path("..data"))?)
    };
    let mut node = with_files(&path("tls.crt"), &path("tls.key"))
        .spawn()
        .await?;
    let address = node.address();
    let mut old = first.open(&node).await?;
    let id = subscribed(&mut old).await?;
    old.send(&poll(Some(&id), "")).await?;
    assert!(old.met(&first.certificates)?);

    exchange(second.folder.path())?;
    node.hang_up()?;
    assert_eventually!(shows(address, &second, &[&first]).await?, PATIENCE);
    second.publish(&node, "a", json!(1)).await?;
    assert_eq!(messages(&old.response().await?)?, [json!(1)]);

    // The key of one and the certificate of the other, then nothing at all.
    let broken = TempDir::new()?;
    fs::copy(
        first.certificates.server_certificate(),
        broken.path().join("server.crt"),
    )?;
    fs::copy(
        second.certificates.server_key(),
        broken.path().join("server.key"),
    )?;
    let complaints = |node: &Node| {
        let lines = node.log().lines();
        let about = |line: &&String| line.contains("the certificate before stays in use");
        lines.iter().filter(about).count()
    };
    exchange(broken.path())?;
    node.hang_up()?;
    assert_eventually!(complaints(&node) == 1, PATIENCE);
    assert!(shows(address, &second, &[]).await?);
    exchange(Path::new("/nowhere"))?;
    node.hang_up()?;
    assert_eventually!(complaints(&node) == 2, PATIENCE);
    node.hang_up()?;
    assert!(shows(address, &second, &[]).await?);

    // Without a signal it takes at most ten seconds.
    exchange(first.folder.path())?;
    assert_eventually!(shows(address, &first, &[&second]).await?, PATIENCE);
    assert_eq!(complaints(&node), 2, "{}", node.log().text());
    Ok(())
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start() -> Result<()> {
    let (first, second) = (Issued::new()?, Issued::new()?);
    let cert = first.certificates.server_certificate();
    let key = first.certificates.server_key();
    let foreign = second.certificates.server_key();
    let missing = first.folder.path().join("missing.pem");
    for (cert, key, said) in [
        (&missing, &key, "failed to read "),
        (&key, &key, "failed to find a certificate in "),
        (&cert, &cert, "failed to find a private key in "),
        (&cert, &foreign, "failed to use the certificate "),
    ] {
        let flags = [
            format!("--ssl_cert={}", cert.display()),
            format!("--ssl_key={}", key.display()),
        ];
        let output = run(&["--port=0", &flags[0], &flags[1]], &[])?;
        let log = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(said), "{log}");
    }
    let output = run(&["--ssl_cert=a.pem"], &[])?;
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("ssl_cert and ssl_key go together"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_health_check_works() -> Result<()> {
    let issued = Issued::new()?;
    let port = free_port()?;
    let node = issued.node().port(port).spawn().await?;
    let (cert, key) = (
        issued.certificates.server_certificate(),
        issued.certificates.server_key(),
    );
    let (port, cert, key) = (
        port.to_string(),
        cert.to_string_lossy(),
        key.to_string_lossy(),
    );
    let variables = [
        ("POLLUX_PORT", &*port),
        ("POLLUX_SSL_CERT", &*cert),
        ("ANYCABLE_SSL_KEY", &*key),
    ];
    let output = run(&["--ignore_config_path", "health"], &variables)?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(
        said,
        format!("https://127.0.0.1:{port}/health: 200 OK, ok\n")
    );
    let url = format!("--url=https://{}/ready", node.address());
    let output = run(&["--ignore_config_path", "health", &url], &[])?;
    assert!(output.status.success(), "{output:?}");
    let url = format!("--url=http://{}/ready", node.address());
    let output = run(&["--ignore_config_path", "health", &url], &[])?;
    let said = String::from_utf8(output.stderr)?;
    assert!(
        said.contains("400 Bad Request, this port speaks HTTPS"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_answers_its_polls() -> Result<()> {
    let issued = Issued::new()?;
    let mut node = issued.node().flag("poll_interval", "60").spawn().await?;
    let mut client = issued.open(&node).await?;
    let id = subscribed(&mut client).await?;
    client.send(&poll(Some(&id), "")).await?;
    let _idle = issued.open(&node).await?;
    let mut half = Connection::open(node.address()).await?;
    half.send_bytes(HALF_HELLO).await?;
    assert_eventually!(issued.metric(&node, "parked_polls").await? == 1.0, PATIENCE);
    let start = Instant::now();
    node.ask_to_stop()?;
    let farewell = client.response().await?;
    assert!(farewell.text()?.contains("server_restart"));
    client.ended().await?;
    assert_eq!(node.wait(PATIENCE).await?.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}
