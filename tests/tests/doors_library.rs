//! The function that backends call: who installs it, and what if nobody can.

use anyhow::{Context, Result};
use pollux_testkit::{Node, NodeBuilder, PATIENCE, Poller, Redis, assert_eventually, frames};
use serde_json::json;

const CHANNEL: &str = "__anycable__";

fn builder(redis: &Redis) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .redis(redis)
}

/// Puts a library in place that says it has this version, and publishes nothing.
async fn load(redis: &Redis, version: &str) -> Result<()> {
    let code = format!(
        "#!lua name=pollux\n\
         redis.register_function('pollux_publish', function() return 'untouched' end)\n\
         redis.register_function{{function_name = 'pollux_version',\n\
         callback = function() return '{version}' end, flags = {{'no-writes'}}}}"
    );
    redis.cli(&["FUNCTION", "LOAD", &code]).await?;
    Ok(())
}

async fn version(redis: &Redis) -> Result<String> {
    redis.cli(&["FCALL_RO", "pollux_version", "0"]).await
}

async fn fcall(redis: &Redis, data: &str) -> Result<String> {
    let command = ["FCALL", "pollux_publish", "1", "pollux:{a}", data];
    redis.cli(&command).await
}

/// Whatever happened to the library, all other doors are open.
async fn other_doors_are_open(redis: &Redis, node: &Node) -> Result<()> {
    let mut poller = Poller::subscribed(node, &["b"]).await?;
    node.publish("b", &json!(1)).await?;
    let message = &poller.poll().await?.frames[0];
    assert_eq!(
        (&message["message"], &message["offset"]),
        (&json!(1), &json!(1))
    );
    let entry = frames::publication("b", &json!(2));
    redis
        .cli(&["XADD", CHANNEL, "*", "payload", &entry])
        .await?;
    assert_eq!(poller.messages(1).await?, [2]);
    redis
        .publish(CHANNEL, &frames::publication("b", &json!(3)))
        .await?;
    assert_eq!(poller.messages(1).await?, [3]);
    Ok(())
}

