//! What operators look at.

use anyhow::{Context, Result};
use pollux_testkit::{
    Connection, Node, PATIENCE, Poller, Request, assert_eventually, frames, free_port,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// AnyCable's names, as far as they mean something here, and ours.
const METRICS: [&str; 32] = [
    "failed_auths_total",
    "client_msg_total",
    "failed_client_msg_total",
    "ignored_client_msg_total",
    "server_msg_total",
    "failed_server_msg_total",
    "disconnected_slow_clients_total",
    "publications_total",
    "broadcast_msg_total",
    "failed_broadcast_msg_total",
    "remote_commands_total",
    "data_sent_total",
    "data_rcvd_total",
    "long_poll_stale_requests_total",
    "clients_num",
    "clients_uniq_num",
    "broadcast_streams_num",
    "long_poll_clients_num",
    "sessions",
    "parked_polls",
    "subscriptions",
    "outbox_frames",
    "outbox_bytes",
    "redelivered_frames_total",
    "dropped_frames_total",
    "expired_sessions_total",
    "gaps_total",
    "rejected_subscriptions_total",
    "broker_up",
    "publish_to_answer_seconds_bucket",
    "publish_to_answer_seconds_sum",
    "publish_to_answer_seconds_count",
];

#[tokio::test]
async fn a_node_is_alive_and_ready_from_its_first_answer() -> Result<()> {
    let node = Node::builder().spawn().await?;
    for path in ["/health", "/ready"] {
        let response = node.get(path).await?;
        assert_eq!(response.status, 200, "{path}");
    }
    assert_eq!(node.get("/nowhere").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn every_metric_is_there_from_the_start_with_type_and_help() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let metrics = node.metrics().await?;
    let response = node.get("/metrics").await?;
    let format = response.header("content-type").context("no Content-Type")?;
    assert!(format.starts_with("text/plain"), "{format}");
    for name in METRICS {
        // One that appears with its first event only can't be alerted on.
        assert!(metrics.sum(name).is_some(), "{name} has no sample");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        for line in ["# HELP", "# TYPE"] {
            let line = format!("{line} pollux_{family} ");
            assert!(metrics.text().contains(&line), "{line} is missing");
        }
    }
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let number = line.rsplit(' ').next().unwrap_or_default();
        assert!(number.parse::<f64>().is_ok(), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn metrics_count_what_happens() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.3").spawn().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let _other = Poller::open(&node).await?;
    node.publish("a", &1.into()).await?;
    poller.messages(1).await?;
    assert_eventually!(
        node.metric("publish_to_answer_seconds_count").await? == 1.0,
        PATIENCE
    );
    let metrics = node.metrics().await?;
    let expected = [
        ("sessions", 2.0),
        ("clients_num", 2.0),
        ("clients_uniq_num", 2.0),
        ("long_poll_clients_num", 2.0),
        ("subscriptions", 1.0),
        ("broadcast_streams_num", 1.0),
        ("client_msg_total", 1.0),
        ("publications_total", 1.0),
        ("broadcast_msg_total", 1.0),
        ("server_msg_total", 4.0),
        ("broker_up", 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(metrics.sum(name), Some(value), "{name}");
    }
    assert!(metrics.sum("data_sent_total") > Some(100.0));
    assert!(metrics.sum("data_rcvd_total") > Some(50.0));
    Ok(())
}

#[tokio::test]
async fn the_prefix_and_the_paths_can_be_chosen() -> Result<()> {
    let node = Node::builder()
        .flag("metrics_prefix", "anycable_go_")
        .flag("metrics_http", "/prometheus")
        .flag("health_path", "/alive")
        .flag("ready_path", "/willing")
        .spawn()
        .await?;
    let page = node.get("/prometheus").await?;
    assert!(page.text()?.contains("\nanycable_go_clients_num 0"));
    assert_eq!(node.get("/alive").await?.status, 200);
    assert_eq!(node.get("/willing").await?.status, 200);
    assert_eq!(node.get("/metrics").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn log_lines_are_json_and_keep_secrets() -> Result<()> {
    let secret = "a-secret-nobody-may-see";
    let key = "a-key-nobody-may-see";
    let mut node = Node::builder()
        .switch("noauth")
        .switch("debug")
        .switch("public_streams")
        .flag("secret", secret)
        .flag("broadcast_key", key)
        .flag("poll_interval", "0.3")
        .publish_with_key(key)
        .spawn()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let payload = "words-of-a-private-message";
    node.publish("a", &json!(payload)).await?;
    poller.messages(1).await?;
    poller.exchange(&format!("nonsense {payload}\n")).await?;
    poller
        .exchange(&frames::whisper(&frames::public("x"), &json!(payload)))
        .await?;
    poller
        .exchange(&frames::subscribe(&frames::signed(payload)))
        .await?;
    node.broadcast(&format!("{{\"stream\":\"a\",\"data\":{payload}}}"))
        .await?;
    node.ask(&Request::post("/_broadcast").header("Authorization", "Bearer guess-of-a-key"))
        .await?;
    let stale = format!("{}x", poller.poll_id());
    node.ask(&Request::post("/lp").header("X-Anycable-Poll-ID", &stale))
        .await?;
    node.ask(&Request::post("/lp?jid=token-of-a-user&sid=old-session"))
        .await?;
    poller.park().await?.into_connection().reset()?;
    assert_eq!(node.terminate(PATIENCE).await?.code(), Some(0));

    let lines = node.log().lines();
    assert!(!lines.is_empty());
    for line in &lines {
        let line: Value = serde_json::from_str(line).context(line.clone())?;
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
    let (route, poll_secret) = poller.poll_id().split_once('.').context("no dot")?;
    let hidden = [
        secret,
        key,
        payload,
        poller.poll_id(),
        poll_secret,
        route,
        poller.sid(),
        "guess-of-a-key",
        "token-of-a-user",
        "old-session",
    ];
    for text in hidden {
        let leak = lines.iter().find(|line| line.contains(text));
        assert!(leak.is_none(), "{text} is in the log: {leak:?}");
    }
    Ok(())
}

#[tokio::test]
async fn mistakes_of_clients_cannot_flood_the_log() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.2").spawn().await?;
    let mut poller = Poller::open(&node).await?;
    let before = node.log().lines().len();
    poller.exchange(&"nonsense\n".repeat(5_000)).await?;
    for _ in 0..100 {
        node.broadcast("nonsense").await?;
    }
    let lines = node.log().lines().len() - before;
    assert!(lines < 50, "{lines} lines for 5,100 mistakes");
    Ok(())
}

#[tokio::test]
async fn the_console_can_have_a_port_of_its_own() -> Result<()> {
    let port = free_port()?;
    let node = Node::builder()
        .flag("console_port", &port.to_string())
        .flag("console_host", "127.0.0.1")
        .flag("poll_interval", "0.3")
        .spawn()
        .await?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = async |request: &Request| Connection::once(address, request).await;
    for path in ["/", "/pollux.js", "/metrics", "/health", "/ready"] {
        assert_eq!(ask(&Request::get(path)).await?.status, 200, "{path}");
    }
    // The page polls and publishes where it came from.
    let open = Request::post("/lp").body(frames::subscribe(&frames::public("a")));
    let open = ask(&open).await?;
    assert_eq!(open.status, 200);
    let id = open.header("x-anycable-poll-id").context("no poll id")?;
    let origin = format!("http://{address}");
    let publication = Request::post("/_broadcast")
        .header("Host", &address.to_string())
        .header("Origin", &origin)
        .body(r#"{"stream":"a","data":"1"}"#);
    assert_eq!(ask(&publication).await?.status, 201);
    let poll = Request::post("/lp").header("X-Anycable-Poll-ID", id);
    let frames = ask(&poll).await?.frames()?;
    assert!(
        frames.iter().any(|frame| frame["message"] == 1),
        "{frames:?}"
    );
    // Other clients have no door here.
    for path in [
        "/cable",
        "/events?stream=a",
        "/longpoll/events?category=a&timeout=1",
    ] {
        assert_eq!(ask(&Request::get(path)).await?.status, 404, "{path}");
    }
    for path in ["/", "/pollux.js"] {
        assert_eq!(node.get(path).await?.status, 404, "{path}");
    }
    // They go by metrics_port.
    assert_eq!(node.get("/metrics").await?.status, 200);
    drop(node);

    // One listener for all that operators look at, in a mode that is not open.
    let node = Node::builder()
        .flag("secret", "s3Krit")
        .switch("noauth")
        .flag("broadcast_key", "none")
        .flag("console", "on")
        .flag("console_port", &port.to_string())
        .flag("metrics_port", &port.to_string())
        .flag("max_connections", "8")
        .spawn_ready()
        .await?;
    assert_eq!(ask(&Request::get("/")).await?.status, 200);
    assert_eq!(ask(&Request::get("/metrics")).await?.status, 200);
    // Without a key publishing keeps to the port that it has.
    assert_eq!(ask(&publication).await?.status, 404);
    for path in ["/", "/pollux.js", "/metrics"] {
        assert_eq!(node.get(path).await?.status, 404, "{path}");
    }
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(node.address()).await?;
        assert_eq!(connection.ask(&Request::get("/health")).await?.status, 200);
        held.push(connection);
    }
    assert_eq!(ask(&Request::get("/metrics")).await?.status, 200);
    assert_eq!(ask(&Request::get("/")).await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn the_page_is_in_the_format_that_is_asked_for() -> Result<()> {
    const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
    let port = free_port()?;
    let own = Node::builder()
        .flag("metrics_port", &port.to_string())
        .flag("metrics_host", "127.0.0.1")
        .spawn_ready()
        .await?;
    let node = Node::builder().switch("room").spawn().await?;
    let addresses = [node.address(), SocketAddr::from(([127, 0, 0, 1], port))];
    for (accept, format) in [
        ("application/openmetrics-text", OPEN),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPEN,
        ),
        (
            "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.8",
            CLASSIC,
        ),
        ("application/openmetrics-text;version=2.0.0", CLASSIC),
        ("application/openmetrics-text;q=0", CLASSIC),
        ("text/html,*/*;q=0.8", CLASSIC),
        ("nonsense;;q=x,", CLASSIC),
    ] {
        for address in addresses {
            let request = Request::get("/metrics").header("Accept", accept);
            let page = Connection::once(address, &request).await?;
            assert_eq!(page.status, 200, "{accept}");
            assert_eq!(page.header("content-type"), Some(format), "{accept}");
            assert_eq!(page.header("vary"), Some("accept"), "{accept}");
            let is_open = page.text()?.ends_with("\n# EOF\n");
            assert_eq!(is_open, format == OPEN, "{accept}");
        }
    }
    drop(own);

    // A counter has its ending at the sample, and its family has none.
    let request = Request::get("/metrics").header("Accept", OPEN);
    let page = node.ask(&request).await?;
    for lines in [
        "\n# TYPE pollux_opened_sessions counter\n",
        "\npollux_opened_sessions_total 0.0\n",
        "\npollux_failed_client_msg_total{kind=\"not_json\"} 0.0\n",
        "\npollux_frames_per_answer_bucket{le=\"4096.0\"} 0\n",
        "\npollux_frames_per_answer_bucket{le=\"+Inf\"} 0\n",
        "\n# TYPE vix_ws_lp_polls counter\n",
        "\nvix_ws_lp_polls_total 0.0\n",
        "\n# TYPE process_cpu_seconds counter\n",
    ] {
        assert!(page.text()?.contains(lines), "{lines:?} is missing");
    }

    // Only the head, if only that is asked for.
    let mut socket = TcpStream::connect(node.address()).await?;
    let head =
        format!("HEAD /metrics HTTP/1.1\r\nHost: a\r\nAccept: {OPEN}\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains(OPEN), "{answer}");
    Ok(())
}

#[tokio::test]
async fn metrics_can_have_a_port_of_their_own() -> Result<()> {
    let port = free_port()?;
    let node = Node::builder()
        .flag("metrics_port", &port.to_string())
        .flag("metrics_host", "127.0.0.1")
        .spawn_ready()
        .await?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = async |path: &str| Connection::once(address, &Request::get(path)).await;
    let metrics = ask("/metrics").await?;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text()?.contains("pollux_sessions "));
    assert_eq!(ask("/health").await?.status, 200);
    assert_eq!(ask("/ready").await?.status, 200);
    // Nothing that clients use is here, and no metrics are where clients are.
    assert_eq!(ask("/").await?.status, 404);
    let open = Connection::once(address, &Request::post("/lp")).await?;
    assert_eq!(open.status, 404);
    assert_eq!(node.get("/metrics").await?.status, 404);
    assert_eq!(node.get("/health").await?.status, 200);
    drop(node);

    // A full node can be looked at.
    let full = Node::builder()
        .flag("metrics_port", &port.to_string())
        .flag("max_connections", "1")
        .spawn_ready()
        .await?;
    let mut held = Connection::open(full.address()).await?;
    assert_eq!(held.ask(&Request::get("/health")).await?.status, 200);
    assert_eq!(ask("/metrics").await?.status, 200);
    let open = Connection::once(address, &Request::post("/lp")).await?;
    assert!(matches!(open.status, 404 | 503), "{}", open.status);
    Ok(())
}
