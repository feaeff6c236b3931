//! Which streams a node listens to.

use crate::{
    node::{after, name, offsets, texts},
    world::World,
};
use anyhow::Result;

pub(crate) async fn each_subscribe_takes_an_unsubscribe(world: impl World) -> Result<()> {
    let node = world.node().await?;
    for _ in 0..3 {
        node.subscribe("a").await?;
    }
    for number in 1..=3 {
        let position = node.publish("a", &number.to_string()).await?;
        node.hears_of("a", &position).await;
        node.unsubscribe("a")?;
    }
    assert_eq!(offsets(&node.deliveries("a")), [1, 2, 3]);
    // From none to one again.
    node.subscribe("a").await?;
    let fourth = node.publish("a", "4").await?;
    assert_eq!(offsets(&node.hears_of("a", &fourth).await), [1, 2, 3, 4]);
    Ok(())
}

pub(crate) async fn a_subscribe_that_was_given_up_counts_too(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let stream = name("a")?;
    node.subscribe("a").await?;
    drop(node.broker.subscribe(&stream));
    node.unsubscribe("a")?;
    let first = node.publish("a", "1").await?;
    node.hears_of("a", &first).await;

    let other = name("b")?;
    drop(node.broker.subscribe(&other));
    node.unsubscribe("b")?;
    node.subscribe("b").await?;
    let first = node.publish("b", "1").await?;
    assert_eq!(offsets(&node.hears_of("b", &first).await), [1]);
    Ok(())
}

pub(crate) async fn what_nobody_listens_to_is_kept_all_the_same(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let last = node.count("a", 1, 3).await?;
    let kept = node.entries("a", after(&last, 0)).await?;
    assert_eq!(texts(&kept), ["1", "2", "3"]);
    Ok(())
}
