//! What the chat decides.
//!
//! | who connects (`?user=`, header `x-user` or cookie `user`) | answer |
//! |---|---|
//! | nobody, `mallory` | refused |
//! | `crash` | an error |
//! | anybody else | identifiers `{"user":"ann"}`, a welcome, cstate `seen` |
//!
//! | channel | subscribing |
//! |---|---|
//! | `ChatChannel` with `room`, and `with` | streams `chat/<room>` and `chat/<with>`; a confirmation, a greeting, istate `room` |
//! | `PresenceChannel` with `room` | stream `presence/<room>`, shown to others; whispers allowed |
//! | `QuietChannel` | a confirmation, no stream |
//! | `CrashChannel` | an error |
//! | any other | refused |
//!
//! | action said | answer |
//! |---|---|
//! | `speak` with `text` | an echo with a number kept in istate `n`; cstate `total` counts over all channels |
//! | `follow`, `unfollow` with `stream` | the stream is joined, left |
//! | `mute` | all streams are left |
//! | `leave` | the client is sent away |
//! | `forget` | cstate `seen` is taken away |
//! | `crash` | an error |
//! | any other | refused in silence |

use super::call::{Call, Kind, Map, Presence, Reply};
use serde_json::{Value, json};

pub(super) fn answer(call: &Call) -> Reply {
    match call.kind {
        Kind::Connect => connect(call),
        Kind::Subscribe => subscribe(call),
        Kind::Message => message(call),
        Kind::Unsubscribe => Reply {
            stop_streams: true,
            ..Reply::success()
        },
        Kind::Disconnect => Reply::success(),
    }
}

fn connect(call: &Call) -> Reply {
    match user(call).as_deref() {
        None | Some("mallory") => Reply::failure(vec![
            r#"{"type":"disconnect","reason":"unauthorized","reconnect":false}"#.to_owned(),
        ]),
        Some("crash") => Reply::error("the database is on fire"),
        Some(user) => Reply {
            identifiers: json!({"user": user}).to_string(),
            transmissions: vec![format!(r#"{{"type":"welcome","sid":"{}"}}"#, call.sid)],
            cstate: map([("seen", "1")]),
            ..Reply::success()
        },
    }
}

fn subscribe(call: &Call) -> Reply {
    let parsed: Value = serde_json::from_str(&call.identifier).unwrap_or_default();
    let room = text(&parsed, "room");
    let confirmed = json!({"type": "confirm_subscription", "identifier": call.identifier});
    let reply = Reply {
        transmissions: vec![confirmed.to_string()],
        ..Reply::success()
    };
    let who: Value = serde_json::from_str(&call.identifiers).unwrap_or_default();
    let who = text(&who, "user");
    match parsed["channel"].as_str() {
        Some("ChatChannel") => {
            let rooms = [&parsed["room"], &parsed["with"]];
            let streams = rooms.iter().filter_map(|room| room.as_str());
            let mut reply = Reply {
                streams: streams.map(|room| format!("chat/{room}")).collect(),
                istate: map([("room", &room)]),
                ..reply
            };
            let greeting = json!({"identifier": call.identifier, "message": {"hello": who}});
            reply.transmissions.push(greeting.to_string());
            reply
        }
        Some("PresenceChannel") => {
            let stream = format!("presence/{room}");
            Reply {
                istate: map([("$p", &stream), ("$w", &stream)]),
                streams: vec![stream],
                presence: Some(Presence {
                    kind: "join".to_owned(),
                    info: json!({"name": who}).to_string(),
                    id: who,
                }),
                ..reply
            }
        }
        Some("QuietChannel") => reply,
        Some("CrashChannel") => Reply::error("no such table"),
        _ => {
            let rejected = json!({"type": "reject_subscription", "identifier": call.identifier});
            Reply::failure(vec![rejected.to_string()])
        }
    }
}

fn message(call: &Call) -> Reply {
    let said: Value = serde_json::from_str(&call.data).unwrap_or_default();
    let stream = text(&said, "stream");
    let reply = Reply::success();
    match said["action"].as_str() {
        Some("speak") => {
            let number = next(&call.istate, "n");
            let message = json!({"said": said["text"], "n": number});
            let echo = json!({"identifier": call.identifier, "message": message});
            Reply {
                transmissions: vec![echo.to_string()],
                istate: map([("n", &number.to_string())]),
                cstate: map([("total", &next(&call.cstate, "total").to_string())]),
                ..reply
            }
        }
        Some("follow") => Reply {
            streams: vec![stream],
            ..reply
        },
        Some("unfollow") => Reply {
            stopped_streams: vec![stream],
            ..reply
        },
        Some("mute") => Reply {
            stop_streams: true,
            ..reply
        },
        Some("leave") => Reply {
            disconnect: true,
            transmissions: vec![
                r#"{"type":"disconnect","reason":"goodbye","reconnect":false}"#.to_owned(),
            ],
            ..reply
        },
        Some("forget") => Reply {
            cstate: map([("seen", "")]),
            ..reply
        },
        Some("crash") => Reply::error("no such action"),
        _ => Reply::failure(Vec::new()),
    }
}

/// Who says to be connecting.
fn user(call: &Call) -> Option<String> {
    let query = call.url.split_once('?').map_or("", |(_, query)| query);
    let named = |pairs: &str, separator: char| {
        let mut pairs = pairs.split(separator).map(str::trim);
        pairs.find_map(|pair| Some(pair.strip_prefix("user=")?.to_owned()))
    };
    let header = |name| call.headers.get(name).map(String::as_str);
    named(query, '&')
        .or_else(|| header("x-user").map(str::to_owned))
        .or_else(|| named(header("cookie")?, ';'))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// The number after the one that a state holds.
fn next(state: &Map, name: &str) -> u64 {
    let number = state.get(name).and_then(|number| number.parse().ok());
    number.unwrap_or(0) + 1
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> Map {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
