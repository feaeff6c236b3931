//! A session's subscriptions and the confirm-once rule.

use crate::time::Time;
use pollux_protocol::{Frame, Identifier, StreamName};
use std::time::Duration;

/// A duplicate `subscribe` sooner than this after its confirmation was flushed
/// is a crossing retry; later, the confirmation was lost. (The stock client
/// retries a lost one after 5 s, and kills its subscription when it sees a
/// second confirmation it did not ask for.)
const RECONFIRM_AFTER: Duration = Duration::from_millis(1_500);

/// One identifier a session listens to.
#[derive(Debug)]
pub struct Subscription {
    /// What the client calls it.
    pub identifier: Identifier,
    /// The stream it resolved to.
    pub stream: StreamName,
    /// Number of the frame that confirmed it; `None` while it is being set up.
    confirmed_by: Option<u64>,
    /// When that frame reached the socket.
    confirmed_at: Option<Time>,
    /// Frames that arrived while history is being read; `None` when live.
    hold: Option<Box<Hold>>,
}

/// Live frames that wait. Boxed by its owner, because almost no subscription
/// ever has one for longer than a moment.
#[derive(Debug, Default)]
struct Hold(Vec<Held>);

/// A live frame that waits for the end of a replay.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) offset: Option<u64>,
    pub(crate) frame: Frame,
}

/// What to do with a `subscribe` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Set it up and confirm it.
    New,
    /// It is confirmed and the client knows or will know: say nothing.
    Known,
    /// The client has lost the confirmation: say it again.
    Reconfirm,
    /// The session has as many subscriptions as it may have.
    TooMany,
    /// The session is over.
    Closed,
}

/// The subscriptions of one session: few, so a list.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    list: Vec<Subscription>,
    /// How many of them hold frames back; keeps the common delivery free of
    /// any lookup.
    holding: usize,
    /// How many confirmations have not reached the socket.
    unflushed: usize,
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn begin(
        &mut self,
        identifier: &Identifier,
        stream: &StreamName,
        max: usize,
        now: Time,
    ) -> Begin {
        if let Some(known) = self
            .list
            .iter()
            .find(|known| known.identifier == *identifier)
        {
            let lost = known
                .confirmed_at
                .is_some_and(|at| now.since(at) > RECONFIRM_AFTER);
            return if lost { Begin::Reconfirm } else { Begin::Known };
        }
        if self.list.len() >= max {
            return Begin::TooMany;
        }
        if self.list.is_empty() {
            // Most sessions have one subscription; a list's first growth would
            // reserve four.
            self.list.reserve_exact(1);
        }
        self.holding += 1;
        self.list.push(Subscription {
            identifier: identifier.clone(),
            stream: stream.clone(),
            confirmed_by: None,
            confirmed_at: None,
            hold: Some(Box::default()),
        });
        Begin::New
    }

    pub(crate) fn find(&self, identifier: &Identifier) -> Option<&Subscription> {
        self.list
            .iter()
            .find(|known| known.identifier == *identifier)
    }

    /// Remembers that frame `number` confirms `identifier`.
    pub(crate) fn confirmed(&mut self, identifier: &Identifier, number: u64) {
        if let Some(known) = self
            .list
            .iter_mut()
            .find(|known| known.identifier == *identifier)
        {
            if known.confirmed_by.is_none() || known.confirmed_at.is_some() {
                self.unflushed += 1;
            }
            known.confirmed_by = Some(number);
            known.confirmed_at = None;
        }
    }

    /// Notes the confirmations among the frames that `was_flushed` knows.
    pub(crate) fn flushed(&mut self, was_flushed: impl Fn(u64) -> bool, now: Time) {
        if self.unflushed == 0 {
            return;
        }
        for known in &mut self.list {
            let Some(number) = known.confirmed_by else {
                continue;
            };
            if known.confirmed_at.is_none() && was_flushed(number) {
                known.confirmed_at = Some(now);
                self.unflushed -= 1;
            }
        }
    }

    pub(crate) fn hold(&mut self, identifier: &Identifier) -> bool {
        let Some(known) = self
            .list
            .iter_mut()
            .find(|known| known.identifier == *identifier)
        else {
            return false;
        };
        if known.hold.is_none() {
            known.hold = Some(Box::default());
            self.holding += 1;
        }
        true
    }

    /// Ends a hold; `None` if there was none.
    pub(crate) fn release(&mut self, identifier: &Identifier) -> Option<Vec<Held>> {
        let known = self
            .list
            .iter_mut()
            .find(|known| known.identifier == *identifier)?;
        let held = known.hold.take()?;
        self.holding -= 1;
        Some(held.0)
    }

    /// The place for a live frame of `identifier` if it must wait.
    pub(crate) fn held(&mut self, identifier: &Identifier) -> Option<&mut Vec<Held>> {
        if self.holding == 0 {
            return None;
        }
        let known = self
            .list
            .iter_mut()
            .find(|known| known.identifier == *identifier)?;
        known.hold.as_deref_mut().map(|hold| &mut hold.0)
    }

    pub(crate) fn remove(&mut self, identifier: &Identifier) -> Option<Subscription> {
        let at = self
            .list
            .iter()
            .position(|known| known.identifier == *identifier)?;
        let removed = self.list.swap_remove(at);
        self.holding -= usize::from(removed.hold.is_some());
        self.unflushed -=
            usize::from(removed.confirmed_by.is_some() && removed.confirmed_at.is_none());
        Some(removed)
    }

    pub(crate) fn take_all(&mut self) -> Vec<Subscription> {
        std::mem::take(self).list
    }
}
