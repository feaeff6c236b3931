//! On which terms publications go in, and what is passed over.

use crate::{
    cases::queue::{LONG, positions, take, texts},
    node::{Node, after, name, numbers, offsets, publication},
    world::World,
};
use anyhow::Result;
use bytes::Bytes;
use pollux_broker::{
    Entered, Group, HistoryError, Keep, Member, Offer, Offered, Outcome, Since, Take,
};
use pollux_protocol::{Payload, PresenceRequest};
use pollux_testkit::{PATIENCE, assert_eventually};
use std::time::Duration;
use tokio::time::Instant;

/// A time that a case waits for, and far above what a slow machine takes.
const IDLE: Duration = Duration::from_secs(2);

impl Node {
    async fn offer(&self, json: &str, offer: Offer) -> Result<Offered> {
        Ok(self.broker.offer(publication("a", json)?, offer).await?)
    }

    /// Whether one more was let in.
    async fn has_room(&self, capacity: usize) -> Result<bool> {
        let offer = Offer {
            capacity: Some((Group::Mailbox, capacity)),
            ..Offer::default()
        };
        Ok(match self.offer("1", offer).await? {
            Offered::Accepted(position) => position.is_some(),
            Offered::Full => false,
        })
    }
}

fn waits(reader: &str, wait: Duration) -> Take {
    Take {
        reader: reader.to_owned(),
        wait: Some(wait),
        ..take(Group::Mailbox, 1)
    }
}

pub(crate) async fn without_room_only_a_waiting_reader_gets_one(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    one.subscribe("a").await?;
    assert!(!one.has_room(0).await?);
    assert!(one.entries("a", Since::Time(0)).await?.is_empty());
    // One that waits twice is one reader still.
    for reader in ["r1", "r1", "r2"] {
        assert!(
            two.take("a", &waits(reader, LONG))
                .await?
                .entries
                .is_empty()
        );
    }
    assert!(one.has_room(0).await?);
    assert!(one.has_room(0).await?);
    assert!(!one.has_room(0).await?);
    // Who has got one waits no longer.
    for reader in ["r1", "r2"] {
        assert_eq!(two.take("a", &waits(reader, LONG)).await?.entries.len(), 1);
    }
    assert!(!one.has_room(0).await?);
    assert_eq!(
        offsets(&one.hears("a", 2).await),
        [1, 2],
        "nothing else has happened"
    );
    Ok(())
}

pub(crate) async fn a_reader_that_is_gone_is_no_room(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    two.take("a", &waits("r1", LONG)).await?;
    one.broker.leave(&name("a")?, Group::Room, "r1").await?;
    one.broker.leave(&name("a")?, Group::Mailbox, "r1").await?;
    assert!(!one.has_room(0).await?);
    // One whose time is over, and one who came back without waiting.
    two.take("a", &waits("r2", Duration::from_millis(50)))
        .await?;
    two.take("a", &waits("r3", LONG)).await?;
    two.take("a", &take(Group::Mailbox, 1)).await?;
    let r3 = Take {
        wait: None,
        ..waits("r3", LONG)
    };
    two.take("a", &r3).await?;
    let start = Instant::now();
    assert_eventually!(start.elapsed() > Duration::from_millis(100), PATIENCE);
    assert!(!one.has_room(0).await?);
    Ok(())
}

pub(crate) async fn there_is_as_much_room_as_was_said(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    assert!(one.has_room(2).await? && two.has_room(2).await?);
    assert!(!one.has_room(2).await? && !two.has_room(2).await?);
    assert!(
        one.has_room(3).await?,
        "of those that wait, not of those that are kept"
    );
    let lent = two.take("a", &take(Group::Mailbox, 2)).await?.entries;
    assert!(one.has_room(2).await?);
    assert!(!one.has_room(2).await?);
    two.settle("a", Group::Mailbox, &lent[..1], Outcome::Back)
        .await?;
    assert!(!one.has_room(3).await?, "what has come back waits too");
    two.settle("a", Group::Mailbox, &lent[1..], Outcome::Arrived)
        .await?;
    assert!(!one.has_room(3).await?);
    assert_eq!(
        two.take("a", &take(Group::Mailbox, 9)).await?.entries.len(),
        3
    );
    assert!(one.has_room(1).await?);
    Ok(())
}

pub(crate) async fn a_publication_says_how_much_is_kept(world: impl World) -> Result<()> {
    let nodes = world.nodes().await?;
    let (one, two) = (&nodes[0], &nodes[nodes.len() - 1]);
    let keep = |limit, ttl| Offer {
        keep: Some(Keep { limit, ttl }),
        ..Offer::default()
    };
    let last = one.count("a", 1, 3).await?;
    one.offer("4", keep(2, LONG)).await?;
    assert_eq!(offsets(&two.entries("a", Since::Time(0)).await?), [3, 4]);
    one.publish("a", "5").await?;
    assert_eq!(offsets(&two.entries("a", Since::Time(0)).await?), [3, 4, 5]);
    // None at all.
    let accepted = one.offer("6", keep(0, LONG)).await?;
    assert!(matches!(accepted, Offered::Accepted(Some(at)) if at.offset.get() == 6));
    assert!(two.entries("a", Since::Time(0)).await?.is_empty());
    let refused = two.history("a", after(&last, 5)).await;
    assert!(
        matches!(refused, Err(HistoryError::Truncated)),
        "{refused:?}"
    );
    one.offer("7", keep(10, Duration::from_millis(500))).await?;
    assert_eq!(offsets(&two.entries("a", after(&last, 6)).await?), [7]);
    assert_eventually!(two.entries("a", Since::Time(0)).await?.is_empty(), PATIENCE);
    let next = one.publish("a", "8").await?;
    assert_eq!((next.offset.get(), next.epoch), (8, last.epoch));
    Ok(())
}

