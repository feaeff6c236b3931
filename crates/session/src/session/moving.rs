//! A session that goes on at another node.

use super::{
    Session,
    state::{OVERTAKING, Phase, Wakers},
};
use crate::{
    outbox::{Outbox, Remains},
    subscriptions::{Begin, Subscription},
    time::Time,
};
use pollux_protocol::{Identifier, StreamName};
use std::{sync::Arc, task::Waker};

/// What a session leaves behind for the node that takes it over.
#[derive(Debug)]
pub struct Departed {
    /// Its subscriptions, which are left for the caller to take out of the hub.
    pub subscriptions: Vec<Subscription>,
    /// What its client has yet to get.
    pub outbox: Remains,
}

/// Why a session does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// Not now: a command of its is being worked on, or an answer is on its
    /// way. That ends soon.
    Busy,
    /// It is over, or has left already.
    Over,
}

impl Session {
    /// Ends the session here, for another node to go on with. Its polls are
    /// answered with nothing, those that come late too, so that its client asks
    /// again, and elsewhere.
    ///
    /// # Errors
    /// It stays.
    pub fn depart(self: &Arc<Self>, now: Time) -> Result<Departed, Stays> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Err(Stays::Over);
        }
        let works = state.together != Time::ZERO || state.subscriptions.is_unsettled();
        let flushed = state.outbox.unsettled_since();
        let is_fresh = flushed.is_some_and(|flushed| now.since(flushed) < OVERTAKING);
        let outbox = state.outbox.remains().filter(|_| !works && !is_fresh);
        let outbox = outbox.ok_or(Stays::Busy)?;
        // What its polls are told now must not say that they brought what goes
        // elsewhere.
        let cursor = state.outbox.cursor();
        let subscriptions = state.end(Phase::Departed, now);
        state.outbox = Outbox::resume(Remains {
            frames: Vec::new(),
            end: cursor + 1,
            acked: outbox.acked,
            gap: false,
        });
        let wakers: Wakers = state.all_wakers();
        state.arm_keepalive(self);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(Departed {
            subscriptions,
            outbox,
        })
    }

    /// Goes on with what a session of the client left behind at another node.
    /// To be called on a new session, before anybody else knows it.
    pub fn unpack(&self, outbox: Remains) {
        self.state.lock().outbox = Outbox::resume(outbox);
    }

    /// Goes on with a subscription of that session. Its frames are held back
    /// until [`Session::release`]; its client knows that it is confirmed.
    #[must_use]
    pub fn adopt_subscription(
        &self,
        identifier: &Identifier,
        streams: &[StreamName],
        now: Time,
    ) -> Begin {
        self.begin_marked(identifier, streams, now, |subscriptions| {
            subscriptions.mark_known(identifier, now);
        })
    }
}
