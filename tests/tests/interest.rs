//! A node listens to a stream while it has somebody for it, and is not woken for others.

use anyhow::{Context, Result};
use pollux_testkit::{
    Node, NodeBuilder, PATIENCE, Poller, Redis, RedisClient, assert_eventually, frames,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

/// Streams with one subscriber each.
const STREAMS: usize = 100_000;
/// Streams of one session. Commands of a session run one after the other, those of sessions side by
/// side.
const OF_SESSION: usize = 250;
/// Several times of what it takes a debug build.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(90);

fn builder(redis: &Redis) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "20")
        .flag("poll_flush_interval", "0")
        .flag("redis_linger", "1")
        .redis(redis)
}

/// How many connections listen to a stream.
async fn listeners(client: &mut RedisClient, stream: &str) -> Result<i64> {
    let channel = format!("pollux:{{{stream}}}");
    let answer = client.command(&["PUBSUB", "NUMSUB", &channel]).await?;
    let count = answer
        .items()
        .get(1)
        .and_then(pollux_testkit::Reply::integer);
    count.context("NUMSUB returned no number")
}

async fn publish(client: &mut RedisClient, stream: &str, data: &str) -> Result<()> {
    let key = format!("pollux:{{{stream}}}");
    client
        .command(&["FCALL", "pollux_publish", "1", &key, data])
        .await?;
    Ok(())
}

/// A session that asks for many subscriptions, and is told of them later.
async fn ask_for_all(mut poller: Poller, streams: Vec<String>) -> Result<(Poller, usize)> {
    let lines = streams
        .iter()
        .map(|stream| frames::subscribe(&frames::public(stream)));
    let answer = poller.poll_with(&lines.collect::<String>()).await?;
    let confirmed = confirmations(&answer.frames);
    Ok((poller, streams.len() - confirmed))
}

fn confirmations(frames: &[Value]) -> usize {
    let kinds = frames::kinds(frames).into_iter();
    kinds.filter(|&kind| kind == "confirm_subscription").count()
}

/// How many channels have a listener.
async fn channels(client: &mut RedisClient) -> Result<usize> {
    let info = client.command(&["INFO", "stats"]).await?;
    let mut lines = info.text().unwrap_or_default().lines();
    let count = lines.find_map(|line| line.strip_prefix("pubsub_channels:"));
    Ok(count.context("INFO has no channels")?.parse()?)
}

async fn messages(nodes: &[Node]) -> Result<Vec<f64>> {
    let mut counts = Vec::new();
    for node in nodes {
        counts.push(node.metric("redis_messages_total").await?);
    }
    Ok(counts)
}

#[tokio::test]
async fn of_a_hundred_thousand_streams_each_wakes_one_node() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let node = builder(&redis)
            .flag("poll_keepalive_timeout", "300")
            .spawn_ready()
            .await?;
        nodes.push(node);
    }
    let names: Vec<_> = (0..STREAMS)
        .map(|number| format!("stream/{number}"))
        .collect();
    let begun = Instant::now();
    let mut client = RedisClient::connect(&redis).await?;
    let before = channels(&mut client).await?;
    let mut sessions = JoinSet::new();
    for (at, streams) in names.chunks(OF_SESSION).enumerate() {
        let poller = Poller::open(&nodes[at % nodes.len()]).await?;
        sessions.spawn(ask_for_all(poller, streams.to_vec()));
    }
    let mut pollers = Vec::new();
    while let Some(session) = sessions.join_next().await {
        pollers.push(session??);
    }
    assert_eventually!(
        channels(&mut client).await? == before + STREAMS,
        SUBSCRIBED_WITHIN
    );
    for (poller, missing) in &mut pollers {
        while *missing > 0 {
            let answer = poller.poll().await?;
            *missing -= confirmations(&answer.frames);
        }
    }
    eprintln!("{STREAMS} subscriptions took {:?}", begun.elapsed());
    let mut listening = 0.0;
    for node in &nodes {
        let streams = node.metric("redis_streams").await?;
        assert_eq!(streams, node.metric("subscriptions").await?);
        listening += streams;
    }
    assert_eq!(listening, STREAMS as f64);

    for number in [0, OF_SESSION, 2 * OF_SESSION, STREAMS - 1] {
        let (name, wanted) = (&names[number], number / OF_SESSION % nodes.len());
        assert_eq!(listeners(&mut client, name).await?, 1);
        let mut expected = messages(&nodes).await?;
        expected[wanted] += 2.0;
        publish(&mut client, name, "1").await?;
        publish(&mut client, name, "2").await?;
        assert_eventually!(
            messages(&nodes).await? == expected,
            PATIENCE,
            "{expected:?}"
        );
    }
    let mut fanned_out = 0.0;
    for node in &nodes {
        fanned_out += node.metric("broadcast_msg_total").await?;
    }
    assert_eq!(fanned_out, 8.0);
    Ok(())
}

