//! Who is present, as the extended protocol says it.

use serde_json::value::RawValue;

use crate::json::{self, Shape};
use crate::payload::Payload;

/// The `type` of frames that tell of presence.
pub const BROADCAST_TYPE: &str = "presence";

/// The longest id of somebody present, in bytes.
const ID_MAX: usize = 512;

/// What a client says of itself when it wants to be present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceRequest {
    /// What the application calls it. Several sessions may have the same.
    pub id: String,
    /// Anything the others should know: JSON, `null` if nothing was said.
    pub info: Payload,
}

impl PresenceRequest {
    /// Reads `{"id":"…","info":…}`; a number is an id too. `None` for anything else.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        let (mut id, mut info) = (None, None);
        if Shape::of(raw.get()) != Shape::Object {
            return None;
        }
        json::fields(raw.get(), |key, value| match key {
            "id" => id = Some(value),
            "info" => info = Some(value),
            _ => {}
        })
        .ok()?;
        let id = id?;
        let id = match Shape::of(id.get()) {
            Shape::String => json::text(id).ok()?.into_owned(),
            Shape::Number => json::trim(id.get()).to_owned(),
            _ => return None,
        };
        if id.is_empty() || id.len() > ID_MAX {
            return None;
        }
        let info = info.map_or_else(Payload::null, Payload::from_raw);
        Some(Self { id, info })
    }

    /// What the others are told when the first session of this id comes.
    #[must_use]
    pub fn joined(&self) -> Payload {
        let mut event = b"{\"id\":".to_vec();
        json::push_string(&mut event, &self.id);
        event.extend_from_slice(b",\"info\":");
        event.extend_from_slice(self.info.as_bytes());
        event.extend_from_slice(b",\"type\":\"join\"}");
        Payload::from_valid(event)
    }
}

/// What the others are told when the last session of an id is gone.
#[must_use]
pub fn left(id: &str) -> Payload {
    let mut event = b"{\"id\":".to_vec();
    json::push_string(&mut event, id);
    event.extend_from_slice(b",\"type\":\"leave\"}");
    Payload::from_valid(event)
}

/// The answer to a client, or to a backend, that asks who is present. Without records only their
/// number is told.
#[must_use]
pub fn info<'a>(
    records: impl ExactSizeIterator<Item = (&'a str, &'a Payload)>,
    whole: bool,
) -> Payload {
    let mut message = format!("{{\"type\":\"info\",\"total\":{}", records.len()).into_bytes();
    let mut before: &[u8] = b",\"records\":[";
    if whole {
        for (id, info) in records {
            message.extend_from_slice(before);
            message.extend_from_slice(b"{\"info\":");
            message.extend_from_slice(info.as_bytes());
            message.extend_from_slice(b",\"id\":");
            json::push_string(&mut message, id);
            message.push(b'}');
            before = b",";
        }
    }
    message.extend_from_slice(if before == b"," { b"]}" } else { b"}" });
    Payload::from_valid(message)
}

/// The answer where nobody can be present.
#[must_use]
pub fn error() -> Payload {
    Payload::from_valid(b"{\"type\":\"error\",\"total\":0}".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Option<PresenceRequest> {
        PresenceRequest::read(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_request_has_an_id() {
        let read = request(r#"{"id":"42","info":{"name":"Vova"}}"#).unwrap();
        assert_eq!(read.id, "42");
        assert_eq!(read.info.as_str(), r#"{"name":"Vova"}"#);
        assert_eq!(request(r#"{"id":42}"#).unwrap().id, "42");
        assert_eq!(request(r#"{"id":42}"#).unwrap().info.as_str(), "null");
        for none in [
            "{}",
            "[]",
            "1",
            r#"{"id":""}"#,
            r#"{"id":null}"#,
            r#"{"id":{}}"#,
        ] {
            assert_eq!(request(none), None, "{none}");
        }
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(ID_MAX + 1));
        assert_eq!(request(&long), None);
    }

    #[test]
    fn events_are_anycables() {
        let read = request(r#"{"id":"4\"2","info":{"name":"Vova"}}"#).unwrap();
        let joined = r#"{"id":"4\"2","info":{"name":"Vova"},"type":"join"}"#;
        assert_eq!(read.joined().as_str(), joined);
        assert_eq!(left("42").as_str(), r#"{"id":"42","type":"leave"}"#);
        let records = [("42", &read.info), ("1", &read.info)];
        assert_eq!(
            info(records.into_iter(), true).as_str(),
            r#"{"type":"info","total":2,"records":[{"info":{"name":"Vova"},"id":"42"},{"info":{"name":"Vova"},"id":"1"}]}"#
        );
        assert_eq!(
            info(records.into_iter(), false).as_str(),
            r#"{"type":"info","total":2}"#
        );
        assert_eq!(
            info([].into_iter(), true).as_str(),
            r#"{"type":"info","total":0}"#
        );
    }
}
