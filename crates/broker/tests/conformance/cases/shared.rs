//! Nodes that share a world.

use crate::{
    node::{after, numbers, offsets, publication, texts},
    world::{Limits, World},
};
use anyhow::Result;
use pollux_broker::Since;
use pollux_protocol::RemoteDisconnect;
use pollux_testkit::{PATIENCE, assert_eventually};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

pub(crate) async fn what_enters_at_one_comes_at_all_in_one_order(world: impl World) -> Result<()> {
    const PUBLISHERS: usize = 10;
    const EACH: usize = 20;
    let nodes = [world.node().await?, world.node().await?];
    for node in &nodes {
        node.subscribe("a").await?;
    }
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let broker = Arc::clone(&nodes[publisher % nodes.len()].broker);
        publishers.spawn(async move {
            for number in 0..EACH {
                let text = format!("[{publisher},{number}]");
                broker.publish(publication("a", &text)?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(published) = publishers.join_next().await {
        published??;
    }
    let count = PUBLISHERS * EACH;
    let one = nodes[0].hears("a", count).await;
    let two = nodes[1].hears("a", count).await;
    assert_eq!(offsets(&one), (1..=count as u64).collect::<Vec<_>>());
    assert_eq!(one, two);
    Ok(())
}

pub(crate) async fn a_node_that_listens_to_nothing_hears_nothing(world: impl World) -> Result<()> {
    let (one, two) = (world.node().await?, world.node().await?);
    one.subscribe("a").await?;
    // The same slot in a cluster, so that both would come the same way.
    two.subscribe("{a}").await?;
    one.count("a", 1, 10).await?;
    one.publish("{a}", "1").await?;
    one.hears("a", 10).await;
    two.hears("{a}", 1).await;
    assert!(two.deliveries("a").is_empty());
    assert!(one.deliveries("{a}").is_empty());
    Ok(())
}

pub(crate) async fn a_disconnect_reaches_everybody(world: impl World) -> Result<()> {
    let nodes = [world.node().await?, world.node().await?];
    let command = |reconnect| RemoteDisconnect {
        identifier: "{\"user\":\"ü\\n\"}".to_owned(),
        reconnect,
    };
    nodes[0].broker.disconnect(command(true)).await?;
    nodes[1].broker.disconnect(command(false)).await?;
    for node in &nodes {
        assert_eventually!(node.disconnects().len() == 2, PATIENCE);
        let mut told = node.disconnects();
        told.sort_by_key(|command| command.reconnect);
        assert_eq!(told, [command(false), command(true)]);
    }
    Ok(())
}

pub(crate) async fn history_is_the_same_everywhere(world: impl World) -> Result<()> {
    let (one, two) = (world.node().await?, world.node().await?);
    let last = one.count("a", 1, 5).await?;
    let kept = one.entries("a", after(&last, 2)).await?;
    assert_eq!(two.entries("a", after(&last, 2)).await?, kept);
    assert_eq!(two.subscribe("a").await?, Some(last));
    assert_eq!(
        two.entries("a", Since::Time(0)).await?,
        one.entries("a", Since::Time(0)).await?
    );
    Ok(())
}

pub(crate) async fn transient_publications_reach_everybody(world: impl World) -> Result<()> {
    let nodes = [world.node().await?, world.node().await?];
    for node in &nodes {
        node.subscribe("a").await?;
    }
    for text in ["1", "2", "3"] {
        let mut transient = publication("a", text)?;
        transient.meta.transient = true;
        nodes[0].broker.publish(transient).await?;
    }
    for node in &nodes {
        let heard = node.hears("a", 3).await;
        assert_eq!(offsets(&heard), [0, 0, 0]);
        assert_eq!(texts(&heard), ["1", "2", "3"]);
    }
    Ok(())
}

pub(crate) async fn a_stream_that_was_left_is_listened_to_for_a_while(
    mut world: impl World,
) -> Result<()> {
    world.limited(Limits {
        linger: Duration::from_secs(2),
        ..Limits::default()
    });
    let (one, two) = (world.node().await?, world.node().await?);
    one.subscribe("a").await?;
    one.unsubscribe("a")?;
    // Somebody who comes back soon finds everything as it was.
    let first = two.publish("a", "1").await?;
    one.hears_of("a", &first).await;
    assert_eq!(one.subscribe("a").await?, Some(first));
    let second = two.publish("a", "2").await?;
    assert_eq!(offsets(&one.hears_of("a", &second).await), [1, 2]);
    assert_eq!(one.broker.stats().streams, 1);
    one.unsubscribe("a")?;
    assert_eventually!(one.broker.stats().streams == 0, PATIENCE);
    Ok(())
}

pub(crate) async fn a_stream_that_comes_back_goes_on_where_it_is(
    mut world: impl World,
) -> Result<()> {
    world.limited(Limits {
        linger: Duration::from_millis(50),
        ..Limits::default()
    });
    let (one, two) = (world.node().await?, world.node().await?);
    for round in 0..5 {
        let start = one.subscribe("a").await?;
        let known = start.map_or(0, |position| position.offset.get());
        assert_eq!(known, round * 4, "all that was published before");
        let heard = two.count("a", round * 4 + 1, round * 4 + 2).await?;
        one.hears_of("a", &heard).await;
        one.unsubscribe("a")?;
        assert_eventually!(one.broker.stats().streams == 0, PATIENCE);
        two.count("a", round * 4 + 3, round * 4 + 4).await?;
    }
    // Only what came while it was subscribed, and each once.
    let expected: Vec<_> = (0..5)
        .flat_map(|round| numbers(round * 4 + 1, round * 4 + 2))
        .collect();
    assert_eq!(texts(&one.deliveries("a")), expected);
    Ok(())
}
