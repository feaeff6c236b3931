//! Streams whose publications are gone once they were read.

use crate::{
    cases::queue::{LONG, positions, take, texts},
    node::{Node, after, name, offsets},
    world::{Limits, World},
};
use anyhow::Result;
use pollux_broker::{Entry, Group, HistoryError, Outcome, Since, Take};
use pollux_protocol::{Offset, Position};
use pollux_testkit::{PATIENCE, assert_eventually};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

impl Node {
    /// Claims what was read, and returns the offsets it got.
    async fn claim(&self, entries: &[Entry], lease: Duration) -> Result<Vec<u64>> {
        let stream = name("a")?;
        let claimed = self.broker.claim(&stream, positions(entries), lease);
        let claimed = claimed.await?;
        Ok(claimed.iter().map(|at| at.offset.get()).collect())
    }

    async fn all(&self) -> Result<Vec<Entry>> {
        Ok(self.history("a", Since::Time(0)).await?.entries)
    }

    async fn arrived(&self, entries: &[Entry]) -> Result<()> {
        self.settle("a", Group::Once, entries, Outcome::Arrived)
            .await
    }
}

pub(crate) async fn what_was_read_is_gone(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    let last = one.count("a", 1, 5).await?;
    let taken = one.take("a", &take(Group::Once, 2)).await?.entries;
    assert_eq!(two.all().await?.len(), 5, "until it has arrived");
    one.arrived(&taken).await?;
    assert_eq!(offsets(&two.entries("a", Since::Time(0)).await?), [3, 4, 5]);
    let all = two.all().await?;
    assert_eq!(two.claim(&all[1..2], LONG).await?, [4]);
    two.arrived(&all[1..2]).await?;
    // Whoever reads by position knows that nothing was lost.
    for (since, left) in [
        (0, vec![3, 5]),
        (1, vec![3, 5]),
        (3, vec![5]),
        (4, vec![5]),
        (5, vec![]),
    ] {
        for node in &nodes {
            let read = node.entries("a", after(&last, since)).await?;
            assert_eq!(offsets(&read), left, "after {since}");
        }
    }
    two.arrived(&all).await?;
    assert!(one.all().await?.is_empty());
    assert!(one.entries("a", after(&last, 0)).await?.is_empty());
    let beyond = one.history("a", after(&last, 6)).await;
    assert!(matches!(beyond, Err(HistoryError::Beyond)), "{beyond:?}");
    // Positions go on, and so does reading.
    let next = two.publish("a", "6").await?;
    assert_eq!((next.offset.get(), &next.epoch), (6, &last.epoch));
    assert_eq!(offsets(&one.entries("a", after(&last, 0)).await?), [6]);
    let taken = one.take("a", &take(Group::Once, 9)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["6"], 0));
    Ok(())
}

pub(crate) async fn what_was_trimmed_is_told_behind_what_was_read(
    mut world: impl World,
) -> Result<()> {
    world.limited(Limits {
        history_limit: 3,
        ..Limits::default()
    });
    let node = world.node().await?;
    let last = node.count("a", 1, 3).await?;
    let all = node.all().await?;
    node.arrived(&all[..1]).await?;
    node.count("a", 4, 6).await?;
    assert_eq!(
        offsets(&node.entries("a", after(&last, 3)).await?),
        [4, 5, 6]
    );
    for since in [1, 2] {
        let refused = node.history("a", after(&last, since)).await;
        assert!(
            matches!(refused, Err(HistoryError::Truncated)),
            "after {since}: {refused:?}"
        );
    }
    Ok(())
}

pub(crate) async fn each_is_claimed_once(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    let last = one.count("a", 1, 5).await?;
    let all = one.all().await?;
    assert_eq!(one.claim(&all[1..3], LONG).await?, [2, 3]);
    assert_eq!(two.claim(&all, LONG).await?, [1, 4, 5]);
    assert!(one.claim(&all, LONG).await?.is_empty());
    assert!(one.claim(&[], LONG).await?.is_empty());
    // What there is not, or no longer.
    let nowhere = [0, 6, u64::MAX].map(|offset| Position {
        offset: Offset::new(offset),
        ..last.clone()
    });
    let stream = name("a")?;
    let claimed = one.broker.claim(&stream, nowhere.to_vec(), LONG);
    assert!(claimed.await?.is_empty());
    one.arrived(&all[1..2]).await?;
    one.settle("a", Group::Once, &all[..3], Outcome::Back)
        .await?;
    assert_eq!(two.claim(&all, LONG).await?, [1, 3]);
    Ok(())
}

