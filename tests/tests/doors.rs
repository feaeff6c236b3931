//! Every door leads to every client of every node, and the recorded ones in one order.

use anyhow::{Context, Result};
use pollux_testkit::{CommandError, Node, Poller, Redis, RedisClient, Reply, frames};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CHANNEL: &str = "__anycable__";
/// Messages of each recorded door.
const ROUNDS: u64 = 20;

async fn spawn(redis: &Redis) -> Result<Node> {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .redis(redis)
        .spawn_ready()
        .await
}

async fn cluster(redis: &Redis) -> Result<[Node; 3]> {
    Ok([
        spawn(redis).await?,
        spawn(redis).await?,
        spawn(redis).await?,
    ])
}

fn key(stream: &str) -> String {
    format!("pollux:{{{stream}}}")
}

async fn fcall(
    client: &mut RedisClient,
    keys: &[&str],
    arguments: &[&str],
) -> Result<Reply, CommandError> {
    let count = keys.len().to_string();
    let mut command = vec!["FCALL", "pollux_publish", &count];
    command.extend(keys);
    command.extend(arguments);
    client.command(&command).await
}

/// Publishes to the stream `a`. Returns the offset.
async fn publish(client: &mut RedisClient, arguments: &[&str]) -> Result<i64> {
    let answer = fcall(client, &[&key("a")], arguments).await?;
    answer.integer().context("FCALL returned no number")
}

/// Polls until this many messages came. Returns their frames.
async fn collect(poller: &mut Poller, count: usize) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let answer = poller.poll().await?;
        anyhow::ensure!(answer.response.status == 200, "{} of {count}", seen.len());
        seen.extend(answer.frames);
    }
    Ok(seen)
}

#[tokio::test]
async fn three_doors_have_one_order_on_three_nodes() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = cluster(&redis).await?;
    let mut pollers = Vec::new();
    for node in &nodes {
        pollers.push(Poller::subscribed(node, &["a"]).await?);
    }
    let mut client = RedisClient::connect(&redis).await?;
    let mut told = BTreeMap::new();
    let mut numbers = 0..;
    for round in 0..ROUNDS {
        let [first, second, third] = [numbers.next(), numbers.next(), numbers.next()];
        let number = first.context("numbers end")?;
        told.insert(number, publish(&mut client, &[&number.to_string()]).await?);
        let entry = frames::publication("a", &json!(second));
        client
            .command(&["XADD", CHANNEL, "*", "payload", &entry])
            .await?;
        let node = &nodes[usize::try_from(round)? % nodes.len()];
        node.publish("a", &json!(third)).await?;
    }
    let all = 3 * ROUNDS;
    let mut orders = Vec::new();
    for poller in &mut pollers {
        orders.push(collect(poller, usize::try_from(all)?).await?);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    let offsets = orders[0]
        .iter()
        .filter_map(|frame| frame["offset"].as_u64());
    assert!(offsets.eq(1..=all));
    let epochs = orders[0].iter().filter_map(|frame| frame["epoch"].as_str());
    assert_eq!(epochs.collect::<BTreeSet<_>>().len(), 1);
    let numbers = orders[0]
        .iter()
        .filter_map(|frame| frame["message"].as_u64());
    assert!(numbers.collect::<BTreeSet<_>>().into_iter().eq(0..all));
    for (number, offset) in told {
        let frame = orders[0].iter().find(|frame| frame["message"] == number);
        assert_eq!(frame.context("no such message")?["offset"], offset);
    }
    Ok(())
}

