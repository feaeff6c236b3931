//! The state machine of one client's session.
//!
//! A session is *open* until somebody closes it, *closing* while the client has
//! not fetched the reason, and *closed* when there is nothing left to say. It
//! ends for good when no poll has been held for the keepalive timeout; until
//! then a closed one answers late polls.
//!
//! Everything happens under the session's one lock, which is held for a few
//! hundred nanoseconds and never while somebody is woken.

use crate::{
    config::PollConfig,
    deadlines::Deadlines,
    outbox::{Outbox, Push},
    poll::{Answer, Delivery, Poll},
    registry::Census,
    subscriptions::{Begin, Held, Subscription, Subscriptions, Way},
    time::Time,
    token::Token,
};
use parking_lot::Mutex;
use pollux_protocol::{Command, Frame, Identifier, Position, StreamName};
use smallvec::SmallVec;
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{self, Waker},
    time::Duration,
};

/// Commands a session may have waiting while one of them is being worked on.
const MAX_WAITING_COMMANDS: usize = 4_096;

/// The least time between two answers on two connections, unless the client
/// sends its cursor or is known to have the first: it may read them in either
/// order. Longer than the network takes, short enough to go unnoticed. Never
/// longer than the flush interval.
const OVERTAKING: Duration = Duration::from_millis(100);

/// What all sessions of a node share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The operator's rules.
    pub config: PollConfig,
    /// The wheel.
    pub deadlines: Deadlines,
}

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
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// Commands in the order they came. Boxed by its owner, because almost no
/// session ever has any for longer than a moment.
#[derive(Debug, Default)]
struct Waiting(VecDeque<Command>);

#[derive(Debug)]
struct State {
    phase: Phase,
    outbox: Outbox,
    subscriptions: Subscriptions,
    /// Polls that wait, oldest first.
    waiters: SmallVec<[Waiter; 1]>,
    next_waiter: u32,
    /// Frames before this moment are coalesced.
    flush_at: Time,
    /// Replies wait that must not be coalesced.
    urgent: bool,
    /// Commands are being worked on; their replies go out together.
    busy: bool,
    /// Commands that came while others were being worked on.
    commands: Option<Box<Waiting>>,
    /// When the last poll left.
    idle_since: Time,
    /// When the oldest pending publication came; [`Time::NEVER`] if none.
    oldest: Time,
    /// The wheel's tick this session is in; `u64::MAX` if none.
    armed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// A last frame waits for the client.
    Closing,
    Closed(CloseReason),
}

/// Why a session has nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No poll for too long.
    Expired,
    /// Its outbox was full.
    Overflow,
}

#[derive(Debug)]
struct Waiter {
    id: u32,
    /// When it is answered with nothing.
    deadline: Time,
    /// Frames were waiting when it came: it does not wait for a flush.
    prompt: bool,
    /// A newer poll took its place.
    evicted: bool,
    waker: Option<Waker>,
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

/// Wakers to call once the lock is free.
type Wakers = SmallVec<[Waker; 2]>;

impl Session {
    /// A new session. Its keepalive runs from `now`.
    #[must_use]
    pub fn new(
        serial: u64,
        secret: Token,
        sid: Token,
        identifiers: Option<Box<str>>,
        shared: Arc<Shared>,
        now: Time,
    ) -> Arc<Self> {
        let session = Arc::new(Self {
            serial,
            secret,
            sid,
            identifiers,
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

    /// The connection identifiers, if the session has any but its `sid`.
    pub(crate) fn named_identifiers(&self) -> Option<&str> {
        self.identifiers.as_deref()
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
    /// it already. `position` is its place in the stream, if it has one.
    pub fn deliver(
        self: &Arc<Self>,
        identifier: &Identifier,
        frame: &Frame,
        position: Option<&Position>,
        now: Time,
    ) -> Delivered {
        let config = &self.shared.config;
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Delivered::Ignored;
        }
        match state.subscriptions.way_of(identifier, position) {
            Way::Through => {}
            Way::Covered => return Delivered::Queued,
            Way::Hold(hold) if hold.fits(frame, config) => {
                hold.push(Held {
                    position: position.cloned(),
                    frame: frame.clone(),
                });
                return Delivered::Queued;
            }
            Way::Hold(_) => return self.overflow(state, now),
        }
        let delivered = match state.outbox.push(frame.clone(), config) {
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

    /// Whether nothing is left to tell the client, so that a node that drains
    /// need not wait for it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let state = self.state.lock();
        state.phase != Phase::Open && !state.outbox.has_pending() && !state.outbox.in_flight()
    }

    // Commands and their replies.

    /// Queues commands behind those being worked on. `Some(true)`: nobody is at
    /// work, so the caller must now call [`Session::next_command`] until it
    /// returns `None`. `None`: too many wait already, and none was queued.
    pub fn enqueue(&self, commands: Vec<Command>) -> Option<bool> {
        let mut state = self.state.lock();
        let waiting = &mut state.commands.get_or_insert_default().0;
        // One body is bounded by its size; what counts is how many bodies.
        if !waiting.is_empty() && waiting.len() + commands.len() > MAX_WAITING_COMMANDS {
            return None;
        }
        waiting.extend(commands);
        Some(!std::mem::replace(&mut state.busy, true))
    }

    /// The next command to work on. `None` ends the work: the replies may go.
    pub fn next_command(self: &Arc<Self>, now: Time) -> Option<Command> {
        let mut state = self.state.lock();
        if let Some(command) = state
            .commands
            .as_mut()
            .and_then(|waiting| waiting.0.pop_front())
        {
            return Some(command);
        }
        state.commands = None;
        state.busy = false;
        let waker = state.nudge(self, now);
        drop(state);
        wake(waker);
        None
    }

    /// A reply to the client, flushed at once. Returns false if the session is
    /// over, or is over now because the client fetches none of its replies.
    pub fn reply(self: &Arc<Self>, frame: Frame, now: Time) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return false;
        }
        let stored = state.push_reply(frame, &self.shared.config, now);
        self.after_replies(state, now);
        stored
    }

    /// Starts a subscription. On [`Begin::New`] frames of `identifier` are held
    /// back until [`Session::confirm`].
    #[must_use]
    pub fn begin_subscription(
        &self,
        identifier: &Identifier,
        stream: &StreamName,
        now: Time,
    ) -> Begin {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Begin::Closed;
        }
        let max = self.shared.config.max_subscriptions;
        state.subscriptions.begin(identifier, stream, max, now)
    }

    /// Says `confirmation` for a subscription, and lets its frames flow after
    /// `replay`. False if session or subscription are gone: the caller takes
    /// the subscription out of the hub again.
    #[must_use]
    pub fn confirm(
        self: &Arc<Self>,
        identifier: &Identifier,
        confirmation: Frame,
        replay: Replay,
        now: Time,
    ) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Open || state.subscriptions.find(identifier).is_none() {
            return false;
        }
        let number = state.outbox.next_number();
        state.push_reply(confirmation, &self.shared.config, now);
        state.subscriptions.confirmed(identifier, number);
        self.release_locked(state, identifier, replay, now)
    }

