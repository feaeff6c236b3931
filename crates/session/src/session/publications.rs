//! How a publication gets into a session.

use super::{
    CloseReason, Session,
    state::{Phase, State},
    wake,
};
use crate::{
    Overflow,
    outbox::Push,
    subscriptions::{Held, Subscription, Way},
    time::Time,
};
use pollux_protocol::{Frame, Identifier, Position, StreamName};
use std::{sync::Arc, task::Waker};

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

impl Session {
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
}
