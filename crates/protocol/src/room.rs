//! Messages of rooms: a type, a payload, and where they belong.

mod comments;

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::{self, Shape};
use crate::names::StreamName;
use crate::payload::Payload;
use crate::publication::Publication;

/// The `kind` of a message that has none.
const EVENT: &str = "event";

/// The `type` of what was published by somebody who knows no rooms.
const FOREIGN: &str = "message";

/// What the stream of a room's name begins with, unless the operator says otherwise.
pub const ROOM_PREFIX: &str = "room:";

/// One message. Texts that are empty count as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomMessage {
    /// Given by the sender, and kept.
    pub id: String,
    /// What sort of message it is; `event` if the sender does not say.
    pub kind: String,
    /// The payload: a JSON object as the sender wrote it.
    pub payload: Payload,
    /// The room it is for.
    pub room: String,
    /// The sender's time, and kept.
    pub ts: String,
    /// What it is about. Never empty in a message that was parsed.
    pub topic: String,
}

/// A message, and for whom its sender wants it kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// The message.
    pub message: RoomMessage,
    /// The polling session it is for, if named.
    pub session: Option<String>,
}

/// Why a body is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// It is not JSON.
    #[error("invalid JSON body")]
    Syntax,
    /// It is empty, or other JSON.
    #[error("JSON body must be an object")]
    NotAnObject,
    /// It has no type, or an empty one.
    #[error("missing 'type' field")]
    NoType,
    /// This field is not a string.
    #[error("'{0}' must be a string")]
    NotText(&'static str),
}

/// The fields we know of one object.
#[derive(Default)]
struct Fields<'a> {
    texts: [Option<&'a RawValue>; NAMES.len()],
    payload: Option<&'a RawValue>,
    /// Whether it has others.
    others: bool,
}

/// The fields that hold strings.
const NAMES: [&str; 6] = ["id", "kind", "room", "ts", "type", "session_id"];

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, RoomError> {
        let mut known = Self::default();
        let read = json::fields(text, |key, value| {
            let name = NAMES.iter().position(|name| *name == key);
            match name.and_then(|name| known.texts.get_mut(name)) {
                Some(slot) => *slot = Some(value),
                None if key == "payload" => known.payload = Some(value),
                None => known.others = true,
            }
        });
        match read {
            Ok(()) => Ok(known),
            Err(_) if Shape::of(text) == Shape::Object => Err(RoomError::Syntax),
            Err(_) if json::trim(text).is_empty() => Err(RoomError::NotAnObject),
            Err(_) if json::is_valid(text) => Err(RoomError::NotAnObject),
            Err(_) => Err(RoomError::Syntax),
        }
    }

    /// The message, and the session it names.
    fn message(&self) -> Result<SendRequest, RoomError> {
        let mut texts: [String; NAMES.len()] = Default::default();
        for ((raw, text), name) in self.texts.iter().zip(&mut texts).zip(NAMES) {
            if let Some(raw) = raw {
                let read = json::text(raw).map_err(|_| RoomError::NotText(name))?;
                *text = read.into_owned();
            }
        }
        let [id, kind, room, ts, topic, session] = texts;
        if topic.is_empty() {
            return Err(RoomError::NoType);
        }
        let payload = self
            .payload
            .filter(|raw| Shape::of(raw.get()) == Shape::Object);
        let kind = match kind.is_empty() {
            true => EVENT.to_owned(),
            false => kind,
        };
        Ok(SendRequest {
            message: RoomMessage {
                id,
                kind,
                payload: payload.map_or_else(empty, Payload::from_raw),
                room,
                ts,
                topic,
            },
            session: Some(session).filter(|session| !session.is_empty()),
        })
    }
}

impl SendRequest {
    /// Reads the body of a request. Comments (`//`, `/* */`) between tokens are passed over.
    pub fn parse(body: &[u8]) -> Result<Self, RoomError> {
        let text = str::from_utf8(body).map_err(|_| RoomError::Syntax)?;
        let text = comments::without(text);
        Fields::read(&text)?.message()
    }
}

impl RoomMessage {
    /// A message of the server's own.
    #[must_use]
    pub fn new(topic: &str, payload: Payload) -> Self {
        Self {
            id: String::new(),
            kind: String::new(),
            payload,
            room: String::new(),
            ts: String::new(),
            topic: topic.to_owned(),
        }
    }

