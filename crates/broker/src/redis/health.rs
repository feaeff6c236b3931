//! How the broker is doing, for `/ready` and the metrics.

use super::script::Door;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by all tasks of a broker.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether all links listen.
    pub(super) hears: AtomicBool,
    /// Connections that links have made.
    pub(super) connections: AtomicU64,
    /// Links that were found deaf.
    pub(super) deaf: AtomicU64,
    /// Messages left out because the node was too slow; taken by whoever acts
    /// on them.
    pub(super) overflowed: AtomicU64,
    /// Messages from Redis.
    pub(super) messages: AtomicU64,
    /// Publications that were missed and read from history.
    pub(super) repaired: AtomicU64,
    /// Publications that were missed and are gone.
    pub(super) missed: AtomicU64,
    /// Entries of the intake published by this node.
    pub(super) taken: AtomicU64,
    /// Entries of the intake set aside.
    pub(super) set_aside: AtomicU64,
    /// Whether this node reads the intake.
    pub(super) leads: AtomicBool,
    door: Mutex<Option<Door>>,
}

impl Health {
    pub(super) fn hears(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// Notes how backends publish; whether that is news.
    pub(super) fn learn_door(&self, door: &Door) -> bool {
        let mut known = self.door.lock();
        let is_news = known.as_ref() != Some(door);
        *known = Some(door.clone());
        is_news
    }
}