pub(crate) async fn a_claim_ends(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    one.count("a", 1, 3).await?;
    let all = one.all().await?;
    assert_eq!(
        one.claim(&all, Duration::from_millis(300)).await?,
        [1, 2, 3]
    );
    let mut claimed = Vec::new();
    assert_eventually!(
        {
            claimed.extend(two.claim(&all, LONG).await?);
            claimed.len() == 3
        },
        PATIENCE
    );
    assert_eq!(claimed, [1, 2, 3]);
    // The first reader was late, but it has it: the second one's are the same.
    one.arrived(&all).await?;
    two.arrived(&all).await?;
    two.settle("a", Group::Once, &all, Outcome::Back).await?;
    assert!(one.claim(&all, LONG).await?.is_empty());
    Ok(())
}

pub(crate) async fn what_is_claimed_is_not_taken(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    one.count("a", 1, 6).await?;
    let all = one.all().await?;
    assert_eq!(one.claim(&all[1..3], LONG).await?, [2, 3]);
    assert_eq!(two.backlog("a", Group::Once).await?, 4);
    let taken = two.take("a", &take(Group::Once, 2)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["1", "4"], 0));
    assert_eq!(one.claim(&all[5..], LONG).await?, [6]);
    one.settle("a", Group::Once, &all[1..2], Outcome::Back)
        .await?;
    one.settle("a", Group::Once, &all[5..], Outcome::Back)
        .await?;
    assert_eq!(two.backlog("a", Group::Once).await?, 3);
    let taken = two.take("a", &take(Group::Once, 9)).await?;
    assert_eq!(
        (texts(&taken.entries), taken.dropped),
        (vec!["2", "5", "6"], 0)
    );
    assert_eq!(two.backlog("a", Group::Once).await?, 0);
    Ok(())
}

pub(crate) async fn holes_do_not_count(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let bound = Take {
        bound: 3,
        ..take(Group::Once, 0)
    };
    node.take("a", &bound).await?;
    node.count("a", 1, 6).await?;
    let all = node.all().await?;
    node.claim(&all[2..5], LONG).await?;
    node.arrived(&all[2..5]).await?;
    assert_eq!(node.backlog("a", Group::Once).await?, 3);
    assert_eq!(node.backlog("a", Group::Room).await?, 3);
    assert_eq!(node.take("a", &bound).await?.dropped, 0);
    node.publish("a", "7").await?;
    let bound = Take { max: 9, ..bound };
    let taken = node.take("a", &bound).await?;
    assert_eq!(texts(&taken.entries), ["2", "6", "7"]);
    Ok(())
}

pub(crate) async fn of_many_readers_one_gets_it(world: impl World) -> Result<()> {
    const READERS: usize = 6;
    const COUNT: u64 = 40;
    let nodes = world.nodes().await?;
    let last = nodes[0].count("a", 1, COUNT).await?;
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let broker = Arc::clone(&nodes[reader % nodes.len()].broker);
        let start = after(&last, 0);
        readers.spawn(async move {
            let stream = name("a")?;
            let mut got = Vec::new();
            loop {
                let entries = broker.history(&stream, start.clone()).await?.entries;
                if entries.is_empty() {
                    return anyhow::Ok(got);
                }
                let some = positions(&entries[..entries.len().min(5)]);
                let claimed = broker.claim(&stream, some, LONG).await?;
                got.extend(claimed.iter().map(|at| at.offset.get()));
                broker
                    .settle(&stream, Group::Once, claimed, Outcome::Arrived)
                    .await?;
                tokio::task::yield_now().await;
            }
        });
    }
    let mut got = Vec::new();
    let gather = async {
        while let Some(reader) = readers.join_next().await {
            got.extend(reader??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, gather).await??;
    got.sort_unstable();
    assert_eq!(got, (1..=COUNT).collect::<Vec<_>>());
    Ok(())
}
