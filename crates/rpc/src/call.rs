//! The three calls and their answers, in no transport's words.

use std::collections::BTreeMap;

/// Keys and values the application keeps with a connection or a channel.
///
/// In an answer it holds the changes only; an empty value takes its key away.
pub type State = BTreeMap<String, String>;

/// What the application is told of the connection a call is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// The whole URL of the request that opened the connection, `http://` or
    /// `https://` also where the connection is a WebSocket.
    pub url: String,
    /// Forwarded headers, names in lower case, and `REMOTE_ADDR`.
    pub headers: State,
    /// The state of the connection.
    pub cstate: State,
    /// In a [`Command`] the state of its channel; in a [`Disconnect`] that of
    /// every channel, as JSON by identifier.
    pub istate: State,
}

/// Changes to the state, as the application answered them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Changes to the connection's state.
    pub cstate: State,
    /// Changes to the channel's state.
    pub istate: State,
}

/// How the application decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// The application failed; `error` says why.
    #[default]
    Error,
    /// Yes.
    Success,
    /// No.
    Failure,
}

/// May this client connect?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// The connection.
    pub env: Env,
}

/// The answer to [`Connect`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// The decision.
    pub status: Status,
    /// Who the client is, in the application's words (JSON by custom).
    pub identifiers: String,
    /// Frames for the client, each a whole JSON text: the `welcome`, or the
    /// `disconnect` of a refusal.
    pub transmissions: Vec<String>,
    /// Why it failed; for the log only.
    pub error: String,
    /// State to keep.
    pub changes: Changes,
}

/// Which command a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A subscription to a channel is asked for.
    Subscribe,
    /// A subscription is given up.
    Unsubscribe,
    /// Something is said on a subscription.
    Message,
}

impl Verb {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Message => "message",
        }
    }
}

/// A client's command on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command.
    pub verb: Verb,
    /// The channel, as the client wrote it.
    pub identifier: String,
    /// Who the client is, as [`Connected::identifiers`] had it.
    pub connection_identifiers: String,
    /// What a [`Verb::Message`] carries, else empty.
    pub data: String,
    /// The connection.
    pub env: Env,
}

/// The answer to [`Command`]. To be applied in this order: streams to leave,
/// streams to join, channel state, connection state, transmissions, presence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commanded {
    /// The decision.
    pub status: Status,
    /// The client is to be disconnected.
    pub disconnect: bool,
    /// The subscription leaves all its streams.
    pub stop_streams: bool,
    /// Streams the subscription leaves.
    pub stopped_streams: Vec<String>,
    /// Streams the subscription joins.
    pub streams: Vec<String>,
    /// Frames for the client, also of a refusal.
    pub transmissions: Vec<String>,
    /// Why it failed; for the log only.
    pub error: String,
    /// State to keep.
    pub changes: Changes,
    /// A change of who is present.
    pub presence: Option<Presence>,
}

/// A change of who is present in the channel's first stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// `join` or `leave`.
    pub kind: String,
    /// Whose presence it is.
    pub id: String,
    /// What others are told: JSON, or plain text.
    pub info: String,
    /// Seconds the presence outlives its connection; 0: the default.
    pub ttl: i64,
}

/// A client is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Who it was.
    pub identifiers: String,
    /// The channels it was subscribed to.
    pub subscriptions: Vec<String>,
    /// The connection.
    pub env: Env,
}

/// The answer to [`Disconnect`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnected {
    /// Whether the application took it.
    pub status: Status,
    /// Why it failed; for the log only.
    pub error: String,
}
