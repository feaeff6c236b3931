//! Bad input: each kind gets its answer, and nobody else notices.

use anyhow::Result;
use pollux_testkit::{Connection, Node, Poller, Request, frames};
use serde_json::json;
use std::time::Duration;

async fn node() -> Result<Node> {
    Node::builder().flag("poll_interval", "0.3").spawn().await
}

#[tokio::test]
async fn a_body_that_is_too_large_leaves_its_session_untouched() -> Result<()> {
    let node = Node::builder()
        .flag("poll_interval", "0.3")
        .flag("poll_max_request_size", "1000")
        .spawn()
        .await?;
    let mut poller = Poller::open(&node).await?;
    let before = node.metric("client_msg_total").await?;
    let line = frames::subscribe(&frames::public("a"));
    let large = line.repeat(1 + 1_000 / line.len());
    let by_length = poller.request(&large);
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let by_chunks = Request::post("/lp")
        .header("X-Anycable-Poll-ID", poller.poll_id())
        .header("Transfer-Encoding", "chunked")
        .body(chunked);
    let open = Request::post("/lp").body(large.clone());
    for request in [by_length, by_chunks, open] {
        let response = node.ask(&request).await?;
        assert_eq!(response.status, 413);
        let body: serde_json::Value = serde_json::from_slice(&response.body)?;
        assert!(body.is_object(), "{body}");
    }
    assert_eq!(
        node.metric("client_msg_total").await?,
        before,
        "a command ran"
    );
    assert_eq!(poller.exchange("").await?.status, 204);
    poller.subscribe(&frames::public("a")).await?;
    // A body of just the limit is not too large.
    let exact = format!(
        "{}{}",
        frames::ping(),
        " ".repeat(1_000 - frames::ping().len())
    );
    assert_eq!(
        poller.poll_with(&exact).await?.frames,
        [json!({"type": "pong"})]
    );
    Ok(())
}

#[tokio::test]
async fn a_promise_of_a_large_body_is_refused_before_it_is_sent() -> Result<()> {
    let node = node().await?;
    let mut connection = Connection::open(node.address()).await?;
    let request = Request::post("/lp").header("Content-Length", "99999999999");
    connection.send(&request).await?;
    assert_eq!(connection.response().await?.status, 413);
    Ok(())
}

#[tokio::test]
async fn bad_lines_are_counted_and_the_others_run() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    let bad = [
        "not JSON",
        "[]",
        "{}",
        "\"text\"",
        r#"{"command":"unheard of"}"#,
        r#"{"command":5}"#,
        r#"{"command":"subscribe"}"#,
        r#"{"command":"subscribe","identifier":{}}"#,
        r#"{"command":"subscribe","identifier":""}"#,
        r#"{"command":"history","identifier":"x","history":{}}"#,
        "\u{1F980}",
        "{\"command\":\"ping\"",
    ];
    for line in bad {
        let (before, all) = counts(&node).await?;
        let answer = poller
            .poll_with(&format!("{line}\n{}", frames::ping()))
            .await?;
        assert_eq!(answer.frames, [json!({"type": "pong"})], "{line}");
        let (after, all_after) = counts(&node).await?;
        assert_eq!(after - before, 1.0, "{line}");
        assert_eq!(all_after - all, 2.0, "{line}");
    }
    let not_utf8 = Request::post("/lp")
        .header("X-Anycable-Poll-ID", poller.poll_id())
        .body([b"\xff\xfe\0\n".as_slice(), frames::ping().as_bytes()].concat());
    let answer = node.ask(&not_utf8).await?;
    assert_eq!(answer.frames()?, [json!({"type": "pong"})]);
    Ok(())
}

async fn counts(node: &Node) -> Result<(f64, f64)> {
    let metrics = node.metrics().await?;
    let count = |name| metrics.sum(name).unwrap_or(0.0);
    Ok((count("failed_client_msg_total"), count("client_msg_total")))
}

#[tokio::test]
async fn an_identifier_that_names_no_stream_is_rejected() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    let identifiers = [
        "not JSON",
        "{}",
        r#"{"channel":"$pubsub"}"#,
        r#"{"channel":"$pubsub","stream_name":""}"#,
        r#"{"channel":"$pubsub","stream_name":5}"#,
        r#"{"channel":"$pubsub","signed_stream_name":"forged--00"}"#,
        r#"{"channel":"ChatChannel","id":42}"#,
    ];
    for identifier in identifiers {
        let (verdict, _) = poller.try_subscribe(identifier).await?;
        assert_eq!(verdict, "reject_subscription", "{identifier}");
    }
    assert_eq!(node.metric("subscriptions").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn other_methods_are_told_which_ones_there_are() -> Result<()> {
    let node = node().await?;
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let response = node.ask(&Request::new(method, "/lp")).await?;
        assert_eq!(response.status, 405, "{method}");
        assert!(
            response.lists("allow", "POST"),
            "{method}: {:?}",
            response.headers
        );
    }
    assert_eq!(node.metric("sessions").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn what_is_not_http_is_turned_away() -> Result<()> {
    let node = node().await?;
    let lines = [
        "GARBAGE\r\n\r\n".to_owned(),
        "POST /lp HTTP/9.9\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        "POST /lp HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n".to_owned(),
        "POST /lp HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
        format!("POST /lp HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)),
    ];
    for line in lines {
        let start: String = line.chars().take(60).collect();
        let mut connection = Connection::open(node.address()).await?;
        // The node may hang up before it has read everything.
        if connection.send_bytes(line.as_bytes()).await.is_err() {
            continue;
        }
        if let Ok(Some(response)) = connection.response_within(Duration::from_secs(20)).await {
            assert!(
                (400..506).contains(&response.status),
                "{start:?}: {}",
                response.status
            );
            assert_ne!(response.status, 500, "{start:?}");
        }
    }
    assert_eq!(node.metric("sessions").await?, 0.0);
    Poller::open(&node).await?;
    Ok(())
}
