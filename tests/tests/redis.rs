//! Nodes that share nothing but a Redis.

use anyhow::{Context, Result};
use pollux_testkit::{Node, NodeBuilder, PATIENCE, Poller, Redis, assert_eventually, frames};
use serde_json::{Value, json};
use std::time::Duration;

const CHANNEL: &str = "__anycable__";

fn builder(redis: &Redis) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .redis(redis)
}

async fn spawn(redis: &Redis) -> Result<Node> {
    let node = builder(redis).spawn().await?;
    ready(&node).await?;
    Ok(node)
}

async fn ready(node: &Node) -> Result<()> {
    assert_eventually!(
        node.get("/ready").await?.status == 200,
        PATIENCE,
        "{}",
        node.log().text()
    );
    Ok(())
}

async fn holds_polls(node: &Node, polls: f64) -> Result<()> {
    assert_eventually!(node.metric("parked_polls").await? == polls, PATIENCE);
    Ok(())
}

#[tokio::test]
async fn a_publish_reaches_polls_that_wait_on_two_nodes() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [spawn(&redis).await?, spawn(&redis).await?];
    let mut parked = Vec::new();
    for node in &nodes {
        let poller = Poller::subscribed(node, &["chat/1"]).await?;
        parked.push(poller.park().await?);
        holds_polls(node, 1.0).await?;
    }
    let message = r#"{"stream":"chat/1","data":"{\"text\":\"hi\"}"}"#;
    assert_eq!(redis.publish(CHANNEL, message).await?, 2);
    for poll in &mut parked {
        let frames = poll.answer().await?.frames()?;
        let expected = json!({"identifier": frames::public("chat/1"), "message": {"text": "hi"}});
        assert_eq!(frames, [expected]);
    }
    Ok(())
}

#[tokio::test]
async fn what_enters_at_one_node_reaches_all_in_one_order() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [spawn(&redis).await?, spawn(&redis).await?];
    let mut one = Poller::subscribed(&nodes[0], &["a"]).await?;
    let mut two = Poller::subscribed(&nodes[1], &["a"]).await?;
    for number in 0..30_usize {
        match number % 3 {
            2 => drop(
                redis
                    .publish(CHANNEL, &frames::publication("a", &number.into()))
                    .await?,
            ),
            at => nodes[at].publish("a", &number.into()).await?,
        }
    }
    let seen = one.messages(30).await?;
    assert_eq!(seen, (0..30).map(Value::from).collect::<Vec<_>>());
    assert_eq!(two.messages(30).await?, seen);
    Ok(())
}

#[tokio::test]
async fn whispers_and_disconnects_cross_nodes() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [spawn(&redis).await?, spawn(&redis).await?];
    let mut one = Poller::subscribed(&nodes[0], &["a"]).await?;
    let mut two = Poller::subscribed(&nodes[1], &["a"]).await?;
    let whisper = frames::whisper(&frames::public("a"), &json!("psst"));
    let parked = one.park_with(&whisper).await?;
    assert_eq!(two.messages(1).await?, ["psst"]);
    parked.into_connection().reset()?;

    let identifiers = json!({"sid": two.sid()}).to_string();
    let command = frames::remote_disconnect(&identifiers, Some(true));
    assert_eq!(nodes[0].broadcast(&command).await?.status, 201);
    let expected = json!({"type": "disconnect", "reason": "remote", "reconnect": true});
    assert_eq!(two.poll().await?.frames, [expected]);

    let identifiers = json!({"sid": one.sid()}).to_string();
    redis
        .publish(CHANNEL, &frames::remote_disconnect(&identifiers, None))
        .await?;
    let expected = json!({"type": "disconnect", "reason": "remote", "reconnect": false});
    assert_eq!(one.poll().await?.frames, [expected]);
    Ok(())
}

#[tokio::test]
async fn arrays_are_delivered_in_order_and_nonsense_is_counted() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = spawn(&redis).await?;
    let mut poller = Poller::subscribed(&node, &["a", "b"]).await?;
    let nonsense = [
        "",
        "not JSON",
        "[]",
        "5",
        "{}",
        r#"[{"stream":"a","data":"9"},{}]"#,
    ];
    for message in nonsense {
        redis.publish(CHANNEL, message).await?;
    }
    let batch = json!([
        {"stream": "a", "data": "1"}, {"stream": "b", "data": "2"}, {"stream": "a", "data": "3"},
    ]);
    redis.publish(CHANNEL, &batch.to_string()).await?;
    assert_eq!(poller.messages(3).await?, [1, 2, 3]);
    let failed = node.metric("failed_broadcast_msg_total").await?;
    assert_eq!(failed, nonsense.len() as f64);
    assert_eq!(node.metric("broadcast_msg_total").await?, 3.0);
    Ok(())
}

