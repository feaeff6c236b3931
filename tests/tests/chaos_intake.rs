//! Chaos: the node that takes what was published with `XADD` goes away in the midst of it.

use anyhow::{Context, Result};
use pollux_testkit::{Door, Node, PATIENCE, Redis, Server, Traffic, assert_eventually};
use std::time::Duration;

const STREAMS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How long the node is silent.
const PAUSE: Duration = Duration::from_secs(10);
/// How many consumers die one after the other.
const DEATHS: usize = 5;
/// Each of ten publishers publishes so often.
const EVERY: Duration = Duration::from_millis(50);
/// Messages of each publisher before and after.
const AROUND: u64 = 30;

struct Scene {
    redis: Redis,
    nodes: Vec<Node>,
    traffic: Traffic,
}

impl Scene {
    async fn begin() -> Result<Self> {
        let redis = Redis::spawn().await?;
        let mut nodes = Vec::new();
        let mut traffic = Traffic::on(&STREAMS);
        for at in 0..3 {
            let node = Node::builder()
                .flag("poll_interval", "1")
                .flag("history_limit", "2000")
                .redis(&redis)
                .spawn_ready()
                .await?;
            for reader in 0..2 {
                traffic.read(&reader_name(reader, at), &node).await?;
            }
            nodes.push(node);
        }
        let server = Server::from(&redis);
        traffic.publish(Door::Fcall, &server, EVERY);
        traffic.publish(Door::Xadd, &server, EVERY);
        traffic.accepted(AROUND).await?;
        Ok(Self {
            redis,
            nodes,
            traffic,
        })
    }

    /// Which node takes entries, among all but one.
    async fn leader(&self, except: Option<usize>) -> Result<Option<usize>> {
        for (at, node) in self.nodes.iter().enumerate() {
            if Some(at) != except && node.metric("intake_leader").await? == 1.0 {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    async fn end(mut self) -> Result<()> {
        self.traffic.accepted(AROUND).await?;
        let outcome = self.traffic.finish().await?;
        assert!(outcome.is_clean(), "{outcome}");
        assert_eq!(self.redis.cli(&["XLEN", "__anycable__"]).await?, "0");
        Ok(())
    }
}

#[tokio::test]
async fn consumers_that_die_one_after_the_other_double_nothing() -> Result<()> {
    let redis = Redis::spawn().await?;
    let builder = || {
        Node::builder()
            .flag("poll_interval", "1")
            .flag("history_limit", "10000")
            .redis(&redis)
    };
    // It reads no entries, so that it may live. What waits while a lease runs out comes at once,
    // and this is not about sessions that overflow.
    let deaf = builder()
        .flag("redisx_stream", "")
        .flag("poll_outbox_max_frames", "10000")
        .spawn_ready()
        .await?;
    let mut traffic = Traffic::on(&STREAMS);
    for reader in 0..2 {
        traffic.read(&reader_name(reader, 0), &deaf).await?;
    }
    let mut consumer = builder().spawn_ready().await?;
    // Often, so that deaths fall between a publication and its acknowledgement.
    traffic.publish(Door::Xadd, &Server::from(&redis), EVERY / 5);
    for _ in 0..DEATHS {
        assert_eventually!(consumer.metric("intake_leader").await? == 1.0, PATIENCE);
        let successor = builder().spawn_ready().await?;
        traffic.accepted(AROUND).await?;
        consumer.kill()?;
        consumer = successor;
    }
    let outcome = traffic.finish().await?;
    assert!(outcome.is_clean(), "{outcome}");
    Ok(())
}

fn reader_name(reader: usize, node: usize) -> String {
    format!("reader {reader} at {node}")
}

#[tokio::test]
async fn a_consumer_that_was_killed_has_a_successor() -> Result<()> {
    let mut scene = Scene::begin().await?;
    let leader = scene.leader(None).await?.context("nobody leads")?;
    for reader in 0..2 {
        scene.traffic.forget(&reader_name(reader, leader));
    }
    scene.nodes[leader].kill()?;
    scene.traffic.accepted(AROUND).await?;
    assert_eventually!(scene.leader(Some(leader)).await?.is_some(), PATIENCE);
    scene.end().await
}

#[tokio::test]
async fn a_consumer_that_was_silent_doubles_nothing() -> Result<()> {
    let mut scene = Scene::begin().await?;
    let leader = scene.leader(None).await?.context("nobody leads")?;
    scene.nodes[leader].pause()?;
    tokio::time::sleep(PAUSE).await;
    assert!(scene.leader(Some(leader)).await?.is_some());
    scene.nodes[leader].resume()?;
    scene.end().await
}
