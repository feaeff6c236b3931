//! From a poll id to its session.

use crate::{session::Session, token::Token};
use parking_lot::Mutex;
use std::{
    collections::{
        HashMap, HashSet,
        hash_map::{Entry, RandomState},
    },
    hash::BuildHasher,
    num::NonZeroU64,
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
    shards: Vec<Mutex<HashMap<Token, Known>>>,
    /// Sessions of each source that has any. Touched when one begins or ends.
    sources: Mutex<HashMap<Source, usize>>,
    hasher: RandomState,
    len: AtomicUsize,
}

/// Whom a session counts for: an address or a network, as a number that its
/// owner has a meaning for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(pub NonZeroU64);

/// A session and its source. Costs what the session alone would, because the
/// token before it in the map is aligned to sixteen bytes.
#[derive(Debug)]
struct Known {
    session: Arc<Session>,
    source: Option<Source>,
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
            sources: Mutex::default(),
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

    /// Adds a session that counts for nobody.
    pub fn insert(&self, session: Arc<Session>) {
        self.put(Known {
            session,
            source: None,
        });
    }

    /// Adds the session that `make` makes, and counts it for `source` until it
    /// is removed. `None`: that has `max` already, and none was made.
    pub fn insert_from(
        &self,
        source: Source,
        max: usize,
        make: impl FnOnce() -> Arc<Session>,
    ) -> Option<Arc<Session>> {
        // The room is taken before there is a session, so that however many
        // come at the same moment, no more get in.
        {
            let mut sources = self.sources.lock();
            let sessions = sources.entry(source).or_default();
            if *sessions >= max {
                return None;
            }
            *sessions += 1;
        }
        let session = make();
        self.put(Known {
            session: Arc::clone(&session),
            source: Some(source),
        });
        Some(session)
    }

    fn put(&self, known: Known) {
        let secret = known.session.secret();
        match self.shard(secret).lock().insert(secret, known) {
            None => {
                self.len.fetch_add(1, Ordering::Relaxed);
            }
            Some(replaced) => self.forget(replaced.source),
        }
    }

    fn forget(&self, source: Option<Source>) {
        let Some(source) = source else {
            return;
        };
        if let Entry::Occupied(mut sessions) = self.sources.lock().entry(source) {
            *sessions.get_mut() -= 1;
            if *sessions.get() == 0 {
                sessions.remove();
            }
        }
    }

    /// The session whose poll id has this secret.
    #[must_use]
    pub fn get(&self, secret: Token) -> Option<Arc<Session>> {
        let shard = self.shard(secret).lock();
        shard.get(&secret).map(|known| Arc::clone(&known.session))
    }

    /// Takes a session out. Its subscriptions are the caller's to end.
    pub fn remove(&self, secret: Token) -> Option<Arc<Session>> {
        let Known { session, source } = self.shard(secret).lock().remove(&secret)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        self.forget(source);
        Some(session)
    }

    /// The sessions for which `which` holds. Takes each shard's lock in turn.
    pub fn select(&self, mut which: impl FnMut(&Session) -> bool) -> Vec<Arc<Session>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(
                shard
                    .lock()
                    .values()
                    .filter(|known| which(&known.session))
                    .map(|known| Arc::clone(&known.session)),
            );
        }
        found
    }

    /// Some sessions, at most `max`, in no order.
    #[must_use]
    pub fn some(&self, max: usize) -> Vec<Arc<Session>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let room = max.saturating_sub(found.len());
            found.extend(
                shard
                    .values()
                    .take(room)
                    .map(|known| Arc::clone(&known.session)),
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
            for Known { session, .. } in shard.lock().values() {
                let is_open = session.count_into(&mut census);
                let identifiers = session.named_identifiers();
                let is_new = identifiers.is_none_or(|name| seen.insert(self.hasher.hash_one(name)));
                census.unique += usize::from(is_open && is_new);
            }
        }
        census
    }

    fn shard(&self, secret: Token) -> &Mutex<HashMap<Token, Known>> {
        let hash = usize::try_from(self.hasher.hash_one(secret) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Owner, Shared, Time};

    fn session(secret: u128) -> Arc<Session> {
        let secret = Token::from_random(secret);
        Session::new(
            1,
            secret,
            secret,
            Owner::default(),
            Arc::new(Shared::default()),
            Time::ZERO,
        )
    }

    fn source(number: u64) -> Source {
        Source(NonZeroU64::new(number).unwrap())
    }

    #[test]
    fn a_source_has_no_more_sessions_than_it_may_and_gets_room_when_one_ends() {
        let registry = Registry::default();
        let open = |from, secret| registry.insert_from(source(from), 2, || session(secret));
        assert!(open(1, 1).is_some() && open(1, 2).is_some());
        assert!(open(1, 3).is_none());
        assert!(open(2, 4).is_some(), "another source has room of its own");
        assert_eq!(registry.len(), 3);
        registry.remove(Token::from_random(1)).unwrap();
        assert!(registry.remove(Token::from_random(1)).is_none());
        assert!(open(1, 5).is_some());
        assert!(open(1, 6).is_none());
        for secret in [2, 4, 5] {
            registry.remove(Token::from_random(secret)).unwrap();
        }
        assert!(
            registry.sources.lock().is_empty(),
            "nothing is left of them"
        );
    }

    #[test]
    fn a_session_takes_no_more_room_for_its_source() {
        assert_eq!(
            size_of::<(Token, Known)>(),
            size_of::<(Token, Arc<Session>)>()
        );
    }
}
