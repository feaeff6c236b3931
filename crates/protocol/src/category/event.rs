//! Events as clients and files have them:
//! `{"timestamp":1616040198889,"category":"a","data":…,"id":"…"}`.

use super::{EventId, Place};
use crate::{
    json::{self, Shape},
    names::StreamName,
    payload::Payload,
};
use bytes::Bytes;
use serde_json::value::RawValue;

const BEFORE_TIMESTAMP: &[u8] = b"{\"timestamp\":";
const BEFORE_CATEGORY: &[u8] = b",\"category\":";
const BEFORE_DATA: &[u8] = b",\"data\":";
const BEFORE_ID: &[u8] = b",\"id\":\"";
const END: &[u8] = b"\"}";

/// The length of a canonical UUID.
const ID_LENGTH: usize = 36;

/// An encoded event. A clone shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it stands.
    pub place: Place,
    /// Its JSON text.
    pub json: Bytes,
}

impl Event {
    /// The event of a publication at `time`, in microseconds since 1970.
    pub fn of(stream: &StreamName, data: &Payload, time: u64) -> Self {
        Self::encode(stream, data, time, EventId::of(stream, time))
    }

    /// The event of a publication that has no place in its stream.
    pub fn live(stream: &StreamName, data: &Payload, time: u64, random: u64) -> Self {
        Self::encode(stream, data, time, EventId::live(time, random))
    }

    fn encode(stream: &StreamName, data: &Payload, time: u64, id: EventId) -> Self {
        let data = data.as_bytes();
        let timestamp = millis(time);
        let mut json = Vec::with_capacity(96 + json::string_len(stream.as_str()) + data.len());
        push_timestamp(&mut json, timestamp);
        json.extend_from_slice(BEFORE_CATEGORY);
        push_category(&mut json, stream.as_str());
        json.extend_from_slice(BEFORE_DATA);
        json.extend_from_slice(data);
        json.extend_from_slice(BEFORE_ID);
        json.extend_from_slice(id.to_string().as_bytes());
        json.extend_from_slice(END);
        Self {
            place: Place { timestamp, id },
            json: json.into(),
        }
    }

    /// Reads back what was encoded here; `None` if it was not.
    pub fn decode(json: Bytes) -> Option<Self> {
        let (digits, _) = split_timestamp(&json)?;
        let timestamp = str::from_utf8(digits).ok()?.parse().ok()?;
        let tail = json.strip_suffix(END)?;
        let (_, id) = tail.split_at_checked(tail.len().checked_sub(ID_LENGTH)?)?;
        let id = EventId::parse(id)?;
        Some(Self {
            place: Place { timestamp, id },
            json,
        })
    }

    /// The same event at another time.
    #[must_use]
    pub fn at(self, timestamp: i64) -> Self {
        let Some((_, rest)) = split_timestamp(&self.json) else {
            return self;
        };
        let mut json = Vec::with_capacity(self.json.len() + 4);
        push_timestamp(&mut json, timestamp);
        json.extend_from_slice(rest);
        Self {
            place: Place {
                timestamp,
                id: self.place.id,
            },
            json: json.into(),
        }
    }
}

/// Microseconds as events tell the time.
fn millis(time: u64) -> i64 {
    i64::try_from(time / 1_000).unwrap_or(i64::MAX)
}

fn push_timestamp(out: &mut Vec<u8>, timestamp: i64) {
    out.extend_from_slice(BEFORE_TIMESTAMP);
    out.extend_from_slice(timestamp.to_string().as_bytes());
}

