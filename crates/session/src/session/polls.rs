//! Polls that come, wait, and are answered, and what becomes of the answers.

use super::{
    CloseReason, Fate, Session,
    state::{Phase, State, Verdict, Waiter},
    wake,
};
use crate::{
    poll::{Answer, Delivery, Poll},
    time::Time,
};
use std::{
    sync::Arc,
    task::{self, Waker},
};

impl Session {
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
}
