//! What is kept of sessions whose clients may come back.

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

/// Bytes of all snapshots together; the oldest go first.
const MAX_BYTES: usize = 64 << 20;

/// What a snapshot costs beside its bytes.
const OVERHEAD: usize = 160;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    by_id: HashMap<String, Snapshot>,
    /// Oldest first.
    order: BTreeMap<u64, String>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Snapshot {
    number: u64,
    content: Bytes,
    until: Instant,
}

impl Snapshots {
    pub(super) fn save(&mut self, id: &str, content: Bytes, until: Instant, now: Instant) {
        self.remove(id);
        self.expire(now);
        if until <= now {
            return;
        }
        self.next += 1;
        self.bytes += content.len() + OVERHEAD;
        self.order.insert(self.next, id.to_owned());
        let snapshot = Snapshot {
            number: self.next,
            content,
            until,
        };
        self.by_id.insert(id.to_owned(), snapshot);
        while self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
    }

    pub(super) fn load(&self, id: &str, now: Instant) -> Option<Bytes> {
        let snapshot = self.by_id.get(id)?;
        (snapshot.until > now).then(|| snapshot.content.clone())
    }

    /// Drops the oldest while they are over. All live equally long, so those
    /// behind the first that is not over are not over either, or soon found.
    fn expire(&mut self, now: Instant) {
        while let Some((_, id)) = self.order.first_key_value() {
            if self.by_id.get(id).is_some_and(|oldest| oldest.until > now) {
                return;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, id)) = self.order.pop_first() else {
            self.bytes = 0;
            return;
        };
        if let Some(snapshot) = self.by_id.remove(&id) {
            self.bytes -= snapshot.content.len() + OVERHEAD;
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(snapshot) = self.by_id.remove(id) {
            self.order.remove(&snapshot.number);
            self.bytes -= snapshot.content.len() + OVERHEAD;
        }
    }
}
