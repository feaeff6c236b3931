//! A confirmation is said once: not silently lost, and not said again to a client that has it,
//! which would make the stock client unsubscribe.

use anyhow::Result;
use pollux_testkit::{Fault, Node, Poller, frames};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A duplicate that comes later than this after the flush means that the confirmation was lost.
const RECONFIRM_AFTER: Duration = Duration::from_millis(1_500);

async fn node() -> Result<Node> {
    Node::builder().flag("poll_interval", "0.3").spawn().await
}

#[tokio::test]
async fn duplicates_in_one_body_are_confirmed_once() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    let line = frames::subscribe(&frames::public("a"));
    let answer = poller.poll_with(&line.repeat(3)).await?;
    assert_eq!(frames::kinds(&answer.frames), ["confirm_subscription"]);
    assert_eq!(poller.exchange("").await?.status, 204);
    assert_eq!(node.metric("subscriptions").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_duplicate_that_crosses_the_confirmation_is_silent() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    let line = frames::subscribe(&frames::public("a"));
    let answer = poller.poll_with(&line).await?;
    let flushed = Instant::now();
    assert_eq!(frames::kinds(&answer.frames), ["confirm_subscription"]);
    let again = poller.exchange(&line).await?;
    assert!(
        flushed.elapsed() < RECONFIRM_AFTER,
        "the machine is too slow for this test"
    );
    assert_eq!(again.status, 204);
    Ok(())
}

#[tokio::test]
async fn a_duplicate_long_after_the_confirmation_is_confirmed_again() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    let line = frames::subscribe(&frames::public("a"));
    poller.poll_with(&line).await?;
    for _ in 0..2 {
        sleep(RECONFIRM_AFTER + Duration::from_millis(100)).await;
        let answer = poller.poll_with(&line).await?;
        assert_eq!(frames::kinds(&answer.frames), ["confirm_subscription"]);
    }
    // Still one subscription: a message comes once.
    node.publish("a", &1.into()).await?;
    assert_eq!(poller.messages(1).await?, [1]);
    assert_eq!(poller.exchange("").await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn a_confirmation_whose_answer_was_broken_off_is_said_again() -> Result<()> {
    let node = node().await?;
    for fault in [Fault::HalfThenReset, Fault::HalfThenClose] {
        let mut poller = Poller::open(&node).await?;
        let line = frames::subscribe(&frames::public("a"));
        assert!(poller.fault_with(&line, fault).await?.is_none());
        let mut seen = Vec::new();
        let start = Instant::now();
        while seen.is_empty() && start.elapsed() < Duration::from_secs(10) {
            seen.extend(poller.poll().await?.frames);
        }
        assert_eq!(frames::kinds(&seen), ["confirm_subscription"], "{fault:?}");
        assert_eq!(poller.exchange("").await?.status, 204, "{fault:?}");
    }
    assert!(node.metric("redelivered_frames_total").await? >= 2.0);
    Ok(())
}

#[tokio::test]
async fn a_subscription_that_was_ended_is_confirmed_anew() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    let a = frames::public("a");
    let (subscribe, unsubscribe) = (frames::subscribe(&a), frames::unsubscribe(&a));
    let answer = poller
        .poll_with(&[&*subscribe, &unsubscribe, &subscribe].concat())
        .await?;
    assert_eq!(frames::kinds(&answer.frames), ["confirm_subscription"; 2]);
    assert_eq!(poller.exchange(&unsubscribe).await?.status, 204);
    node.publish("a", &1.into()).await?;
    assert_eq!(
        poller.exchange("").await?.status,
        204,
        "it is not subscribed any more"
    );
    let answer = poller.poll_with(&subscribe).await?;
    assert_eq!(frames::kinds(&answer.frames), ["confirm_subscription"]);
    Ok(())
}

#[tokio::test]
async fn identifiers_are_compared_byte_for_byte_and_echoed_verbatim() -> Result<()> {
    let node = node().await?;
    let mut poller = Poller::open(&node).await?;
    let identifiers = [
        r#"{"channel":"$pubsub","stream_name":"a"}"#,
        r#"{"stream_name":"a","channel":"$pubsub"}"#,
        r#"{"channel":"$pubsub", "stream_name":"a"}"#,
    ];
    for identifier in identifiers {
        poller.subscribe(identifier).await?;
    }
    node.publish("a", &1.into()).await?;
    let mut seen = Vec::new();
    while seen.len() < identifiers.len() {
        seen.extend(poller.poll().await?.frames);
    }
    for identifier in identifiers {
        let count = seen
            .iter()
            .filter(|frame| frame["identifier"] == identifier);
        assert_eq!(count.count(), 1, "{identifier}: {seen:?}");
    }
    Ok(())
}