#[tokio::test]
async fn other_channels_are_none_of_its_business() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = builder(&redis)
        .flag("redis_channel", "mine")
        .spawn()
        .await?;
    ready(&node).await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    assert_eq!(
        redis
            .publish(CHANNEL, &frames::publication("a", &json!(1)))
            .await?,
        0
    );
    redis
        .publish("mine", &frames::publication("a", &json!(2)))
        .await?;
    assert_eq!(poller.messages(1).await?, [2]);
    Ok(())
}

#[tokio::test]
async fn what_one_node_took_is_replayed_by_another() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [spawn(&redis).await?, spawn(&redis).await?];
    for number in 1..=3 {
        nodes[0].publish("a", &number.into()).await?;
    }
    let mut poller = Poller::open(&nodes[1]).await?;
    let line = frames::subscribe_with_history(&frames::public("a"), &json!({"since": 0}));
    let frames = poller.poll_with(&line).await?.frames;
    assert_eq!(frames::messages(&frames), [1, 2, 3]);
    let offsets: Vec<_> = frames
        .iter()
        .filter_map(|frame| frame["offset"].as_u64())
        .collect();
    assert_eq!(offsets, [1, 2, 3]);
    nodes[0].publish("a", &4.into()).await?;
    let message = &poller.poll().await?.frames[0];
    assert_eq!(
        (&message["message"], &message["offset"]),
        (&json!(4), &json!(4))
    );
    Ok(())
}

/// Redis is away; everybody keeps calm; Redis is back and so is everything else.
async fn outage(mut redis: Redis, leave: fn(&mut Redis) -> Result<()>, pause: bool) -> Result<()> {
    let node = spawn(&redis).await?;
    let poller = Poller::subscribed(&node, &["a"]).await?;
    let mut parked = poller.park().await?;
    holds_polls(&node, 1.0).await?;

    leave(&mut redis)?;
    assert_eventually!(node.get("/ready").await?.status == 503, PATIENCE);
    assert_eq!(node.get("/health").await?.status, 200);
    assert_eq!(node.metric("broker_up").await?, 0.0);
    let refused = node.broadcast(&frames::publication("a", &json!(0))).await?;
    assert_eq!(
        refused.status, 503,
        "nothing may be accepted that can't be delivered"
    );
    assert!(refused.header("retry-after").is_some());
    let waiting = parked.answer_within(Duration::from_millis(500)).await?;
    assert!(
        waiting.is_none(),
        "the poll was not left waiting: {waiting:?}"
    );

    match pause {
        true => redis.resume()?,
        false => redis.start().await?,
    }
    ready(&node).await?;
    assert_eq!(node.metric("broker_up").await?, 1.0);
    redis
        .publish(CHANNEL, &frames::publication("a", &json!(1)))
        .await?;
    let answer = parked.answer().await?;
    assert_eq!(frames::messages(&answer.frames()?), [1]);
    assert_eq!(
        node.broadcast(&frames::publication("a", &json!(2)))
            .await?
            .status,
        201
    );
    Ok(())
}

#[tokio::test]
async fn polls_outlive_a_redis_that_was_killed() -> Result<()> {
    let leave = |redis: &mut Redis| {
        redis.stop();
        Ok(())
    };
    outage(Redis::spawn().await?, leave, false).await
}

#[tokio::test]
async fn polls_outlive_a_redis_that_hangs() -> Result<()> {
    outage(Redis::spawn().await?, Redis::pause, true).await
}

#[tokio::test]
async fn a_node_starts_without_redis_and_waits_for_it() -> Result<()> {
    let mut redis = Redis::spawn().await?;
    redis.stop();
    let node = builder(&redis).spawn().await?;
    assert_eq!(node.get("/ready").await?.status, 503);
    assert_eq!(node.get("/health").await?.status, 200);
    redis.start().await?;
    ready(&node).await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    redis
        .publish(CHANNEL, &frames::publication("a", &json!(1)))
        .await?;
    assert_eq!(poller.messages(1).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_redis_drops_is_made_again() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = spawn(&redis).await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 0..3 {
        redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
        let publication = frames::publication("a", &json!(number));
        assert_eventually!(redis.publish(CHANNEL, &publication).await? == 1, PATIENCE);
        let seen = poller.messages(1).await.context("it stayed deaf")?;
        assert_eq!(seen, [number]);
    }
    Ok(())
}
