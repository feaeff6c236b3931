//! What a node knows of one stream: up to where it has everything, and what to
//! do with what comes next.
//!
//! A plain state machine. An announcement that follows the last one is
//! delivered. Any other shows that something was missed, or that the stream
//! began a new life; then the log is read, announcements wait meanwhile, and
//! whatever the reading brings is delivered in order, once.

use pollux_protocol::{Epoch, Offset, Position, Publication, Source, Stamp};
use std::{collections::VecDeque, sync::Arc};
use tokio::time::Instant;

/// Announcements that wait for a reading. Those beyond are left out, and the
/// log is read again.
const HELD: usize = 256;

/// Sources remembered of one stream.
const SOURCES: usize = 256;

/// Readings that may fail to explain an announcement before it is forgotten.
const UNEXPLAINED: u8 = 3;

/// Bytes of data in them.
const HELD_BYTES: usize = 4 << 20;

/// One publication at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) stamp: Stamp,
    /// `None`: there is something at this place that is no publication.
    pub(super) publication: Option<Arc<Publication>>,
    /// What may come at another place again.
    pub(super) source: Option<Source>,
    pub(super) received: Instant,
}

/// What a reading of the log brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// The stream's last publication.
    pub(super) head: Stamp,
    /// Whether the entries follow what the node had; else they are those of
    /// another life of the stream that came later.
    pub(super) same: bool,
    /// The first offset kept; zero if none is.
    pub(super) low: u64,
    /// The entries, oldest first.
    pub(super) entries: Vec<Placed>,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// What to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Todo {
    /// To deliver, in this order.
    pub(super) deliver: Vec<Placed>,
    /// Publications that are gone for ever; `Some(0)` if nobody can tell how
    /// many.
    pub(super) missed: Option<u64>,
    /// How many of those to deliver came by reading the log.
    pub(super) repaired: usize,
    /// Read the log, from [`State::mark`].
    pub(super) read: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct State {
    /// Everything up to here is delivered, or was before the node's interest.
    /// `None` until the first reading said where the stream stands.
    mark: Option<Stamp>,
    /// A reading is under way.
    reading: bool,
    held: VecDeque<Placed>,
    held_bytes: usize,
    /// Some announcements were left out.
    overrun: bool,
    /// Sources of what was delivered last.
    sources: VecDeque<Source>,
    /// Readings in a row that did not explain an announcement.
    unexplained: u8,
}

impl State {
    /// Of a stream that nothing is known of. The caller reads its head.
    pub(super) const fn new() -> Self {
        Self {
            mark: None,
            reading: true,
            held: VecDeque::new(),
            held_bytes: 0,
            overrun: false,
            sources: VecDeque::new(),
            unexplained: 0,
        }
    }

    /// Where the node stands.
    pub(super) const fn mark(&self) -> Option<&Stamp> {
        self.mark.as_ref()
    }

    /// The last position delivered; `None` if nothing was ever published.
    pub(super) fn position(&self) -> Option<Position> {
        let mark = self.mark.as_ref()?;
        (mark.position.offset.get() > 0).then(|| mark.position.clone())
    }

    /// Whether the first reading is still to come.
    pub(super) const fn is_new(&self) -> bool {
        self.mark.is_none()
    }

    /// Begins a reading that nobody asked for by an announcement. False if one
    /// is under way.
    pub(super) const fn check(&mut self) -> bool {
        !std::mem::replace(&mut self.reading, true)
    }

    /// An announcement.
    pub(super) fn hear(&mut self, placed: Placed) -> Todo {
        if self.reading {
            self.hold(placed);
            return Todo::default();
        }
        let mut todo = Todo::default();
        self.take(placed, &mut todo);
        todo
    }

    /// The end of a reading. `None`: the stream has no head.
    pub(super) fn read(&mut self, reading: Option<Reading>) -> Todo {
        let mut todo = Todo::default();
        self.reading = false;
        match (reading, self.mark.is_some()) {
            (None, false) => self.mark = Some(nowhere()),
            (None, true) => self.trust_held(&mut todo),
            (Some(reading), false) => self.mark = Some(reading.head),
            (Some(reading), true) => self.repair(reading, &mut todo),
        }
        if todo.read {
            self.reading = true;
            return todo;
        }
        let overrun = std::mem::take(&mut self.overrun);
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        for placed in held {
            if self.reading {
                self.hold(placed);
            } else if self.is_possible(&placed) {
                self.take(placed, &mut todo);
            }
        }
        self.unexplained = if todo.read { self.unexplained + 1 } else { 0 };
        if overrun && !self.reading {
            self.reading = true;
            todo.read = true;
        }
        todo
    }

