//! What callers ask and what they are answered, in no transport's words.

use std::collections::BTreeMap;

/// Names and values.
pub(super) type Map = BTreeMap<String, String>;

/// Which call it is; a command's three verbs are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client connects.
    Connect,
    /// A client wants to follow a channel.
    Subscribe,
    /// A client leaves a channel.
    Unsubscribe,
    /// A client says something on a channel.
    Message,
    /// A client has gone.
    Disconnect,
}

impl Kind {
    /// The kind of a command with this verb.
    pub(super) fn of_command(verb: &str) -> Option<Self> {
        match verb {
            "subscribe" => Some(Self::Subscribe),
            "unsubscribe" => Some(Self::Unsubscribe),
            "message" => Some(Self::Message),
            _ => None,
        }
    }
}

/// A call as it came. What its kind does not have is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which it is.
    pub kind: Kind,
    /// The session, from the call's metadata.
    pub sid: String,
    /// The `Authorization` of an HTTP call.
    pub authorization: Option<String>,
    /// The URL of the client's first request.
    pub url: String,
    /// The client's headers that were passed on, and `REMOTE_ADDR`.
    pub headers: BTreeMap<String, String>,
    /// The connection's state.
    pub cstate: BTreeMap<String, String>,
    /// A channel's state; in a [`Kind::Disconnect`] the JSON of each by identifier.
    pub istate: BTreeMap<String, String>,
    /// Who the client is.
    pub identifiers: String,
    /// The channel.
    pub identifier: String,
    /// What is said.
    pub data: String,
    /// The channels of a client that has gone.
    pub subscriptions: Vec<String>,
}

impl Call {
    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            sid: String::new(),
            authorization: None,
            url: String::new(),
            headers: Map::new(),
            cstate: Map::new(),
            istate: Map::new(),
            identifiers: String::new(),
            identifier: String::new(),
            data: String::new(),
            subscriptions: Vec::new(),
        }
    }
}

/// The numbers are the protocol's.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Error = 0,
    Success = 1,
    Failure = 2,
}

/// An answer; each face sends what the call's kind has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: Status,
    pub(super) identifiers: String,
    pub(super) disconnect: bool,
    pub(super) stop_streams: bool,
    pub(super) streams: Vec<String>,
    pub(super) stopped_streams: Vec<String>,
    pub(super) transmissions: Vec<String>,
    pub(super) error: String,
    /// Changes of the connection's state.
    pub(super) cstate: Map,
    /// Changes of the channel's state.
    pub(super) istate: Map,
    pub(super) presence: Option<Presence>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Presence {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) info: String,
}

impl Reply {
    pub(super) fn success() -> Self {
        Self {
            status: Status::Success,
            ..Self::default()
        }
    }

    /// A refusal, with what the client is told.
    pub(super) fn failure(transmissions: Vec<String>) -> Self {
        Self {
            status: Status::Failure,
            transmissions,
            ..Self::default()
        }
    }

    pub(super) fn error(error: &str) -> Self {
        Self {
            error: error.to_owned(),
            ..Self::default()
        }
    }
}
