//! A Redis that comes back without its last writes, as after a failover to a replica that lagged.

use anyhow::Result;
use pollux_testkit::{Node, PATIENCE, Poller, Redis, assert_eventually, frames};
use serde_json::json;

const KEY: &str = "pollux:{a}";
const LOG: &str = "pollux:{a}:log";

async fn publish(redis: &Redis, number: u64) -> Result<String> {
    redis
        .cli(&["FCALL", "pollux_publish", "1", KEY, &number.to_string()])
        .await
}

async fn field(redis: &Redis, name: &str) -> Result<String> {
    redis.cli(&["HGET", KEY, name]).await
}

/// Takes the stream back to a state that it had before.
async fn roll_back(redis: &Redis, offset: u64, time: &str, gone: &[&str]) -> Result<()> {
    let offset = offset.to_string();
    redis
        .cli(&["HSET", KEY, "offset", &offset, "time", time])
        .await?;
    redis.cli(&[&["XDEL", LOG], gone].concat()).await?;
    redis.cli(&["XSETID", LOG, &format!("{offset}-0")]).await?;
    Ok(())
}

#[tokio::test]
async fn offsets_given_twice_are_told_apart() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = Node::builder()
        .flag("poll_flush_interval", "0")
        .redis(&redis)
        .spawn()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 1..=8 {
        publish(&redis, number).await?;
    }
    let (time, epoch) = (field(&redis, "time").await?, field(&redis, "epoch").await?);
    publish(&redis, 9).await?;
    publish(&redis, 10).await?;
    let mut seen = poller.messages(10).await?;

    roll_back(&redis, 8, &time, &["9-0", "10-0"]).await?;
    assert_eq!(publish(&redis, 11).await?, "9");
    assert_eq!(publish(&redis, 12).await?, "10");
    publish(&redis, 13).await?;
    seen.extend(poller.messages(3).await?);
    assert_eq!(
        seen,
        (1..=13).map(|number| json!(number)).collect::<Vec<_>>()
    );

    // Positions of the first life have lost their meaning.
    assert_ne!(field(&redis, "epoch").await?, epoch);
    let history = json!({"streams": {"a": {"offset": 10, "epoch": epoch}}});
    let line = frames::history(&frames::public("a"), &history);
    let answer = poller.poll_with(&line).await?;
    assert_eq!(frames::kinds(&answer.frames), ["reject_history"]);
    assert_eq!(node.metric("gaps_unrepaired_total").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_rollback_that_nobody_publishes_after_is_found_by_the_check() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = Node::builder()
        .flag("redis_check_interval", "0.3")
        .redis(&redis)
        .spawn()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    publish(&redis, 1).await?;
    let (time, epoch) = (field(&redis, "time").await?, field(&redis, "epoch").await?);
    publish(&redis, 2).await?;
    assert_eq!(poller.messages(2).await?, [1, 2]);
    roll_back(&redis, 1, &time, &["2-0"]).await?;
    assert_eventually!(field(&redis, "epoch").await? != epoch, PATIENCE);
    publish(&redis, 3).await?;
    assert_eq!(poller.messages(1).await?, [3]);
    Ok(())
}
