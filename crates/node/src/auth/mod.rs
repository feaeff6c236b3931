//! Who may connect, and which streams they may hear.

mod gate;
mod introduction;
mod key;
mod streams;

pub(crate) use gate::{Gate, Tokens};
pub(crate) use introduction::Introduction;
pub(crate) use key::BearerKey;
pub(crate) use streams::StreamPolicy;

use axum::extract::ConnectInfo;
use futures_util::future::BoxFuture;
use http::{HeaderMap, header, request::Parts, uri::Authority};
use pollux_protocol::{DisconnectReason, Frame};
use std::{
    borrow::Cow,
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

/// What is known of a client that wants to open a session.
#[derive(Clone, Copy, Debug)]
pub struct ConnectRequest<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The path, without the query.
    pub path: &'a str,
    /// The query string, without its question mark; empty if there is none.
    pub query: &'a str,
    /// The host that HTTP/2 says beside the headers.
    pub authority: Option<&'a str>,
    /// The other end of the connection, which may be a proxy; `None` if the
    /// server that took the connection does not say.
    pub peer: Option<IpAddr>,
}

/// What comes before a token among a WebSocket's subprotocols.
const TOKEN_PROTOCOL: &str = "anycable-token.";

impl<'a> ConnectRequest<'a> {
    /// What a request's head says, and who the server that took its connection
    /// says is at the other end.
    pub(crate) fn of(head: &'a Parts) -> Self {
        let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
        Self {
            headers: &head.headers,
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            authority: head.uri.authority().map(Authority::as_str),
            peer: peer.map(|ConnectInfo(peer)| peer.ip()),
        }
    }

    /// The token a client presents, wherever it can: in the header `x-<name>`,
    /// as the subprotocol `anycable-token.<token>` (pages can give a WebSocket
    /// no header), or in the query as `name`. The first of these counts.
    #[must_use]
    pub fn token(&self, name: &str) -> Option<Cow<'a, str>> {
        let header = self.headers.get(format!("x-{name}"));
        let header = header.and_then(|value| value.to_str().ok());
        if let Some(token) = header.filter(|token| !token.is_empty()) {
            return Some(Cow::Borrowed(token));
        }
        let offered = self.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let offered = offered.iter().filter_map(|value| value.to_str().ok());
        let mut protocols = offered.flat_map(|value| value.split(',')).map(str::trim);
        let token = protocols.find_map(|protocol| protocol.strip_prefix(TOKEN_PROTOCOL));
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            return Some(Cow::Borrowed(token));
        }
        let mut query = form_urlencoded::parse(self.query.as_bytes());
        let (_, token) = query.find(|(key, token)| key == name && !token.is_empty())?;
        Some(Cow::Owned(token.into_owned()))
    }
}

/// Who a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Name its sessions in remote commands; `None` stands for `{"sid":"…"}`.
    pub identifiers: Option<Box<str>>,
    /// When its sessions end, because what it proved counts no longer; `None`
    /// if that never happens.
    pub expires: Option<SystemTime>,
    /// Who spoke for it.
    pub(crate) introduction: Introduction,
}

impl Client {
    /// A client with these identifiers, for as long as it likes.
    #[must_use]
    pub fn named(identifiers: impl Into<Box<str>>) -> Self {
        Self {
            identifiers: Some(identifiers.into()),
            ..Self::default()
        }
    }
}

/// Whether a client may open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Accept(Client),
    /// It may not; the client is told why and whether to try again.
    Refuse {
        /// Why.
        reason: DisconnectReason,
        /// Whether the client should try again.
        reconnect: bool,
    },
    /// It may not, in the words of whoever decided.
    Dismiss {
        /// The `disconnect` that the client is told.
        farewell: Frame,
        /// Why, as far as that has a name.
        reason: DisconnectReason,
    },
    /// Nobody can say now. The client should try again later.
    Unavailable,
}

/// What a client presents for a session that exists already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Nothing: knowing the session's id is enough.
    Nothing,
    /// Proof that it is the one who opened it.
    Same(Client),
    /// Proof that it is somebody else.
    Other,
    /// What proves nothing, and why.
    Worthless(DisconnectReason),
}

/// Decides who may open a session.
pub trait Authenticator: Debug + Send + Sync + 'static {
    /// The decision for one client.
    fn authenticate<'a>(&'a self, request: ConnectRequest<'a>) -> BoxFuture<'a, Verdict>;

    /// What a client presents that polls, or wants back, a session with these
    /// identifiers. Asked on every poll with headers or a query that
    /// [`Authenticator::reads`], so it should take no longer than a signature
    /// does.
    fn recognize(&self, _request: ConnectRequest<'_>, _identifiers: Option<&str>) -> Presented {
        Presented::Nothing
    }

    /// The name under which polls present something to recognize them by: as
    /// `x-<name>` in a header, or as `<name>` in the query. `None`: they don't.
    fn reads(&self) -> Option<&str> {
        None
    }
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
            Self::Accepted => Verdict::Accept(Client::default()),
            Self::Refused => Verdict::Refuse {
                reason: DisconnectReason::Unauthorized,
                reconnect: false,
            },
        };
        Box::pin(std::future::ready(verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_token_is_found_wherever_a_client_can_put_it() {
        let mut headers = HeaderMap::new();
        let token = |headers: &HeaderMap, query: &str| {
            let request = ConnectRequest {
                headers,
                path: "/",
                query,
                authority: None,
                peer: None,
            };
            request.token("jid").map(Cow::into_owned)
        };
        assert_eq!(token(&headers, "jid=&x=1"), None);
        assert_eq!(
            token(&headers, "x=1&jid=a%20b&jid=c").as_deref(),
            Some("a b")
        );
        let protocols = "actioncable-v1-json, anycable-token.e.y.z";
        let protocols = HeaderValue::from_static(protocols);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        assert_eq!(token(&headers, "jid=q").as_deref(), Some("e.y.z"));
        headers.insert("x-jid", HeaderValue::from_static("h"));
        assert_eq!(token(&headers, "jid=q").as_deref(), Some("h"));
        headers.insert("x-jid", HeaderValue::from_static(""));
        assert_eq!(token(&headers, "").as_deref(), Some("e.y.z"));
    }
}