#[tokio::test]
async fn a_stream_is_left_after_its_last_subscriber() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = builder(&redis).spawn_ready().await?;
    let mut one = Poller::subscribed(&node, &["a", "b"]).await?;
    let two = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    assert_eq!(node.metric("redis_streams").await?, 2.0);
    let leave =
        frames::unsubscribe(&frames::public("a")) + &frames::unsubscribe(&frames::public("b"));
    let parked = one.park_with(&leave).await?;
    assert_eventually!(listeners(&mut client, "b").await? == 0, PATIENCE);
    assert_eq!(
        listeners(&mut client, "a").await?,
        1,
        "somebody is still there"
    );
    assert_eq!(node.metric("redis_streams").await?, 1.0);

    let leave = frames::unsubscribe(&frames::public("a"));
    let _parked = two.park_with(&leave).await?;
    assert_eventually!(listeners(&mut client, "a").await? == 0, PATIENCE);
    assert_eq!(node.metric("redis_streams").await?, 0.0);

    // And comes back, with what was published meanwhile in its history.
    parked.into_connection().reset()?;
    assert_eventually!(node.metric("parked_polls").await? == 1.0, PATIENCE);
    publish(&mut client, "b", "1").await?;
    let line = frames::subscribe_with_history(&frames::public("b"), &json!({"since": 0}));
    one.hang_up();
    let mut seen = one.poll_with(&line).await?.messages();
    publish(&mut client, "b", "2").await?;
    while seen.len() < 2 {
        seen.extend(one.poll().await?.messages());
    }
    assert_eq!(seen, [1, 2]);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_wanted_again_in_time_was_never_left() -> Result<()> {
    let redis = Redis::spawn().await?;
    let node = builder(&redis)
        .flag("redis_linger", "60")
        .spawn_ready()
        .await?;
    let mut poller = Poller::subscribed(&node, &["a"]).await?;
    let mut client = RedisClient::connect(&redis).await?;
    let identifier = frames::public("a");
    for number in 1..=20 {
        let again = frames::unsubscribe(&identifier) + &frames::subscribe(&identifier);
        let answer = poller.poll_with(&again).await?;
        assert_eq!(frames::kinds(&answer.frames), ["confirm_subscription"]);
        assert_eq!(listeners(&mut client, "a").await?, 1);
        publish(&mut client, "a", &number.to_string()).await?;
        assert_eq!(poller.messages(1).await?, [number]);
    }
    Ok(())
}

#[tokio::test]
async fn whispers_reach_only_nodes_that_listen_and_commands_reach_all() -> Result<()> {
    let redis = Redis::spawn().await?;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(builder(&redis).spawn_ready().await?);
    }
    let one = Poller::subscribed(&nodes[0], &["a"]).await?;
    let mut bystander = Poller::subscribed(&nodes[1], &["b"]).await?;
    let mut two = Poller::subscribed(&nodes[2], &["a"]).await?;
    let before = messages(&nodes).await?;
    let whisper = frames::whisper(&frames::public("a"), &json!("psst"));
    let _parked = one.park_with(&whisper).await?;
    let heard = two.poll().await?.frames;
    assert_eq!(frames::messages(&heard), ["psst"]);
    assert!(heard[0].get("offset").is_none(), "{}", heard[0]);
    assert_eq!(messages(&nodes).await?[1], before[1]);

    let identifiers = json!({"sid": bystander.sid()}).to_string();
    let command = frames::remote_disconnect(&identifiers, Some(false));
    assert_eq!(nodes[0].broadcast(&command).await?.status, 201);
    let expected = json!({"type": "disconnect", "reason": "remote", "reconnect": false});
    assert_eq!(bystander.poll().await?.frames, [expected]);
    Ok(())
}
