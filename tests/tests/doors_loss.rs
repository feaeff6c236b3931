//! What history no longer has: it is counted, logged, and told to clients. Nothing else is lost.

use anyhow::{Context, Result};
use pollux_testkit::{Gate, Node, PATIENCE, Poller, Redis, RedisClient, assert_eventually, frames};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const KEY: &str = "pollux:{a}";

async fn publish(client: &mut RedisClient, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    for number in numbers {
        let data = number.to_string();
        client
            .command(&["FCALL", "pollux_publish", "1", KEY, &data])
            .await?;
    }
    Ok(())
}

async fn node_behind(gate: &Gate, limit: &str) -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .flag("history_limit", limit)
        .redis_url(&gate.url())
        .spawn_ready()
        .await
}

#[tokio::test]
async fn a_gap_beyond_history_is_counted_logged_and_told() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut gate = Gate::to(redis.address()).await?;
    let node = node_behind(&gate, "5").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    publish(&mut client, 1..=3).await?;
    assert_eq!(poller.messages(3).await?, [1, 2, 3]);

    gate.cut().await;
    publish(&mut client, 4..=20).await?;
    gate.heal().await?;
    let mut seen = Vec::new();
    let mut gap = false;
    while seen.len() < 5 {
        let answer = poller.poll().await?;
        gap |= answer.gap();
        seen.extend(answer.messages());
    }
    assert_eq!(seen, [16, 17, 18, 19, 20]);
    assert!(gap, "the client was not told");
    // 4 to 15.
    assert_eq!(node.metric("gaps_unrepaired_total").await?, 12.0);
    assert_eq!(node.metric("gaps_repaired_total").await?, 5.0);
    let log = node.log().lines();
    let told = |line: &String| {
        serde_json::from_str::<Value>(line).is_ok_and(|line| {
            let fields = [&line["stream"], &line["fields"]["stream"]];
            fields.into_iter().any(|stream| stream == "a")
        })
    };
    assert!(log.iter().any(told), "{}", log.join("\n"));

    // It is told once, and the stream goes on.
    publish(&mut client, 21..=21).await?;
    let answer = poller.poll().await?;
    assert_eq!(answer.messages(), [21]);
    assert!(!answer.gap());
    Ok(())
}

#[tokio::test]
async fn a_node_that_was_stopped_for_longer_than_history_says_so() -> Result<()> {
    let redis = Redis::spawn().await?;
    let gate = Gate::to(redis.address()).await?;
    let mut node = node_behind(&gate, "5").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    publish(&mut client, 1..=1).await?;
    assert_eq!(poller.messages(1).await?, [1]);

    node.pause()?;
    // So that nothing waits for it in a buffer.
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
    publish(&mut client, 2..=12).await?;
    node.resume()?;
    let mut seen = Vec::new();
    let mut gap = false;
    while seen.len() < 5 {
        let answer = poller.poll().await?;
        gap |= answer.gap();
        seen.extend(answer.messages());
    }
    assert_eq!(seen, [8, 9, 10, 11, 12]);
    assert!(gap, "the client was not told");
    assert_eq!(node.metric("gaps_unrepaired_total").await?, 6.0);
    Ok(())
}

#[tokio::test]
async fn a_gap_within_history_is_filled_and_nobody_is_told() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut gate = Gate::to(redis.address()).await?;
    let node = node_behind(&gate, "50").await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    publish(&mut client, 1..=3).await?;
    assert_eq!(poller.messages(3).await?, [1, 2, 3]);
    gate.cut().await;
    publish(&mut client, 4..=20).await?;
    gate.heal().await?;
    let mut seen = Vec::new();
    while seen.len() < 17 {
        let answer = poller.poll().await?;
        assert!(!answer.gap());
        seen.extend(answer.messages());
    }
    assert_eq!(seen, (4..=20).map(Value::from).collect::<Vec<_>>());
    assert_eq!(node.metric("gaps_repaired_total").await?, 17.0);
    assert_eq!(node.metric("gaps_unrepaired_total").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_subscription_waits_for_redis_and_holds_up_nobody_else() -> Result<()> {
    let mut redis = Redis::spawn().await?;
    let gate = Gate::to(redis.address()).await?;
    let node = node_behind(&gate, "50").await?;
    let old = Poller::subscribed(&node, &["old"]).await?;
    let mut new = Poller::open(&node).await?;

    redis.stop();
    assert_eventually!(node.get("/ready").await?.status == 503, PATIENCE);
    let line = frames::subscribe(&frames::public("new"));
    let mut waiting = new.park_with(&line).await?;
    let early = waiting.answer_within(Duration::from_millis(500)).await?;
    assert!(early.is_none(), "confirmed while nobody listens: {early:?}");
    // Others do what needs no Redis.
    let others = frames::unsubscribe(&frames::public("old"));
    let _parked = old.park_with(&others).await?;
    assert_eventually!(
        node.metric("subscriptions").await? == 1.0,
        PATIENCE,
        "{:?}",
        node.metric("subscriptions").await?
    );
    let since = Instant::now();
    let refused = node
        .broadcast(&frames::publication("new", &json!(0)))
        .await?;
    assert_eq!(refused.status, 503);
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );

    redis.start().await?;
    let confirmed = new.understand(waiting.answer().await?)?.frames;
    assert_eq!(frames::kinds(&confirmed), ["confirm_subscription"]);
    node.ready().await?;
    let mut client = RedisClient::connect(&redis).await?;
    let command = ["FCALL", "pollux_publish", "1", "pollux:{new}", "1"];
    let offset = client.command(&command).await?;
    assert_eq!(offset.integer().context("no offset")?, 1);
    assert_eq!(new.messages(1).await?, [1]);
    Ok(())
}
