//! Frames as server-sent events (WHATWG HTML, "Server-sent events"), in AnyCable's manner: a typed
//! frame is an event of that name, a publication has none, and its position is the event's id.

use serde_json::value::RawValue;

use crate::frame::Frame;
use crate::json;
use crate::names::{Identifier, StreamName};
use crate::position::{Epoch, Offset, Position};

/// A delay no client waits for, in milliseconds: the client is not to come back.
const NEVER: u64 = 31_536_000_000;

/// What stands before a publication's position.
const PLACE: &[u8] = b",\"stream_id\":";

/// How the frames of one response are written.
#[derive(Debug, Clone)]
pub struct EventWriter {
    /// What an untyped frame of the one identifier begins with; if there are several identifiers,
    /// frames are written whole.
    prefix: Option<Vec<u8>>,
    /// Only publications without a type are written.
    raw: bool,
}

impl EventWriter {
    /// Writes the publications of one identifier as they were published.
    pub fn unwrapping(identifier: &Identifier, raw: bool) -> Self {
        let mut prefix = b"{\"identifier\":".to_vec();
        json::push_string(&mut prefix, identifier.as_str());
        prefix.extend_from_slice(b",\"message\":");
        Self {
            prefix: Some(prefix),
            raw,
        }
    }

    /// Writes frames whole, because they belong to several identifiers.
    pub const fn whole(raw: bool) -> Self {
        Self { prefix: None, raw }
    }

    /// Appends the event of a frame, if there is one to tell.
    pub fn push(&self, frame: &Frame, out: &mut Vec<u8>) {
        let json = frame.json();
        if let Some(kind) = kind_of(&json) {
            if self.raw {
                return;
            }
            field(out, b"event", kind);
            field(out, b"data", &json);
            if kind == b"disconnect" && json.ends_with(b"\"reconnect\":false}") {
                field(out, b"retry", NEVER.to_string().as_bytes());
            }
            out.push(b'\n');
            return;
        }
        let (message, place) = split(&json);
        let message = self
            .prefix
            .as_deref()
            .and_then(|prefix| message.strip_prefix(prefix));
        match message.and_then(|message| str::from_utf8(message).ok()) {
            None => field(out, b"data", &json),
            Some(message) => data(out, message),
        }
        // None of these may stand in an id.
        let id = place.filter(|id| !id.contains(['\0', '\n', '\r']));
        if let Some(id) = id {
            field(out, b"id", id.as_bytes());
        }
        out.push(b'\n');
    }
}

/// The position that a `Last-Event-ID` names, for a client of `stream`: `offset/epoch/stream`, as
/// it is written here, or `offset/stream/epoch`, as AnyCable's documents have it.
pub fn last_event_id(id: &str, stream: &StreamName) -> Option<Position> {
    let (offset, rest) = id.split_once('/')?;
    let name = stream.as_str();
    let epoch = rest
        .strip_suffix(name)
        .and_then(|epoch| epoch.strip_suffix('/'))
        .or_else(|| rest.strip_prefix(name)?.strip_prefix('/'))?;
    if epoch.is_empty() || epoch.contains('/') {
        return None;
    }
    Some(Position {
        epoch: Epoch::new(epoch),
        offset: Offset::new(offset.parse().ok()?),
    })
}

