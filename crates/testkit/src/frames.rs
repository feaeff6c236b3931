//! Action Cable lines: what clients say, and what they are told.

use serde_json::{Value, json};

/// The identifier of a public stream.
#[must_use]
pub fn public(stream: &str) -> String {
    json!({"channel": "$pubsub", "stream_name": stream}).to_string()
}

/// The identifier of a signed stream.
#[must_use]
pub fn signed(name: &str) -> String {
    json!({"channel": "$pubsub", "signed_stream_name": name}).to_string()
}

/// A `subscribe` line.
#[must_use]
pub fn subscribe(identifier: &str) -> String {
    line(&json!({"command": "subscribe", "identifier": identifier}))
}

/// A `subscribe` line that asks for history.
#[must_use]
pub fn subscribe_with_history(identifier: &str, history: &Value) -> String {
    line(&json!({"command": "subscribe", "identifier": identifier, "history": history}))
}

/// An `unsubscribe` line.
#[must_use]
pub fn unsubscribe(identifier: &str) -> String {
    line(&json!({"command": "unsubscribe", "identifier": identifier}))
}

/// A `history` line.
#[must_use]
pub fn history(identifier: &str, history: &Value) -> String {
    line(&json!({"command": "history", "identifier": identifier, "history": history}))
}

/// A `whisper` line.
#[must_use]
pub fn whisper(identifier: &str, data: &Value) -> String {
    line(&json!({"command": "whisper", "identifier": identifier, "data": data}))
}

/// A `ping` line.
#[must_use]
pub fn ping() -> String {
    line(&json!({"command": "ping"}))
}

/// A publication as backends send it: `data` is JSON in a string.
#[must_use]
pub fn publication(stream: &str, data: &Value) -> String {
    json!({"stream": stream, "data": data.to_string()}).to_string()
}

/// A command that disconnects everybody with these identifiers.
#[must_use]
pub fn remote_disconnect(identifiers: &str, reconnect: Option<bool>) -> String {
    let mut payload = json!({"identifier": identifiers});
    if let Some(reconnect) = reconnect {
        payload["reconnect"] = reconnect.into();
    }
    json!({"command": "disconnect", "payload": payload}).to_string()
}

/// The `type` of a frame; `message` for a publication.
#[must_use]
pub fn kind(frame: &Value) -> &str {
    frame["type"].as_str().unwrap_or("message")
}

/// The frames' types, in order.
#[must_use]
pub fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(kind).collect()
}

/// The messages among the frames, in order.
#[must_use]
pub fn messages(frames: &[Value]) -> Vec<Value> {
    frames
        .iter()
        .filter(|frame| frame.get("message").is_some())
        .map(|frame| frame["message"].clone())
        .collect()
}

fn line(command: &Value) -> String {
    format!("{command}\n")
}
