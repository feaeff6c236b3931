//! The state machine of one client's session.
//!
//! A session is *open* until somebody closes it, *closing* while the client has
//! not fetched the reason, and *closed* when there is nothing left to say. It
//! ends for good when no poll has been held for the keepalive timeout; until
//! then a closed one answers late polls.
//!
//! Everything happens under the session's one lock, which is held for a few
//! hundred nanoseconds and never while somebody is woken.

mod commands;
mod moving;
mod polls;
mod publications;
mod state;

pub use commands::Replay;
pub use moving::{Departed, Stays};
pub use publications::Delivered;

use state::{Phase, State, Wakers};

use crate::{
    config::PollConfig, deadlines::Deadlines, registry::Census, subscriptions::Subscription,
    time::Time, token::Token,
};
use parking_lot::Mutex;
use pollux_protocol::Frame;
use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

/// What all sessions of a node share that have the same rules.
#[derive(Debug, Default)]
pub struct Shared {
    /// The rules.
    pub config: PollConfig,
    /// The wheel, of all sessions of the node.
    pub deadlines: Arc<Deadlines>,
    /// Their clients may come back for what they had.
    pub resumable: bool,
    /// Is told what becomes of answers that are watched.
    pub watcher: Option<Arc<dyn Watcher>>,
}

/// See [`Delivery::watch`](crate::Delivery::watch).
pub trait Watcher: fmt::Debug + Send + Sync {
    /// What became of an answer is known.
    fn note(&self, answer: AnswerId, fate: Fate);
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the socket.
    Flushed,
    /// It never will be.
    Lost,
}

/// Names an answer on its node: its session's serial number, and which of the
/// session's answers it is.
pub type AnswerId = (u64, u32);

/// One client. See the module's head.
#[derive(Debug)]
pub struct Session {
    /// The node's number for it, for the hub.
    serial: u64,
    /// The secret half of its poll id, for the registry.
    secret: Token,
    /// Its public id.
    sid: Token,
    /// Connection identifiers; `None` where the session is only its `sid`.
    identifiers: Option<Box<str>>,
    /// Seconds since 1970 when what its client proved counts no longer; zero
    /// for never.
    expires: AtomicU64,
    /// What the node keeps with it.
    attached: Option<Attachment>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// Something of the node's that lives as long as a session.
pub type Attachment = Arc<dyn Any + Send + Sync>;

/// Whose a session is.
#[derive(Debug, Default)]
pub struct Owner {
    /// Connection identifiers; `None` where the session is only its `sid`.
    pub identifiers: Option<Box<str>>,
    /// What the node keeps with it.
    pub attached: Option<Attachment>,
}

/// Why a session has nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No poll for too long.
    Expired,
    /// Its outbox was full.
    Overflow,
}

/// What [`Session::due`] found.
#[derive(Debug)]
pub enum Due {
    /// The session lives on.
    Alive,
    /// No poll came for too long. These subscriptions are left for the caller
    /// to take out of the hub, as the session out of the registry.
    Expired(Vec<Subscription>),
}

impl Session {
    /// A new session. Its keepalive runs from `now`.
    #[must_use]
    pub fn new(
        serial: u64,
        secret: Token,
        sid: Token,
        owner: Owner,
        shared: Arc<Shared>,
        now: Time,
    ) -> Arc<Self> {
        let Owner {
            identifiers,
            attached,
        } = owner;
        let session = Arc::new(Self {
            serial,
            secret,
            sid,
            identifiers,
            expires: AtomicU64::new(0),
            attached,
            shared,
            state: Mutex::new(State::new(now)),
        });
        session.state.lock().arm_keepalive(&session);
        session
    }

    /// The node's number for this session.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// The secret half of the poll id.
    #[must_use]
    pub const fn secret(&self) -> Token {
        self.secret
    }

    /// The public id.
    #[must_use]
    pub const fn sid(&self) -> Token {
        self.sid
    }

    /// The connection identifiers, as remote commands name them.
    #[must_use]
    pub fn identifiers(&self) -> String {
        match &self.identifiers {
            Some(identifiers) => identifiers.to_string(),
            None => format!("{{\"sid\":\"{}\"}}", self.sid.text()),
        }
    }