pub(crate) async fn what_is_over_the_bound_is_dropped(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let bound = |bound, max| Take {
        bound,
        ..take(Group::Room, max)
    };
    // Before anybody read, nothing was missed by anybody.
    node.count("a", 1, 5).await?;
    let taken = node.take("a", &bound(4, 1)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["2"], 0));
    node.count("a", 6, 9).await?;
    let taken = node.take("a", &bound(3, 2)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["7", "8"], 4));
    let taken = node.take("a", &bound(3, 2)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["9"], 0));
    node.count("a", 10, 11).await?;
    let taken = node.take("a", &bound(0, 2)).await?;
    assert_eq!((taken.entries.len(), taken.dropped), (0, 2));
    Ok(())
}

pub(crate) async fn what_is_no_longer_kept_is_dropped(mut world: impl World) -> Result<()> {
    world.limited(crate::world::Limits {
        history_limit: 3,
        ..Default::default()
    });
    let node = world.node().await?;
    node.count("a", 1, 3).await?;
    let lent = node.take("a", &take(Group::Room, 2)).await?.entries;
    node.count("a", 4, 7).await?;
    // Of five that waited three are left, and of two that were lent none.
    assert_eq!(node.backlog("a", Group::Room).await?, 3);
    node.settle("a", Group::Room, &lent, Outcome::Back).await?;
    assert_eq!(node.backlog("a", Group::Room).await?, 3);
    let taken = node.take("a", &take(Group::Room, 1)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["5"], 4));
    let taken = node.take("a", &take(Group::Room, 9)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["6", "7"], 0));
    Ok(())
}

pub(crate) async fn an_idle_group_is_passed_over(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let idle = |max| Take {
        idle: Some(IDLE),
        ..take(Group::Room, max)
    };
    node.count("a", 1, 3).await?;
    let back = node.take("a", &idle(1)).await?.entries;
    node.settle("a", Group::Room, &back, Outcome::Back).await?;
    let start = Instant::now();
    assert_eventually!(start.elapsed() > IDLE, PATIENCE);
    node.publish("a", "4").await?;
    let taken = node.take("a", &idle(9)).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["4"], 2));
    node.publish("a", "5").await?;
    let start = Instant::now();
    assert_eventually!(start.elapsed() > IDLE, PATIENCE);
    let taken = node.take("a", &idle(9)).await?;
    assert_eq!((taken.entries.len(), taken.dropped), (0, 1));
    // Another that does not mind waiting longer is not concerned.
    let taken = node.take("a", &take(Group::Mailbox, 9)).await?;
    assert_eq!(texts(&taken.entries), numbers(1, 5));
    Ok(())
}

pub(crate) async fn a_group_that_reads_is_not_idle(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let idle = |max| Take {
        idle: Some(IDLE),
        ..take(Group::Room, max)
    };
    node.count("a", 1, 3).await?;
    let start = Instant::now();
    assert_eventually!(
        {
            node.take("a", &idle(0)).await?;
            start.elapsed() > IDLE + IDLE / 2
        },
        PATIENCE
    );
    let taken = node.take("a", &idle(9)).await?;
    assert_eq!(texts(&taken.entries), numbers(1, 3));
    assert_eq!(taken.dropped, 0);
    Ok(())
}

pub(crate) async fn there_is_no_too_much_and_no_too_long(world: impl World) -> Result<()> {
    const MOST: usize = usize::MAX;
    const EVER: Duration = Duration::MAX;
    let node = world.node().await?;
    let stream = name("a")?;
    let take = Take {
        bound: MOST,
        idle: Some(EVER),
        lease: EVER,
        wait: Some(EVER),
        ..take(Group::Once, MOST)
    };
    assert!(node.take("a", &take).await?.entries.is_empty());
    let offer = Offer {
        keep: Some(Keep {
            limit: 1_000,
            ttl: EVER,
        }),
        capacity: Some((Group::Once, MOST)),
    };
    for text in ["1", "2"] {
        assert!(matches!(
            node.offer(text, offer).await?,
            Offered::Accepted(Some(_))
        ));
    }
    let backlog = node.broker.backlog(&stream, Group::Once, MOST);
    assert_eq!(backlog.await?, 2);
    let taken = node.take("a", &take).await?;
    assert_eq!((texts(&taken.entries), taken.dropped), (vec!["1", "2"], 0));
    node.settle("a", Group::Once, &taken.entries, Outcome::Back)
        .await?;
    let claimed = positions(&taken.entries);
    let claimed = node.broker.claim(&stream, claimed, EVER).await?;
    assert_eq!(claimed.len(), 2);
    let member = Member {
        session: "s1".to_owned(),
        present: PresenceRequest {
            id: "u1".to_owned(),
            info: Payload::null(),
        },
    };
    let entered = node.broker.enter(&stream, member, EVER).await?;
    assert_eq!(entered, Entered::First);
    let touched = node.broker.touch(&stream, vec!["s1".to_owned()], EVER);
    assert!(touched.await?.is_empty());
    assert_eq!(node.broker.present(&stream).await?.len(), 1);
    node.broker.save_session("s1", Bytes::new(), EVER).await?;
    assert!(node.broker.load_session("s1").await?.is_some());
    Ok(())
}
