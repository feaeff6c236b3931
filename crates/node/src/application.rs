//! The application behind the node: who may connect, what channels are, and
//! what clients' messages do, where the node was told to ask a backend.
//!
//! Asking is [`pollux_rpc`]'s; here is what is asked, and what is kept of the
//! answers with a session. What they do to a session is the runtime's.

mod attended;
mod farewells;
mod request;

pub(crate) use attended::{Attended, Kept};
pub(crate) use farewells::Farewells;
pub(crate) use request::{Telling, Told};

use crate::auth::{Authenticator, Client, ConnectRequest, Introduction, Verdict};
use futures_util::future::BoxFuture;
use pollux_protocol::{DisconnectReason, Frame, Transmission, TransmissionKind};
use pollux_rpc::{
    Backend, CallError,
    call::{Command, Commanded, Connect, Connected, Status, Verb},
};
use pollux_session::Token;
use std::sync::Arc;
use tracing::{Instrument as _, warn};

use crate::telemetry::{Throttle, traces};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) backend: Backend,
    /// What it is told of a client.
    pub(crate) telling: Telling,
    /// Ended sessions that it is to be told of.
    pub(crate) farewells: Farewells,
    /// Calls that failed, in the log.
    pub(crate) failures: Throttle,
}

/// Frames of a backend's that clients can read; what they can't is dropped.
pub(crate) fn transmissions(texts: &[String]) -> Vec<Transmission> {
    let parsed = texts.iter().filter_map(|text| {
        Transmission::parse(text)
            .inspect_err(|error| warn!(%error, "A transmission of the backend's is dropped"))
            .ok()
    });
    parsed.collect()
}

/// A session's id that nobody can guess. `None`: the system has no randomness.
fn make_sid() -> Option<Token> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .inspect_err(|error| tracing::error!(%error, "The system gives no random bytes"))
        .ok()?;
    Some(Token::from_random(u128::from_be_bytes(random)))
}

impl Application {
    /// What is kept with a session whose client made this request.
    pub(crate) fn attend(&self, request: &ConnectRequest<'_>, kept: Kept) -> Arc<Attended> {
        Arc::new(Attended::new(self.telling.of(request), kept))
    }

    async fn introduce(&self, request: ConnectRequest<'_>) -> Verdict {
        let Some(sid) = make_sid() else {
            return Verdict::Unavailable;
        };
        let attended = self.attend(&request, Kept::default());
        let call = Connect {
            env: attended.env(None),
        };
        let sid_text = sid.text();
        let connect = self.backend.connect(&sid_text, call);
        match connect.instrument(traces::call("connect")).await {
            Ok(answer) => self.read(answer, sid, attended),
            Err(error) => {
                self.note_failure("connect", &error);
                Verdict::Unavailable
            }
        }
    }

    fn read(&self, answer: Connected, sid: Token, attended: Arc<Attended>) -> Verdict {
        let said = transmissions(&answer.transmissions);
        match answer.status {
            Status::Success => {
                attended.apply(None, &answer.changes);
                attended.introduce(said.into_iter().map(|said| said.frame).collect());
                Verdict::Accept(Client {
                    identifiers: Some(answer.identifiers.into()),
                    expires: None,
                    introduction: Introduction::new(attended, Some(sid)),
                })
            }
            Status::Failure => refusal(said),
            Status::Error => {
                self.note_error("connect", &answer.error);
                Verdict::Unavailable
            }
        }
    }

    /// One command of a client's. `None`: nobody knows what it does; that is in
    /// the log.
    pub(crate) async fn command(&self, sid: &str, call: Command) -> Option<Commanded> {
        let verb = call.verb;
        let command = self.backend.command(sid, call);
        match command.instrument(traces::call(verb.as_str())).await {
            Ok(answer) if answer.status == Status::Error => {
                self.note_error(verb.as_str(), &answer.error);
                None
            }
            Ok(answer) => Some(answer),
            Err(error) => {
                self.note_failure(verb.as_str(), &error);
                None
            }
        }
    }

    pub(super) fn note_failure(&self, call: &str, error: &CallError) {
        if let Some(left_out) = self.failures.pass() {
            warn!(call, %error, left_out, "A call to the backend failed");
        }
    }

    /// What a backend says of its errors may quote what clients said.
    fn note_error(&self, call: &str, error: &str) {
        if let Some(left_out) = self.failures.pass() {
            warn!(
                call,
                left_out, "The backend answered a call with an error; its own log says which"
            );
        }
        tracing::debug!(call, error, "The backend's error");
    }
}

/// What a client is told that a backend does not let in.
fn refusal(said: Vec<Transmission>) -> Verdict {
    let otherwise = DisconnectReason::Unauthorized;
    let dismissal = said.into_iter().rev().find_map(|said| match said.kind {
        TransmissionKind::Disconnect { reason, .. } => Some(Verdict::Dismiss {
            farewell: said.frame,
            reason: reason.unwrap_or(otherwise),
        }),
        _ => None,
    });
    dismissal.unwrap_or(Verdict::Refuse {
        reason: otherwise,
        reconnect: false,
    })
}

impl Authenticator for Application {
    fn authenticate<'a>(&'a self, request: ConnectRequest<'a>) -> BoxFuture<'a, Verdict> {
        Box::pin(self.introduce(request))
    }
}

/// A command of a client's, for its backend.
pub(crate) fn command(
    verb: Verb,
    identifier: &pollux_protocol::Identifier,
    data: String,
    session: &pollux_session::Session,
    attended: &Attended,
) -> Command {
    Command {
        verb,
        identifier: identifier.as_str().to_owned(),
        connection_identifiers: session.identifiers(),
        data,
        env: attended.env(Some(identifier)),
    }
}

/// The first frames of a session, as a backend wrote them.
pub(crate) type Greeting = Vec<Frame>;
