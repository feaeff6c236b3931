//! A session's subscriptions and the confirm-once rule.

use crate::{config::PollConfig, time::Time};
use pollux_protocol::{Frame, Identifier, Position, StreamName};
use smallvec::SmallVec;
use std::time::Duration;

/// A duplicate `subscribe` sooner than this after its confirmation was flushed
/// is a crossing retry; later, the confirmation was lost. (The stock client
/// retries a lost one after 5 s, and kills its subscription when it sees a
/// second confirmation it did not ask for.)
const RECONFIRM_AFTER: Duration = Duration::from_millis(1_500);

/// The streams of one subscription: one, unless a backend says otherwise.
pub type Streams = SmallVec<[StreamName; 1]>;

/// A publication's stream, and its place in it.
pub type Place = (StreamName, Position);

/// One identifier a session listens to.
#[derive(Debug)]
pub struct Subscription {
    /// What the client calls it.
    pub identifier: Identifier,
    /// The streams it resolved to.
    pub streams: Streams,
    /// Number of the frame that confirmed it; `None` while it is being set up.
    confirmed_by: Option<u64>,
    /// When that frame reached the socket.
    confirmed_at: Option<Time>,
    /// It was taken over from an earlier session, and this one's client was
    /// told so all at once. One that asks for it again has not understood.
    restored: bool,
    /// Frames that arrived while history is being read; `None` when live.
    hold: Option<Box<Hold>>,
    /// What a replay covered, until live delivery has passed it: a publication
    /// that was in history already may still be on its way here.
    covered: Option<Box<Covered>>,
}

/// Live frames that wait. Boxed by its owner, because almost no subscription
/// ever has one for longer than a moment.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    frames: Vec<Held>,
    bytes: usize,
}

impl Hold {
    /// Whether there is room for `frame` within an outbox's bounds.
    pub(crate) fn fits(&self, frame: &Frame, config: &PollConfig) -> bool {
        let bytes = self.bytes + frame.len();
        self.frames.len() < config.max_frames && (bytes <= config.max_bytes || self.bytes == 0)
    }

    pub(crate) fn push(&mut self, held: Held) {
        self.bytes += held.frame.len();
        self.frames.push(held);
    }
}

/// How far a replay went in each stream. Boxed by its owner like a hold.
#[derive(Debug)]
struct Covered(Vec<Place>);

/// A live frame that waits for the end of a replay.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) place: Option<Place>,
    pub(crate) frame: Frame,
}