#[tokio::test]
async fn a_node_replaces_an_older_library() -> Result<()> {
    let redis = Redis::spawn().await?;
    load(&redis, "0 of long ago").await?;
    assert_eq!(fcall(&redis, "1").await?, "untouched");
    let node = builder(&redis).spawn_ready().await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    assert_eq!(fcall(&redis, "1").await?, "1");
    assert_eq!(poller.messages(1).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn a_node_leaves_a_newer_library_alone() -> Result<()> {
    let redis = Redis::spawn().await?;
    load(&redis, "99 from the future").await?;
    let node = builder(&redis).spawn_ready().await?;
    assert_eq!(version(&redis).await?, "99 from the future");
    assert_eq!(fcall(&redis, "1").await?, "untouched");
    other_doors_are_open(&redis, &node).await
}

#[tokio::test]
async fn the_library_has_the_settings_of_the_node_that_came_last() -> Result<()> {
    let redis = Redis::spawn().await?;
    let _first = builder(&redis).spawn_ready().await?;
    let before = version(&redis).await?;
    let node = builder(&redis)
        .flag("history_limit", "2")
        .spawn_ready()
        .await?;
    assert_ne!(version(&redis).await?, before);
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    for number in 1..=5 {
        fcall(&redis, &number.to_string()).await?;
    }
    assert_eq!(redis.cli(&["XLEN", "pollux:{a}:log"]).await?, "2");
    assert_eq!(poller.messages(5).await?, [1, 2, 3, 4, 5]);
    Ok(())
}

#[tokio::test]
async fn two_sets_of_nodes_share_a_server_and_its_library() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut sets = Vec::new();
    for (prefix, limit) in [("one", "2"), ("two", "3")] {
        let node = builder(&redis)
            .flag("redis_prefix", prefix)
            .flag("redisx_stream", prefix)
            .flag("history_limit", limit)
            .spawn_ready()
            .await?;
        let poller = Poller::subscribed(&node, &["a"]).await?;
        sets.push((prefix, limit, node, poller));
    }
    for (prefix, limit, node, poller) in &mut sets {
        let key = format!("{prefix}:{{a}}");
        for number in 1..=5 {
            let data = json!([prefix, number]).to_string();
            let command = ["FCALL", "pollux_publish", "1", &key, &data];
            assert_eq!(redis.cli(&command).await?, number.to_string());
        }
        let expected: Vec<_> = (1..=5).map(|number| json!([prefix, number])).collect();
        assert_eq!(poller.messages(5).await?, expected);
        let log = format!("{key}:log");
        assert_eq!(redis.cli(&["XLEN", &log]).await?, *limit);
        assert_eq!(node.metric("broadcast_msg_total").await?, 5.0);
    }
    let nobody = ["FCALL", "pollux_publish", "1", "three:{a}", "1"];
    assert!(redis.cli(&nobody).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_library_that_was_flushed_comes_back_with_the_next_connection() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = builder(&redis).spawn_ready().await?;
    redis.cli(&["FUNCTION", "FLUSH"]).await?;
    assert!(fcall(&redis, "1").await.is_err());
    other_doors_are_open(&redis, &node).await?;
    let _another = builder(&redis).spawn_ready().await?;
    assert_eq!(fcall(&redis, "1").await?, "1");

    redis.cli(&["FUNCTION", "FLUSH"]).await?;
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
    assert_eventually!(fcall(&redis, "2").await.is_ok(), PATIENCE);
    Ok(())
}

#[tokio::test]
async fn without_the_right_to_load_it_only_the_function_is_missing() -> Result<()> {
    let redis = Redis::spawn().await?;
    let rules = [
        "on",
        ">secret",
        "~*",
        "&*",
        "+@all",
        "-function",
        "-fcall",
        "-fcall_ro",
    ];
    redis
        .cli(&[&["ACL", "SETUSER", "node"][..], &rules].concat())
        .await?;
    let url = format!("redis://node:secret@{}/0", redis.address());
    let node = Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .redis_url(&url)
        .spawn_ready()
        .await?;
    let warning = "Backends can't FCALL pollux_publish";
    assert!(node.log().text().contains(warning), "{}", node.log().text());
    assert!(fcall(&redis, "1").await.is_err());
    other_doors_are_open(&redis, &node).await
}

#[tokio::test]
async fn a_redis_without_functions_has_a_script_for_backends() -> Result<()> {
    // As Redis 6: it does not know these commands at all.
    let unknown = ["FUNCTION", "FCALL", "FCALL_RO"];
    let redis = unknown.into_iter().fold(Redis::builder(), |redis, name| {
        redis.setting("rename-command", &format!("{name} \"\""))
    });
    let redis = redis.spawn().await?;
    let node = builder(&redis).spawn_ready().await?;
    let line = node
        .log()
        .lines()
        .into_iter()
        .find(|line| line.contains("EVALSHA"))
        .context("nothing was said")?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    let hash = line["hash"]
        .as_str()
        .or_else(|| line["fields"]["hash"].as_str())
        .with_context(|| format!("no hash: {line}"))?;

    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let script = ["EVALSHA", hash, "1", "pollux:{a}"];
    let publish = async |arguments: &[&str]| redis.cli(&[&script, arguments].concat()).await;
    assert_eq!(publish(&["1"]).await?, "1");
    assert_eq!(publish(&["2", r#"{"transient":true}"#]).await?, "0");
    assert_eq!(publish(&["text"]).await?, "2");
    let expected = [json!(1), json!(2), json!("text")];
    assert_eq!(poller.messages(3).await?, expected);
    for wrong in [&[][..], &["1", "[]"], &["1", "{}", "x"]] {
        assert!(publish(wrong).await.is_err(), "{wrong:?}");
    }
    assert!(redis.cli(&["EVALSHA", hash, "1", "a", "1"]).await.is_err());
    other_doors_are_open(&redis, &node).await
}
