//! Messages of rooms: from sockets, from bodies, and as publications.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{
    Meta, Payload, Publication, RoomMessage, SendRequest, StreamName, room::text_object,
};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = SendRequest::parse(data) {
        assert!(!request.message.topic.is_empty());
        let _ = request.message.field("payload.user");
    }
    if let Some(message) = RoomMessage::parse(data) {
        assert_eq!(
            RoomMessage::parse(&message.to_json()),
            Some(message.clone())
        );
        let with = RoomMessage::new("t", message.payload_with(&[("room", "r"), ("user", "u")]));
        assert!(RoomMessage::parse(&with.to_frame()).is_some());
    }
    if let Ok(text) = str::from_utf8(data) {
        let publication = Publication {
            stream: StreamName::try_new("room:a").expect("a name"),
            data: Payload::from_text(text),
            meta: Meta::default(),
        };
        assert!(RoomMessage::parse(&RoomMessage::of(&publication).to_frame()).is_some());
        let object = text_object(&[("text", text)]);
        assert_eq!(
            RoomMessage::new("t", object)
                .field("payload.text")
                .is_none(),
            text.is_empty()
        );
    }
});
