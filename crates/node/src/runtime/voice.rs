//! How a publication is put for those who listen.
//!
//! A session behind a door that does not speak Action Cable is a session like
//! any other; what it listens under is one of the names here. No client can
//! choose them: no identifier that names a stream begins with a control
//! character. As for every identifier, the frame is encoded once and shared.

use pollux_protocol::{
    Frame, Identifier, Position, Publication, RoomMessage, action_cable::reply, category::Event,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// A request that waits until there is something to take: it is told only that
/// there may be something, but for what can't be taken because it has no
/// position. See [`reader_frame`].
pub(crate) const READER: &str = "\u{1}reader";

/// A socket in a room. The room's stream follows, because a session listens
/// under a name once.
pub(crate) const ROOM: &str = "\u{1}room:";

/// A request that waits for the next event of a category; the frame is that
/// event. Followed by anything where one request waits for several.
pub(crate) const CATEGORY: &str = "\u{1}category";

/// What a reader is told when it should look.
const NUDGE: &[u8] = b"{}";

/// The frame for those who listen under `identifier`. `placed` is the
/// publication's position and its time in microseconds.
pub(super) fn frame(
    identifier: &Identifier,
    publication: &Publication,
    placed: Option<(&Position, u64)>,
) -> Frame {
    match identifier.as_str() {
        READER => reader_frame(publication, placed.is_some()),
        room if room.starts_with(ROOM) => Frame::from_json(RoomMessage::of(publication).to_frame()),
        name if name.starts_with(CATEGORY) => category_frame(publication, placed),
        _ => {
            let kind = publication.meta.broadcast_type.as_deref();
            let place = placed.map(|(position, _)| (&publication.stream, position));
            reply::message(identifier, &publication.data, kind, place)
        }
    }
}

/// Whether this one waits to take something, or for what may come back.
pub(super) fn is_reader(identifier: &Identifier) -> bool {
    identifier.as_str() == READER || identifier.as_str().starts_with(CATEGORY)
}

/// Whether a frame says no more than that something may have come back.
pub(crate) fn is_nudge(frame: &Frame) -> bool {
    frame.json().as_ref() == NUDGE
}

/// Tells a reader to look.
pub(super) fn nudge() -> Frame {
    Frame::from_json(NUDGE.to_vec())
}

/// `{}` for what can be taken, the whole publication in its wire form for what
/// can't: whoever waits gets it now or never.
fn reader_frame(publication: &Publication, can_be_taken: bool) -> Frame {
    if can_be_taken {
        nudge()
    } else {
        Frame::from_json(publication.to_json())
    }
}

/// What a category's pollers get.
fn category_frame(publication: &Publication, placed: Option<(&Position, u64)>) -> Frame {
    let Publication { stream, data, .. } = publication;
    let event = match placed {
        Some((_, time)) => Event::of(stream, data, time),
        None => Event::live(stream, data, micros(), random()),
    };
    Frame::from_json(event.json.to_vec())
}

/// Microseconds since 1970.
pub(crate) fn micros() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// Tells events of one moment apart; zero where the system has no randomness.
fn random() -> u64 {
    let mut random = [0; 8];
    match getrandom::fill(&mut random) {
        Ok(()) => u64::from_be_bytes(random),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollux_protocol::{Inbound, Meta, Offset, Payload, StreamName};

    fn publication() -> Publication {
        Publication {
            stream: StreamName::try_new("a").unwrap(),
            data: Payload::from_text("1\n"),
            meta: Meta::default(),
        }
    }

    #[test]
    fn a_reader_is_told_to_look_or_gets_what_it_could_not_take() {
        let reader = Identifier::try_new(READER).unwrap();
        let position = Position {
            epoch: pollux_protocol::Epoch::new("e"),
            offset: Offset::new(1),
        };
        let there = frame(&reader, &publication(), Some((&position, 5)));
        assert_eq!(there.json().as_ref(), NUDGE);
        let live = frame(&reader, &publication(), None);
        let Ok(Inbound::Publications(read)) = Inbound::parse(&live.json()) else {
            panic!("it can't be read back");
        };
        assert_eq!(read, [publication()]);
    }

    #[test]
    fn pollers_of_a_category_get_the_event_itself() {
        let position = Position {
            epoch: pollux_protocol::Epoch::new("e"),
            offset: Offset::new(1),
        };
        for name in [CATEGORY.to_owned(), format!("{CATEGORY}1")] {
            let poller = Identifier::try_new(&name).unwrap();
            let placed = frame(&poller, &publication(), Some((&position, 5_001)));
            let event = Event::decode(placed.json()).unwrap();
            let expected = Event::of(&publication().stream, &publication().data, 5_001);
            assert_eq!(event, expected);
            let live = Event::decode(frame(&poller, &publication(), None).json()).unwrap();
            assert!(live.place.id.is_live() && live.place.timestamp > 1_600_000_000_000);
            assert!(is_reader(&poller) && is_nudge(&nudge()));
        }
    }
}
