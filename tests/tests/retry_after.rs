//! Every 503 says when to come back.

use anyhow::{Context, Result, ensure};
use pollux_testkit::{
    Connection, Node, PATIENCE, Poller, Request, Response, assert_eventually, frames, free_port,
};
use serde_json::json;

fn says_when(response: &Response) -> Result<u32> {
    assert_eq!(response.status, 503);
    let seconds = response.header("retry-after").context("no Retry-After")?;
    let seconds = seconds.parse()?;
    ensure!((1..=5).contains(&seconds), "{seconds}");
    Ok(seconds)
}

fn handshake() -> Request {
    Request::get("/cable")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

#[tokio::test]
async fn a_full_node_says_so_at_every_door() -> Result<()> {
    let node = Node::builder().flag("max_sessions", "1").spawn().await?;
    let _first = Poller::open(&node).await?;
    let mut seen = Vec::new();
    for _ in 0..8 {
        for request in [
            Request::post("/lp"),
            // Not for the parking lot.
            Request::post("/lp").header("Connection", "close"),
            Request::get("/events?stream=a"),
            handshake(),
        ] {
            seen.push(says_when(&node.ask(&request).await?)?);
        }
    }
    // Those who were sent away together do not come back together.
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 1, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_connection_too_many_is_told() -> Result<()> {
    let node = Node::builder().flag("max_connections", "1").spawn().await?;
    let mut first = Connection::open(node.address()).await?;
    assert_eq!(first.ask(&Request::get("/health")).await?.status, 200);
    let mut second = Connection::open(node.address()).await?;
    says_when(&second.ask(&Request::post("/lp")).await?)?;
    second.closed_within(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn without_its_broker_a_node_says_so() -> Result<()> {
    let url = format!("redis://127.0.0.1:{}", free_port()?);
    let node = Node::builder().redis_url(&url).spawn().await?;
    says_when(&node.get("/ready").await?)?;
    let body = frames::publication("a", &json!(1));
    says_when(&node.broadcast(&body).await?)?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_leaves_says_so() -> Result<()> {
    let mut node = Node::builder().flag("shutdown_delay", "60").spawn().await?;
    node.ask_to_stop()?;
    assert_eventually!(node.get("/ready").await?.status == 503, PATIENCE);
    says_when(&node.get("/ready").await?)?;
    Ok(())
}
