//! Chaos: the master of a Redis under sentinels goes away while everybody publishes.

use anyhow::Result;
use pollux_testkit::{Door, Nginx, Node, Outcome, Sentinels, Server, Traffic};
use std::time::Duration;

const STREAMS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Each of ten publishers publishes so often.
const EVERY: Duration = Duration::from_millis(100);
/// Messages of each publisher before a failover, and after it.
const AROUND: u64 = 20;

struct Scene {
    sentinels: Sentinels,
    nodes: Vec<Node>,
    _nginx: Nginx,
    traffic: Traffic,
}

impl Scene {
    /// What is accepted is what so many replicas have.
    async fn begin(replicas: usize) -> Result<Self> {
        let sentinels = Sentinels::spawn().await?;
        let mut nodes = Vec::new();
        let mut traffic = Traffic::on(&STREAMS);
        for _ in 0..3 {
            let node = Node::builder()
                .flag("poll_interval", "1")
                .flag("history_limit", "2000")
                .flag("redis_sentinels", &sentinels.addresses())
                .redis_url(&sentinels.url())
                .spawn_ready()
                .await?;
            nodes.push(node);
        }
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let nginx = Nginx::spawn(&addresses).await?;
        traffic.read_through(&nginx, 6).await?;
        let server = Server::copied(&sentinels, replicas);
        traffic.publish(Door::Fcall, &server, EVERY);
        traffic.publish(Door::Xadd, &server, EVERY);
        traffic.accepted(AROUND).await?;
        Ok(Self {
            sentinels,
            nodes,
            _nginx: nginx,
            traffic,
        })
    }

    async fn end(mut self) -> Result<Outcome> {
        self.traffic.accepted(AROUND).await?;
        let outcome = self.traffic.finish().await?;
        for node in &self.nodes {
            assert_eq!(node.metric("broker_up").await?, 1.0, "{outcome}");
        }
        Ok(outcome)
    }
}

#[tokio::test]
async fn a_master_that_was_killed_has_a_successor() -> Result<()> {
    // One of two: afterwards there is only one until the dead master comes back.
    let mut scene = Scene::begin(1).await?;
    let dead = scene.sentinels.kill_master().await?;
    scene.sentinels.succeeded(dead).await?;
    scene.traffic.accepted(AROUND).await?;
    // The dead one comes back and believes for a while that it still is the master.
    scene.sentinels.restart_killed().await?;
    scene.sentinels.replicated().await?;
    let outcome = scene.end().await?;
    // What the dead master alone had may have come to some: replication runs behind.
    assert!(outcome.is_continuous(), "{outcome}");
    Ok(())
}

#[tokio::test]
async fn a_master_that_lives_is_left() -> Result<()> {
    // Both: the old master goes on for a moment, with the replica that was not chosen.
    let scene = Scene::begin(2).await?;
    scene.sentinels.failover().await?;
    let outcome = scene.end().await?;
    // In that moment it publishes entries which its successor has too and publishes again: Redis
    // tells nobody that it is not the master any more, but nodes know what they have delivered.
    assert!(outcome.is_continuous(), "{outcome}");
    Ok(())
}
