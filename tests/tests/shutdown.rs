//! Stopping a node.

use anyhow::{Context, Result};
use pollux_testkit::{Connection, Node, PATIENCE, Poller, Request, assert_eventually};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

async fn node() -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "60")
        .flag("poll_keepalive_timeout", "2")
        .spawn()
        .await
}

#[tokio::test]
async fn parked_polls_are_told_to_come_back_and_the_exit_code_is_zero() -> Result<()> {
    let mut node = node().await?;
    let mut parked = Vec::new();
    for _ in 0..20 {
        let poller = Poller::subscribed(&node, &["a"]).await?;
        parked.push(poller.park().await?);
    }
    assert_eventually!(node.metric("parked_polls").await? == 20.0, PATIENCE);
    node.ask_to_stop()?;
    let expected = json!({"type": "disconnect", "reason": "server_restart", "reconnect": true});
    for poll in &mut parked {
        let answer = poll.answer().await?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.frames()?, std::slice::from_ref(&expected));
    }
    let status = node.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(0), "{}", node.log().text());
    Ok(())
}

#[tokio::test]
async fn a_service_without_tls_outlives_a_reload() -> Result<()> {
    let mut node = node().await?;
    let poller = Poller::open(&node).await?;
    let mut parked = poller.park().await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    node.hang_up()?;
    node.ask_to_stop()?;
    // Ended by the signal, it would have said nothing.
    let answer = parked.answer().await?;
    assert_eq!(answer.frames()?[0]["reason"], "server_restart");
    assert_eq!(node.wait(PATIENCE).await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn frames_that_wait_are_delivered_before_the_farewell() -> Result<()> {
    let mut node = node().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    node.publish("a", &1.into()).await?;
    node.ask_to_stop()?;
    assert_eventually!(node.log().contains("Draining"), PATIENCE);
    // The connection was open before, and is still served.
    let mut answer = poller.poll().await?;
    assert_eq!(answer.messages(), [1]);
    if answer.frames.len() == 1 {
        // It came before this session's turn to be told.
        answer = poller.poll().await?;
    }
    let last = answer.frames.last().context("no frame")?;
    assert_eq!(last["reason"], "server_restart");
    assert_eq!(node.wait(PATIENCE).await?.code(), Some(0));
    Ok(())
}

/// It stops soon although this client keeps its connection open.
async fn stops_in_spite_of(bytes: &[u8]) -> Result<()> {
    let mut node = node().await?;
    let mut idle = Connection::open(node.address()).await?;
    idle.send_bytes(bytes).await?;
    if bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(idle.response().await?.status, 200);
    }
    assert_eventually!(node.metric("connections").await? >= 2.0, PATIENCE);
    let start = Instant::now();
    let status = node.terminate(PATIENCE).await?;
    assert_eq!(status.code(), Some(0), "{}", node.log().text());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_kept_does_not_hold_it_up() -> Result<()> {
    stops_in_spite_of(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await
}

#[tokio::test]
async fn a_connection_that_was_never_used_does_not_hold_it_up() -> Result<()> {
    stops_in_spite_of(b"").await
}

#[tokio::test]
async fn a_request_without_an_end_does_not_hold_it_up() -> Result<()> {
    stops_in_spite_of(b"POST /lp HTT").await?;
    stops_in_spite_of(b"POST /lp HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").await
}

#[tokio::test]
async fn a_client_that_does_not_come_back_is_not_waited_for_beyond_the_timeout() -> Result<()> {
    let mut node = Node::builder()
        .flag("poll_keepalive_timeout", "60")
        .flag("shutdown_timeout", "1")
        .spawn()
        .await?;
    let _absent = Poller::open(&node).await?;
    let start = Instant::now();
    let status = node.terminate(PATIENCE).await?;
    assert_eq!(status.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn while_it_drains_an_open_is_sent_elsewhere() -> Result<()> {
    let mut node = Node::builder()
        .flag("poll_keepalive_timeout", "60")
        .spawn()
        .await?;
    // A client that has not come for its farewell keeps the drain going.
    let _absent = Poller::open(&node).await?;
    let mut connection = Connection::open(node.address()).await?;
    assert_eq!(connection.ask(&Request::get("/ready")).await?.status, 200);
    node.ask_to_stop()?;
    assert_eventually!(node.log().contains("Draining"), PATIENCE);
    let response = connection.ask(&Request::post("/lp")).await?;
    assert_eq!(response.status, 503);
    response.header("retry-after").context("no Retry-After")?;
    assert!(response.lists("connection", "close"));
    assert!(response.header("x-anycable-poll-id").is_none());
    Ok(())
}

#[tokio::test]
async fn during_the_delay_it_is_not_ready_and_still_serves() -> Result<()> {
    let mut node = Node::builder()
        .flag("shutdown_delay", "2")
        .flag("poll_interval", "0.2")
        .spawn()
        .await?;
    let mut poller = Poller::open(&node).await?;
    let start = Instant::now();
    node.ask_to_stop()?;
    assert_eventually!(node.get("/ready").await?.status == 503, PATIENCE);
    assert_eq!(node.get("/health").await?.status, 200);
    assert_eq!(poller.exchange("").await?.status, 204);
    assert_eq!(node.ask(&Request::post("/lp")).await?.status, 200);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "the machine is too slow for this test"
    );
    drop(poller);
    assert_eq!(node.wait(PATIENCE).await?.code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(2));
    Ok(())
}

#[tokio::test]
async fn a_second_signal_stops_it_at_once() -> Result<()> {
    let mut node = Node::builder().flag("shutdown_delay", "60").spawn().await?;
    node.ask_to_stop()?;
    assert_eventually!(node.get("/ready").await?.status == 503, PATIENCE);
    let start = Instant::now();
    node.terminate(PATIENCE).await?;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        start.elapsed()
    );
    Ok(())
}