/// Go's encoder writes these letters as escapes, so that JSON can stand in a page.
fn push_category(out: &mut Vec<u8>, category: &str) {
    let escapes = ['<', '>', '&', '\u{2028}', '\u{2029}'];
    if !category.contains(escapes) {
        return json::push_string(out, category);
    }
    let mut quoted = Vec::with_capacity(json::string_len(category));
    json::push_string(&mut quoted, category);
    for letter in String::from_utf8_lossy(&quoted).chars() {
        if escapes.contains(&letter) {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes());
        } else {
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// The digits of an event's time, and what follows them.
fn split_timestamp(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = json.strip_prefix(BEFORE_TIMESTAMP)?;
    let end = rest.iter().position(|byte| *byte == b',')?;
    rest.split_at_checked(end)
}

/// An event read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its category.
    pub stream: StreamName,
    /// What was published.
    pub data: Payload,
    /// Microseconds since 1970: exact if we gave the event its id, else as exact as its timestamp.
    pub time: u64,
}

/// Why a line is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an event")]
pub struct StoredEventError;

impl StoredEvent {
    /// Reads an event in whatever layout; one without an id is of an old golongpoll.
    pub fn parse(line: &[u8]) -> Result<Self, StoredEventError> {
        let line = str::from_utf8(line).map_err(|_| StoredEventError)?;
        if Shape::of(line) != Shape::Object {
            return Err(StoredEventError);
        }
        let (mut timestamp, mut category, mut data, mut id) = (None, None, None, None);
        let fields = json::fields(line, |key, value: &RawValue| match key {
            "timestamp" => timestamp = value.get().parse::<u64>().ok(),
            "category" => category = json::text(value).ok(),
            "data" => data = Some(Payload::from_raw(value)),
            "id" => id = json::text(value).ok(),
            _ => {}
        });
        let (Ok(()), Some(timestamp), Some(category), Some(data)) =
            (fields, timestamp, category, data)
        else {
            return Err(StoredEventError);
        };
        let stream = StreamName::try_new(&category).map_err(|_| StoredEventError)?;
        let exact = id
            .and_then(|id| EventId::parse(id.as_bytes())?.time_in(&stream))
            .filter(|time| time / 1_000 == timestamp);
        let time = match exact {
            Some(time) => time,
            None => timestamp.checked_mul(1_000).ok_or(StoredEventError)?,
        };
        Ok(Self { stream, data, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamName {
        StreamName::try_new("foo\"<é>").unwrap()
    }

    fn text(event: &Event) -> &str {
        str::from_utf8(&event.json).unwrap()
    }

    #[test]
    fn the_keys_have_their_order_and_nothing_is_between_them() {
        let data = Payload::from_text(r#"{"a":[1.0, "x"]}"#);
        let event = Event::of(&stream(), &data, 1_616_040_198_889_123);
        let id = event.place.id;
        assert_eq!(
            text(&event),
            format!(
                r#"{{"timestamp":1616040198889,"category":"foo\"\u003cé\u003e","data":{{"a":[1.0, "x"]}},"id":"{id}"}}"#
            )
        );
        assert_eq!(Event::decode(event.json.clone()), Some(event.clone()));
        let stored = StoredEvent::parse(&event.json).unwrap();
        assert_eq!(
            (stored.stream, stored.data, stored.time),
            (stream(), data, 1_616_040_198_889_123)
        );
        let later = event.at(17);
        assert!(text(&later).starts_with(r#"{"timestamp":17,"category""#));
        assert_eq!(Event::decode(later.json.clone()), Some(later));
    }

    #[test]
    fn foreign_lines_are_read_too() {
        for (line, time) in [
            (
                r#"{"timestamp":5,"category":"a","data":null,"id":"7c17587a-3437-4861-bef7-8f29905589e4"}"#,
                5_000,
            ),
            (r#" {"data":1,"category":"a","x":2,"timestamp":6} "#, 6_000),
        ] {
            assert_eq!(StoredEvent::parse(line.as_bytes()).unwrap().time, time);
        }
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"timestamp":5,"category":"a"}"#,
            r#"{"timestamp":-5,"category":"a","data":1}"#,
            r#"{"timestamp":5,"category":"","data":1}"#,
            r#"{"timestamp":5,"category":7,"data":1}"#,
            r#"{"timestamp":18446744073709551615,"category":"a","data":1}"#,
            r#"{"timestamp":5,"category":"a","data":1"#,
            "\u{fffd}",
        ] {
            assert_eq!(
                StoredEvent::parse(bad.as_bytes()),
                Err(StoredEventError),
                "{bad}"
            );
        }
        assert!(StoredEvent::parse(b"\xff").is_err());
        assert_eq!(Event::decode(Bytes::from_static(b"{}")), None);
    }
}
