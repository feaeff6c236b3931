//! The answers that make the stock client do the right thing, row by row of the reference's
//! table. (Rows that have a file of their own: drain and restart in `shutdown.rs`.)

use anyhow::{Context, Result};
use pollux_testkit::{Node, PATIENCE, Poller, Request, assert_eventually, frames};
use serde_json::json;

#[tokio::test]
async fn open_ok() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let response = node.ask(&Request::post("/lp")).await?;
    assert_eq!(response.status, 200);
    assert!(response.header("x-anycable-poll-id").is_some());
    let frames = response.frames()?;
    assert_eq!(frames::kinds(&frames), ["welcome"]);
    assert!(frames[0]["sid"].is_string());
    Ok(())
}

#[tokio::test]
async fn open_unauthorized() -> Result<()> {
    let node = Node::builder()
        .flag("streams_secret", "x")
        .flag("broadcast_key", "k")
        .spawn()
        .await?;
    let line = frames::subscribe(&frames::public("a"));
    for request in [Request::post("/lp"), Request::post("/lp").body(line)] {
        let response = node.ask(&request).await?;
        assert_eq!(response.status, 401);
        assert!(response.header("x-anycable-poll-id").is_none());
        let expected =
            "{\"type\":\"disconnect\",\"reason\":\"unauthorized\",\"reconnect\":false}\n";
        assert_eq!(response.text()?, expected);
    }
    assert_eq!(node.metric("failed_auths_total").await?, 2.0);
    assert_eq!(node.metric("sessions").await?, 0.0);
    assert_eq!(
        node.metric("client_msg_total").await?,
        0.0,
        "its commands ran"
    );
    Ok(())
}

#[tokio::test]
async fn noauth_lets_everyone_in() -> Result<()> {
    let node = Node::builder()
        .flag("streams_secret", "x")
        .flag("broadcast_key", "k")
        .switch("noauth")
        .spawn()
        .await?;
    Poller::open(&node).await?;
    Ok(())
}

#[tokio::test]
async fn idle_poll_end() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.2").spawn().await?;
    let mut poller = Poller::open(&node).await?;
    let response = poller.exchange("").await?;
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert!(response.header("x-anycable-poll-id").is_none());
    Ok(())
}

#[tokio::test]
async fn stale_id_without_resume() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let request = Request::post("/lp").header("X-Anycable-Poll-ID", "no.body");
    let response = node.ask(&request).await?;
    assert_eq!(response.status, 401);
    let expected = json!({"type": "disconnect", "reason": "session_expired", "reconnect": true});
    assert_eq!(response.frames()?, [expected]);
    Ok(())
}

#[tokio::test]
async fn remote_disconnect_while_polling() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "20").spawn().await?;
    for (reconnect, told) in [(None, false), (Some(false), false), (Some(true), true)] {
        let mut poller = Poller::subscribed(&node, &["a"]).await?;
        let other = Poller::open(&node).await?;
        let mut parked = poller.park().await?;
        let mut others = other.park().await?;
        assert_eventually!(node.metric("parked_polls").await? == 2.0, PATIENCE);

        let identifiers = json!({"sid": poller.sid()}).to_string();
        let command = frames::remote_disconnect(&identifiers, reconnect);
        assert_eq!(node.broadcast(&command).await?.status, 201);
        let response = parked.answer().await?;
        assert_eq!(response.status, 200);
        let expected = json!({"type": "disconnect", "reason": "remote", "reconnect": told});
        assert_eq!(response.frames()?, [expected]);

        // A poll that comes before the node knows that the answer has left is told nothing.
        assert_eventually!(
            match poller.exchange("").await?.status {
                204 => false,
                status => {
                    assert_eq!(status, 401, "the session is over");
                    true
                }
            },
            PATIENCE
        );
        assert_eq!(node.metric("subscriptions").await?, 0.0);
        let waiting = others.answer_within(pollux_testkit::CHECK_EVERY).await?;
        assert!(waiting.is_none(), "somebody else was disconnected");
        others.into_connection().reset()?;
        assert_eventually!(node.metric("parked_polls").await? == 0.0, PATIENCE);
    }
    assert_eq!(node.metric("remote_commands_total").await?, 3.0);
    Ok(())
}

#[tokio::test]
async fn remote_disconnect_between_polls() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let mut poller = Poller::open(&node).await?;
    let identifiers = json!({"sid": poller.sid()}).to_string();
    let command = frames::remote_disconnect(&identifiers, Some(true));
    assert_eq!(node.broadcast(&command).await?.status, 201);
    let answer = poller.poll().await?;
    assert_eq!(frames::kinds(&answer.frames), ["disconnect"]);
    Ok(())
}

#[tokio::test]
async fn overload() -> Result<()> {
    let node = Node::builder().flag("max_sessions", "2").spawn().await?;
    let mut one = Poller::open(&node).await?;
    let _two = Poller::open(&node).await?;
    let response = node.ask(&Request::post("/lp")).await?;
    assert_eq!(response.status, 503);
    response.header("retry-after").context("no Retry-After")?;
    assert!(response.header("x-anycable-poll-id").is_none());
    one.subscribe(&frames::public("a")).await?;
    Ok(())
}

#[tokio::test]
async fn body_too_large() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.2").spawn().await?;
    let mut poller = Poller::open(&node).await?;
    let response = node.ask(&poller.request(&"x".repeat(65_537))).await?;
    assert_eq!(response.status, 413);
    assert_eq!(poller.exchange("").await?.status, 204);
    Ok(())
}
