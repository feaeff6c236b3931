//! Who may connect, and which streams they may hear.

mod key;
mod streams;

pub(crate) use key::BearerKey;
pub(crate) use streams::StreamPolicy;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use pollux_protocol::DisconnectReason;
use std::{fmt::Debug, net::IpAddr};

/// What is known of a client that wants to open a session.
#[derive(Clone, Copy, Debug)]
pub struct ConnectRequest<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The query string, without its question mark; empty if there is none.
    pub query: &'a str,
    /// The other end of the connection, which may be a proxy; `None` if the
    /// server that took the connection does not say.
    pub peer: Option<IpAddr>,
}

/// Whether a client may open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may. The identifiers name its sessions in remote commands; `None`
    /// stands for `{"sid":"…"}`.
    Accept(Option<Box<str>>),
    /// It may not; the client is told why and whether to try again.
    Refuse {
        /// Why.
        reason: DisconnectReason,
        /// Whether the client should try again.
        reconnect: bool,
    },
}

/// Decides who may open a session.
pub trait Authenticator: Debug + Send + Sync + 'static {
    /// The decision for one client.
    fn authenticate<'a>(&'a self, request: ConnectRequest<'a>) -> BoxFuture<'a, Verdict>;
}

/// The same answer to everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Everybody {
    /// May connect: streams decide what they hear.
    Accepted,
    /// May not: a secret is set but no way to present it.
    Refused,
}

impl Authenticator for Everybody {
    fn authenticate<'a>(&'a self, _request: ConnectRequest<'a>) -> BoxFuture<'a, Verdict> {
        let verdict = match self {
            Self::Accepted => Verdict::Accept(None),
            Self::Refused => Verdict::Refuse {
                reason: DisconnectReason::Unauthorized,
                reconnect: false,
            },
        };
        Box::pin(std::future::ready(verdict))
    }
}
