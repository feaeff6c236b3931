//! What can go wrong with one connection, as kinds that can be counted.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Serialize, Serializer};

/// One kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    ConnectionRefused,
    ConnectionReset,
    TimedOut,
    NoAddressLeft,
    OtherIo,
    /// The connection ended within an answer.
    CutOff,
    /// The connection ended where an answer was due.
    NoAnswer,
    /// The bytes are not HTTP/1.1 as we know it; the text says why.
    BadAnswer(&'static str),
    /// An unexpected status.
    Status(u16),
    /// The server opened a session but gave it no id.
    NoPollId,
    /// A message came without `Last-Modified` and `Etag`.
    NoMessageId,
    /// The subscription was rejected.
    Rejected,
    /// The server sent a `disconnect` frame.
    Disconnected,
    /// Redis answered with an error of this kind.
    Redis(RedisRefusal),
}

/// Errors of Redis that have a remedy, and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RedisRefusal {
    NoSuchFunction,
    Login,
    OutOfMemory,
    /// A replica, or a server of a cluster that does not hold the key.
    WrongServer,
    Other,
}

/// How often each kind occurred.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures {
    counts: BTreeMap<Failure, u64>,
}

impl Failure {
    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::ConnectionReset,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::NoAddressLeft,
            _ => Self::OtherIo,
        }
    }

    /// What to try, where there is something to try.
    pub(crate) const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Rejected => Some(
                "the server rejected the subscription; allow public streams (pollux --public_streams)",
            ),
            Self::Status(401 | 403) => {
                Some("the server asks for credentials; give them with --header 'Name: value'")
            }
            Self::Status(404 | 405) => {
                Some("check --dialect, --subscribe-path and --publish-url against the server")
            }
            Self::NoPollId | Self::NoMessageId => {
                Some("the server speaks another dialect; check --dialect")
            }
            Self::Redis(RedisRefusal::NoSuchFunction) => {
                Some("a node loads the function when it starts: is one connected to this Redis?")
            }
            Self::Redis(RedisRefusal::Login) => {
                Some("give user and password in the URL: redis://user:password@host:6379")
            }
            Self::Redis(RedisRefusal::WrongServer) => {
                Some("name the master; doors of a Redis Cluster are not measured")
            }
            Self::NoAddressLeft => Some("local ports ran out; wait a minute or use fewer pollers"),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionReset => "connection_reset",
            Self::TimedOut => "timed_out",
            Self::NoAddressLeft => "no_address_left",
            Self::OtherIo => "other_io",
            Self::CutOff => "answer_cut_off",
            Self::NoAnswer => "no_answer",
            Self::BadAnswer(reason) => return write!(f, "bad_answer ({reason})"),
            Self::Status(status) => return write!(f, "status_{status}"),
            Self::NoPollId => "no_poll_id",
            Self::NoMessageId => "no_message_id",
            Self::Rejected => "subscription_rejected",
            Self::Disconnected => "disconnected",
            Self::Redis(refusal) => refusal.name(),
        };
        f.write_str(name)
    }
}

impl RedisRefusal {
    /// Sorts the text of an error reply.
    pub(crate) fn of(text: &str) -> Self {
        match text.split(' ').next().unwrap_or_default() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Login,
            "OOM" => Self::OutOfMemory,
            "READONLY" | "MOVED" | "ASK" | "CLUSTERDOWN" => Self::WrongServer,
            _ if text.contains("Function not found") => Self::NoSuchFunction,
            _ => Self::Other,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::NoSuchFunction => "redis_no_such_function",
            Self::Login => "redis_login",
            Self::OutOfMemory => "redis_out_of_memory",
            Self::WrongServer => "redis_wrong_server",
            Self::Other => "redis_error",
        }
    }
}

impl Failures {
    pub(crate) fn count(&mut self, failure: Failure) {
        *self.counts.entry(failure).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (&failure, count) in &other.counts {
            *self.counts.entry(failure).or_default() += count;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The kind that occurred most often.
    pub(crate) fn most_frequent(&self) -> Option<Failure> {
        let (&failure, _) = self.counts.iter().max_by_key(|(_, count)| **count)?;
        Some(failure)
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, (failure, count)) in self.counts.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{failure} × {count}")?;
        }
        Ok(())
    }
}

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.counts
                .iter()
                .map(|(kind, count)| (kind.to_string(), count)),
        )
    }
}
