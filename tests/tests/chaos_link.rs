//! Chaos: one node loses its way to Redis for a while, and everybody keeps publishing to Redis
//! itself. What it missed is repaired.

use anyhow::Result;
use pollux_testkit::{Door, Gate, Nginx, Node, NodeBuilder, Redis, Server, Traffic, free_port};
use std::time::Duration;

const STREAMS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How long the way is closed.
const OUTAGE: Duration = Duration::from_secs(20);
/// Each of ten publishers publishes so often.
const EVERY: Duration = Duration::from_millis(100);
/// Messages of each publisher before the outage, and after it.
const AROUND: u64 = 20;

fn builder(url: &str) -> NodeBuilder {
    Node::builder()
        .flag("poll_interval", "1")
        .flag("history_limit", "2000")
        .redis_url(url)
}

/// Three nodes behind nginx, the first one also behind a gate.
struct Scene {
    _redis: Redis,
    gate: Gate,
    nodes: Vec<Node>,
    _nginx: Nginx,
    traffic: Traffic,
}

impl Scene {
    async fn begin() -> Result<Self> {
        let redis = Redis::spawn().await?;
        let gate = Gate::to(redis.address()).await?;
        let mut nodes = vec![builder(&gate.url()).spawn_ready().await?];
        for _ in 0..2 {
            nodes.push(builder(&redis.url()).spawn_ready().await?);
        }
        let mut traffic = Traffic::on(&STREAMS);
        // Wherever nginx puts the others, the node behind the gate has somebody.
        traffic.read("reader behind the gate", &nodes[0]).await?;
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let nginx = Nginx::spawn(&addresses).await?;
        traffic.read_through(&nginx, 5).await?;
        let server = Server::from(&redis);
        traffic.publish(Door::Fcall, &server, EVERY);
        traffic.publish(Door::Xadd, &server, EVERY);
        traffic.accepted(AROUND).await?;
        Ok(Self {
            _redis: redis,
            gate,
            nodes,
            _nginx: nginx,
            traffic,
        })
    }

    async fn end(mut self) -> Result<()> {
        self.traffic.accepted(AROUND).await?;
        let outcome = self.traffic.finish().await?;
        assert!(outcome.is_clean(), "{outcome}");
        let repaired = self.nodes[0].metric("gaps_repaired_total").await?;
        assert!(repaired > 0.0, "nothing was missed\n{outcome}");
        for node in &self.nodes {
            assert_eq!(node.metric("gaps_unrepaired_total").await?, 0.0);
            assert_eq!(node.metric("broker_up").await?, 1.0);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_link_that_was_cut_is_repaired() -> Result<()> {
    let mut scene = Scene::begin().await?;
    scene.gate.cut().await;
    tokio::time::sleep(OUTAGE).await;
    assert_eq!(scene.nodes[0].get("/ready").await?.status, 503);
    assert_eq!(scene.nodes[1].get("/ready").await?.status, 200);
    scene.gate.heal().await?;
    scene.end().await
}

#[tokio::test]
async fn a_link_that_was_silent_is_repaired() -> Result<()> {
    let mut scene = Scene::begin().await?;
    scene.gate.freeze().await?;
    tokio::time::sleep(OUTAGE).await;
    assert_eq!(scene.nodes[0].get("/ready").await?.status, 503);
    assert_eq!(scene.nodes[1].get("/ready").await?.status, 200);
    scene.gate.heal().await?;
    scene.end().await
}

#[tokio::test]
async fn a_node_comes_back_on_its_port() -> Result<()> {
    let redis = Redis::spawn().await?;
    let port = free_port()?;
    let spawn = || builder(&redis.url()).port(port).spawn_ready();
    let mut node = spawn().await?;
    let address = node.address();
    assert_eq!(address.port(), port);
    node.kill()?;
    let mut node = spawn().await?;
    assert_eq!(node.address(), address);
    node.pause()?;
    node.resume()?;
    assert_eq!(node.get("/health").await?.status, 200);
    Ok(())
}
