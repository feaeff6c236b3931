//! The node's table stream → identifier → sessions, and the fan-out over it.

use crate::session::Session;
use indexmap::IndexMap;
use parking_lot::Mutex;
use pollux_protocol::{Identifier, Position, StreamName};
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::Arc,
};

const SHARDS: usize = 64;

/// Sessions by the serial number the node gave them: dense, so a delivery
/// copies them in one pass, and any of them leaves in constant time.
type Members = IndexMap<u64, Arc<Session>, BuildHasherDefault<SerialHasher>>;

/// The subscribers of one stream.
#[derive(Debug, Default)]
struct Followed {
    groups: HashMap<Identifier, Members>,
    /// The last publication that they all have been given.
    reached: Option<Position>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Hub {
    shards: Vec<Mutex<HashMap<StreamName, Followed>>>,
    hasher: RandomState,
}

/// Whom a publication goes to: per identifier, because the frame is encoded
/// once for each.
pub type FanOut = Vec<(Identifier, Vec<Arc<Session>>)>;

impl Default for Hub {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Hub {
    /// Adds a subscription. A second call with the same three changes nothing.
    pub fn subscribe(&self, stream: &StreamName, identifier: &Identifier, session: &Arc<Session>) {
        self.shard(stream)
            .lock()
            .entry(stream.clone())
            .or_default()
            .groups
            .entry(identifier.clone())
            .or_default()
            .insert(session.serial(), Arc::clone(session));
    }

    /// Ends a subscription; whether there was one.
    pub fn unsubscribe(&self, stream: &StreamName, identifier: &Identifier, serial: u64) -> bool {
        let mut shard = self.shard(stream).lock();
        let Some(Followed { groups, .. }) = shard.get_mut(stream) else {
            return false;
        };
        let Some(members) = groups.get_mut(identifier) else {
            return false;
        };
        if members.swap_remove(&serial).is_none() {
            return false;
        }
        if members.is_empty() {
            groups.remove(identifier);
        }
        if groups.is_empty() {
            shard.remove(stream);
        }
        true
    }

    /// Everybody who listens to a stream, under whatever identifier.
    #[must_use]
    pub fn sessions(&self, stream: &StreamName) -> Vec<Arc<Session>> {
        let shard = self.shard(stream).lock();
        let groups = shard.get(stream).map(|followed| followed.groups.values());
        let groups = groups.into_iter().flatten();
        groups.flat_map(IndexMap::values).cloned().collect()
    }

    /// Whether anybody listens to a stream.
    #[must_use]
    pub fn has_subscribers(&self, stream: &StreamName) -> bool {
        self.shard(stream).lock().contains_key(stream)
    }

    /// A copy of a stream's subscribers, made under one short lock.
    #[must_use]
    pub fn subscribers(&self, stream: &StreamName) -> FanOut {
        self.reach(stream, None)
    }

    /// The same for the publication at `place`, which the caller now gives to
    /// all of them.
    #[must_use]
    pub fn reach(&self, stream: &StreamName, place: Option<&Position>) -> FanOut {
        let mut shard = self.shard(stream).lock();
        let Some(followed) = shard.get_mut(stream) else {
            return Vec::new();
        };
        if place.is_some() {
            followed.reached = place.cloned();
        }
        followed
            .groups
            .iter()
            .map(|(identifier, members)| (identifier.clone(), members.values().cloned().collect()))
            .collect()
    }

    /// The last publication that a stream's subscribers were given. Means
    /// something only to whoever gives them, between two of them.
    #[must_use]
    pub fn reached(&self, stream: &StreamName) -> Option<Position> {
        self.shard(stream).lock().get(stream)?.reached.clone()
    }

    /// A stream's subscribers are given what comes after `place`, unless they
    /// have been given something already.
    pub fn start_after(&self, stream: &StreamName, place: Position) {
        if let Some(followed) = self.shard(stream).lock().get_mut(stream) {
            followed.reached.get_or_insert(place);
        }
    }

    /// Streams that have a subscriber here. Takes each shard's lock in turn.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Some streams whose names begin with `prefix`, at most `max`, in no order, each with the
    /// number of its subscriptions. Takes each shard's lock in turn.
    #[must_use]
    pub fn some(&self, prefix: &str, max: usize) -> Vec<(StreamName, usize)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let wanted = shard
                .iter()
                .filter(|(stream, _)| stream.as_str().starts_with(prefix));
            let room = max.saturating_sub(found.len());
            found.extend(wanted.take(room).map(|(stream, followed)| {
                let subscriptions = followed.groups.values().map(IndexMap::len).sum();
                (stream.clone(), subscriptions)
            }));
        }
        found
    }

    fn shard(&self, stream: &StreamName) -> &Mutex<HashMap<StreamName, Followed>> {
        let hash = usize::try_from(self.hasher.hash_one(stream) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

/// Serial numbers come from the node itself, so one multiplication spreads them
/// well enough and nobody can aim at collisions.
#[derive(Clone, Copy, Debug, Default)]
struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, serial: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ serial).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
