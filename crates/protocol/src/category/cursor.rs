//! Where a client stands.

use super::EventId;

/// Where an event stands: the order of events is that of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Tells events of one millisecond apart.
    pub id: EventId,
}

/// What a client has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Milliseconds since 1970: of its last event, or any.
    pub since: i64,
    /// Its last event, which counts only if it happened at `since`.
    pub last: Option<EventId>,
}

impl Cursor {
    /// Whether the client has not seen this event, as far as one event can tell.
    pub fn is_before(&self, place: Place) -> bool {
        place.timestamp > self.since
            || (place.timestamp == self.since && self.last.is_some_and(|last| last != place.id))
    }

    /// How many of these events, oldest first, the client has seen: those up to the last one that
    /// is not after the cursor. Without its last event's id, a client is taken to have seen all of
    /// that millisecond; with one that is not among them, none.
    pub fn seen(
        &self,
        places: impl DoubleEndedIterator<Item = Place> + ExactSizeIterator,
    ) -> usize {
        let count = places.len();
        let unseen = places.rev().take_while(|place| self.is_before(*place));
        count - unseen.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::StreamName;

    /// The table of three events a, b and c in one millisecond.
    #[test]
    fn events_of_one_millisecond_are_told_apart() {
        let stream = StreamName::try_new("s").unwrap();
        let t: u64 = 1_616_040_198_889;
        let id = |micros: u64| EventId::of(&stream, t * 1_000 + micros);
        let t = i64::try_from(t).unwrap();
        let (a, b, c) = (id(1), id(2), id(3));
        let unknown = EventId::live(0, 0);
        let places = [a, b, c].map(|id| Place { timestamp: t, id });
        for (since, last, expected) in [
            (t, None, 3),
            (t, Some(a), 1),
            (t, Some(b), 2),
            (t, Some(c), 3),
            (t, Some(unknown), 0),
            (t - 1, Some(c), 0),
            (t - 1, None, 0),
            (t + 1, Some(a), 3),
            (0, None, 0),
            (-1, None, 0),
            (i64::MIN, None, 0),
            (i64::MAX, None, 3),
        ] {
            let cursor = Cursor { since, last };
            assert_eq!(cursor.seen(places.into_iter()), expected, "{cursor:?}");
        }
    }
}
