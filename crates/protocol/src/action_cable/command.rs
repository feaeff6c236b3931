//! What clients say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::presence::PresenceRequest;
use crate::json::{self, Shape};
use crate::names::{Identifier, StreamName};
use crate::payload::Payload;
use crate::position::{Epoch, Offset, Position};

/// How much of an unknown command's name an error keeps, in characters.
const UNKNOWN_NAME_MAX: usize = 64;

/// One command of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Open a subscription.
    Subscribe {
        /// Which one.
        identifier: Identifier,
        /// What was missed before it.
        history: Option<HistoryRequest>,
        /// Who is present with it.
        presence: Option<PresenceRequest>,
    },
    /// Close a subscription.
    Unsubscribe {
        /// Which one.
        identifier: Identifier,
    },
    /// Say something to the backend.
    Message {
        /// Through which subscription.
        identifier: Identifier,
        /// What to say, opaque.
        data: String,
    },
    /// Ask for what a subscription has missed.
    History {
        /// Which one.
        identifier: Identifier,
        /// What was missed.
        history: HistoryRequest,
    },
    /// Say something to the other clients.
    Whisper {
        /// Through which subscription.
        identifier: Identifier,
        /// What to say.
        data: Payload,
    },
    /// Be present in a subscription's stream.
    Join {
        /// Which one.
        identifier: Identifier,
        /// As whom.
        presence: PresenceRequest,
    },
    /// Be present no more.
    Leave {
        /// In which subscription's stream.
        identifier: Identifier,
    },
    /// Ask who is present.
    Presence {
        /// In which subscription's stream.
        identifier: Identifier,
        /// Everybody is to be named; else only their number is asked for.
        records: bool,
    },
    /// Ask for a sign of life.
    Ping,
    /// Give a sign of life.
    Pong,
}

/// From where on a client wants history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Unix seconds, for streams that are not in `streams`.
    pub since: Option<i64>,
    /// The last position the client has seen, each stream once, ordered by name. A position that
    /// lacks its epoch has an empty one, which matches none, and a missing offset is 0.
    pub streams: Vec<(StreamName, Position)>,
}

/// Why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The line is not JSON, or not UTF-8.
    #[error("the command is not valid JSON")]
    NotJson,
    /// The line is JSON, but not an object.
    #[error("the command is not a JSON object")]
    NotAnObject,
    /// There is no string `command`.
    #[error("the command has no name")]
    MissingCommand,
    /// A command we do not know, its name cut to 64 characters.
    #[error("unknown command {0:?}")]
    Unknown(String),
    /// The command needs an identifier and has none.
    #[error("the command has no identifier")]
    MissingIdentifier,
    /// The identifier is not a string, or empty, or too long.
    #[error("the identifier is not a string of acceptable length")]
    BadIdentifier,
    /// `data` is missing or has the wrong type.
    #[error("the data is missing or of the wrong type")]
    BadData,
    /// `history` is missing, asks for nothing, or is malformed.
    #[error("the history request is missing or malformed")]
    BadHistory,
    /// `presence` is missing or malformed.
    #[error("the presence is missing or malformed")]
    BadPresence,
}

impl Command {
    /// Reads one line. Unknown fields are ignored.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let text = str::from_utf8(line).map_err(|_| CommandError::NotJson)?;
        if Shape::of(text) != Shape::Object {
            return Err(if json::is_valid(text) {
                CommandError::NotAnObject
            } else {
                CommandError::NotJson
            });
        }
        let mut fields = Fields::default();
        json::fields(text, |key, value| match key {
            "command" => fields.command = json::present(value),
            "identifier" => fields.identifier = json::present(value),
            "data" => fields.data = Some(value),
            "history" => fields.history = json::present(value),
            "presence" => fields.presence = json::present(value),
            _ => {}
        })
        .map_err(|_| CommandError::NotJson)?;
        fields.into_command()
    }

    /// The command's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Message { .. } => "message",
            Self::History { .. } => "history",
            Self::Whisper { .. } => "whisper",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Presence { .. } => "presence",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }
}

impl CommandError {
    /// Everything [`CommandError::kind`] may say.
    pub const KINDS: [&'static str; 9] = [
        "not_json",
        "not_an_object",
        "missing_command",
        "unknown",
        "missing_identifier",
        "bad_identifier",
        "bad_data",
        "bad_history",
        "bad_presence",
    ];

    /// The kind of mistake, for metric labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::MissingCommand => "missing_command",
            Self::Unknown(_) => "unknown",
            Self::MissingIdentifier => "missing_identifier",
            Self::BadIdentifier => "bad_identifier",
            Self::BadData => "bad_data",
            Self::BadHistory => "bad_history",
            Self::BadPresence => "bad_presence",
        }
    }
}

#[derive(Default)]
struct Fields<'a> {
    command: Option<&'a RawValue>,
    identifier: Option<&'a RawValue>,
    /// May be `null`, which is something to whisper.
    data: Option<&'a RawValue>,
    history: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
}