#[tokio::test]
async fn plain_publish_reaches_every_node_without_a_position() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = cluster(&redis).await?;
    let mut pollers = Vec::new();
    for node in &nodes {
        pollers.push(Poller::subscribed(node, &["a"]).await?);
    }
    let message = frames::publication("a", &json!("live"));
    assert_eq!(redis.publish(CHANNEL, &message).await?, 3);
    let mut client = RedisClient::connect(&redis).await?;
    assert_eq!(publish(&mut client, &["1"]).await?, 1, "it took no offset");
    for poller in &mut pollers {
        let seen = collect(poller, 2).await?;
        assert_eq!(frames::messages(&seen), [json!("live"), json!(1)]);
        assert!(seen[0].get("offset").is_none(), "{}", seen[0]);
        assert!(seen[0].get("epoch").is_none(), "{}", seen[0]);
        assert_eq!(seen[1]["offset"], 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_wrong_is_refused_and_takes_no_offset() -> Result<()> {
    let redis = Redis::spawn().await?;
    let _node = spawn(&redis).await?;
    let mut client = RedisClient::connect(&redis).await?;
    let a = key("a");
    let a = a.as_str();
    let wrong: [(&[&str], &[&str], &str); 16] = [
        (&["a"], &["1"], "pollux:{<stream>}"),
        (&["pollux:a"], &["1"], "pollux:{<stream>}"),
        (&["pollux:{}"], &["1"], "pollux:{<stream>}"),
        (&["pollux:{a}:log"], &["1"], "pollux:{<stream>}"),
        (&["xpollux:{a}"], &["1"], "pollux:{<stream>}"),
        (&["other:{a}"], &["1"], "pollux:{<stream>}"),
        (&[], &["1"], "expected one key"),
        (&[a, "pollux:{b}"], &["1"], "expected one key"),
        (&[a], &[], "expected data"),
        (&[a], &["1", "{}", "more"], "expected data"),
        (&[a], &["1", "nonsense"], "meta must be a JSON object"),
        (&[a], &["1", "[]"], "meta must be a JSON object"),
        (&[a], &["1", r#"[{"transient":true}]"#], "meta must be"),
        (&[a], &["1", "5"], "meta must be a JSON object"),
        (&[a], &["1", "null"], "meta must be a JSON object"),
        (&[a], &["1", r#"{"transient":true"#], "meta must be"),
    ];
    for (keys, arguments, expected) in wrong {
        match fcall(&mut client, keys, arguments).await {
            Err(CommandError::Refused(words)) => {
                assert!(words.starts_with("ERR pollux"), "{words}");
                assert!(words.contains(expected), "{keys:?} {arguments:?}: {words}");
            }
            other => anyhow::bail!("{keys:?} {arguments:?}: {other:?}"),
        }
    }
    assert_eq!(publish(&mut client, &["1"]).await?, 1);
    assert_eq!(publish(&mut client, &["2", ""]).await?, 2, "no meta");
    assert_eq!(publish(&mut client, &["3", " {} "]).await?, 3);
    Ok(())
}

#[tokio::test]
async fn what_meta_says_is_done() -> Result<()> {
    let redis = Redis::spawn().await?;
    let nodes = [spawn(&redis).await?, spawn(&redis).await?];
    let mut author = Poller::subscribed(&nodes[0], &["a"]).await?;
    let mut other = Poller::subscribed(&nodes[1], &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    let exclude = json!({"exclude_socket": author.sid()}).to_string();
    assert_eq!(publish(&mut client, &["1", &exclude]).await?, 1);
    let transient = r#"{"transient":true}"#;
    assert_eq!(publish(&mut client, &["2", transient]).await?, 0);
    let kind = r#"{"broadcast_type":"tick"}"#;
    assert_eq!(publish(&mut client, &["3", kind]).await?, 2);
    let no = r#"{"transient":false}"#;
    assert_eq!(publish(&mut client, &["4", no]).await?, 3);

    let seen = collect(&mut other, 4).await?;
    assert_eq!(frames::messages(&seen), [1, 2, 3, 4]);
    let offsets: Vec<_> = seen.iter().map(|frame| frame["offset"].as_u64()).collect();
    assert_eq!(offsets, [Some(1), None, Some(2), Some(3)]);
    assert_eq!(seen[2]["type"], "tick");
    assert_eq!(author.messages(3).await?, [2, 3, 4]);

    // It was delivered and not kept.
    let line = frames::history(&frames::public("a"), &json!({"since": 0}));
    let mut replayed = other.poll_with(&line).await?.frames;
    while replayed.len() < 4 {
        replayed.extend(other.poll().await?.frames);
    }
    assert_eq!(frames::messages(&replayed), [1, 3, 4]);
    Ok(())
}