    /// Reads what came through a socket; `None` if it is no typed message.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let text = str::from_utf8(frame).ok()?;
        let mut fields = Fields::read(text).ok()?;
        // No field of messages that come through sockets.
        if let Some(session) = fields.texts.last_mut() {
            *session = None;
        }
        Some(fields.message().ok()?.message)
    }

    /// A publication as a message: the message it was made of, or else one with the publication's
    /// data as its payload.
    pub fn of(publication: &Publication) -> Self {
        let data = publication.data.as_str();
        let kind = publication.meta.broadcast_type.as_deref();
        let as_message = || {
            let fields = Fields::read(data).ok().filter(|fields| !fields.others)?;
            let is_object = |raw: &RawValue| Shape::of(raw.get()) == Shape::Object;
            let fits = fields.payload.is_none_or(is_object);
            Some(fields.message().ok().filter(|_| fits)?.message)
        };
        as_message().unwrap_or_else(|| {
            let room = publication.stream.as_str().strip_prefix(ROOM_PREFIX);
            let payload = match Shape::of(data) {
                Shape::Object => publication.data.clone(),
                _ => Payload::from_valid(format!("{{\"data\":{data}}}").into_bytes()),
            };
            Self {
                kind: EVENT.to_owned(),
                room: room.unwrap_or_default().to_owned(),
                ..Self::new(kind.unwrap_or(FOREIGN), payload)
            }
        })
    }

    /// The message as a publication's data and for polls: keys in alphabetical order, empty texts
    /// left out, but for the type.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + self.payload.as_bytes().len());
        self.push_json(&mut out);
        out
    }

    /// Appends the message as [`RoomMessage::to_json`] writes it.
    pub fn push_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (name, text) in [("id", &self.id), ("kind", &self.kind)] {
            push_member(out, name, text);
        }
        out.extend_from_slice(b"\"payload\":");
        out.extend_from_slice(self.payload.as_bytes());
        out.push(b',');
        for (name, text) in [("room", &self.room), ("ts", &self.ts)] {
            push_member(out, name, text);
        }
        out.extend_from_slice(b"\"type\":");
        json::push_string(out, &self.topic);
        out.push(b'}');
    }

    /// The message for sockets: payload and type alone.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.payload.as_bytes().len());
        out.extend_from_slice(b"{\"payload\":");
        out.extend_from_slice(self.payload.as_bytes());
        out.extend_from_slice(b",\"type\":");
        json::push_string(&mut out, &self.topic);
        out.push(b'}');
        out
    }

    /// The message as a publication to `stream`.
    pub fn to_publication(&self, stream: StreamName) -> Publication {
        Publication {
            stream,
            data: Payload::from_valid(self.to_json()),
            meta: crate::publication::Meta::default(),
        }
    }

    /// A field: `id`, `kind`, `room`, `ts`, `type`, or `payload.<name>` for a string, number or
    /// boolean at the payload's top. `None` if it is empty or not there.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = match name {
            "id" => &self.id,
            "kind" => &self.kind,
            "room" => &self.room,
            "ts" => &self.ts,
            "type" => &self.topic,
            _ => {
                let value = self.payload_field(name.strip_prefix("payload.")?)?;
                return Some(Cow::Owned(value)).filter(|text: &Cow<'_, str>| !text.is_empty());
            }
        };
        Some(Cow::Borrowed(text.as_str())).filter(|text| !text.is_empty())
    }

    fn payload_field(&self, name: &str) -> Option<String> {
        let mut found = None;
        let read = json::fields(self.payload.as_str(), |key, value| {
            if key == name {
                found = match Shape::of(value.get()) {
                    Shape::String => json::text(value).ok().map(Cow::into_owned),
                    Shape::Number | Shape::Bool => Some(value.get().to_owned()),
                    _ => None,
                };
            }
        });
        read.ok()?;
        found
    }

    /// The payload with these texts added where it has no such member.
    #[must_use]
    pub fn payload_with(&self, members: &[(&str, &str)]) -> Payload {
        let mut has = Vec::new();
        let read = json::fields(self.payload.as_str(), |key, _| has.push(key.to_owned()));
        let missing: Vec<_> = members
            .iter()
            .filter(|(name, _)| !has.iter().any(|has| has == name))
            .collect();
        if read.is_err() || missing.is_empty() {
            return self.payload.clone();
        }
        let mut out = Vec::new();
        out.push(b'{');
        for (name, text) in missing {
            push_member(&mut out, name, text);
        }
        let rest = self.payload.as_bytes().get(1..).unwrap_or_default();
        if has.is_empty() {
            out.pop();
        }
        out.extend_from_slice(rest);
        Payload::from_valid(out)
    }
}

/// An object of texts; empty ones are kept.
#[must_use]
pub fn text_object(members: &[(&str, &str)]) -> Payload {
    let mut out = vec![b'{'];
    for (name, text) in members {
        json::push_string(&mut out, name);
        out.push(b':');
        json::push_string(&mut out, text);
        out.push(b',');
    }
    if !members.is_empty() {
        out.pop();
    }
    out.push(b'}');
    Payload::from_valid(out)
}

/// Appends a member and a comma, unless it is empty.
fn push_member(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        json::push_string(out, name);
        out.push(b':');
        json::push_string(out, text);
        out.push(b',');
    }
}

fn empty() -> Payload {
    Payload::from_valid(b"{}".to_vec())
}

#[cfg(test)]
mod tests;
