//! A stream read by those who compete for it.
//!
//! There is no second queue: a group of readers is a mark in the stream's own
//! history, behind which everything waits for one of them. What a reader takes
//! is lent to it; what it does not settle in time, or gives back, is the first
//! that the next one gets. So a publication through any door reaches one reader
//! of each group, on whichever node it waits.

use pollux_protocol::{Position, Publication};
use std::{sync::Arc, time::Duration};

/// A hundred years. What is to last longer ends then: clocks can't count to the
/// longest times that there can be.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// As long as any clock can count.
pub(crate) fn countable(time: Duration) -> Duration {
    time.min(LONGEST)
}

/// A publication as history has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the stream.
    pub position: Position,
    /// Microseconds since 1970 by the broker's clock; grows from one
    /// publication of a stream to the next.
    pub time: u64,
    /// What was published.
    pub publication: Arc<Publication>,
}

/// Readers that share a mark in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Pollers of a room.
    Room,
    /// Pollers of a mailbox.
    Mailbox,
    /// Readers of a stream whose publications are gone once they were read.
    Once,
}

impl Group {
    /// What it is called in keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Mailbox => "mailbox",
            Self::Once => "once",
        }
    }
}

/// What a reader asks for.
#[derive(Clone, Debug)]
pub struct Take {
    /// Whose mark moves.
    pub group: Group,
    /// Who asks: unique among all that wait.
    pub reader: String,
    /// Publications it takes at most. With none it only shows that it is there.
    pub max: usize,
    /// How many may wait at most: older ones are passed over.
    pub bound: usize,
    /// Everything is passed over if nobody read or published for so long.
    pub idle: Option<Duration>,
    /// How long what it takes is lent to it.
    pub lease: Duration,
    /// If there is nothing: how long it will wait, so that [`Offer`]s know.
    pub wait: Option<Duration>,
}

/// What a reader got.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Publications, oldest first; those that came back may be older than
    /// what the group has read already.
    pub entries: Vec<Entry>,
    /// Publications that were passed over.
    pub dropped: u64,
}

/// What became of what was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its reader has it. For [`Group::Once`] it leaves history.
    Arrived,
    /// Its reader is gone: the next one gets it.
    Back,
}

/// How much of a stream is kept, instead of what the broker keeps of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Publications.
    pub limit: usize,
    /// For how long after the last one.
    pub ttl: Duration,
}

/// On which terms a publication goes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// How much is kept.
    pub keep: Option<Keep>,
    /// Only if so many, or fewer, wait for the readers of this group, beside
    /// those that a waiting reader is about to take.
    pub capacity: Option<(Group, usize)>,
}

/// What became of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is published; the position as [`Broker::publish`](crate::Broker::publish) returns it.
    Accepted(Option<Position>),
    /// There is no room and nobody waits; nothing has happened.
    Full,
}
