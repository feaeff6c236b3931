//! What a session's lock guards, and the decisions made under it.

use super::{CloseReason, Session};
use crate::{
    config::PollConfig,
    deadlines::Deadlines,
    outbox::{Outbox, Push},
    rate::Bucket,
    subscriptions::{Subscription, Subscriptions},
    time::Time,
};
use pollux_protocol::{Command, Frame};
use smallvec::SmallVec;
use std::{collections::VecDeque, sync::Arc, task::Waker, time::Duration};

/// The least time between two answers on two connections, unless the client
/// sends its cursor or is known to have the first: it may read them in either
/// order. Longer than the network takes, short enough to go unnoticed. Never
/// longer than the flush interval.
pub(super) const OVERTAKING: Duration = Duration::from_millis(100);

/// Replies of commands that are being worked on wait for each other, and what is
/// published meanwhile for them, but no longer than this: a backend may think
/// for seconds.
pub(super) const TOGETHER: Duration = Duration::from_millis(100);

/// Commands in the order they came. Boxed by its owner, because almost no
/// session ever has any for longer than a moment.
#[derive(Debug, Default)]
pub(super) struct Waiting(pub(super) VecDeque<Command>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) outbox: Outbox,
    pub(super) subscriptions: Subscriptions,
    /// Polls that wait, oldest first.
    pub(super) waiters: SmallVec<[Waiter; 1]>,
    pub(super) next_waiter: u32,
    /// Frames before this moment are coalesced.
    pub(super) flush_at: Time,
    /// Replies wait that must not be coalesced.
    pub(super) urgent: bool,
    /// While commands are being worked on their replies wait for each other
    /// until then; [`Time::ZERO`] if none are, [`Time::NEVER`] if they end now.
    pub(super) together: Time,
    /// Commands that came while others were being worked on.
    pub(super) commands: Option<Box<Waiting>>,
    /// How many more it may send.
    pub(super) allowance: Bucket,
    /// When the last poll left.
    pub(super) idle_since: Time,
    /// When the oldest pending publication came; [`Time::NEVER`] if none.
    pub(super) oldest: Time,
    /// The wheel's tick this session is in; `u64::MAX` if none.
    pub(super) armed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// A last frame waits for the client.
    Closing,
    Closed(CloseReason),
    /// It lives on elsewhere: whoever polls it here asks there next.
    Departed,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u32,
    /// When it is answered with nothing.
    pub(super) deadline: Time,
    /// Frames were waiting when it came: it does not wait for a flush.
    pub(super) prompt: bool,
    /// A newer poll took its place.
    pub(super) evicted: bool,
    pub(super) waker: Option<Waker>,
}

/// Wakers to call once the lock is free.
pub(super) type Wakers = SmallVec<[Waker; 2]>;

/// What a waiting poll is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    Take,
    Empty,
    Closed(CloseReason),
}

impl State {
    pub(super) fn new(now: Time) -> Self {
        Self {
            phase: Phase::Open,
            outbox: Outbox::default(),
            subscriptions: Subscriptions::default(),
            waiters: SmallVec::new(),
            next_waiter: 0,
            flush_at: Time::ZERO,
            urgent: false,
            together: Time::ZERO,
            commands: None,
            allowance: Bucket::default(),
            idle_since: now,
            oldest: Time::NEVER,
            armed: u64::MAX,
        }
    }

    /// The poll that gets the next batch.
    pub(super) fn newest(&self) -> Option<usize> {
        self.waiters.iter().rposition(|waiter| !waiter.evicted)
    }

    /// When a batch may go out to a waiting poll, if nothing else happens.
    pub(super) fn ready_at(&self, waiter: &Waiter, config: &PollConfig) -> Time {
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
        flush_at
            .max(settled)
            .max(self.together)
            .min(waiter.deadline)
    }

    /// Whether a batch may go out to a waiting poll now.
    pub(super) fn may_flush(&self, waiter: &Waiter, config: &PollConfig, now: Time) -> bool {
        now >= self.ready_at(waiter, config)
    }

    pub(super) fn verdict(&self, at: usize, config: &PollConfig, now: Time) -> Verdict {
        let Some(waiter) = self.waiters.get(at) else {
            return Verdict::Empty;
        };
        match self.phase {
            Phase::Closed(reason) => return Verdict::Closed(reason),
            Phase::Departed => return Verdict::Empty,
            Phase::Open | Phase::Closing => {}
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
    pub(super) fn nudge(&mut self, session: &Arc<Session>, now: Time) -> Option<Waker> {
        let ends_now = self.together == Time::NEVER;
        if !self.outbox.has_pending() || self.outbox.in_flight() || ends_now {
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
    pub(super) fn next_in_line(&mut self) -> Option<Waker> {
        if !self.outbox.has_pending() {
            return None;
        }
        let at = self.newest()?;
        self.waiters.get_mut(at)?.waker.take()
    }

    /// A batch is no longer in flight.
    pub(super) fn settled(&mut self, session: &Arc<Session>, now: Time) -> Option<Waker> {
        if self.waiters.is_empty() {
            self.idle_since = now;
            self.arm_keepalive(session);
        }
        self.next_in_line()
    }

    /// Puts a reply into the outbox. A client that asks for more than it
    /// fetches loses its session; its subscriptions stay in the hub, without
    /// effect, until the session expires.
    pub(super) fn push_reply(&mut self, frame: Frame, config: &PollConfig, now: Time) -> bool {
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
    pub(super) fn end(&mut self, phase: Phase, now: Time) -> Vec<Subscription> {
        self.phase = phase;
        if matches!(phase, Phase::Closed(_) | Phase::Departed) {
            self.outbox.clear();
        }
        // A closed session stays a keepalive timeout to answer late polls.
        self.idle_since = now;
        self.commands = None;
        self.subscriptions.take_all()
    }

    pub(super) fn all_wakers(&mut self) -> Wakers {
        self.waiters
            .iter_mut()
            .filter_map(|waiter| waiter.waker.take())
            .collect()
    }

    pub(super) fn arm(&mut self, session: &Arc<Session>, at: Time) {
        let tick = Deadlines::tick_of(at);
        if tick < self.armed {
            self.armed = tick;
            session.shared.deadlines.arm(tick, Arc::downgrade(session));
        }
    }

    pub(super) fn arm_keepalive(&mut self, session: &Arc<Session>) {
        self.arm(
            session,
            self.idle_since + session.shared.config.keepalive_timeout,
        );
    }

    /// Arms the earliest of the deadlines that are still to come.
    pub(super) fn arm_next(&mut self, session: &Arc<Session>, now: Time) {
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
