//! Chaos: slots of a Redis Cluster move while everybody publishes to them.

use anyhow::Result;
use pollux_testkit::{Door, Nginx, Node, RedisCluster, Server, Traffic};
use std::time::Duration;

const STREAMS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Each of ten publishers publishes so often.
const EVERY: Duration = Duration::from_millis(100);
/// Messages of each publisher before a move, and after it.
const AROUND: u64 = 10;

#[tokio::test]
async fn slots_move_and_nothing_is_lost() -> Result<()> {
    let cluster = RedisCluster::spawn(3).await?;
    let mut nodes = Vec::new();
    let mut traffic = Traffic::on(&STREAMS);
    for _ in 0..3 {
        let node = Node::builder()
            .flag("poll_interval", "1")
            .flag("history_limit", "2000")
            .redis_url(&cluster.urls())
            .spawn_ready()
            .await?;
        nodes.push(node);
    }
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
    let nginx = Nginx::spawn(&addresses).await?;
    traffic.read_through(&nginx, 6).await?;
    let server = Server::from(&cluster);
    traffic.publish(Door::Fcall, &server, EVERY);
    traffic.publish(Door::Xadd, &server, EVERY);
    traffic.accepted(AROUND).await?;

    // Two streams, and last the intake itself.
    for key in ["pollux:{a}", "pollux:{b}", "__anycable__"] {
        let slot = cluster.slot_of(key).await?;
        let to = (cluster.owner(slot).await? + 1) % cluster.masters();
        cluster.move_slot(slot, to).await?;
        traffic.accepted(AROUND).await?;
    }
    let outcome = traffic.finish().await?;
    assert!(outcome.is_clean(), "{outcome}");
    for node in &nodes {
        assert_eq!(node.metric("gaps_unrepaired_total").await?, 0.0);
        assert_eq!(node.metric("broker_up").await?, 1.0);
    }
    Ok(())
}
