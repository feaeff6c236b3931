//! One stream's positions and history.

use crate::broker::{History, HistoryError, Since};
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
    /// For clients: Unix seconds.
    pub(super) unix: i64,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    at: Moment,
    publication: Arc<Publication>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Log {
    epoch: Epoch,
    /// Offset of the last publication; zero before the first.
    last: u64,
    last_write: Instant,
    entries: VecDeque<Entry>,
}

impl Log {
    pub(super) fn new(epoch: Epoch, now: Instant) -> Self {
        Self {
            epoch,
            last: 0,
            last_write: now,
            entries: VecDeque::new(),
        }
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
        limit: usize,
    ) -> (Position, usize, usize) {
        self.last += 1;
        self.last_write = now.at;
        let entry = Entry {
            offset: self.last,
            at: now,
            publication: Arc::clone(publication),
        };
        let added = size(&entry);
        self.entries.push_back(entry);
        let mut removed = 0;
        while self.entries.len() > limit {
            removed += self.drop_oldest();
        }
        (self.position(self.last), added, removed)
    }

    /// Drops what is older than `ttl`; returns the bytes.
    pub(super) fn expire(&mut self, now: Instant, ttl: Duration) -> usize {
        let mut freed = 0;
        while let Some(oldest) = self.entries.front() {
            if now.duration_since(oldest.at.at) < ttl {
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
            Since::Time(unix) => self.entries.partition_point(|entry| entry.at.unix < *unix),
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
                if offset + 1 < kept_from {
                    return Err(HistoryError::Truncated);
                }
                self.entries.partition_point(|entry| entry.offset <= offset)
            }
        };
        let entries = self.entries.iter().skip(skip);
        let entries = entries
            .map(|entry| (self.position(entry.offset), Arc::clone(&entry.publication)))
            .collect();
        Ok(History { entries })
    }

    fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch.clone(),
            offset: Offset::new(offset),
        }
    }
}

fn size(entry: &Entry) -> usize {
    entry.publication.data.as_bytes().len() + ENTRY_OVERHEAD
}
