//! Tokens first, then what the mode says.

use super::{Authenticator, Client, ConnectRequest, Presented, Verdict};
use futures_util::future::BoxFuture;
use pollux_protocol::{DisconnectReason, Identity, TokenError, TokenVerifier};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How clients prove with a token who they are.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) verifier: TokenVerifier,
    /// What the token is called in query and headers.
    pub(crate) param: String,
    /// Whether clients without one are refused.
    pub(crate) enforced: bool,
}

/// What the options say of who may connect.
#[derive(Debug)]
pub(crate) struct Gate {
    /// `None` where no secret is set that could prove anything.
    pub(crate) tokens: Option<Tokens>,
    /// Those without a token.
    pub(crate) others: Arc<dyn Authenticator>,
}

impl Tokens {
    /// Who a request's token says the client is; `None` if it has none.
    fn read(&self, request: ConnectRequest<'_>) -> Option<Result<Client, DisconnectReason>> {
        let token = request.token(&self.param)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let read = self.verifier.verify(&token, now).map(client);
        Some(read.map_err(|error| {
            tracing::debug!(%error, "A token was refused");
            match error {
                TokenError::Expired => DisconnectReason::TokenExpired,
                _ => DisconnectReason::Unauthorized,
            }
        }))
    }
}

fn client(identity: Identity) -> Client {
    let expires = identity.expires.map(Duration::from_secs);
    Client {
        identifiers: Some(identity.identifiers.into()),
        // A time that the clock can't tell never comes.
        expires: expires.and_then(|since| UNIX_EPOCH.checked_add(since)),
        ..Client::default()
    }
}

impl Authenticator for Gate {
    fn authenticate<'a>(&'a self, request: ConnectRequest<'a>) -> BoxFuture<'a, Verdict> {
        let refuse = |reason| Verdict::Refuse {
            reason,
            reconnect: false,
        };
        let read = self.tokens.as_ref().and_then(|tokens| tokens.read(request));
        let verdict = match read {
            Some(Ok(client)) => Verdict::Accept(client),
            Some(Err(reason)) => refuse(reason),
            None if self.tokens.as_ref().is_some_and(|tokens| tokens.enforced) => {
                refuse(DisconnectReason::Unauthorized)
            }
            None => return self.others.authenticate(request),
        };
        Box::pin(std::future::ready(verdict))
    }

    fn recognize(&self, request: ConnectRequest<'_>, identifiers: Option<&str>) -> Presented {
        let read = self.tokens.as_ref().and_then(|tokens| tokens.read(request));
        match read {
            None => Presented::Nothing,
            Some(Ok(client)) if client.identifiers.as_deref() == identifiers => {
                Presented::Same(client)
            }
            Some(Ok(_)) => Presented::Other,
            Some(Err(reason)) => Presented::Worthless(reason),
        }
    }

    fn reads(&self) -> Option<&str> {
        self.tokens.as_ref().map(|tokens| tokens.param.as_str())
    }
}
