//! A publication as an event: nobody who publishes can write a second event
//! into a stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{
    Epoch, Identifier, Offset, Payload, Position, StreamName, action_cable::reply, sse::EventWriter,
};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut parts = text.splitn(4, '\u{1f}');
    let mut next = || parts.next().unwrap_or_default();
    let (stream, identifier, kind, message) = (next(), next(), next(), next());
    let Ok(identifier) = Identifier::try_new(identifier) else {
        return;
    };
    let stream = StreamName::try_new(stream).ok();
    let position = Position {
        epoch: Epoch::new("e"),
        offset: Offset::new(7),
    };
    let position = stream.as_ref().map(|stream| (stream, &position));
    let payload = Payload::from_text(message);
    let frame = reply::message(&identifier, &payload, Some(kind), position);
    // Not as values: a number may be larger than any that those can hold.
    let json = frame.json();
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(&json).expect("a frame is JSON");
    let told: String = serde_json::from_str(members["identifier"].get()).expect("it is text");
    assert_eq!(told, identifier.as_str());
    for writer in [
        EventWriter::unwrapping(&identifier, false),
        EventWriter::unwrapping(&identifier, true),
        EventWriter::whole(false),
    ] {
        let mut out = Vec::new();
        writer.push(&frame, &mut out);
        let out = str::from_utf8(&out).expect("an event is text");
        let Some(lines) = out.strip_suffix("\n\n") else {
            assert!(out.is_empty(), "{out:?}");
            continue;
        };
        for line in lines.split(['\n', '\r']) {
            let field = line.split_once(": ").expect("a line is a field").0;
            assert!(["data", "event", "id", "retry"].contains(&field), "{out:?}");
        }
    }
});
