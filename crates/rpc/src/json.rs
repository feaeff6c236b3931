//! Calls and answers as JSON, for applications that are called over HTTP.
//!
//! Empty fields and unknown ones are never sent: some applications read with a
//! strict decoder. What they answer is read with all the freedom JSON's
//! mapping of the protocol leaves: fields may be missing, null, or unknown, and
//! a status may be a number or its name.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::call::{
    Changes, Command, Commanded, Connect, Connected, Disconnect, Disconnected, Env, Presence,
    State, Status,
};

/// Maps and texts cannot fail to be written.
fn bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

pub(crate) fn connect(call: &Connect) -> Bytes {
    #[derive(Serialize)]
    struct Request<'a> {
        env: EnvOut<'a>,
    }
    bytes(&Request {
        env: EnvOut::new(&call.env),
    })
}

pub(crate) fn command(call: &Command) -> Bytes {
    #[derive(Serialize)]
    struct Request<'a> {
        command: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        identifier: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        connection_identifiers: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        data: &'a str,
        env: EnvOut<'a>,
    }
    bytes(&Request {
        command: call.verb.as_str(),
        identifier: &call.identifier,
        connection_identifiers: &call.connection_identifiers,
        data: &call.data,
        env: EnvOut::new(&call.env),
    })
}

pub(crate) fn disconnect(call: &Disconnect) -> Bytes {
    #[derive(Serialize)]
    struct Request<'a> {
        #[serde(skip_serializing_if = "str::is_empty")]
        identifiers: &'a str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        subscriptions: &'a [String],
        env: EnvOut<'a>,
    }
    bytes(&Request {
        identifiers: &call.identifiers,
        subscriptions: &call.subscriptions,
        env: EnvOut::new(&call.env),
    })
}

#[derive(Serialize)]
struct EnvOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    url: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: &'a State,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    cstate: &'a State,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    istate: &'a State,
}

impl<'a> EnvOut<'a> {
    fn new(env: &'a Env) -> Self {
        Self {
            url: &env.url,
            headers: &env.headers,
            cstate: &env.cstate,
            istate: &env.istate,
        }
    }
}

pub(crate) fn connected(answer: &[u8]) -> serde_json::Result<Connected> {
    #[derive(Deserialize)]
    struct Response {
        #[serde(default, deserialize_with = "nullable")]
        status: StatusIn,
        #[serde(default, deserialize_with = "nullable")]
        identifiers: String,
        #[serde(default, deserialize_with = "nullable")]
        transmissions: Vec<String>,
        #[serde(default, deserialize_with = "nullable")]
        error_msg: String,
        #[serde(default, deserialize_with = "nullable")]
        env: ChangesIn,
    }
    let answer: Response = object(answer)?;
    Ok(Connected {
        status: answer.status.0,
        identifiers: answer.identifiers,
        transmissions: answer.transmissions,
        error: answer.error_msg,
        changes: answer.env.into(),
    })
}

pub(crate) fn commanded(answer: &[u8]) -> serde_json::Result<Commanded> {
    #[derive(Deserialize)]
    struct Response {
        #[serde(default, deserialize_with = "nullable")]
        status: StatusIn,
        #[serde(default, deserialize_with = "nullable")]
        disconnect: bool,
        #[serde(default, deserialize_with = "nullable")]
        stop_streams: bool,
        #[serde(default, deserialize_with = "nullable")]
        stopped_streams: Vec<String>,
        #[serde(default, deserialize_with = "nullable")]
        streams: Vec<String>,
        #[serde(default, deserialize_with = "nullable")]
        transmissions: Vec<String>,
        #[serde(default, deserialize_with = "nullable")]
        error_msg: String,
        #[serde(default, deserialize_with = "nullable")]
        env: ChangesIn,
        #[serde(default)]
        presence: Option<PresenceIn>,
    }
    let answer: Response = object(answer)?;
    Ok(Commanded {
        status: answer.status.0,
        disconnect: answer.disconnect,
        stop_streams: answer.stop_streams,
        stopped_streams: answer.stopped_streams,
        streams: answer.streams,
        transmissions: answer.transmissions,
        error: answer.error_msg,
        changes: answer.env.into(),
        presence: answer.presence.map(Into::into),
    })
}

pub(crate) fn disconnected(answer: &[u8]) -> serde_json::Result<Disconnected> {
    #[derive(Deserialize)]
    struct Response {
        #[serde(default, deserialize_with = "nullable")]
        status: StatusIn,
        #[serde(default, deserialize_with = "nullable")]
        error_msg: String,
    }
    let answer: Response = object(answer)?;
    Ok(Disconnected {
        status: answer.status.0,
        error: answer.error_msg,
    })
}

/// Derived decoders would take a list for an object, field after field.
fn object<'de, T: Deserialize<'de>>(answer: &'de [u8]) -> serde_json::Result<T> {
    if answer.trim_ascii_start().first() == Some(&b'[') {
        return Err(de::Error::invalid_type(de::Unexpected::Seq, &"an object"));
    }
    serde_json::from_slice(answer)
}

/// A null stands for a field that is missing.
fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Default, Deserialize)]
struct ChangesIn {
    #[serde(default, deserialize_with = "nullable")]
    cstate: BTreeMap<String, Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    istate: BTreeMap<String, Option<String>>,
}

impl From<ChangesIn> for Changes {
    fn from(changes: ChangesIn) -> Self {
        // An empty value takes its key away, and null means no other thing.
        let state = |map: BTreeMap<String, Option<String>>| {
            map.into_iter()
                .map(|(key, value)| (key, value.unwrap_or_default()))
                .collect()
        };
        Self {
            cstate: state(changes.cstate),
            istate: state(changes.istate),
        }
    }
}

#[derive(Deserialize)]
struct PresenceIn {
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    kind: String,
    #[serde(default, deserialize_with = "nullable")]
    id: String,
    #[serde(default, deserialize_with = "nullable")]
    info: String,
    #[serde(default, deserialize_with = "nullable")]
    ttl: Seconds,
}

impl From<PresenceIn> for Presence {
    fn from(presence: PresenceIn) -> Self {
        Self {
            kind: presence.kind,
            id: presence.id,
            info: presence.info,
            ttl: presence.ttl.0,
        }
    }
}

/// A number or, as the protocol's mapping to JSON has 64 bits, a text of one.
#[derive(Default)]
struct Seconds(i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("whole seconds")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seconds, E> {
                Ok(Seconds(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seconds, E> {
                Ok(Seconds(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Seconds, E> {
                let whole = || E::invalid_value(de::Unexpected::Str("a text"), &"whole seconds");
                value.parse().map(Seconds).map_err(|_| whole())
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[derive(Default)]
struct StatusIn(Status);

impl<'de> Deserialize<'de> for StatusIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = StatusIn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0, 1, 2, ERROR, SUCCESS or FAILURE")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<StatusIn, E> {
                match value {
                    0 => Ok(StatusIn(Status::Error)),
                    1 => Ok(StatusIn(Status::Success)),
                    2 => Ok(StatusIn(Status::Failure)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<StatusIn, E> {
                match value {
                    "ERROR" => Ok(StatusIn(Status::Error)),
                    "SUCCESS" => Ok(StatusIn(Status::Success)),
                    "FAILURE" => Ok(StatusIn(Status::Failure)),
                    // What it says instead is the application's, and not for a log.
                    _ => Err(E::invalid_value(de::Unexpected::Str("a text"), &self)),
                }
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests;
