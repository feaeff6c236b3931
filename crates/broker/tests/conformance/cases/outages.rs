//! Servers that go away and come back, and slots that move.

use crate::{
    node::{Node, offsets, publication, texts},
    world::{Alone, Cluster, World},
};
use anyhow::{Context, Result};
use pollux_protocol::Position;
use pollux_testkit::{Deadline, PATIENCE, assert_eventually};
use std::{sync::Arc, time::Duration};

/// The stream of these cases, and the key whose servers go away.
const STREAM: &str = "a";
const KEY: &str = "pollux:{a}";

/// Publishes until it is accepted. What was refused may have happened all the same.
async fn insist(node: &Node, text: &str) -> Result<Position> {
    let deadline = Deadline::within(3 * PATIENCE);
    loop {
        match node.publish(STREAM, text).await {
            Ok(position) => return Ok(position),
            Err(error) => anyhow::ensure!(!deadline.is_over(), "{error:#}"),
        }
        deadline.pause().await;
    }
}

pub(crate) async fn positions_go_on_after_an_outage(mut world: impl Alone) -> Result<()> {
    let node = world.node().await?;
    node.subscribe(STREAM).await?;
    let before = node.count(STREAM, 1, 5).await?;
    world.leave(KEY).await?;
    let refused = node.publish(STREAM, "6").await;
    assert!(refused.is_err(), "{refused:?} while there is no server");
    world.come_back().await?;
    let last = insist(&node, "7").await?;
    assert_eq!(last.epoch, before.epoch);
    let heard = offsets(&node.hears_of(STREAM, &last).await);
    assert_eq!(heard, (1..=last.offset.get()).collect::<Vec<_>>());
    assert_eq!(node.gaps(), []);
    Ok(())
}

pub(crate) async fn a_subscription_waits_for_the_end_of_an_outage(
    mut world: impl Alone,
) -> Result<()> {
    let node = world.node().await?;
    world.leave(KEY).await?;
    let stream = crate::node::name(STREAM)?;
    let broker = Arc::clone(&node.broker);
    let mut subscribing = tokio::spawn(async move { broker.subscribe(&stream).await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut subscribing).await;
    assert!(early.is_err(), "{early:?} while there is no server");
    world.come_back().await?;
    let start = tokio::time::timeout(3 * PATIENCE, subscribing).await???;
    assert_eq!(start, None);
    let first = insist(&node, "1").await?;
    let heard = node.hears_of(STREAM, &first).await;
    assert_eq!(
        offsets(&heard),
        (1..=first.offset.get()).collect::<Vec<_>>()
    );
    Ok(())
}

pub(crate) async fn what_others_published_meanwhile_is_repaired(
    mut world: impl Alone,
) -> Result<()> {
    const MEANWHILE: u64 = 10;
    let node = world.node().await?;
    node.subscribe(STREAM).await?;
    node.count(STREAM, 1, 5).await?;
    node.hears(STREAM, 5).await;
    world.leave(KEY).await?;
    world.come_back().await?;
    // Other clients are faster than nodes that first have to notice.
    for number in 6..6 + MEANWHILE {
        let text = number.to_string();
        let fcall = ["FCALL", "pollux_publish", "1", KEY, &text];
        let offset = world.command(KEY, &fcall).await?;
        assert_eq!(offset.integer(), Some(i64::try_from(number)?));
    }
    let heard = node.hears(STREAM, 15).await;
    assert_eq!(offsets(&heard), (1..=15).collect::<Vec<_>>());
    assert_eq!(texts(&heard), crate::node::numbers(1, 15));
    assert_eq!(node.gaps(), []);
    Ok(())
}

pub(crate) async fn a_slot_that_moves_loses_nothing(mut world: Cluster) -> Result<()> {
    const AFTER_EACH: u64 = 50;
    let nodes = [world.node().await?, world.node().await?];
    for node in &nodes {
        node.subscribe(STREAM).await?;
    }
    let added = Arc::get_mut(&mut world.servers)
        .context("others use these servers")?
        .add_master()
        .await?;
    let slot = world.servers.slot_of(KEY).await?;
    let first = world.servers.owner(slot).await?;
    let broker = Arc::clone(&nodes[0].broker);
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let publisher = tokio::spawn(async move {
        let mut accepted = Vec::new();
        let mut number = 0_u64;
        let mut rest = AFTER_EACH;
        while rest > 0 {
            number += 1;
            let text = number.to_string();
            if broker.publish(publication(STREAM, &text)?).await.is_ok() {
                accepted.push(text);
            }
            if stopped.try_recv().is_ok() || rest < AFTER_EACH {
                rest -= 1;
            }
        }
        anyhow::Ok(accepted)
    });
    for to in [(first + 1) % 3, added, first] {
        let reached = nodes[1].deliveries(STREAM).len() + 50;
        world.servers.move_slot(slot, to).await?;
        assert_eventually!(
            nodes[1].deliveries(STREAM).len() >= reached,
            PATIENCE,
            "nothing comes after the slot moved to {to}"
        );
    }
    stop.send(())
        .map_err(|()| anyhow::anyhow!("the publisher ended early"))?;
    let accepted = publisher.await??;
    let last = insist(&nodes[0], "last").await?;
    for node in &nodes {
        let heard = node.hears_of(STREAM, &last).await;
        assert_eq!(offsets(&heard), (1..=last.offset.get()).collect::<Vec<_>>());
        let heard = texts(&heard);
        let lost: Vec<_> = accepted
            .iter()
            .filter(|text| !heard.contains(&text.as_str()))
            .collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!(node.gaps(), []);
    }
    Ok(())
}