/// What to do with a live frame.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    /// Into the outbox.
    Through,
    /// To the others that wait for the end of a replay.
    Hold(&'a mut Hold),
    /// Nowhere: a replay has brought it.
    Covered,
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

impl Subscription {
    fn is_guarded(&self) -> bool {
        self.hold.is_some() || self.covered.is_some()
    }

    /// Whether a replay has brought the publication at `place`. The first one
    /// of a stream that it did not bring ends the watch over that stream: those
    /// behind it come in order.
    fn skips(&mut self, place: Option<(&StreamName, &Position)>) -> bool {
        let (Some(covered), Some((stream, position))) = (&mut self.covered, place) else {
            return false;
        };
        let Some(at) = covered.0.iter().position(|(known, _)| known == stream) else {
            return false;
        };
        let skips = covered.0.get(at).is_some_and(|(_, covered)| {
            position.epoch == covered.epoch && position.offset <= covered.offset
        });
        if !skips {
            covered.0.swap_remove(at);
            if covered.0.is_empty() {
                self.covered = None;
            }
        }
        skips
    }

    /// How far a replay went in this stream, as far as that is further than
    /// what was published since.
    #[must_use]
    pub fn covered(&self, stream: &StreamName) -> Option<&Position> {
        let mut covered = self.covered.as_ref()?.0.iter();
        let (_, position) = covered.find(|(known, _)| known == stream)?;
        Some(position)
    }

    /// Nothing of a stream that it has left is waited for.
    fn forget(&mut self, stream: &StreamName) {
        if let Some(covered) = &mut self.covered {
            covered.0.retain(|(known, _)| known != stream);
            if covered.0.is_empty() {
                self.covered = None;
            }
        }
    }
}

/// The subscriptions of one session: few, so a list.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    list: Vec<Subscription>,
    /// How many of them hold frames back or were covered by a replay; keeps
    /// the common delivery free of any lookup.
    guarded: usize,
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
        streams: &[StreamName],
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
            let unsaid = known.restored && known.confirmed_by.is_none();
            return if lost || unsaid {
                Begin::Reconfirm
            } else {
                Begin::Known
            };
        }
        if self.list.len() >= max {
            return Begin::TooMany;
        }
        if self.list.is_empty() {
            // Most sessions have one subscription; a list's first growth would
            // reserve four.
            self.list.reserve_exact(1);
        }
        self.guarded += 1;
        self.list.push(Subscription {
            identifier: identifier.clone(),
            streams: Streams::from(streams),
            confirmed_by: None,
            confirmed_at: None,
            restored: false,
            hold: Some(Box::default()),
            covered: None,
        });
        Begin::New
    }

    /// The last subscription comes from an earlier session.
    pub(crate) fn mark_restored(&mut self, identifier: &Identifier) {
        let mut known = self.list.iter_mut().rev();
        if let Some(known) = known.find(|known| known.identifier == *identifier) {
            known.restored = true;
        }
    }

    /// The client knows that this subscription is confirmed.
    pub(crate) fn mark_known(&mut self, identifier: &Identifier, now: Time) {
        let mut known = self.list.iter_mut().rev();
        if let Some(known) = known.find(|known| known.identifier == *identifier) {
            known.confirmed_by = Some(0);
            known.confirmed_at = Some(now);
        }
    }

    /// Whether history is being read for one of them, or its client is yet to
    /// ask for it.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.guarded > 0 && self.list.iter().any(|known| known.hold.is_some())
    }

    /// What is there, whether it is confirmed or not.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter()
    }

    pub(crate) fn find(&self, identifier: &Identifier) -> Option<&Subscription> {
        self.list
            .iter()
            .find(|known| known.identifier == *identifier)
    }

    /// Adds a stream. False if there is no such subscription, or it has that
    /// stream.
    pub(crate) fn follow(&mut self, identifier: &Identifier, stream: &StreamName) -> bool {
        let mut list = self.list.iter_mut();
        let known = list.find(|known| known.identifier == *identifier);
        let Some(known) = known.filter(|known| !known.streams.contains(stream)) else {
            return false;
        };
        known.streams.push(stream.clone());
        true
    }

    /// Takes a stream away. False if it was not among the subscription's.
    pub(crate) fn unfollow(&mut self, identifier: &Identifier, stream: &StreamName) -> bool {
        let mut list = self.list.iter_mut();
        let Some(known) = list.find(|known| known.identifier == *identifier) else {
            return false;
        };
        let Some(at) = known.streams.iter().position(|known| known == stream) else {
            return false;
        };
        known.streams.remove(at);
        let was_guarded = known.is_guarded();
        known.forget(stream);
        self.guarded -= usize::from(was_guarded && !known.is_guarded());
        true
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
        if !known.is_guarded() {
            self.guarded += 1;
        }
        known.hold.get_or_insert_default();
        true
    }

    /// Ends a hold, after a replay of everything up to `covered`. Returns the
    /// held frames that it did not bring.
    pub(crate) fn release(&mut self, identifier: &Identifier, covered: Vec<Place>) -> Vec<Frame> {
        let known = self
            .list
            .iter_mut()
            .find(|known| known.identifier == *identifier);
        let Some(known) = known.filter(|known| known.is_guarded()) else {
            return Vec::new();
        };
        if !covered.is_empty() {
            known.covered = Some(Box::new(Covered(covered)));
        }
        let held = known.hold.take().map_or_else(Vec::new, |hold| hold.frames);
        let mut live = Vec::new();
        for Held { place, frame } in held {
            let place = place.as_ref().map(|(stream, position)| (stream, position));
            if !known.skips(place) {
                live.push(frame);
            }
        }
        if !known.is_guarded() {
            self.guarded -= 1;
        }
        live
    }

    /// What to do with a live frame of `identifier`.
    pub(crate) fn way_of(
        &mut self,
        identifier: &Identifier,
        place: Option<(&StreamName, &Position)>,
    ) -> Way<'_> {
        if self.guarded == 0 {
            return Way::Through;
        }
        let known = self
            .list
            .iter_mut()
            .find(|known| known.identifier == *identifier);
        let Some(known) = known.filter(|known| known.is_guarded()) else {
            return Way::Through;
        };
        if known.hold.is_none() {
            if known.skips(place) {
                return Way::Covered;
            }
            if !known.is_guarded() {
                self.guarded -= 1;
            }
            return Way::Through;
        }
        known.hold.as_deref_mut().map_or(Way::Through, Way::Hold)
    }

    pub(crate) fn remove(&mut self, identifier: &Identifier) -> Option<Subscription> {
        let at = self
            .list
            .iter()
            .position(|known| known.identifier == *identifier)?;
        let removed = self.list.swap_remove(at);
        self.guarded -= usize::from(removed.is_guarded());
        self.unflushed -=
            usize::from(removed.confirmed_by.is_some() && removed.confirmed_at.is_none());
        Some(removed)
    }

    pub(crate) fn take_all(&mut self) -> Vec<Subscription> {
        std::mem::take(self).list
    }
}