impl Fields<'_> {
    fn into_command(self) -> Result<Command, CommandError> {
        let name = self.command.ok_or(CommandError::MissingCommand)?;
        let name = json::text(name).map_err(|_| CommandError::MissingCommand)?;
        Ok(match name.as_ref() {
            "subscribe" => Command::Subscribe {
                identifier: self.identifier()?,
                history: self.history.map(HistoryRequest::read).transpose()?,
                presence: self.presence.map(presence).transpose()?,
            },
            "unsubscribe" => Command::Unsubscribe {
                identifier: self.identifier()?,
            },
            "message" => Command::Message {
                identifier: self.identifier()?,
                data: self.text_data()?.into_owned(),
            },
            "history" => Command::History {
                identifier: self.identifier()?,
                history: HistoryRequest::read(self.history.ok_or(CommandError::BadHistory)?)?,
            },
            "whisper" => Command::Whisper {
                identifier: self.identifier()?,
                data: Payload::from_raw(self.data.ok_or(CommandError::BadData)?),
            },
            "join" => Command::Join {
                identifier: self.identifier()?,
                presence: presence(self.presence.ok_or(CommandError::BadPresence)?)?,
            },
            "leave" => Command::Leave {
                identifier: self.identifier()?,
            },
            "presence" => Command::Presence {
                identifier: self.identifier()?,
                records: self.data.is_none_or(wants_records),
            },
            "ping" => Command::Ping,
            "pong" => Command::Pong,
            other => {
                let name = other.chars().take(UNKNOWN_NAME_MAX).collect();
                return Err(CommandError::Unknown(name));
            }
        })
    }

    fn identifier(&self) -> Result<Identifier, CommandError> {
        let raw = self.identifier.ok_or(CommandError::MissingIdentifier)?;
        let text = json::text(raw).map_err(|_| CommandError::BadIdentifier)?;
        Identifier::try_new(&text).map_err(|_| CommandError::BadIdentifier)
    }

    fn text_data(&self) -> Result<Cow<'_, str>, CommandError> {
        let raw = self.data.ok_or(CommandError::BadData)?;
        json::text(raw).map_err(|_| CommandError::BadData)
    }
}

fn presence(raw: &RawValue) -> Result<PresenceRequest, CommandError> {
    PresenceRequest::read(raw).ok_or(CommandError::BadPresence)
}

/// Unless they are refused in so many words.
fn wants_records(raw: &RawValue) -> bool {
    let mut wanted = true;
    let read = json::fields(raw.get(), |key, value| {
        if key == "return_records" {
            wanted = value.get() != "false";
        }
    });
    read.is_err() || wanted
}

impl HistoryRequest {
    fn read(raw: &RawValue) -> Result<Self, CommandError> {
        let (mut since, mut streams) = (None, None);
        object(raw, |key, value| match key {
            "since" => since = json::present(value),
            "streams" => streams = json::present(value),
            _ => {}
        })?;
        if since.is_none() && streams.is_none() {
            return Err(CommandError::BadHistory);
        }
        Ok(Self {
            since: since.map(seconds).transpose()?,
            streams: streams.map_or(Ok(Vec::new()), positions)?,
        })
    }
}

/// Whole seconds; a fraction is cut off, as browsers divide milliseconds.
fn seconds(raw: &RawValue) -> Result<i64, CommandError> {
    let text = raw.get();
    if Shape::of(text) != Shape::Number {
        return Err(CommandError::BadHistory);
    }
    if let Ok(whole) = text.parse() {
        return Ok(whole);
    }
    match text.parse::<f64>() {
        // The cast stays at the limits of i64 for numbers beyond them.
        Ok(number) if number.is_finite() => Ok(number as i64),
        _ => Err(CommandError::BadHistory),
    }
}

/// Named twice, a stream counts once, so that a request cannot ask for the same history many times.
fn positions(raw: &RawValue) -> Result<Vec<(StreamName, Position)>, CommandError> {
    let mut streams = BTreeMap::new();
    let mut all_read = Ok(());
    object(raw, |name, value| {
        let read = StreamName::try_new(name).map_err(|_| CommandError::BadHistory);
        match read.and_then(|name| Ok((name, position(value)?))) {
            Ok((name, position)) => {
                streams.insert(name, position);
            }
            Err(error) => all_read = Err(error),
        }
    })?;
    all_read.map(|()| streams.into_iter().collect())
}

fn position(raw: &RawValue) -> Result<Position, CommandError> {
    let (mut epoch, mut offset) = (None, None);
    object(raw, |key, value| match key {
        "epoch" => epoch = json::present(value),
        "offset" => offset = json::present(value),
        _ => {}
    })?;
    let epoch = epoch.map_or(Ok(Cow::Borrowed("")), json::text);
    let offset = offset.map_or(Ok(0), |raw| raw.get().parse());
    Ok(Position {
        epoch: Epoch::new(&epoch.map_err(|_| CommandError::BadHistory)?),
        offset: Offset::new(offset.map_err(|_| CommandError::BadHistory)?),
    })
}

fn object<'a>(raw: &'a RawValue, each: impl FnMut(&str, &'a RawValue)) -> Result<(), CommandError> {
    json::fields(raw.get(), each).map_err(|_| CommandError::BadHistory)
}

#[cfg(test)]
mod tests;
