//! Those who are no nodes: what they put into Redis, and what they see there.

use crate::{node::texts, world::Alone};
use anyhow::{Result, ensure};
use pollux_broker::{Receipt, RedisConfig, RedisGuest};
use pollux_testkit::{PATIENCE, assert_eventually};

pub(crate) async fn reports_are_seen_until_they_are_taken_back(world: impl Alone) -> Result<()> {
    let guest = RedisGuest::new(world.config().clone())?;
    ensure!(guest.nodes().await?.is_empty());
    let (one, two) = (world.node().await?, world.node().await?);
    one.broker.report(Some("{\"a\":1}".into())).await?;
    two.broker.report(Some("{}".into())).await?;
    one.broker.report(Some("{\"a\": 2}".into())).await?;
    let seen = guest.nodes().await?;
    assert_eq!(seen.len(), 2, "{seen:?}");
    let reports: Vec<_> = seen.iter().map(|node| node.report.as_str()).collect();
    assert!(
        reports.contains(&"{\"a\": 2}") && reports.contains(&"{}"),
        "{reports:?}"
    );
    assert!(seen.iter().all(|node| node.silence < PATIENCE), "{seen:?}");
    one.broker.report(None).await?;
    let seen = guest.nodes().await?;
    let [left] = seen.as_slice() else {
        anyhow::bail!("{seen:?}");
    };
    assert_eq!(left.report, "{}");
    Ok(())
}

pub(crate) async fn streams_are_found_on_all_servers(world: impl Alone) -> Result<()> {
    let guest = RedisGuest::new(world.config().clone())?;
    let node = world.node().await?;
    for number in 0..30 {
        node.publish(&format!("some/{number}"), "1").await?;
    }
    node.subscribe("a*[b]").await?;
    node.publish("a*[b]", "1").await?;
    node.publish("a*[b]", "2").await?;
    let all = guest.streams("", 100).await?;
    assert_eq!((all.streams.len(), all.is_cut), (31, false));
    let some = guest.streams("some/", 100).await?;
    assert_eq!(some.streams.len(), 30);
    let few = guest.streams("some/", 7).await?;
    assert_eq!((few.streams.len(), few.is_cut), (7, true));
    // Signs that mean something in a pattern.
    let odd = guest.streams("a*[", 100).await?;
    let [odd] = odd.streams.as_slice() else {
        anyhow::bail!("{odd:?}");
    };
    let seen = (odd.stream.as_str(), odd.offset, odd.history, odd.nodes);
    assert_eq!(seen, ("a*[b]", 2, 2, 1));
    Ok(())
}

pub(crate) async fn what_a_guest_publishes_arrives(world: impl Alone) -> Result<()> {
    let guest = RedisGuest::new(world.config().clone())?;
    let node = world.node().await?;
    node.subscribe("a").await?;
    let body = |text: &str| format!(r#"{{"stream":"a","data":"{text}"}}"#).into_bytes();
    let receipt = guest.publish(body("1")).await?;
    ensure!(matches!(&receipt, Receipt::Waits { .. }), "{receipt:?}");
    let heard = node.hears("a", 1).await;
    assert_eq!(texts(&heard), ["1"]);
    let live = RedisGuest::new(RedisConfig {
        intake: String::new(),
        ..world.config().clone()
    })?;
    // In a cluster a server counts only those that listen to itself.
    assert_eventually!(
        matches!(live.publish(body("2")).await?, Receipt::Heard { .. }),
        PATIENCE
    );
    let heard = node.hears("a", 2).await;
    assert_eq!(texts(&heard).last(), Some(&"2"));
    Ok(())
}
