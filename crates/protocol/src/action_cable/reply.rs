//! What clients are told. Keys stand in AnyCable's order; empty ones are left out.

use std::fmt;

use crate::frame::Frame;
use crate::json;
use crate::names::{Identifier, StreamName};
use crate::payload::Payload;
use crate::position::Position;

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// Authentication failed. Clients should not come back.
    Unauthorized,
    /// The token is too old. Clients fetch a new one.
    TokenExpired,
    /// The request came from where it may not come from.
    InvalidRequest,
    /// The server goes away. Clients should come back.
    ServerRestart,
    /// A backend asked for it, and said whether to come back.
    Remote,
    /// The poll session is gone. Clients should open another.
    SessionExpired,
    /// The client gave no sign of life. It should come back.
    NoPong,
    /// The client did not keep up. It should come back and recover.
    TooSlow,
    /// Nothing happened on the connection for too long.
    IdleTimeout,
}

/// The connection is open again, under a new session id: these subscriptions are as they were.
pub fn welcome_back<'a>(sid: &str, restored: impl Iterator<Item = &'a Identifier>) -> Frame {
    let mut out = b"{\"type\":\"welcome\",\"sid\":".to_vec();
    json::push_string(&mut out, sid);
    out.extend_from_slice(b",\"restored\":true,\"restored_ids\":[");
    for (at, identifier) in restored.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::push_string(&mut out, identifier.as_str());
    }
    out.extend_from_slice(b"]}");
    Frame::from_json(out)
}

/// Who is present: see [`presence`](super::presence).
pub fn presence(identifier: &Identifier, said: &Payload) -> Frame {
    message(
        identifier,
        said,
        Some(super::presence::BROADCAST_TYPE),
        None,
    )
}

/// The connection is open, under this session id.
pub fn welcome(sid: &str) -> Frame {
    object(&[("type", Value::Text("welcome")), ("sid", Value::Text(sid))])
}

/// A sign of life, with the time in Unix seconds (or what the client asked for).
pub fn ping(unix: i64) -> Frame {
    object(&[
        ("type", Value::Text("ping")),
        ("message", Value::Number(unix)),
    ])
}

/// The answer to a client's ping.
pub fn pong() -> Frame {
    object(&[("type", Value::Text("pong"))])
}

/// The subscription is open.
pub fn confirm_subscription(identifier: &Identifier) -> Frame {
    about("confirm_subscription", identifier)
}

/// The subscription was refused.
pub fn reject_subscription(identifier: &Identifier) -> Frame {
    about("reject_subscription", identifier)
}

/// All that was missed has been sent.
pub fn confirm_history(identifier: &Identifier) -> Frame {
    about("confirm_history", identifier)
}

/// What was missed cannot be told.
pub fn reject_history(identifier: &Identifier) -> Frame {
    about("reject_history", identifier)
}

/// The connection ends.
pub fn disconnect(reason: DisconnectReason, reconnect: bool) -> Frame {
    object(&[
        ("type", Value::Text("disconnect")),
        ("reason", Value::Text(reason.as_str())),
        ("reconnect", Value::Bool(reconnect)),
    ])
}

/// A publication, for one subscription. Its position is given with its stream.
///
/// This is the hot path, run for each publication and identifier: written by hand into one vector
/// of exactly the right size.
pub fn message(
    identifier: &Identifier,
    data: &Payload,
    broadcast_type: Option<&str>,
    position: Option<(&StreamName, &Position)>,
) -> Frame {
    let identifier = identifier.as_str();
    let data = data.as_bytes();
    let broadcast_type = broadcast_type.filter(|kind| !kind.is_empty());

    let mut size = r#"{"identifier":,"message":}"#.len() + 1;
    size += json::string_len(identifier) + data.len();
    if let Some(kind) = broadcast_type {
        size += r#""type":,"#.len() + json::string_len(kind);
    }
    if let Some((stream, position)) = position {
        size += r#","stream_id":,"epoch":,"offset":"#.len();
        size += json::string_len(stream.as_str()) + json::string_len(position.epoch.as_str());
        size += json::number_len(position.offset.get());
    }

    let mut out = Vec::with_capacity(size);
    out.push(b'{');
    if let Some(kind) = broadcast_type {
        out.extend_from_slice(b"\"type\":");
        json::push_string(&mut out, kind);
        out.push(b',');
    }
    out.extend_from_slice(b"\"identifier\":");
    json::push_string(&mut out, identifier);
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(data);
    if let Some((stream, position)) = position {
        out.extend_from_slice(b",\"stream_id\":");
        json::push_string(&mut out, stream.as_str());
        out.extend_from_slice(b",\"epoch\":");
        json::push_string(&mut out, position.epoch.as_str());
        out.extend_from_slice(b",\"offset\":");
        json::push_number(&mut out, position.offset.get());
    }
    out.push(b'}');
    debug_assert_eq!(out.len() + 1, size, "the size was counted wrong");
    Frame::from_json(out)
}

impl DisconnectReason {
    const ALL: [Self; 9] = [
        Self::Unauthorized,
        Self::TokenExpired,
        Self::InvalidRequest,
        Self::ServerRestart,
        Self::Remote,
        Self::SessionExpired,
        Self::NoPong,
        Self::TooSlow,
        Self::IdleTimeout,
    ];

    /// The reason with this name on the wire, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The reason on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::TokenExpired => "token_expired",
            Self::InvalidRequest => "invalid_request",
            Self::ServerRestart => "server_restart",
            Self::Remote => "remote",
            Self::SessionExpired => "session_expired",
            Self::NoPong => "no_pong",
            Self::TooSlow => "too_slow",
            Self::IdleTimeout => "idle_timeout",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Bool(bool),
}

fn about(kind: &str, identifier: &Identifier) -> Frame {
    object(&[
        ("type", Value::Text(kind)),
        ("identifier", Value::Text(identifier.as_str())),
    ])
}

/// The frames that are not hot. An empty text is left out with its key.
fn object(fields: &[(&str, Value<'_>)]) -> Frame {
    let mut out = vec![b'{'];
    for (key, value) in fields {
        if matches!(value, Value::Text("")) {
            continue;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        json::push_string(&mut out, key);
        out.push(b':');
        match value {
            Value::Text(text) => json::push_string(&mut out, text),
            Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Bool(truth) => out.extend_from_slice(truth.to_string().as_bytes()),
        }
    }
    out.push(b'}');
    Frame::from_json(out)
}

#[cfg(test)]
mod tests;
