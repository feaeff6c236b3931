//! When a poll is answered: idle polls, the flush rule.
//!
//! The intervals are far apart, so that a busy machine can't turn one outcome into another: what
//! must come at once has seconds of time, what must wait waits longer still.

use anyhow::{Context, Result};
use pollux_testkit::{Node, PATIENCE, Poller, assert_eventually, frames};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Sooner than any wait of these tests, later than any stall of a busy machine should last.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Timers may be this much early in the eyes of a client.
const SLACK: Duration = Duration::from_millis(20);

/// A node whose polls wait long enough to be watched.
async fn patient(flush_interval: &str) -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", flush_interval)
        .spawn()
        .await
}

#[tokio::test]
async fn an_idle_poll_ends_empty_after_the_interval() -> Result<()> {
    let node = Node::builder().flag("poll_interval", "0.4").spawn().await?;
    let mut poller = Poller::open(&node).await?;
    for _ in 0..2 {
        let start = Instant::now();
        let response = poller.exchange("").await?;
        let waited = start.elapsed();
        assert_eq!(response.status, 204);
        assert!(response.body.is_empty());
        assert_eq!(response.cursor()?, Some(1));
        assert!(waited >= Duration::from_millis(400) - SLACK, "{waited:?}");
        assert!(waited < AT_ONCE, "{waited:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_first_frame_after_a_quiet_time_is_answered_at_once() -> Result<()> {
    let flush = Duration::from_secs(3);
    let node = patient("3s").await?;
    let poller = Poller::subscribed(&node, &["a"]).await?;
    sleep(flush).await;

    let mut parked = poller.park().await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    node.publish("a", &1.into()).await?;
    let response = parked
        .answer_within(AT_ONCE)
        .await?
        .context("it was held back")?;
    assert_eq!(frames::messages(&response.frames()?), [1]);
    Ok(())
}

#[tokio::test]
async fn frames_that_come_sooner_share_one_answer_after_the_interval() -> Result<()> {
    let flush = Duration::from_secs(3);
    let node = patient("3s").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    sleep(flush).await;

    node.publish("a", &0.into()).await?;
    let answered = Instant::now();
    assert_eq!(poller.poll().await?.messages(), [0]);
    let mut parked = poller.park().await?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    for number in 1..=5 {
        node.publish("a", &number.into()).await?;
    }
    assert!(
        answered.elapsed() < flush,
        "the machine is too slow for this test"
    );
    let response = parked.answer().await?;
    assert_eq!(frames::messages(&response.frames()?), [1, 2, 3, 4, 5]);
    let waited = answered.elapsed();
    assert!(waited >= flush - SLACK, "answered after {waited:?}");
    assert!(waited < flush + AT_ONCE, "answered after {waited:?}");
    Ok(())
}

#[tokio::test]
async fn frames_that_wait_when_a_poll_comes_are_answered_at_once() -> Result<()> {
    let node = patient("10s").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    node.publish("a", &1.into()).await?;
    node.publish("a", &2.into()).await?;
    node.fanned_out(2).await?;
    let start = Instant::now();
    assert_eq!(poller.poll().await?.messages(), [1, 2]);
    assert!(
        start.elapsed() < AT_ONCE,
        "answered after {:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn replies_to_commands_are_never_held_back() -> Result<()> {
    let node = patient("10s").await?;
    let mut poller = Poller::open(&node).await?;
    for _ in 0..3 {
        let start = Instant::now();
        let answer = poller.poll_with(&frames::ping()).await?;
        assert_eq!(answer.frames, [json!({"type": "pong"})]);
        assert!(
            start.elapsed() < AT_ONCE,
            "answered after {:?}",
            start.elapsed()
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_flush_interval_means_no_coalescing() -> Result<()> {
    let node = patient("0").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 0..5 {
        let mut parked = poller.park().await?;
        assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
        node.publish("a", &number.into()).await?;
        let response = parked
            .answer_within(AT_ONCE)
            .await?
            .context("it was held back")?;
        assert_eq!(poller.understand(response)?.messages(), [number]);
    }
    Ok(())
}

#[tokio::test]
async fn commands_run_in_order_and_once_even_if_their_poll_is_aborted() -> Result<()> {
    let node = patient("500ms").await?;
    let mut poller = Poller::open(&node).await?;
    let (a, b) = (frames::public("a"), frames::public("b"));
    let before = node.metric("client_msg_total").await?;
    let lines = frames::subscribe(&a) + &frames::subscribe(&b) + &frames::unsubscribe(&b);
    poller.park_with(&lines).await?.into_connection().reset()?;

    let mut verdicts = Vec::new();
    while verdicts.len() < 2 {
        verdicts.extend(poller.poll().await?.frames);
    }
    assert_eq!(frames::kinds(&verdicts), ["confirm_subscription"; 2]);
    assert_eq!(
        (&verdicts[0]["identifier"], &verdicts[1]["identifier"]),
        (&json!(a), &json!(b))
    );
    assert_eq!(node.metric("client_msg_total").await? - before, 3.0);
    assert_eq!(node.metric("subscriptions").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_connection_is_reused_for_all_polls() -> Result<()> {
    let node = patient("0").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 0..50 {
        node.publish("a", &number.into()).await?;
        let answer = poller.poll().await?;
        assert_eq!(answer.messages(), [number]);
        assert_ne!(answer.response.header("connection"), Some("close"));
    }
    Ok(())
}
