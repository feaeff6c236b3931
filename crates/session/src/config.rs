//! The rules of long polling that an operator sets.

use crate::rate::Rate;
use std::time::Duration;

/// What happens when a session's outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The session ends; its client reconnects and recovers from history.
    Expire,
    /// The oldest frames go; the next answer tells the client that some did.
    DropOldest,
}

/// Limits and intervals of poll sessions.
#[derive(Clone, Copy, Debug)]
pub struct PollConfig {
    /// How long a poll waits for a frame before it is answered with nothing.
    pub interval: Duration,
    /// Frames that come sooner than this after the last answer wait, so that
    /// a busy stream does not cause one response per message. Zero: never wait.
    pub flush_interval: Duration,
    /// A session that has held no poll for this long ends.
    pub keepalive_timeout: Duration,
    /// Polls a session may hold at once; one more sends the oldest home.
    pub max_waiting: usize,
    /// Frames an outbox holds, delivered but unconfirmed ones included.
    pub max_frames: usize,
    /// Bytes an outbox holds, delivered but unconfirmed ones included.
    pub max_bytes: usize,
    /// What happens beyond those two.
    pub overflow: Overflow,
    /// Subscriptions a session may have.
    pub max_subscriptions: usize,
    /// Commands a session may send; `None`: as many as it likes.
    pub commands: Option<Rate>,
}

impl Default for PollConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            flush_interval: Duration::from_millis(500),
            keepalive_timeout: Duration::from_secs(5),
            max_waiting: 3,
            max_frames: 1_000,
            max_bytes: 1 << 20,
            overflow: Overflow::Expire,
            max_subscriptions: 1_000,
            commands: None,
        }
    }
}
