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
mod state;

pub use commands::Replay;
pub use moving::{Departed, Stays};

use state::{Phase, State, Verdict, Waiter, Wakers};

use crate::{
    Overflow,
    config::PollConfig,
    deadlines::Deadlines,
    outbox::Push,
    poll::{Answer, Delivery, Poll},
    registry::Census,
    subscriptions::{Held, Subscription, Way},
    time::Time,
    token::Token,
};
use parking_lot::Mutex;
use pollux_protocol::{Frame, Identifier, Position, StreamName};
use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Waker},
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

/// See [`Delivery::watch`].
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

/// What became of a frame given to [`Session::deliver`].
#[derive(Debug)]
pub enum Delivered {
    /// It waits in the outbox.
    Queued,
    /// It does, and this many older frames were dropped for it.
    Dropped(usize),
    /// The outbox was full and the session is over. These subscriptions are
    /// left for the caller to take out of the hub.
    Overflow(Vec<Subscription>),
    /// The session was over already.
    Ignored,
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

    // Polls.

    /// A poll has arrived. Takes note of its cursor; frames that must go out
    /// again are pending afterwards, and their number is returned.
    ///
    /// # Errors
    /// The session is over: [`Answer::Closed`] is all there is to say.
    pub fn arrive(&self, cursor: Option<u64>, now: Time) -> Result<usize, CloseReason> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Closed(reason) => return Err(reason),
            Phase::Departed => return Ok(0),
            Phase::Open | Phase::Closing => {}
        }
        let again = match cursor {
            Some(cursor) => state.outbox.acknowledge(cursor),
            None => {
                state.outbox.settle(now);
                0
            }
        };
        let told = !state.outbox.has_pending() && !state.outbox.in_flight();
        if state.phase == Phase::Closing && told {
            return Err(CloseReason::Expired);
        }
        Ok(again)
    }

    /// Lets a poll wait until `deadline`. If the session now holds more polls
    /// than it may, the oldest is answered with nothing.
    #[must_use]
    pub fn park(self: &Arc<Self>, deadline: Time) -> Poll {
        let mut evicted = None;
        let mut state = self.state.lock();
        let id = state.next_waiter;
        state.next_waiter = id.wrapping_add(1);
        let prompt = state.outbox.has_pending();
        let waiting = state
            .waiters
            .iter()
            .filter(|waiter| !waiter.evicted)
            .count();
        if waiting >= self.shared.config.max_waiting
            && let Some(oldest) = state.waiters.iter_mut().find(|waiter| !waiter.evicted)
        {
            oldest.evicted = true;
            evicted = oldest.waker.take();
        }
        state.waiters.push(Waiter {
            id,
            deadline,
            prompt,
            evicted: false,
            waker: None,
        });
        drop(state);
        if let Some(waker) = evicted {
            waker.wake();
        }
        Poll::new(Arc::clone(self), id)
    }

    pub(crate) fn poll_answer(
        self: &Arc<Self>,
        id: u32,
        now: Time,
        waker: &Waker,
    ) -> task::Poll<Answer> {
        let mut state = self.state.lock();
        let Some(at) = state.waiters.iter().position(|waiter| waiter.id == id) else {
            return task::Poll::Ready(Answer::Empty {
                cursor: state.outbox.cursor(),
            });
        };
        let verdict = state.verdict(at, &self.shared.config, now);
        if verdict == Verdict::Wait {
            if let Some(waiter) = state.waiters.get_mut(at) {
                match &mut waiter.waker {
                    Some(known) => known.clone_from(waker),
                    unknown => *unknown = Some(waker.clone()),
                }
            }
            state.arm_next(self, now);
            return task::Poll::Pending;
        }
        state.waiters.remove(at);
        let answer = match verdict {
            Verdict::Take => self.take(&mut state, now),
            Verdict::Closed(reason) => Answer::Closed {
                gap: reason == CloseReason::Overflow,
            },
            Verdict::Empty | Verdict::Wait => Answer::Empty {
                cursor: state.outbox.cursor(),
            },
        };
        if state.waiters.is_empty() {
            state.idle_since = now;
            state.arm_keepalive(self);
        }
        task::Poll::Ready(answer)
    }

    /// The client of a poll went away.
    pub(crate) fn leave(self: &Arc<Self>, id: u32) {
        let now = self.shared.deadlines.coarse_now();
        let mut state = self.state.lock();
        state.waiters.retain(|waiter| waiter.id != id);
        if state.waiters.is_empty() {
            state.idle_since = now;
            state.arm_keepalive(self);
        }
        let waker = state.next_in_line();
        drop(state);
        wake(waker);
    }

    fn take(self: &Arc<Self>, state: &mut State, now: Time) -> Answer {
        let Some(batch) = state.outbox.take() else {
            return Answer::Empty {
                cursor: state.outbox.cursor(),
            };
        };
        state.flush_at = now + self.shared.config.flush_interval;
        state.urgent = false;
        let oldest = std::mem::replace(&mut state.oldest, Time::NEVER);
        Answer::Frames {
            frames: batch.frames,
            cursor: batch.last,
            gap: batch.gap,
            redelivered: batch.redelivered,
            waited: (oldest != Time::NEVER).then(|| now.since(oldest)),
            delivery: Delivery::new(Arc::clone(self), batch.ticket),
        }
    }

    // What became of an answer.

    pub(crate) fn delivery_flushed(self: &Arc<Self>, ticket: u32, now: Time) {
        let mut state = self.state.lock();
        state.outbox.flushed(ticket, now);
        let State {
            outbox,
            subscriptions,
            ..
        } = &mut *state;
        subscriptions.flushed(|number| outbox.was_flushed(number), now);
        let waker = state.settled(self, now);
        drop(state);
        wake(waker);
    }

    /// Somebody wants to know what became of an answer.
    pub(crate) fn tell_watcher(&self, ticket: u32, fate: Fate) {
        if let Some(watcher) = &self.shared.watcher {
            watcher.note((self.serial, ticket), fate);
        }
    }

    pub(crate) fn delivery_confirmed(&self, ticket: u32) {
        let mut state = self.state.lock();
        state.outbox.confirm(ticket);
        let waker = state.next_in_line();
        drop(state);
        wake(waker);
    }

    pub(crate) fn delivery_failed(self: &Arc<Self>, ticket: u32) -> usize {
        let now = self.shared.deadlines.coarse_now();
        let mut state = self.state.lock();
        let again = state.outbox.give_back(ticket);
        // What was on its way once has waited long enough.
        state.urgent |= again > 0;
        let waker = state.settled(self, now);
        drop(state);
        wake(waker);
        again
    }

    // Publications.

    /// Puts a publication's frame into the outbox, unless a replay has brought
    /// it already. `place` is its stream and where it is in that, if it is kept.
    pub fn deliver(
        self: &Arc<Self>,
        identifier: &Identifier,
        frame: &Frame,
        place: Option<(&StreamName, &Position)>,
        now: Time,
    ) -> Delivered {
        self.deliver_paced(identifier, frame, place, false, now)
    }

    /// The same for what was missed and comes late and all at once: it has the
    /// bound of replies, because no client could have fetched it in time.
    pub fn deliver_late(
        self: &Arc<Self>,
        identifier: &Identifier,
        frame: &Frame,
        place: Option<(&StreamName, &Position)>,
        now: Time,
    ) -> Delivered {
        self.deliver_paced(identifier, frame, place, true, now)
    }

    fn deliver_paced(
        self: &Arc<Self>,
        identifier: &Identifier,
        frame: &Frame,
        place: Option<(&StreamName, &Position)>,
        late: bool,
        now: Time,
    ) -> Delivered {
        let config = &self.shared.config;
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Delivered::Ignored;
        }
        match state.subscriptions.way_of(identifier, place) {
            Way::Through => {}
            Way::Covered => return Delivered::Queued,
            Way::Hold(hold) if hold.fits(frame, config) => {
                hold.push(Held {
                    place: place.map(|(stream, position)| (stream.clone(), position.clone())),
                    frame: frame.clone(),
                });
                return Delivered::Queued;
            }
            Way::Hold(_) => return self.overflow(state, now),
        }
        // What drops its oldest needs no other bound.
        let pushed = if late && config.overflow == Overflow::Expire {
            state.outbox.push_reply(frame.clone(), config)
        } else {
            state.outbox.push(frame.clone(), config)
        };
        let delivered = match pushed {
            Push::Stored => Delivered::Queued,
            Push::Dropped(frames) => Delivered::Dropped(frames),
            Push::Overflow => return self.overflow(state, now),
        };
        state.oldest = state.oldest.min(now);
        let waker = state.nudge(self, now);
        drop(state);
        wake(waker);
        delivered
    }

    fn overflow(
        self: &Arc<Self>,
        mut state: parking_lot::MutexGuard<'_, State>,
        now: Time,
    ) -> Delivered {
        let subscriptions = state.end(Phase::Closed(CloseReason::Overflow), now);
        let wakers = state.all_wakers();
        state.arm_keepalive(self);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Delivered::Overflow(subscriptions)
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

    /// Adds this session to a count; whether it is open.
    /// What it holds at this moment; as many sessions as it is open ones.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        self.count_into(&mut census);
        census
    }

    /// Whether it follows these rules.
    #[must_use]
    pub fn shares(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

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
