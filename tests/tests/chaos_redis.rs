//! Chaos: Redis goes away and comes back while everybody publishes.

use anyhow::Result;
use pollux_testkit::{Door, Nginx, Node, Redis, Server, Traffic};
use std::time::Duration;

const STREAMS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How long Redis is silent.
const PAUSE: Duration = Duration::from_secs(10);
/// Each of ten publishers publishes so often.
const EVERY: Duration = Duration::from_millis(100);
/// Messages of each publisher before an outage, and after it.
const AROUND: u64 = 20;

/// A Redis that keeps what it acknowledged, and three nodes behind nginx.
struct Scene {
    redis: Redis,
    nodes: Vec<Node>,
    _nginx: Nginx,
    traffic: Traffic,
}

impl Scene {
    async fn begin() -> Result<Self> {
        let redis = Redis::builder().append_only().spawn().await?;
        let mut nodes = Vec::new();
        let mut traffic = Traffic::on(&STREAMS);
        for _ in 0..3 {
            let node = Node::builder()
                .flag("poll_interval", "1")
                .flag("history_limit", "2000")
                .redis(&redis)
                .spawn_ready()
                .await?;
            nodes.push(node);
        }
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let nginx = Nginx::spawn(&addresses).await?;
        traffic.read_through(&nginx, 6).await?;
        let server = Server::from(&redis);
        traffic.publish(Door::Fcall, &server, EVERY);
        traffic.publish(Door::Xadd, &server, EVERY);
        traffic.accepted(AROUND).await?;
        Ok(Self {
            redis,
            nodes,
            _nginx: nginx,
            traffic,
        })
    }

    async fn end(mut self) -> Result<()> {
        self.traffic.accepted(AROUND).await?;
        let outcome = self.traffic.finish().await?;
        assert!(outcome.is_clean(), "{outcome}");
        for node in &self.nodes {
            assert_eq!(node.metric("gaps_unrepaired_total").await?, 0.0);
            assert_eq!(node.metric("broker_up").await?, 1.0);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_redis_that_was_killed_twice_has_lost_nothing() -> Result<()> {
    let mut scene = Scene::begin().await?;
    for _ in 0..2 {
        scene.redis.stop();
        for node in &scene.nodes {
            pollux_testkit::assert_eventually!(
                node.get("/ready").await?.status == 503,
                pollux_testkit::PATIENCE
            );
        }
        scene.redis.start().await?;
        scene.traffic.accepted(AROUND).await?;
    }
    scene.end().await
}

#[tokio::test]
async fn a_redis_that_was_silent_has_lost_nothing() -> Result<()> {
    let mut scene = Scene::begin().await?;
    scene.redis.pause()?;
    tokio::time::sleep(PAUSE).await;
    scene.redis.resume()?;
    scene.end().await
}
