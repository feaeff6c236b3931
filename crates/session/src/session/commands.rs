//! What a client asks for with its polls, and what it is told.

use super::{
    Session,
    state::{Phase, State, TOGETHER},
    wake,
};
use crate::{
    subscriptions::{Begin, Place, Streams, Subscription, Subscriptions},
    time::Time,
};
use parking_lot::MutexGuard;
use pollux_protocol::{Command, Frame, Identifier, StreamName};
use std::{sync::Arc, task::Waker, time::Duration};

/// Commands a session may have waiting while one of them is being worked on.
const MAX_WAITING_COMMANDS: usize = 4_096;

/// Missed messages for a subscription, and how the reading of history ended.
#[derive(Debug, Default)]
pub struct Replay {
    /// The missed messages, oldest first.
    pub frames: Vec<Frame>,
    /// Where they end in each stream: live frames up to this position are among
    /// them, or the client said that it has them.
    pub covered: Vec<Place>,
    /// `confirm_history` or `reject_history`, if the client asked for history.
    pub verdict: Option<Frame>,
}

impl Session {
    /// Takes `number` commands out of what the client may send.
    ///
    /// # Errors
    /// It may not send as many before this time is over; none counts.
    pub fn spend(&self, number: usize, now: Time) -> Result<(), Duration> {
        match self.shared.config.commands {
            Some(rate) => self.state.lock().allowance.take(number, rate, now),
            None => Ok(()),
        }
    }

    /// The same for commands that run all the same. Returns how long the client
    /// should not be listened to.
    pub fn overspend(&self, number: usize, now: Time) -> Duration {
        let rate = self.shared.config.commands;
        rate.map_or(Duration::ZERO, |rate| {
            self.state.lock().allowance.overdraw(number, rate, now)
        })
    }

    /// Queues commands behind those being worked on. `Some(true)`: nobody is at
    /// work, so the caller must now call [`Session::next_command`] until it
    /// returns `None`. `None`: too many wait already, and none was queued.
    pub fn enqueue(&self, commands: Vec<Command>) -> Option<bool> {
        let mut state = self.state.lock();
        if state.phase == Phase::Departed {
            return None;
        }
        let waiting = &mut state.commands.get_or_insert_default().0;
        // One body is bounded by its size; what counts is how many bodies.
        if !waiting.is_empty() && waiting.len() + commands.len() > MAX_WAITING_COMMANDS {
            return None;
        }
        waiting.extend(commands);
        let is_first = state.together == Time::ZERO;
        if is_first {
            state.together = Time::NEVER;
        }
        Some(is_first)
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
        state.together = Time::ZERO;
        let waker = state.nudge(self, now);
        drop(state);
        wake(waker);
        None
    }

    /// The work on commands takes longer than a moment: what comes meanwhile
    /// waits for its replies a little, but not to its end.
    pub fn work_goes_on(self: &Arc<Self>, now: Time) {
        let mut state = self.state.lock();
        if state.together == Time::NEVER {
            state.together = now + TOGETHER;
        }
        let waker = state.nudge(self, now);
        drop(state);
        wake(waker);
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

    /// Starts a subscription, to no stream yet if nobody knows which. On
    /// [`Begin::New`] frames of `identifier` are held back until
    /// [`Session::confirm`].
    #[must_use]
    pub fn begin_subscription(
        &self,
        identifier: &Identifier,
        streams: &[StreamName],
        now: Time,
    ) -> Begin {
        self.begin_marked(identifier, streams, now, |_| {})
    }

    /// The same, with something said of the subscription if it is new.
    pub(super) fn begin_marked(
        &self,
        identifier: &Identifier,
        streams: &[StreamName],
        now: Time,
        mark: impl FnOnce(&mut Subscriptions),
    ) -> Begin {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Begin::Closed;
        }
        let max = self.shared.config.max_subscriptions;
        let begin = state.subscriptions.begin(identifier, streams, max, now);
        if begin == Begin::New {
            mark(&mut state.subscriptions);
        }
        begin
    }

    /// Takes a subscription over from an earlier session of the client. Its
    /// frames are held back until [`Session::release`], because the client
    /// first asks for what it has missed. A client that subscribes again
    /// gets its confirmation.
    #[must_use]
    pub fn restore_subscription(
        &self,
        identifier: &Identifier,
        streams: &[StreamName],
        now: Time,
    ) -> Begin {
        self.begin_marked(identifier, streams, now, |subscriptions| {
            subscriptions.mark_restored(identifier);
        })
    }

    /// What the session listens to.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<(Identifier, Streams)> {
        let state = self.state.lock();
        let all = state.subscriptions.all();
        all.map(|known| (known.identifier.clone(), known.streams.clone()))
            .collect()
    }

    /// Adds a stream to a subscription. False if that has it already, or the
    /// subscription or the session is gone; true: it is for the caller to put
    /// it into the hub.
    #[must_use]
    pub fn follow(&self, identifier: &Identifier, stream: &StreamName) -> bool {
        let mut state = self.state.lock();
        state.phase == Phase::Open && state.subscriptions.follow(identifier, stream)
    }

    /// Takes a stream from a subscription. True: it is for the caller to take
    /// it out of the hub.
    #[must_use]
    pub fn unfollow(&self, identifier: &Identifier, stream: &StreamName) -> bool {
        self.state.lock().subscriptions.unfollow(identifier, stream)
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
        self.settle(identifier, vec![(confirmation, true)], replay, now)
    }

    /// The same where somebody else has written the frames that are said then:
    /// each, and whether it is the confirmation. Without one among them the
    /// frames of the subscription flow all the same.
    #[must_use]
    pub fn settle(
        self: &Arc<Self>,
        identifier: &Identifier,
        said: Vec<(Frame, bool)>,
        replay: Replay,
        now: Time,
    ) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Open || state.subscriptions.find(identifier).is_none() {
            return false;
        }
        for (frame, confirms) in said {
            let number = state.outbox.next_number();
            state.push_reply(frame, &self.shared.config, now);
            if confirms {
                state.subscriptions.confirmed(identifier, number);
            }
        }
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
        mut state: MutexGuard<'_, State>,
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

    fn after_replies(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: Time) {
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

    /// The streams of a confirmed or pending subscription. `None`: there is no
    /// such subscription.
    #[must_use]
    pub fn streams_of(&self, identifier: &Identifier) -> Option<Streams> {
        let state = self.state.lock();
        let known = state.subscriptions.find(identifier)?;
        Some(known.streams.clone())
    }

    /// Whether there is such a subscription, confirmed or pending.
    #[must_use]
    pub fn is_subscribed(&self, identifier: &Identifier) -> bool {
        self.state.lock().subscriptions.find(identifier).is_some()
    }

    /// Ends a subscription, if there is one.
    pub fn unsubscribe(&self, identifier: &Identifier) -> Option<Subscription> {
        self.state.lock().subscriptions.remove(identifier)
    }
}
