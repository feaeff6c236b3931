//! From a poll id to its session.

use crate::{session::Session, token::Token};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Shards keep two workers from waiting for each other.
const SHARDS: usize = 64;

/// All sessions of a node by the secret of their poll id. The lookup is by hash
/// with a random key, so its time says nothing about a guessed id.
#[derive(Debug)]
pub struct Registry {
    shards: Vec<Mutex<HashMap<Token, Arc<Session>>>>,
    hasher: RandomState,
    len: AtomicUsize,
}

/// A count of what a node's sessions hold at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Open sessions.
    pub sessions: usize,
    /// Open sessions with different identifiers.
    pub unique: usize,
    /// Polls that wait.
    pub parked: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Frames in outboxes.
    pub outbox_frames: usize,
    /// Bytes in outboxes.
    pub outbox_bytes: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }
}

impl Registry {
    /// Sessions registered, closed ones that wait for their last poll included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a session.
    pub fn insert(&self, session: Arc<Session>) {
        let secret = session.secret();
        if self.shard(secret).lock().insert(secret, session).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The session whose poll id has this secret.
    #[must_use]
    pub fn get(&self, secret: Token) -> Option<Arc<Session>> {
        self.shard(secret).lock().get(&secret).cloned()
    }

    /// Takes a session out. Its subscriptions are the caller's to end.
    pub fn remove(&self, secret: Token) -> Option<Arc<Session>> {
        let removed = self.shard(secret).lock().remove(&secret);
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// The sessions for which `which` holds. Takes each shard's lock in turn.
    pub fn select(&self, mut which: impl FnMut(&Session) -> bool) -> Vec<Arc<Session>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(
                shard
                    .lock()
                    .values()
                    .filter(|session| which(session))
                    .cloned(),
            );
        }
        found
    }

    /// Counts what the sessions hold.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        let mut seen = HashSet::new();
        for shard in &self.shards {
            for session in shard.lock().values() {
                let is_open = session.count_into(&mut census);
                let identifiers = session.named_identifiers();
                let is_new = identifiers.is_none_or(|name| seen.insert(self.hasher.hash_one(name)));
                census.unique += usize::from(is_open && is_new);
            }
        }
        census
    }

    fn shard(&self, secret: Token) -> &Mutex<HashMap<Token, Arc<Session>>> {
        let hash = usize::try_from(self.hasher.hash_one(secret) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}
