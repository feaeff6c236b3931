//! One stream's positions and history.

use super::queue::Queue;
use crate::{
    broker::{History, HistoryError, Since},
    queue::{Entry, Group, Keep, Outcome, Take, Taken},
};
use pollux_protocol::{Epoch, Offset, Position, Publication};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What an entry costs beside its data.
const ENTRY_OVERHEAD: usize = 160;

/// A point in time on the two clocks that history needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// For ages.
    pub(super) at: Instant,
    /// For clients: microseconds since 1970.
    pub(super) micros: u64,
}

/// A publication that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) offset: u64,
    pub(super) at: Instant,
    time: u64,
    publication: Arc<Publication>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Log {
    epoch: Epoch,
    /// Offset of the last publication; zero before the first.
    last: u64,
    /// Its time.
    last_time: u64,
    last_write: Instant,
    /// How long entries are kept, as the last publication wanted it.
    ttl: Duration,
    entries: VecDeque<Kept>,
    /// The last one that left because it was read once: up to here entries may
    /// be missing that were not trimmed.
    removed: u64,
    /// Groups of readers that compete: most streams have none.
    queues: Vec<(Group, Queue)>,
}

impl Log {
    pub(super) fn new(epoch: Epoch, now: Instant, ttl: Duration) -> Self {
        Self {
            epoch,
            last: 0,
            last_time: 0,
            last_write: now,
            ttl,
            entries: VecDeque::new(),
            removed: 0,
            queues: Vec::new(),
        }
    }

    /// How long entries are kept.
    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) const fn last_write(&self) -> Instant {
        self.last_write
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn head(&self) -> Option<Position> {
        (self.last > 0).then(|| self.position(self.last))
    }

    /// Appends; returns the position, the bytes added and the bytes that went
    /// because the history is limited.
    pub(super) fn append(
        &mut self,
        publication: &Arc<Publication>,
        now: Moment,
        keep: Keep,
    ) -> (Entry, usize, usize) {
        self.last += 1;
        // The system's clock can be set back; the stream's only goes forward.
        self.last_time = now.micros.max(self.last_time + 1);
        self.last_write = now.at;
        self.ttl = keep.ttl;
        let entry = Kept {
            offset: self.last,
            at: now.at,
            time: self.last_time,
            publication: Arc::clone(publication),
        };
        let placed = entry_of(&self.epoch, &entry);
        let added = size(&entry);
        self.entries.push_back(entry);
        let mut removed = 0;
        while self.entries.len() > keep.limit {
            removed += self.drop_oldest();
        }
        (placed, added, removed)
    }

    /// Drops what is too old; returns the bytes.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut freed = 0;
        while let Some(oldest) = self.entries.front() {
            if now.duration_since(oldest.at) < self.ttl {
                break;
            }
            freed += self.drop_oldest();
        }
        freed
    }

    pub(super) fn drop_oldest(&mut self) -> usize {
        let freed = self.entries.pop_front().as_ref().map_or(0, size);
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
        freed
    }

    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.entries).iter().map(size).sum()
    }

    pub(super) fn since(&self, since: &Since) -> Result<History, HistoryError> {
        let skip = match since {
            Since::Time(unix) => {
                let micros = u64::try_from(*unix).unwrap_or(0).saturating_mul(1_000_000);
                self.entries.partition_point(|entry| entry.time < micros)
            }
            Since::Position(position) => {
                if position.epoch != self.epoch {
                    return Err(HistoryError::Epoch);
                }
                let offset = position.offset.get();
                if offset > self.last {
                    return Err(HistoryError::Beyond);
                }
                let kept_from = self
                    .entries
                    .front()
                    .map_or(self.last + 1, |entry| entry.offset);
                if offset + 1 < kept_from && self.removed <= offset {
                    return Err(HistoryError::Truncated);
                }
                self.entries.partition_point(|entry| entry.offset <= offset)
            }
        };
        let entries = self.entries.iter().skip(skip);
        let entries = entries.map(|entry| entry_of(&self.epoch, entry)).collect();
        Ok(History { entries })
    }

    // Readers that compete.

    fn queue(&mut self, group: Group) -> (&mut Queue, &mut VecDeque<Kept>, &Epoch, u64) {
        let at = self.queues.iter().position(|(known, _)| *known == group);
        let at = at.unwrap_or_else(|| {
            self.queues.push((group, Queue::default()));
            self.queues.len() - 1
        });
        let (_, queue) = &mut self.queues[at];
        (queue, &mut self.entries, &self.epoch, self.last)
    }

    pub(super) fn take(&mut self, take: &Take, now: Instant) -> Taken {
        let (queue, entries, epoch, last) = self.queue(take.group);
        let (offsets, dropped) = queue.take(take, entries, last, now);
        let taken = offsets.iter().filter_map(|offset| find(entries, *offset));
        Taken {
            entries: taken
                .filter_map(|at| entries.get(at))
                .map(|entry| entry_of(epoch, entry))
                .collect(),
            dropped,
        }
    }

    pub(super) fn claim(
        &mut self,
        positions: Vec<Position>,
        until: Instant,
        now: Instant,
    ) -> Vec<Position> {
        let (queue, entries, epoch, _) = self.queue(Group::Once);
        let mut granted = positions;
        granted.retain(|position| {
            let offset = position.offset.get();
            position.epoch == *epoch
                && find(entries, offset).is_some()
                && queue.lend(offset, until, now)
        });
        granted
    }

    /// Returns the bytes of what has left history.
    pub(super) fn settle(
        &mut self,
        group: Group,
        positions: &[Position],
        outcome: Outcome,
        now: Instant,
    ) -> usize {
        let (queue, entries, epoch, _) = self.queue(group);
        let (mut freed, mut removed) = (0, 0);
        for position in positions.iter().filter(|position| position.epoch == *epoch) {
            let offset = position.offset.get();
            let at = find(entries, offset);
            queue.settle(offset, outcome, at.is_some(), now);
            if let (Group::Once, Outcome::Arrived, Some(at)) = (group, outcome, at) {
                freed += entries.remove(at).as_ref().map_or(0, size);
                removed = removed.max(offset);
            }
        }
        self.removed = self.removed.max(removed);
        freed
    }

    pub(super) fn leave(&mut self, group: Group, reader: &str) {
        self.queue(group).0.leave(reader);
    }

    pub(super) fn backlog(&mut self, group: Group, now: Instant) -> usize {
        let (queue, entries, _, last) = self.queue(group);
        queue.backlog(entries, last, now)
    }

    /// Whether one more would find room or a reader.
    pub(super) fn has_room(&mut self, group: Group, capacity: usize, now: Instant) -> bool {
        let (queue, entries, _, last) = self.queue(group);
        queue.backlog(entries, last, now) < capacity + queue.waiting(now)
    }

    fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset: Offset::new(offset),
        }
    }
}

fn entry_of(epoch: &Epoch, kept: &Kept) -> Entry {
    Entry {
        position: Position {
            epoch: epoch.clone(),
            offset: Offset::new(kept.offset),
        },
        time: kept.time,
        publication: Arc::clone(&kept.publication),
    }
}

/// Where an offset is; there may be holes.
fn find(entries: &VecDeque<Kept>, offset: u64) -> Option<usize> {
    entries
        .binary_search_by_key(&offset, |entry| entry.offset)
        .ok()
}

fn size(entry: &Kept) -> usize {
    entry.publication.data.as_bytes().len() + ENTRY_OVERHEAD
}