/// Stream and position of a `Last-Event-ID` as it is written here, for a client whose streams are
/// not known yet. The other form can't be told apart from this one.
pub fn place_of_event_id(id: &str) -> Option<(StreamName, Position)> {
    let (_, rest) = id.split_once('/')?;
    let (_, stream) = rest.split_once('/')?;
    let stream = StreamName::try_new(stream).ok()?;
    let position = last_event_id(id, &stream)?;
    Some((stream, position))
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The payload as data lines. A string is written as its text, which may have several lines.
fn data(out: &mut Vec<u8>, message: &str) {
    let text = serde_json::from_str::<&RawValue>(message)
        .ok()
        .and_then(|raw| json::text(raw).ok());
    let Some(text) = text else {
        return field(out, b"data", message.as_bytes());
    };
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    for line in text.split('\n') {
        field(out, b"data", line.as_bytes());
    }
}

/// The type of a frame that has one.
fn kind_of(json: &[u8]) -> Option<&[u8]> {
    let rest = json.strip_prefix(b"{\"type\":\"")?;
    let end = rest.iter().position(|&byte| byte == b'"')?;
    // A type with an escape in it can't be an event's name.
    rest.get(..end).filter(|kind| !kind.contains(&b'\\'))
}

/// A publication's frame without its position and closing brace, and the position as an id.
fn split(json: &[u8]) -> (&[u8], Option<String>) {
    let without_brace = json.strip_suffix(b"}").unwrap_or(json);
    let Some(at) = json
        .windows(PLACE.len())
        .rposition(|window| window == PLACE)
    else {
        return (without_brace, None);
    };
    let (message, place) = json.split_at(at);
    // Inside of a payload the same text would be followed by more than its own closing brace.
    match id_of(place) {
        Some(id) => (message, Some(id)),
        None => (without_brace, None),
    }
}

/// `,"stream_id":"…","epoch":"…","offset":7}` as an event's id.
fn id_of(place: &[u8]) -> Option<String> {
    let members = str::from_utf8(place.strip_prefix(b",")?).ok()?;
    let object = format!("{{{members}");
    let (mut stream, mut epoch, mut offset) = (None, None, None);
    json::fields(&object, |key, value| match key {
        "stream_id" => stream = json::text(value).ok().map(|text| text.into_owned()),
        "epoch" => epoch = json::text(value).ok().map(|text| text.into_owned()),
        "offset" => offset = value.get().parse::<u64>().ok(),
        _ => {}
    })
    .ok()?;
    Some(format!("{}/{}/{}", offset?, epoch?, stream?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action_cable::{DisconnectReason, reply};
    use crate::payload::Payload;

    fn stream(name: &str) -> StreamName {
        StreamName::try_new(name).unwrap()
    }

    fn position(offset: u64) -> Position {
        Position {
            epoch: Epoch::new("e1"),
            offset: Offset::new(offset),
        }
    }

    fn written(writer: &EventWriter, frame: &Frame) -> String {
        let mut out = Vec::new();
        writer.push(frame, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn message(data: &str, place: Option<(&StreamName, &Position)>) -> String {
        let identifier = Identifier::try_new("{\"channel\":\"C\"}").unwrap();
        let frame = reply::message(&identifier, &Payload::from_text(data), None, place);
        written(&EventWriter::unwrapping(&identifier, false), &frame)
    }

    #[test]
    fn typed_frames_are_events_of_that_name() {
        let writer = EventWriter::whole(false);
        assert_eq!(
            written(&writer, &reply::welcome("s1")),
            "event: welcome\ndata: {\"type\":\"welcome\",\"sid\":\"s1\"}\n\n"
        );
        let farewell = reply::disconnect(DisconnectReason::Remote, false);
        assert!(written(&writer, &farewell).ends_with("\nretry: 31536000000\n\n"));
        let farewell = reply::disconnect(DisconnectReason::Remote, true);
        assert!(!written(&writer, &farewell).contains("retry"));
        assert_eq!(written(&EventWriter::whole(true), &reply::pong()), "");
    }

    #[test]
    fn publications_are_unwrapped_and_keep_their_position() {
        let chat = stream("chat/42");
        assert_eq!(
            message("{\"text\":\"hi\"}", Some((&chat, &position(7)))),
            "data: {\"text\":\"hi\"}\nid: 7/e1/chat/42\n\n"
        );
        assert_eq!(message("1.10", None), "data: 1.10\n\n");
        assert_eq!(message("plain", None), "data: plain\n\n");
        assert_eq!(
            message("two\r\nlines\rand\nmore", None),
            "data: two\ndata: lines\ndata: and\ndata: more\n\n"
        );
    }

    #[test]
    fn a_payload_that_looks_like_a_position_is_none() {
        let sly = "{\"a\":1,\"stream_id\":\"x\",\"epoch\":\"e\",\"offset\":5}";
        assert_eq!(message(sly, None), format!("data: {sly}\n\n"));
        let chat = stream("s");
        assert_eq!(
            message(sly, Some((&chat, &position(9)))),
            format!("data: {sly}\nid: 9/e1/s\n\n")
        );
    }

    #[test]
    fn several_identifiers_are_told_apart_by_whole_frames() {
        let identifier = Identifier::try_new("i").unwrap();
        let (data, chat) = (Payload::from_text("1"), stream("s"));
        let frame = reply::message(&identifier, &data, None, Some((&chat, &position(2))));
        let json = String::from_utf8(frame.json().to_vec()).unwrap();
        assert_eq!(
            written(&EventWriter::whole(false), &frame),
            format!("data: {json}\nid: 2/e1/s\n\n")
        );
    }

    #[test]
    fn both_orders_of_an_id_are_understood() {
        let chat = stream("chat/42");
        for id in ["7/e1/chat/42", "7/chat/42/e1"] {
            assert_eq!(last_event_id(id, &chat), Some(position(7)), "{id}");
        }
        for id in [
            "",
            "7",
            "7/e1",
            "x/e1/chat/42",
            "7/e1/other",
            "7//chat/42",
            "-1/e1/chat/42",
        ] {
            assert_eq!(last_event_id(id, &chat), None, "{id}");
        }
        let deep = StreamName::try_new("a/b/c").unwrap();
        let read = place_of_event_id("7/e1/a/b/c");
        assert_eq!(read, Some((deep, position(7))));
        for id in ["", "7", "7/e", "7/e/", "x/e/a", "7//a"] {
            assert_eq!(place_of_event_id(id), None, "{id}");
        }
    }

    #[test]
    fn an_id_never_breaks_the_format() {
        let odd = stream("a\nb");
        assert_eq!(message("1", Some((&odd, &position(1)))), "data: 1\n\n");
    }
}
