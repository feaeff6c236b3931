//! Readers that compete for a stream.

use crate::{
    node::{Node, name, numbers},
    world::World,
};
use anyhow::Result;
use pollux_broker::{Entry, Group, Outcome, Take, Taken};
use pollux_protocol::{Epoch, Position};
use pollux_testkit::{PATIENCE, assert_eventually};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// A lease that no case sees the end of.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// A lease whose end a case waits for.
const SHORT: Duration = Duration::from_millis(300);

/// A take of up to `max` publications.
pub(crate) fn take(group: Group, max: usize) -> Take {
    Take {
        group,
        reader: "reader".to_owned(),
        max,
        bound: 1_000,
        idle: None,
        lease: LONG,
        wait: None,
    }
}

impl Node {
    pub(crate) async fn take(&self, stream: &str, take: &Take) -> Result<Taken> {
        Ok(self.broker.take(&name(stream)?, take).await?)
    }

    pub(crate) async fn settle(
        &self,
        stream: &str,
        group: Group,
        entries: &[Entry],
        outcome: Outcome,
    ) -> Result<()> {
        let stream = name(stream)?;
        let settled = self
            .broker
            .settle(&stream, group, positions(entries), outcome);
        Ok(settled.await?)
    }

    pub(crate) async fn backlog(&self, stream: &str, group: Group) -> Result<usize> {
        Ok(self.broker.backlog(&name(stream)?, group, 1_000).await?)
    }
}

pub(crate) fn positions(entries: &[Entry]) -> Vec<Position> {
    let positions = entries.iter().map(|entry| entry.position.clone());
    positions.collect()
}

pub(crate) fn texts(entries: &[Entry]) -> Vec<&str> {
    let texts = entries.iter();
    texts.map(|entry| entry.publication.data.as_str()).collect()
}

pub(crate) async fn the_first_in_is_the_first_out(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let last = nodes[0].count("a", 1, 7).await?;
    let mut taken = Vec::new();
    for round in 0..4 {
        let node = &nodes[round % nodes.len()];
        let Taken { entries, dropped } = node.take("a", &take(Group::Room, 2)).await?;
        assert_eq!(dropped, 0);
        taken.extend(entries);
    }
    assert_eq!(texts(&taken), numbers(1, 7));
    assert_eq!(taken[6].position, last);
    let none = nodes[0].take("a", &take(Group::Room, 2)).await?;
    assert!(none.entries.is_empty());
    nodes[0].publish("a", "8").await?;
    let more = nodes[0].take("a", &take(Group::Room, 0)).await?;
    assert!(more.entries.is_empty(), "only shows that it is there");
    let more = nodes[0].take("a", &take(Group::Room, 2)).await?;
    assert_eq!(texts(&more.entries), ["8"]);
    Ok(())
}

pub(crate) async fn each_goes_to_one_of_many_readers(world: impl World) -> Result<()> {
    const READERS: usize = 10;
    const COUNT: u64 = 100;
    let nodes = world.nodes().await?;
    let (taken, mut all) = tokio::sync::mpsc::channel(READERS);
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let broker = Arc::clone(&nodes[reader % nodes.len()].broker);
        let taken = taken.clone();
        readers.spawn(async move {
            let stream = name("a")?;
            let take = Take {
                reader: format!("reader{reader}"),
                ..take(Group::Mailbox, reader % 3 + 1)
            };
            loop {
                for entry in broker.take(&stream, &take).await?.entries {
                    let positions = vec![entry.position.clone()];
                    broker
                        .settle(&stream, take.group, positions, Outcome::Arrived)
                        .await?;
                    let text = entry.publication.data.as_str().to_owned();
                    taken.send(text).await?;
                }
                tokio::task::yield_now().await;
            }
            #[expect(unreachable_code, reason = "it says what `?` returns")]
            anyhow::Ok(())
        });
    }
    nodes[0].count("a", 1, COUNT).await?;
    let mut got = Vec::new();
    let gather = async {
        while got.len() < usize::try_from(COUNT).unwrap_or(usize::MAX) {
            got.extend(all.recv().await);
        }
    };
    tokio::time::timeout(PATIENCE, gather).await?;
    assert_eq!(nodes[0].backlog("a", Group::Mailbox).await?, 0);
    let none = nodes[0].take("a", &take(Group::Mailbox, 10)).await?;
    assert!(none.entries.is_empty());
    readers.shutdown().await;
    while let Ok(more) = all.try_recv() {
        got.push(more);
    }
    let mut got: Vec<u64> = got
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    got.sort_unstable();
    assert_eq!(got, (1..=COUNT).collect::<Vec<_>>());
    Ok(())
}

pub(crate) async fn what_comes_back_is_the_first_again(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    for node in &nodes {
        node.subscribe("a").await?;
    }
    nodes[0].count("a", 1, 5).await?;
    let first = nodes[0].take("a", &take(Group::Room, 3)).await?.entries;
    let (arrived, back) = first.split_at(1);
    nodes[0]
        .settle("a", Group::Room, arrived, Outcome::Arrived)
        .await?;
    assert!(nodes.iter().all(|node| node.backs("a") == 0));
    nodes[0]
        .settle("a", Group::Room, back, Outcome::Back)
        .await?;
    for node in &nodes {
        assert_eventually!(node.backs("a") == 1, PATIENCE);
        assert_eq!(node.deliveries("a").len(), 5, "and nothing is delivered");
    }
    let next = nodes[nodes.len() - 1]
        .take("a", &take(Group::Room, 10))
        .await?;
    assert_eq!(
        (texts(&next.entries), next.dropped),
        (vec!["2", "3", "4", "5"], 0)
    );
    Ok(())
}