    /// Holds the frames of a subscription back while its history is read. False
    /// if there is no such subscription.
    #[must_use]
    pub fn hold(&self, identifier: &Identifier) -> bool {
        self.state.lock().subscriptions.hold(identifier)
    }

    /// Ends a hold: `replay`, then the held frames that it did not cover.
    pub fn release(self: &Arc<Self>, identifier: &Identifier, replay: Replay, now: Time) -> bool {
        self.release_locked(self.state.lock(), identifier, replay, now)
    }

    fn release_locked(
        self: &Arc<Self>,
        mut state: parking_lot::MutexGuard<'_, State>,
        identifier: &Identifier,
        replay: Replay,
        now: Time,
    ) -> bool {
        let live = state.subscriptions.release(identifier, replay.covered);
        let config = &self.shared.config;
        let mut stored = true;
        for frame in replay.frames.into_iter().chain(replay.verdict).chain(live) {
            stored &= state.push_reply(frame, config, now);
        }
        self.after_replies(state, now);
        stored
    }

    fn after_replies(self: &Arc<Self>, mut state: parking_lot::MutexGuard<'_, State>, now: Time) {
        let wakers = match state.phase {
            Phase::Closed(_) => {
                state.arm_keepalive(self);
                state.all_wakers()
            }
            _ => state.nudge(self, now).into_iter().collect(),
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The stream of a confirmed or pending subscription.
    #[must_use]
    pub fn stream_of(&self, identifier: &Identifier) -> Option<StreamName> {
        self.state
            .lock()
            .subscriptions
            .find(identifier)
            .map(|known| known.stream.clone())
    }

    /// Ends a subscription, if there is one.
    pub fn unsubscribe(&self, identifier: &Identifier) -> Option<Subscription> {
        self.state.lock().subscriptions.remove(identifier)
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

/// Missed messages for a subscription, and how the reading of history ended.
#[derive(Debug, Default)]
pub struct Replay {
    /// The missed messages, oldest first.
    pub frames: Vec<Frame>,
    /// Where they end: live frames up to this position are among them, or the
    /// client said that it has them.
    pub covered: Option<Position>,
    /// `confirm_history` or `reject_history`, if the client asked for history.
    pub verdict: Option<Frame>,
}

/// What a waiting poll is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Take,
    Empty,
    Closed(CloseReason),
}

impl State {
    fn new(now: Time) -> Self {
        Self {
            phase: Phase::Open,
            outbox: Outbox::default(),
            subscriptions: Subscriptions::default(),
            waiters: SmallVec::new(),
            next_waiter: 0,
            flush_at: Time::ZERO,
            urgent: false,
            busy: false,
            commands: None,
            idle_since: now,
            oldest: Time::NEVER,
            armed: u64::MAX,
        }
    }

    /// The poll that gets the next batch.
    fn newest(&self) -> Option<usize> {
        self.waiters.iter().rposition(|waiter| !waiter.evicted)
    }

    /// When a batch may go out to a waiting poll, if nothing else happens.
    fn ready_at(&self, waiter: &Waiter, config: &PollConfig) -> Time {
        if self.busy {
            return waiter.deadline;
        }
        let at_once = self.urgent
            || waiter.prompt
            || self.phase == Phase::Closing
            || self.outbox.half_full(config);
        let flush_at = if at_once { Time::ZERO } else { self.flush_at };
        // Two answers on two connections may reach the client in either order,
        // and the first may yet turn out to be lost.
        let apart = config.flush_interval.min(OVERTAKING);
        let settled = self
            .outbox
            .unsettled_since()
            .map_or(Time::ZERO, |since| since + apart);
        flush_at.max(settled).min(waiter.deadline)
    }

    /// Whether a batch may go out to a waiting poll now.
    fn may_flush(&self, waiter: &Waiter, config: &PollConfig, now: Time) -> bool {
        now >= self.ready_at(waiter, config)
    }

    fn verdict(&self, at: usize, config: &PollConfig, now: Time) -> Verdict {
        let Some(waiter) = self.waiters.get(at) else {
            return Verdict::Empty;
        };
        if let Phase::Closed(reason) = self.phase {
            return Verdict::Closed(reason);
        }
        let first_in_line = self.newest() == Some(at);
        let can_take = self.outbox.has_pending() && !self.outbox.in_flight();
        if first_in_line && can_take && self.may_flush(waiter, config, now) {
            return Verdict::Take;
        }
        // A closing session's other polls need not wait: the client is told by
        // the newest one.
        let told_here = first_in_line && self.outbox.has_pending();
        let over = self.phase == Phase::Closing && !told_here;
        if waiter.evicted || over || now >= waiter.deadline {
            Verdict::Empty
        } else {
            Verdict::Wait
        }
    }

    /// Wakes the poll that is first in line if it would be answered; else makes
    /// sure that it is looked at when it will be.
    fn nudge(&mut self, session: &Arc<Session>, now: Time) -> Option<Waker> {
        if !self.outbox.has_pending() || self.outbox.in_flight() || self.busy {
            return None;
        }
        let at = self.newest()?;
        let ready_at = self.ready_at(self.waiters.get(at)?, &session.shared.config);
        if now >= ready_at {
            return self.waiters.get_mut(at)?.waker.take();
        }
        self.arm(session, ready_at);
        None
    }

    /// Wakes the poll that is now first in line, to look for itself.
    fn next_in_line(&mut self) -> Option<Waker> {
        if !self.outbox.has_pending() {
            return None;
        }
        let at = self.newest()?;
        self.waiters.get_mut(at)?.waker.take()
    }

    /// A batch is no longer in flight.
    fn settled(&mut self, session: &Arc<Session>, now: Time) -> Option<Waker> {
        if self.waiters.is_empty() {
            self.idle_since = now;
            self.arm_keepalive(session);
        }
        self.next_in_line()
    }

    /// Puts a reply into the outbox. A client that asks for more than it
    /// fetches loses its session; its subscriptions stay in the hub, without
    /// effect, until the session expires.
    fn push_reply(&mut self, frame: Frame, config: &PollConfig, now: Time) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.urgent = true;
        if self.outbox.push_reply(frame, config) == Push::Stored {
            return true;
        }
        self.phase = Phase::Closed(CloseReason::Overflow);
        self.outbox.clear();
        self.commands = None;
        self.idle_since = now;
        false
    }

    /// Leaves the open phase.
    fn end(&mut self, phase: Phase, now: Time) -> Vec<Subscription> {
        self.phase = phase;
        if matches!(phase, Phase::Closed(_)) {
            self.outbox.clear();
        }
        // A closed session stays a keepalive timeout to answer late polls.
        self.idle_since = now;
        self.commands = None;
        self.subscriptions.take_all()
    }

    fn all_wakers(&mut self) -> Wakers {
        self.waiters
            .iter_mut()
            .filter_map(|waiter| waiter.waker.take())
            .collect()
    }

    fn arm(&mut self, session: &Arc<Session>, at: Time) {
        let tick = Deadlines::tick_of(at);
        if tick < self.armed {
            self.armed = tick;
            session.shared.deadlines.arm(tick, Arc::downgrade(session));
        }
    }

    fn arm_keepalive(&mut self, session: &Arc<Session>) {
        self.arm(
            session,
            self.idle_since + session.shared.config.keepalive_timeout,
        );
    }

    /// Arms the earliest of the deadlines that are still to come.
    fn arm_next(&mut self, session: &Arc<Session>, now: Time) {
        if self.waiters.is_empty() {
            if !self.outbox.in_flight() {
                self.arm_keepalive(session);
            }
            return;
        }
        let polls = self.waiters.iter().map(|waiter| waiter.deadline);
        if let Some(at) = polls.filter(|deadline| *deadline > now).min() {
            self.arm(session, at);
        }
        if let Some(newest) = self.newest().and_then(|at| self.waiters.get(at))
            && self.outbox.has_pending()
        {
            let ready_at = self.ready_at(newest, &session.shared.config);
            if ready_at > now {
                self.arm(session, ready_at);
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