    fn hold(&mut self, placed: Placed) {
        let bytes = placed
            .publication
            .as_ref()
            .map_or(0, |publication| publication.data.as_bytes().len());
        if self.held.len() == HELD || self.held_bytes + bytes > HELD_BYTES {
            self.overrun = true;
            return;
        }
        self.held_bytes += bytes;
        self.held.push_back(placed);
    }

    /// Whether an announcement that waited for a reading may still be news. One
    /// of a life that is over is not; and one that the log does not know of
    /// after several readings never was.
    fn is_possible(&self, placed: &Placed) -> bool {
        let Some(mark) = &self.mark else { return false };
        let is_of_this_life = placed.stamp.position.epoch == mark.position.epoch;
        is_of_this_life || (placed.stamp.time > mark.time && self.unexplained < UNEXPLAINED)
    }

    fn take(&mut self, placed: Placed, todo: &mut Todo) {
        let Some(mark) = &self.mark else { return };
        let (here, next) = (&mark.position, &placed.stamp.position);
        let same = here.epoch == next.epoch;
        let is_first = here.offset.get() == 0 && next.offset.get() == 1;
        if is_first || (same && next.offset == here.offset.next()) {
            self.mark = Some(placed.stamp.clone());
            self.deliver(placed, todo);
        } else if !(same && next.offset <= here.offset && placed.stamp.time <= mark.time) {
            self.reading = true;
            todo.read = true;
            self.hold(placed);
        }
    }

    /// Delivers, unless the same was delivered at another place: a failover can
    /// make Redis forget what it has published, and then it is published again.
    fn deliver(&mut self, placed: Placed, todo: &mut Todo) {
        if let Some(source) = placed.source {
            if self.sources.contains(&source) {
                return;
            }
            if self.sources.len() == SOURCES {
                self.sources.pop_front();
            }
            self.sources.push_back(source);
        }
        todo.deliver.push(placed);
    }

    /// There is no head, so nothing can be read: what was announced is all
    /// there is to know.
    fn trust_held(&mut self, todo: &mut Todo) {
        let after = self.mark.as_ref().map_or(0, |mark| mark.time);
        for placed in std::mem::take(&mut self.held) {
            if placed.stamp.time > after {
                self.mark = Some(placed.stamp.clone());
                self.deliver(placed, todo);
            }
        }
        self.held_bytes = 0;
    }

    fn repair(&mut self, reading: Reading, todo: &mut Todo) {
        let Some(mark) = self.mark.take() else { return };
        let before = mark.position.offset.get();
        let first = reading
            .entries
            .first()
            .map(|placed| placed.stamp.position.offset.get());
        let head = reading.head.position.offset.get();
        todo.missed = if reading.same {
            // Offsets have no gaps, so what is not there was trimmed.
            let from = first.unwrap_or(head + 1);
            (from > before + 1).then(|| from - before - 1)
        } else if reading.head.time <= mark.time {
            None
        } else {
            // Of another life, those before the first one kept are gone, if
            // they were later than what the node has.
            let all_later = first.is_none() || first == Some(reading.low);
            let is_whole = first == Some(1);
            (all_later && !is_whole).then_some(if before == 0 {
                first.unwrap_or(head + 1) - 1
            } else {
                0
            })
        };
        todo.repaired = reading.entries.len();
        let last = reading.entries.last().map(|placed| placed.stamp.clone());
        for placed in reading.entries {
            self.deliver(placed, todo);
        }
        todo.read = reading.more;
        self.mark = Some(match last {
            Some(last) if reading.more => last,
            _ => reading.head,
        });
    }
}

/// Before anything was ever published.
fn nowhere() -> Stamp {
    Stamp {
        position: Position {
            epoch: Epoch::new(""),
            offset: Offset::new(0),
        },
        time: 0,
    }
}

#[cfg(test)]
mod tests;