pub(crate) async fn a_lease_ends(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let node = &nodes[nodes.len() - 1];
    nodes[0].count("a", 1, 3).await?;
    let short = Take {
        lease: SHORT,
        ..take(Group::Room, 2)
    };
    let taken = nodes[0].take("a", &short).await?.entries;
    assert_eq!(texts(&taken), ["1", "2"]);
    // What arrives in time does not come back.
    nodes[0]
        .settle("a", Group::Room, &taken[..1], Outcome::Arrived)
        .await?;
    assert_eventually!(node.backlog("a", Group::Room).await? == 2, PATIENCE);
    let again = node.take("a", &take(Group::Room, 10)).await?;
    assert_eq!((texts(&again.entries), again.dropped), (vec!["2", "3"], 0));
    Ok(())
}

pub(crate) async fn groups_do_not_disturb_each_other(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.count("a", 1, 4).await?;
    let room = node.take("a", &take(Group::Room, 4)).await?.entries;
    assert_eq!(node.backlog("a", Group::Room).await?, 0);
    assert_eq!(node.backlog("a", Group::Mailbox).await?, 4);
    // A new group sees what was before it, and misses nothing.
    let mailbox = node.take("a", &take(Group::Mailbox, 2)).await?;
    assert_eq!(
        (texts(&mailbox.entries), mailbox.dropped),
        (vec!["1", "2"], 0)
    );
    node.settle("a", Group::Room, &room[2..], Outcome::Back)
        .await?;
    let mailbox = node.take("a", &take(Group::Mailbox, 4)).await?.entries;
    assert_eq!(texts(&mailbox), ["3", "4"]);
    let room = node.take("a", &take(Group::Room, 4)).await?.entries;
    assert_eq!(texts(&room), ["3", "4"]);
    // And all of it is in history, for those who don't compete.
    let kept = node.entries("a", pollux_broker::Since::Time(0)).await?;
    assert_eq!(crate::node::texts(&kept), numbers(1, 4));
    Ok(())
}

pub(crate) async fn a_backlog_is_counted(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let node = &nodes[nodes.len() - 1];
    assert_eq!(node.backlog("a", Group::Room).await?, 0);
    nodes[0].count("a", 1, 5).await?;
    assert_eq!(node.backlog("a", Group::Room).await?, 5);
    let bounded = node.broker.backlog(&name("a")?, Group::Room, 3).await?;
    assert_eq!(bounded, 3);
    let taken = nodes[0].take("a", &take(Group::Room, 3)).await?.entries;
    assert_eq!(
        node.backlog("a", Group::Room).await?,
        2,
        "without what is lent"
    );
    nodes[0]
        .settle("a", Group::Room, &taken[..1], Outcome::Back)
        .await?;
    assert_eq!(node.backlog("a", Group::Room).await?, 3);
    Ok(())
}

pub(crate) async fn an_unknown_stream_has_nothing(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let waits = Take {
        wait: Some(LONG),
        ..take(Group::Room, 5)
    };
    for take in [&take(Group::Room, 5), &waits] {
        let taken = node.take("a", take).await?;
        assert_eq!((taken.entries.len(), taken.dropped), (0, 0));
    }
    let stray = Position {
        epoch: Epoch::new("other"),
        offset: pollux_protocol::Offset::FIRST,
    };
    let stream = name("b")?;
    let claimed = node.broker.claim(&stream, vec![stray.clone()], LONG);
    assert!(claimed.await?.is_empty());
    for outcome in [Outcome::Arrived, Outcome::Back] {
        let stray = vec![stray.clone()];
        let settled = node.broker.settle(&stream, Group::Once, stray, outcome);
        settled.await?;
    }
    node.broker.leave(&stream, Group::Room, "nobody").await?;
    assert_eq!(node.backlog("b", Group::Room).await?, 0);
    // A stream that was only waited for begins like any other.
    let first = node.publish("a", "1").await?;
    assert_eq!(first.offset, pollux_protocol::Offset::FIRST);
    let taken = node.take("a", &take(Group::Room, 5)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["1"], 0));
    Ok(())
}

pub(crate) async fn another_epoch_is_ignored(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.count("a", 1, 3).await?;
    let stream = name("a")?;
    let taken = node.take("a", &take(Group::Once, 2)).await?.entries;
    let mut stale = positions(&taken);
    for position in &mut stale {
        position.epoch = Epoch::new("stale");
    }
    for outcome in [Outcome::Back, Outcome::Arrived] {
        let settled = node
            .broker
            .settle(&stream, Group::Once, stale.clone(), outcome);
        settled.await?;
    }
    assert_eq!(node.backlog("a", Group::Once).await?, 1);
    assert!(
        node.broker
            .claim(&stream, stale.clone(), LONG)
            .await?
            .is_empty()
    );
    // Among those of this one, too, and in any order.
    let mixed = [stale.clone(), positions(&taken)].concat();
    let settled = node
        .broker
        .settle(&stream, Group::Once, mixed, Outcome::Back);
    settled.await?;
    assert_eq!(node.backlog("a", Group::Once).await?, 3);
    let mixed = [stale, positions(&taken)].concat();
    let claimed = node.broker.claim(&stream, mixed, LONG).await?;
    assert_eq!(claimed, positions(&taken));
    Ok(())
}