    /// Whether these are the rules it was made with, and not a copy of them.
    #[must_use]
    pub fn has_rules(&self, rules: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, rules)
    }

    /// Subscriptions it may have.
    #[must_use]
    pub fn max_subscriptions(&self) -> usize {
        self.shared.config.max_subscriptions
    }

    /// Whether the client may come back for what it had.
    #[must_use]
    pub fn is_resumable(&self) -> bool {
        self.shared.resumable
    }

    /// The connection identifiers, if the session has any but its `sid`.
    #[must_use]
    pub fn named_identifiers(&self) -> Option<&str> {
        self.identifiers.as_deref()
    }

    /// What the node has attached to it, if it is of that kind.
    #[must_use]
    pub fn attached<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let attached = self.attached.as_ref()?;
        Arc::clone(attached).downcast().ok()
    }

    /// When what the client proved counts no longer, in seconds since 1970;
    /// `None` for never. Whoever set it ends the session then.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        Some(self.expires.load(Ordering::Relaxed)).filter(|expires| *expires > 0)
    }

    /// Sets that.
    pub fn set_expires(&self, expires: Option<u64>) {
        self.expires.store(expires.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether a remote command that names `identifiers` means this session.
    /// The text is compared exactly.
    #[must_use]
    pub fn has_identifiers(&self, identifiers: &str) -> bool {
        match &self.identifiers {
            Some(own) => **own == *identifiers,
            None => self.identifiers() == identifiers,
        }
    }

    /// Ends the session without a word: its client is gone for good. The
    /// subscriptions are left for the caller to take out of the hub; none if it
    /// was over already.
    pub fn abandon(self: &Arc<Self>, now: Time) -> Vec<Subscription> {
        let mut state = self.state.lock();
        let wakers = state.all_wakers();
        let subscriptions = state.end(Phase::Closed(CloseReason::Expired), now);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        subscriptions
    }

    /// Ends the session with a last frame for the client. The subscriptions are
    /// left for the caller to take out of the hub; none if it was over already.
    pub fn close(self: &Arc<Self>, farewell: Frame, now: Time) -> Vec<Subscription> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Vec::new();
        }
        state.outbox.push_reply(farewell, &self.shared.config);
        let subscriptions = state.end(Phase::Closing, now);
        state.urgent = true;
        let wakers = state.all_wakers();
        state.arm_keepalive(self);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        subscriptions
    }

    /// Whether the session ended because its outbox was full.
    #[must_use]
    pub fn has_overflown(&self) -> bool {
        self.state.lock().phase == Phase::Closed(CloseReason::Overflow)
    }

    /// Whether the session has ended, or has only its last frame to say.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.lock().phase != Phase::Open
    }

    /// Something that the client was to get is lost. Its next frames say so.
    pub fn note_gap(&self) {
        self.state.lock().outbox.note_gap();
    }

    /// Whether nothing is left to tell the client, so that a node that drains
    /// need not wait for it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let state = self.state.lock();
        state.phase != Phase::Open && !state.outbox.has_pending() && !state.outbox.in_flight()
    }

    // Time.

    /// The wheel's entry for `tick` came up.
    pub fn due(self: &Arc<Self>, tick: u64, now: Time) -> Due {
        let mut state = self.state.lock();
        if state.armed != tick {
            // It was re-armed for an earlier tick after this entry was made.
            return Due::Alive;
        }
        state.armed = u64::MAX;
        if state.phase == Phase::Departed {
            return Due::Alive;
        }
        let keepalive_until = state.idle_since + self.shared.config.keepalive_timeout;
        if state.waiters.is_empty() && !state.outbox.in_flight() && now >= keepalive_until {
            if !matches!(state.phase, Phase::Closed(_)) {
                state.phase = Phase::Closed(CloseReason::Expired);
                state.outbox.clear();
            }
            return Due::Expired(state.subscriptions.take_all());
        }
        let mut wakers = Wakers::new();
        for waiter in &mut state.waiters {
            if now >= waiter.deadline {
                wakers.extend(waiter.waker.take());
            }
        }
        wakers.extend(state.nudge(self, now));
        state.arm_next(self, now);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Due::Alive
    }

    /// What it holds at this moment; as many sessions as it is open ones.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        self.count_into(&mut census);
        census
    }

    /// Adds this session to a count; whether it is open.
    pub(crate) fn count_into(&self, census: &mut Census) -> bool {
        let state = self.state.lock();
        let is_open = state.phase == Phase::Open;
        census.sessions += usize::from(is_open);
        census.parked += state.waiters.len();
        census.subscriptions += state.subscriptions.len();
        census.outbox_frames += state.outbox.len();
        census.outbox_bytes += state.outbox.bytes();
        is_open
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
