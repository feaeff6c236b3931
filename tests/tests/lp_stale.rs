//! Polls for sessions that are not there.

use anyhow::Result;
use pollux_testkit::{Connection, Node, PATIENCE, Poller, Request, Response, assert_eventually};
use std::time::Duration;
use tokio::time::sleep;

const EXPIRED: &str =
    "{\"type\":\"disconnect\",\"reason\":\"session_expired\",\"reconnect\":true}\n";

fn poll(id: &str) -> Request {
    Request::post("/lp").header("X-Anycable-Poll-ID", id)
}

fn assert_stale(response: &Response, what: &str) -> Result<()> {
    assert_eq!(response.status, 401, "{what}");
    assert_eq!(response.text()?, EXPIRED, "{what}");
    assert!(response.header("x-anycable-poll-id").is_none(), "{what}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_id_is_told_that_its_session_has_expired() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let good = Poller::open(&node).await?;
    let flipped: String = good.poll_id().chars().rev().collect();
    let long = "x".repeat(2_000);
    let nul = "AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA";
    // The stock client sends "null" when it could not read the header of its open.
    let ids = [
        "null", "no.body", "nodot", ".", "a.", ".b", "a.b.c", "ä.ö", nul, &long, &flipped,
    ];
    for (count, id) in ids.iter().enumerate() {
        assert_stale(&node.ask(&poll(id)).await?, id)?;
        let stale = node.metric("long_poll_stale_requests_total").await?;
        assert_eq!(stale, (count + 1) as f64, "{id}");
    }
    assert_eq!(
        node.metric("sessions").await?,
        1.0,
        "the good one is left alone"
    );
    Ok(())
}

#[tokio::test]
async fn the_secret_is_compared_whole() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let good = Poller::open(&node).await?;
    let id = good.poll_id();
    let mut shorter = id.to_owned();
    shorter.pop();
    for bad in [
        shorter,
        format!("{id}A"),
        id.to_lowercase(),
        id.to_uppercase(),
    ] {
        if bad != id {
            assert_stale(&node.ask(&poll(&bad)).await?, &bad)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn commands_for_an_unknown_session_do_not_run() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let before = node.metric("client_msg_total").await?;
    let request = poll("no.body").body(pollux_testkit::frames::ping());
    assert_stale(&node.ask(&request).await?, "with commands")?;
    assert_eq!(node.metric("client_msg_total").await?, before);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_when_no_poll_was_held_for_too_long() -> Result<()> {
    let node = Node::builder()
        .flag("poll_keepalive_timeout", "0.5")
        .spawn()
        .await?;
    let mut poller = Poller::open(&node).await?;
    assert_eventually!(node.metric("sessions").await? == 0.0, PATIENCE);
    assert_stale(&poller.exchange("").await?, "expired")?;
    assert_eq!(node.metric("expired_sessions_total").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_held_poll_keeps_its_session_alive() -> Result<()> {
    let node = Node::builder()
        .flag("poll_keepalive_timeout", "1")
        .flag("poll_interval", "3")
        .spawn()
        .await?;
    let mut poller = Poller::open(&node).await?;
    assert_eq!(poller.exchange("").await?.status, 204);
    // The clock starts anew when the last poll leaves.
    sleep(Duration::from_millis(300)).await;
    assert_eq!(poller.exchange("").await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn an_aborted_poll_starts_the_keepalive_clock() -> Result<()> {
    let node = Node::builder()
        .flag("poll_keepalive_timeout", "0.5")
        .flag("poll_interval", "60")
        .spawn()
        .await?;
    let poller = Poller::open(&node).await?;
    let parked = poller.park().await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    parked.into_connection().close();
    assert_eventually!(node.metric("parked_polls").await? == 0.0, PATIENCE);
    assert_eventually!(node.metric("sessions").await? == 0.0, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn a_connection_lives_on_after_a_stale_answer() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut connection = Connection::open(node.address()).await?;
    assert_stale(&connection.ask(&poll("no.body")).await?, "first")?;
    assert_eq!(connection.ask(&Request::post("/lp")).await?.status, 200);
    Ok(())
}
