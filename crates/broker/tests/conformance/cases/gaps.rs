//! A node whose way to Redis is closed for a while, and one whose way is not.

use crate::{
    node::{Node, offsets, texts},
    world::{Alone, Limits, Redis, World, start},
};
use anyhow::Result;
use pollux_broker::{BrokerError, RedisConfig};
use pollux_testkit::{Gate, PATIENCE, assert_eventually};
use std::time::Duration;

/// A node behind a gate, and the gate.
async fn gated(world: &Redis) -> Result<(Node, Gate)> {
    let gate = Gate::to(world.server.address()).await?;
    let config = RedisConfig {
        url: gate.url(),
        ..world.config().clone()
    };
    Ok((start(&config).await?, gate))
}

pub(crate) async fn what_was_missed_is_repaired(world: Redis) -> Result<()> {
    let (node, mut gate) = gated(&world).await?;
    let other = world.node().await?;
    node.subscribe("a").await?;
    node.subscribe("b").await?;
    let fifth = other.count("a", 1, 5).await?;
    node.hears_of("a", &fifth).await;
    gate.cut().await;
    assert_eventually!(!node.broker.is_ready(), PATIENCE);
    other.count("a", 6, 20).await?;
    other.count("b", 1, 3).await?;
    gate.heal().await?;
    let heard = node.hears("a", 20).await;
    assert_eq!(offsets(&heard), (1..=20).collect::<Vec<_>>());
    assert_eq!(texts(&node.hears("b", 3).await), ["1", "2", "3"]);
    assert_eq!(node.gaps(), []);
    assert_eq!(node.broker.stats().repaired, 18);
    node.ready().await;
    assert!(node.has_been(2, 1));
    // What comes now is not affected.
    let last = other.count("a", 21, 25).await?;
    let heard = node.hears_of("a", &last).await;
    assert_eq!(offsets(&heard), (1..=25).collect::<Vec<_>>());
    Ok(())
}

pub(crate) async fn what_was_missed_and_is_gone_is_told(mut world: Redis) -> Result<()> {
    world.limited(Limits {
        history_limit: 5,
        ..Limits::default()
    });
    let (node, mut gate) = gated(&world).await?;
    let other = world.node().await?;
    node.subscribe("a").await?;
    let fifth = other.count("a", 1, 5).await?;
    node.hears_of("a", &fifth).await;
    gate.cut().await;
    let last = other.count("a", 6, 30).await?;
    gate.heal().await?;
    let heard = node.hears_of("a", &last).await;
    let expected: Vec<u64> = (1..=5).chain(26..=30).collect();
    assert_eq!(offsets(&heard), expected);
    assert_eq!(node.gaps(), [(Some("a".to_owned()), 20)]);
    assert_eq!(node.broker.stats().unrepaired, 20);
    Ok(())
}

pub(crate) async fn a_silent_connection_is_noticed(world: Redis) -> Result<()> {
    let (node, mut gate) = gated(&world).await?;
    let other = world.node().await?;
    node.subscribe("a").await?;
    gate.freeze().await?;
    let last = other.count("a", 1, 10).await?;
    assert_eventually!(!node.broker.is_ready(), PATIENCE, "it does not notice");
    gate.heal().await?;
    node.ready().await;
    let heard = node.hears_of("a", &last).await;
    assert_eq!(offsets(&heard), (1..=10).collect::<Vec<_>>());
    Ok(())
}

pub(crate) async fn a_connection_that_redis_ends_is_made_again(world: Redis) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    for round in 0..5 {
        let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
        world.command("", &kill).await?;
        let first = round * 10 + 1;
        for number in first..first + 10 {
            let fcall = [
                "FCALL",
                "pollux_publish",
                "1",
                "pollux:{a}",
                &number.to_string(),
            ];
            world.command("", &fcall).await?;
        }
        let heard = node.hears("a", usize::try_from(round * 10 + 10)?).await;
        assert_eq!(offsets(&heard), (1..=round * 10 + 10).collect::<Vec<_>>());
    }
    assert_eq!(node.gaps(), []);
    Ok(())
}

pub(crate) async fn without_redis_a_publication_is_refused_at_once(mut world: Redis) -> Result<()> {
    let node = world.node().await?;
    world.leave("").await?;
    assert_eventually!(!node.broker.is_ready(), PATIENCE);
    let since = tokio::time::Instant::now();
    let refused = node
        .broker
        .publish(crate::node::publication("a", "1")?)
        .await;
    assert!(
        matches!(refused, Err(BrokerError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(since.elapsed() < Duration::from_secs(1));
    world.come_back().await?;
    node.ready().await;
    assert_eq!(node.publish("a", "2").await?.offset.get(), 1);
    assert!(node.has_been(2, 1));
    Ok(())
}
