//! Positions, and events in their order.

use crate::{
    node::{name, numbers, offsets, publication, texts},
    world::World,
};
use anyhow::{Context, Result};
use std::{collections::BTreeMap, sync::Arc};
use tokio::task::JoinSet;

pub(crate) async fn they_start_at_one_and_have_no_gaps(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let mut positions = Vec::new();
    for number in 1..=5 {
        positions.push(Some(node.publish("a", &number.to_string()).await?));
    }
    let heard = node.hears("a", 5).await;
    assert_eq!(offsets(&heard), [1, 2, 3, 4, 5]);
    assert_eq!(texts(&heard), numbers(1, 5));
    let told: Vec<_> = heard.iter().map(|one| one.position.clone()).collect();
    assert_eq!(told, positions);
    Ok(())
}

pub(crate) async fn each_stream_has_its_own(world: impl World) -> Result<()> {
    let node = world.node().await?;
    for stream in ["a", "b"] {
        node.subscribe(stream).await?;
    }
    for number in 1..=3 {
        assert_eq!(node.publish("a", "0").await?.offset.get(), number);
        assert_eq!(node.publish("b", "0").await?.offset.get(), number);
    }
    for stream in ["a", "b"] {
        assert_eq!(offsets(&node.hears(stream, 3).await), [1, 2, 3]);
    }
    Ok(())
}

pub(crate) async fn many_publishers_get_one_order(world: impl World) -> Result<()> {
    const PUBLISHERS: u64 = 10;
    const EACH: u64 = 20;
    let node = world.node().await?;
    node.subscribe("a").await?;
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let broker = Arc::clone(&node.broker);
        publishers.spawn(async move {
            let mut mine = Vec::new();
            for number in 0..EACH {
                let text = format!("[{publisher},{number}]");
                let position = broker.publish(publication("a", &text)?).await?;
                mine.push((position.context("no position")?.offset.get(), text));
            }
            // A publisher that waits for each answer sees its own go up.
            assert!(mine.is_sorted());
            anyhow::Ok(mine)
        });
    }
    let mut expected = BTreeMap::new();
    while let Some(mine) = publishers.join_next().await {
        expected.extend(mine??);
    }
    let count = PUBLISHERS * EACH;
    let heard = node.hears("a", usize::try_from(count)?).await;
    assert_eq!(offsets(&heard), (1..=count).collect::<Vec<_>>());
    assert_eq!(texts(&heard), expected.into_values().collect::<Vec<_>>());
    Ok(())
}

pub(crate) async fn a_subscription_knows_where_it_starts(world: impl World) -> Result<()> {
    let node = world.node().await?;
    assert_eq!(node.subscribe("new").await?, None);
    let third = node.count("old", 1, 3).await?;
    assert_eq!(node.subscribe("old").await?, Some(third));
    let fourth = node.publish("old", "4").await?;
    assert_eq!(
        offsets(&node.hears_of("old", &fourth).await).last(),
        Some(&4)
    );
    let again = node.subscribe("old").await?;
    assert_eq!(again, Some(fourth), "a second subscription knows it too");
    Ok(())
}

pub(crate) async fn a_subscription_in_the_midst_misses_nothing(world: impl World) -> Result<()> {
    const COUNT: u64 = 300;
    let node = world.node().await?;
    let broker = Arc::clone(&node.broker);
    let publisher = tokio::spawn(async move {
        let mut last = None;
        for number in 1..=COUNT {
            last = broker
                .publish(publication("a", &number.to_string())?)
                .await?;
        }
        last.context("no position")
    });
    let early = broker_reached(&node, COUNT / 10).await?;
    let start = node
        .subscribe("a")
        .await?
        .context("no position")?
        .offset
        .get();
    assert!(start >= early, "{start} is before {early}");
    let last = publisher.await??;
    let heard = offsets(&node.hears_of("a", &last).await);
    let after: Vec<_> = heard.into_iter().filter(|&offset| offset > start).collect();
    assert_eq!(after, (start + 1..=COUNT).collect::<Vec<_>>());
    Ok(())
}

/// Waits until the stream has so many publications, without listening to it.
async fn broker_reached(node: &crate::node::Node, count: u64) -> Result<u64> {
    let deadline = tokio::time::Instant::now() + pollux_testkit::PATIENCE;
    loop {
        let entries = node.entries("a", pollux_broker::Since::Time(0)).await?;
        let last = offsets(&entries).last().copied().unwrap_or(0);
        if last >= count {
            return Ok(last);
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "only {last}");
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn transient_publications_have_none(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let first = node.publish("a", "1").await?;
    let mut transient = publication("a", "2")?;
    transient.meta.transient = true;
    assert_eq!(node.broker.publish(transient).await?, None);
    node.publish("a", "3").await?;
    let heard = node.hears("a", 3).await;
    assert_eq!(offsets(&heard), [1, 0, 2]);
    assert_eq!(texts(&heard), ["1", "2", "3"]);
    assert!(heard[1].publication.meta.transient);
    let kept = node.entries("a", crate::node::after(&first, 0)).await?;
    assert_eq!(texts(&kept), ["1", "3"]);
    Ok(())
}

pub(crate) async fn many_streams_are_kept_apart(world: impl World) -> Result<()> {
    const STREAMS: u64 = 400;
    let node = world.node().await?;
    let streams = numbers(1, STREAMS);
    let mut subscribing = JoinSet::new();
    for stream in &streams {
        let (broker, stream) = (Arc::clone(&node.broker), name(stream)?);
        subscribing.spawn(async move { broker.subscribe(&stream).await });
    }
    while let Some(subscribed) = subscribing.join_next().await {
        subscribed??;
    }
    let mut publishing = JoinSet::new();
    for stream in &streams {
        let (broker, publication) = (Arc::clone(&node.broker), publication(stream, stream)?);
        publishing.spawn(async move { broker.publish(publication).await });
    }
    while let Some(published) = publishing.join_next().await {
        published??;
    }
    for stream in &streams {
        let heard = node.hears(stream, 1).await;
        assert_eq!(
            (offsets(&heard), texts(&heard)),
            (vec![1], vec![stream.as_str()])
        );
    }
    Ok(())
}
