//! What must hold for any message of a room: parsers never panic, and what was written is read
//! back.

use pollux_protocol::{Payload, RoomMessage, SendRequest, StreamName};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Pieces that parsers look for, in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"\"type\":",
        b"\"payload\":",
        b"\"room\":",
        b"\"a\"",
        b"\\",
        b"\"",
        b"//",
        b"/*",
        b"*/",
        b",",
        b"null",
        b"\n",
        b"\xff",
        b"\xc3\xa9",
    ];
    let piece = select(pieces);
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn message() -> impl Strategy<Value = RoomMessage> {
    let payload = (".*", ".*").prop_map(|(key, value)| {
        Payload::from_text(&serde_json::json!({ key: [value], "n": 1.5 }).to_string())
    });
    (".*", ".+", payload, ".*", ".*", ".+").prop_map(|(id, kind, payload, room, ts, topic)| {
        RoomMessage {
            id,
            kind,
            payload,
            room,
            ts,
            topic,
        }
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop_oneof![vec(any::<u8>(), 0..100), soup()]) {
        if let Ok(request) = SendRequest::parse(&bytes) {
            prop_assert!(!request.message.topic.is_empty());
        }
        if let Some(message) = RoomMessage::parse(&bytes) {
            let read = RoomMessage::parse(&message.to_json());
            prop_assert_eq!(read, Some(message));
        }
    }

    #[test]
    fn a_message_is_read_back_through_every_way(message in message()) {
        prop_assert_eq!(RoomMessage::parse(&message.to_json()), Some(message.clone()));
        let sent = SendRequest::parse(&message.to_json()).expect("a message");
        prop_assert_eq!(&sent.message, &message);
        let stream = StreamName::try_new("s").expect("a name");
        prop_assert_eq!(RoomMessage::of(&message.to_publication(stream)), message.clone());
        let frame = RoomMessage::parse(&message.to_frame()).expect("a typed message");
        prop_assert_eq!(frame.payload, message.payload);
    }
}
