//! HTTP/2 without TLS, by prior knowledge.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{Connection, Http2, Node, PATIENCE, Poller, assert_eventually, frames};
use serde_json::json;
use std::{process::Command, time::Duration};
use tokio::time::Instant;

/// What an HTTP/2 connection begins with, and the client's settings: none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The head of a frame of settings, as the server's begin: length aside.
const SETTINGS_KIND: u8 = 4;

const POLLS: usize = 50;

async fn node() -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "60")
        .flag("poll_keepalive_timeout", "2")
        .spawn()
        .await
}

async fn parked(node: &Node, polls: usize) -> Result<()> {
    assert_eventually!(node.metric("parked_polls").await? == polls as f64, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn fifty_polls_wait_on_one_connection_and_all_are_answered() -> Result<()> {
    let node = node().await?;
    let mut client = Http2::open(node.address()).await?;
    let mut ids = Vec::new();
    for _ in 0..POLLS {
        ids.push(client.subscribed(&["a"]).await?);
    }
    for round in 0..3 {
        let mut polls = Vec::new();
        for id in &ids {
            polls.push(client.poll(Some(id), "").await?);
        }
        parked(&node, POLLS).await?;
        // The poll's connection, and that which asks for the metrics.
        assert_eventually!(node.metric("connections").await? == 2.0, PATIENCE);
        node.publish("a", &json!(round)).await?;
        for poll in polls {
            assert_eq!(poll.messages().await?, [json!(round)]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_poll_that_is_taken_back_disturbs_no_other_and_loses_nothing() -> Result<()> {
    let node = node().await?;
    let mut client = Http2::open(node.address()).await?;
    let first = client.subscribed(&["a"]).await?;
    let second = client.subscribed(&["a"]).await?;
    for number in 0..10 {
        let taken_back = client.poll(Some(&first), "").await?;
        let other = client.poll(Some(&second), "").await?;
        parked(&node, 2).await?;
        taken_back.abort();
        // Half of the time the message comes before the node knows.
        if number % 2 == 0 {
            parked(&node, 1).await?;
        }
        node.publish("a", &json!(number)).await?;
        assert_eq!(other.messages().await?, [json!(number)]);
        let again = client.poll(Some(&first), "").await?;
        assert_eq!(again.messages().await?, [json!(number)]);
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_finds_no_window_comes_back() -> Result<()> {
    let node = Node::builder()
        .flag("poll_write_timeout", "1")
        .flag("poll_interval", "60")
        .spawn()
        .await?;
    let mut client = Http2::open(node.address()).await?;
    let id = client.subscribed(&["a"]).await?;
    // This one takes a hundred bytes of an answer and then no more.
    let mut slow = Http2::with_window(node.address(), 100).await?;
    let mut stuck = slow.poll(Some(&id), "").await?;
    parked(&node, 1).await?;
    let long = json!("x".repeat(10_000));
    node.publish("a", &long).await?;
    stuck.head().await?;
    // Its connection is given up, and the batch is there for another.
    assert_eventually!(
        node.metric("timeout_server_msg_total").await? == 1.0,
        PATIENCE
    );
    let again = client.poll(Some(&id), "").await?;
    assert_eq!(again.messages().await?, [long]);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_gives_its_polls_back() -> Result<()> {
    let node = node().await?;
    let mut client = Http2::open(node.address()).await?;
    let id = client.subscribed(&["a"]).await?;
    let _waiting = client.poll(Some(&id), "").await?;
    parked(&node, 1).await?;
    drop(client);
    parked(&node, 0).await?;
    node.publish("a", &json!(1)).await?;
    let mut client = Http2::open(node.address()).await?;
    let again = client.poll(Some(&id), "").await?;
    assert_eq!(again.messages().await?, [json!(1)]);
    Ok(())
}

#[tokio::test]
async fn events_stream_beside_polls() -> Result<()> {
    let node = node().await?;
    let mut client = Http2::open(node.address()).await?;
    let mut events = client.send("GET", "/events?stream=a", &[], "").await?;
    let (status, headers) = events.head().await?;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
    let id = client.subscribed(&["a"]).await?;
    let poll = client.poll(Some(&id), "").await?;
    parked(&node, 1).await?;
    node.publish("a", &json!("hello")).await?;
    assert_eq!(poll.messages().await?, [json!("hello")]);
    let mut seen = String::new();
    while !seen.contains("data: hello\n") {
        let bytes = events.bytes().await?.context("the stream ended")?;
        seen.push_str(&String::from_utf8(bytes.to_vec())?);
    }
    events.abort();
    assert_eventually!(node.metric("sse_clients_num").await? == 0.0, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn every_door_is_there() -> Result<()> {
    let node = Node::builder().own_broadcast_port().spawn().await?;
    let mut client = Http2::open(node.address()).await?;
    for (method, target, status) in [
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/lp", 405),
        ("OPTIONS", "/lp", 204),
        ("POST", "/_broadcast", 404),
        // Spoken over HTTP/1.1 only.
        ("GET", "/cable", 426),
    ] {
        let answer = client.send(method, target, &[], "").await?.answer().await?;
        assert_eq!(answer.0, status, "{method} {target}");
        assert!(!answer.1.contains_key("connection"), "{method} {target}");
    }
    let mut publisher = Http2::open(node.broadcast_address()).await?;
    let body = frames::publication("a", &json!(1));
    // A page of the node's own: its host is the request's authority.
    let origin = format!("http://{}", node.broadcast_address());
    let headers = [("origin", origin.as_str())];
    let stream = publisher.send("POST", "/_broadcast", &headers, &body);
    assert_eq!(stream.await?.answer().await?.0, 201);
    let headers = [("origin", "http://evil.example")];
    let stream = publisher.send("POST", "/_broadcast", &headers, &body);
    assert_eq!(stream.await?.answer().await?.0, 403);
    Ok(())
}

#[tokio::test]
async fn curl_speaks_it() -> Result<()> {
    let node = node().await?;
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--http2-prior-knowledge"])
        .args(["--write-out", "%{http_version} %{http_code}"])
        .args(["--data", "", &format!("{}/lp", node.url())]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("\"type\":\"welcome\""), "{text}");
    assert!(text.ends_with("2 200"), "{text}");
    Ok(())
}

/// Whether the server's first frame is of settings.
async fn greeted(connection: &mut Connection) -> Result<bool> {
    Ok(connection.bytes(9).await?.get(3) == Some(&SETTINGS_KIND))
}

#[tokio::test]
async fn a_preface_may_come_byte_by_byte() -> Result<()> {
    let node = Node::builder().own_broadcast_port().spawn().await?;
    for address in [node.address(), node.broadcast_address()] {
        let mut connection = Connection::open(address).await?;
        for byte in PREFACE {
            connection.send_bytes(&[*byte]).await?;
            // Each in a read of its own, as far as a client can see to that.
            node.get("/health").await?;
        }
        connection.send_bytes(SETTINGS).await?;
        assert!(greeted(&mut connection).await?, "{address}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_finish_the_preface_is_not_waited_for() -> Result<()> {
    let node = Node::builder()
        .own_broadcast_port()
        .flag("header_read_timeout", "1")
        .spawn()
        .await?;
    for address in [node.address(), node.broadcast_address()] {
        for start in [&PREFACE[..3], &PREFACE[..20]] {
            let mut connection = Connection::open(address).await?;
            connection.send_bytes(start).await?;
            connection.closed_within(PATIENCE).await?;
        }
    }
    // The preface alone is no request either, nor are settings.
    for bytes in [PREFACE.to_vec(), [PREFACE, SETTINGS].concat()] {
        let mut connection = Connection::open(node.address()).await?;
        connection.send_bytes(&bytes).await?;
        assert!(greeted(&mut connection).await?);
        assert_eventually!(node.metric("connections").await? == 1.0, PATIENCE);
    }
    Ok(())
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() -> Result<()> {
    let node = node().await?;
    let mut other = Poller::subscribed(&node, &["a"]).await?;
    for garbage in [
        [PREFACE, b"GET /health HTTP/1.1\r\n\r\n".as_slice()].concat(),
        [PREFACE, SETTINGS, &[0xff; 64]].concat(),
        [PREFACE, SETTINGS, &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x80]].concat(),
        [PREFACE, SETTINGS, &[0, 0, 1, 0, 0, 0, 0, 0, 7, 1]].concat(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        b"PRI / HTTP/1.1\r\n\r\nSM\r\n\r\n".to_vec(),
    ] {
        let mut connection = Connection::open(node.address()).await?;
        connection.send_bytes(&garbage).await?;
        assert!(connection.readable_within(PATIENCE).await?);
        // What it says, and then its end: nobody waits for such a client.
        assert_eventually!(node.metric("connections").await? <= 2.0, PATIENCE);
    }
    node.publish("a", &json!(1)).await?;
    assert_eq!(other.messages(1).await?, [json!(1)]);
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_answers_its_polls_and_ends_its_connections() -> Result<()> {
    let mut node = node().await?;
    let mut client = Http2::open(node.address()).await?;
    let mut polls = Vec::new();
    for _ in 0..10 {
        let id = client.subscribed(&["a"]).await?;
        polls.push(client.poll(Some(&id), "").await?);
    }
    parked(&node, 10).await?;
    // Neither a client that never asked for anything nor one that does not
    // answer holds it up.
    let _idle = Http2::open(node.address()).await?;
    let mut deaf = Connection::open(node.address()).await?;
    deaf.send_bytes(&[PREFACE, SETTINGS].concat()).await?;
    assert!(greeted(&mut deaf).await?);
    let start = Instant::now();
    node.ask_to_stop()?;
    for poll in polls {
        let (status, _, body) = poll.answer().await?;
        assert_eq!(status, 200);
        assert!(String::from_utf8(body)?.contains("server_restart"));
    }
    client.ended().await?;
    assert_eq!(node.wait(PATIENCE).await?.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}
