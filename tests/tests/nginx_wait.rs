//! Answers that take their time, through the bundled nginx files.

use anyhow::Result;
use pollux_testkit::{
    Connection, Nginx, NginxBuilder, Node, PATIENCE, Poller, Request, Upstream, assert_eventually,
    frames,
};
use serde_json::json;
use std::time::Duration;

/// The bundled files, but more impatient.
fn impatient() -> NginxBuilder {
    Nginx::builder().replacing("proxy_read_timeout 60s;", "proxy_read_timeout 2s;")
}

async fn node(poll_interval: &str) -> Result<Node> {
    Node::builder()
        .flag("poll_interval", poll_interval)
        .flag("poll_flush_interval", "0")
        .spawn()
        .await
}

#[tokio::test]
async fn a_poll_may_wait_as_long_as_its_node_lets_it() -> Result<()> {
    let node = node("1.5").await?;
    let nginx = impatient().spawn(&[node.address()]).await?;
    let mut poller = Poller::open_at(nginx.address()).await?;
    // Longer together than nginx waits for one, on one connection.
    for _ in 0..2 {
        let parked = poller.park().await?;
        let answer = poller.poll().await?;
        assert_eq!(answer.response.status, 204);
        assert!(parked.age() >= Duration::from_millis(1_400));
    }
    Ok(())
}

#[tokio::test]
async fn the_read_timeout_must_be_above_the_poll_interval() -> Result<()> {
    let node = node("10").await?;
    let nginx = impatient().spawn(&[node.address()]).await?;
    let mut poller = Poller::open_at(nginx.address()).await?;
    assert_eq!(poller.exchange("").await?.status, 504);
    // With one node there is nobody else to turn to, and a timeout does not shut it out.
    assert_eventually!(node.metric("parked_polls").await? == 0.0, PATIENCE);
    poller.subscribe(&frames::public("a")).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_published_is_there_at_once() -> Result<()> {
    let node = node("20").await?;
    let nginx = Nginx::spawn(&[node.address()]).await?;
    let mut poller = Poller::open_at(nginx.address()).await?;
    poller.subscribe(&frames::public("a")).await?;
    let mut parked = poller.park().await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    let large = "large ".repeat(50_000);
    node.publish("a", &json!(large)).await?;
    let answer = parked.answer_within(PATIENCE).await?;
    let answer = poller.understand(answer.unwrap())?;
    assert_eq!(answer.messages(), [json!(large)]);

    // A client that leaves is gone for the node too.
    let parked = poller.park().await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    parked.into_connection().close();
    assert_eventually!(node.metric("parked_polls").await? == 0.0, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn streams_are_passed_on_piece_by_piece() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    let upstream = Upstream::spawn(move |_| Some(head.to_owned())).await?;
    let nginx = Nginx::spawn(&[upstream.address()]).await?;
    let mut connection = Connection::open(nginx.address()).await?;
    let request = Request::get("/events").header("Accept-Encoding", "gzip");
    connection.send(&request).await?;
    // The head comes before any event.
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.extend(connection.bytes(1).await?);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200"));
    for number in 0..3 {
        let chunk = format!("9\r\ndata: {number}\n\n\r\n");
        upstream.say(&chunk);
        assert_eq!(connection.bytes(chunk.len()).await?, chunk.as_bytes());
    }
    Ok(())
}
