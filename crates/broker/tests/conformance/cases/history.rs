//! Reading what was.

use crate::{
    node::{after, offsets, texts},
    world::{Limits, World},
};
use anyhow::Result;
use pollux_broker::{HistoryError, Since};
use pollux_protocol::{Epoch, Offset, Position};
use pollux_testkit::{PATIENCE, assert_eventually};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) async fn it_is_read_after_a_position(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let last = node.count("a", 1, 5).await?;
    for since in 0..=5 {
        let entries = node.entries("a", after(&last, since)).await?;
        assert_eq!(offsets(&entries), (since + 1..=5).collect::<Vec<_>>());
        assert!(entries.iter().all(|entry| {
            let position = entry.position.as_ref();
            position.is_some_and(|position| position.epoch == last.epoch)
        }));
    }
    Ok(())
}

fn unix_time() -> Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    )?)
}

pub(crate) async fn it_is_read_from_a_second_on(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let before = unix_time()?;
    node.publish("a", "1").await?;
    let earlier = unix_time()?;
    assert_eventually!(unix_time()? > earlier, PATIENCE);
    let second = unix_time()?;
    node.publish("a", "2").await?;
    let read = async |since| node.entries("a", Since::Time(since)).await;
    assert_eq!(texts(&read(0).await?), ["1", "2"]);
    assert_eq!(texts(&read(i64::MIN).await?), ["1", "2"]);
    assert_eq!(texts(&read(before).await?), ["1", "2"]);
    assert_eq!(texts(&read(second).await?), ["2"]);
    assert!(read(unix_time()? + 10).await?.is_empty());
    assert!(read(i64::MAX).await?.is_empty());
    assert!(node.entries("nobody", Since::Time(0)).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_position_that_means_nothing_is_refused(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let last = node.count("a", 1, 3).await?;
    let beyond = node.history("a", after(&last, 4)).await;
    assert!(matches!(beyond, Err(HistoryError::Beyond)), "{beyond:?}");
    let beyond = node.history("a", after(&last, u64::MAX)).await;
    assert!(matches!(beyond, Err(HistoryError::Beyond)), "{beyond:?}");
    for epoch in ["other", "", "\0\n{}"] {
        let position = Position {
            epoch: Epoch::new(epoch),
            offset: Offset::new(2),
        };
        let other = node.history("a", Since::Position(position.clone())).await;
        assert!(matches!(other, Err(HistoryError::Epoch)), "{other:?}");
        let unknown = node.history("nobody", Since::Position(position)).await;
        assert!(matches!(unknown, Err(HistoryError::Unknown)), "{unknown:?}");
    }
    Ok(())
}

pub(crate) async fn it_has_what_was_delivered(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let last = node.count("a", 1, 20).await?;
    let heard = node.hears("a", 20).await;
    assert_eq!(node.entries("a", after(&last, 0)).await?, heard);
    Ok(())
}

pub(crate) async fn times_grow_and_are_those_of_deliveries(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    for node in &nodes {
        node.subscribe("a").await?;
    }
    let before = unix_time()?;
    let last = nodes[0].count("a", 1, 20).await?;
    let read = nodes[0].history("a", after(&last, 0)).await?.entries;
    let times: Vec<u64> = read.iter().map(|entry| entry.time).collect();
    assert!(times.is_sorted_by(|one, two| one < two), "{times:?}");
    let seconds = i64::try_from(times[0] / 1_000_000)?;
    assert!((before..=unix_time()?).contains(&seconds), "{seconds}");
    for node in &nodes {
        node.hears("a", 20).await;
        assert_eq!(node.times("a"), times);
    }
    let take = crate::cases::queue::take(pollux_broker::Group::Room, 100);
    let taken = nodes[0].take("a", &take).await?.entries;
    let taken: Vec<u64> = taken.iter().map(|entry| entry.time).collect();
    assert_eq!(taken, times);
    Ok(())
}

pub(crate) async fn it_is_limited(mut world: impl World) -> Result<()> {
    world.limited(Limits {
        history_limit: 3,
        ..Limits::default()
    });
    let node = world.node().await?;
    let last = node.count("a", 1, 5).await?;
    let kept = node.entries("a", Since::Time(0)).await?;
    assert_eq!(offsets(&kept), [3, 4, 5]);
    assert_eq!(node.entries("a", after(&last, 2)).await?, kept);
    for since in 0..2 {
        let refused = node.history("a", after(&last, since)).await;
        assert!(
            matches!(refused, Err(HistoryError::Truncated)),
            "{refused:?}"
        );
    }
    Ok(())
}

pub(crate) async fn it_expires_and_positions_go_on(mut world: impl World) -> Result<()> {
    world.limited(Limits {
        history_ttl: Duration::from_secs(2),
        ..Limits::default()
    });
    let node = world.node().await?;
    let second = node.count("a", 1, 2).await?;
    assert_eventually!(
        node.entries("a", Since::Time(0)).await?.is_empty(),
        PATIENCE
    );
    assert!(node.entries("a", after(&second, 2)).await?.is_empty());
    let refused = node.history("a", after(&second, 1)).await;
    assert!(
        matches!(refused, Err(HistoryError::Truncated)),
        "{refused:?}"
    );
    let third = node.publish("a", "3").await?;
    assert_eq!((third.offset.get(), &third.epoch), (3, &second.epoch));
    assert_eq!(offsets(&node.entries("a", after(&second, 2)).await?), [3]);
    let refused = node.history("a", after(&second, 1)).await;
    assert!(
        matches!(refused, Err(HistoryError::Truncated)),
        "{refused:?}"
    );
    Ok(())
}

pub(crate) async fn an_idle_stream_comes_back_in_a_new_epoch(mut world: impl World) -> Result<()> {
    world.limited(Limits {
        history_ttl: Duration::from_millis(100),
        ..Limits::default()
    });
    let node = world.node().await?;
    let old = node.count("a", 1, 2).await?;
    // Its counter lives ten times as long as its history.
    assert_eventually!(
        matches!(
            node.history("a", after(&old, 2)).await,
            Err(HistoryError::Unknown)
        ),
        PATIENCE
    );
    node.subscribe("a").await?;
    let fresh = node.publish("a", "3").await?;
    assert_eq!(fresh.offset, Offset::FIRST);
    assert_ne!(fresh.epoch, old.epoch);
    let heard = node.hears_of("a", &fresh).await;
    assert_eq!(texts(&heard).last(), Some(&"3"));
    Ok(())
}

pub(crate) async fn a_long_one_comes_whole(mut world: impl World) -> Result<()> {
    const COUNT: u64 = 1_500;
    world.limited(Limits {
        history_limit: usize::try_from(COUNT)?,
        ..Limits::default()
    });
    let node = world.node().await?;
    let mut publishers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let broker = std::sync::Arc::clone(&node.broker);
        publishers.spawn(async move {
            for _ in 0..COUNT / 10 {
                broker.publish(crate::node::publication("a", "0")?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(published) = publishers.join_next().await {
        published??;
    }
    let kept = node.entries("a", Since::Time(0)).await?;
    assert_eq!(offsets(&kept), (1..=COUNT).collect::<Vec<_>>());
    Ok(())
}
