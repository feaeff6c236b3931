//! `/ws/poll` and `/ws/send`: a room's messages without a socket.

mod chat;
mod history;
mod query;
mod socket;

pub(crate) use socket::RoomSocketConfig;

use super::{
    body::{AnswerBody, InFlight},
    cors::Origins,
    problem::too_many_publications,
    pull::{PullError, Pulled},
    visitor::{self, Publishers, Refusal},
};
use crate::{limits::Entrance, rooms::Rooms};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pollux_protocol::{NameError, RoomMessage, SendRequest, StreamName};
use query::PollQuery;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// The rooms' routes.
#[derive(Clone, Debug)]
pub(crate) struct RoomDoor {
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) origins: Origins,
    pub(crate) publishers: Publishers,
    /// How long a poll is held that does not say.
    pub(crate) wait: Duration,
    /// The longest a poll may ask for.
    pub(crate) max_wait: Duration,
    pub(crate) socket: RoomSocketConfig,
}

impl RoomDoor {
    /// Serves one poll.
    pub(crate) async fn poll(&self, request: Request<axum::body::Body>) -> Response<AnswerBody> {
        let (head, _body) = request.into_parts();
        if let Some(answer) = visitor::preflight(&self.origins, &head) {
            return answer;
        }
        let answer = self.fetch(&head).await.unwrap_or_else(|refusal| *refusal);
        self.marked(&head, answer)
    }

    /// Serves one message.
    pub(crate) async fn send(&self, request: Request<axum::body::Body>) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        if let Some(answer) = visitor::preflight(&self.origins, &head) {
            return answer;
        }
        let answer = match self.accept(&head, body).await {
            Ok(session) => {
                let session = serde_json::to_string(session.as_str()).unwrap_or_default();
                let body = format!("{{\"session_id\":{session},\"status\":\"queued\"}}");
                json(StatusCode::ACCEPTED, AnswerBody::Plain(body.into()))
            }
            Err(refusal) => *refusal,
        };
        self.marked(&head, answer)
    }

    fn marked(&self, head: &Parts, mut answer: Response<AnswerBody>) -> Response<AnswerBody> {
        let origin = head.headers.get(header::ORIGIN);
        self.origins.mark(origin, answer.headers_mut());
        answer
    }

    async fn fetch(&self, head: &Parts) -> Result<Response<AnswerBody>, Refusal> {
        if head.method != Method::GET {
            return Err(wrong_method("GET, OPTIONS"));
        }
        visitor::check_origin(&self.origins, &head.headers)?;
        let client = visitor::admit(&self.rooms.runtime, head).await?;
        let query = PollQuery::parse(head.uri.query().unwrap_or_default());
        let session = StreamName::try_new(&query.session).map_err(|error| bad_name(&error))?;
        self.rooms.counts.polls.fetch_add(1, Ordering::Relaxed);
        let wait = query.wait.unwrap_or(self.wait).min(self.max_wait);
        let pull = self.rooms.pull(session.clone(), query.max);
        if pull.max == 0 {
            return Ok(json(StatusCode::OK, AnswerBody::Plain(array(&[]))));
        }
        let source = visitor::source(&self.rooms.runtime, head);
        let pulled = Box::pin(pull.within(client, source, wait)).await;
        // A client that has waited is alive all that time.
        self.rooms.touch(&session);
        let body = match pulled {
            Ok(Pulled::Loan(loan)) => {
                let connection = head.extensions.get::<Arc<InFlight>>().cloned();
                let bytes = array(&self.rooms.messages(&loan));
                AnswerBody::lent(bytes, loan.lent, connection)
            }
            Ok(Pulled::Live(live)) => {
                let messages: Vec<_> = live.iter().map(RoomMessage::of).collect();
                AnswerBody::Plain(array(&messages))
            }
            Ok(Pulled::Nothing) => AnswerBody::Plain(array(&[])),
            Err(PullError::Busy) => return Err(Box::new(visitor::busy())),
            Err(PullError::Broker(error)) => {
                return Err(Box::new(self.publishers.failed(&error)));
            }
        };
        Ok(json(StatusCode::OK, body))
    }

    async fn accept(&self, head: &Parts, body: axum::body::Body) -> Result<StreamName, Refusal> {
        if head.method != Method::POST {
            return Err(wrong_method("POST, OPTIONS"));
        }
        self.publishers.admit(&head.headers)?;
        let runtime = &self.rooms.runtime;
        let read = Limited::new(body, runtime.max_publication_size).collect();
        let body = match timeout(runtime.read_timeout, read).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(_)) => return Err(error(StatusCode::BAD_REQUEST, "the body broke off")),
            Err(_) => return Err(error(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        };
        let SendRequest { message, session } = SendRequest::parse(&body)
            .map_err(|wrong| error(StatusCode::BAD_REQUEST, &wrong.to_string()))?;
        let session = match session {
            Some(session) => StreamName::try_new(&session),
            None => self.rooms.resolver.resolve(&message),
        };
        let session = session.map_err(|error| bad_name(&error))?;
        if message.to_json().len() > runtime.max_publication_size {
            return Err(too_large());
        }
        let noted = runtime.note_publications(Entrance::Room, 1);
        noted.map_err(|wait| Box::new(too_many_publications(wait)))?;
        match self.rooms.send(session.clone(), &message).await {
            Ok(()) => Ok(session),
            Err(error) => Err(Box::new(self.publishers.failed(&error))),
        }
    }
}

/// Messages as a JSON array.
fn array(messages: &[RoomMessage]) -> Bytes {
    let mut out = vec![b'['];
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        message.push_json(&mut out);
    }
    out.push(b']');
    out.into()
}

fn json(status: StatusCode, body: AnswerBody) -> Response<AnswerBody> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let plain = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in plain {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// An error as this dialect's clients know them.
fn error(status: StatusCode, reason: &str) -> Refusal {
    let reason = serde_json::to_string(reason).unwrap_or_default();
    let body = format!("{{\"error\":{reason}}}");
    Box::new(json(status, AnswerBody::Plain(body.into())))
}

fn too_large() -> Refusal {
    error(StatusCode::PAYLOAD_TOO_LARGE, "the message is too large")
}

fn bad_name(reason: &NameError) -> Refusal {
    error(StatusCode::BAD_REQUEST, &format!("session_id {reason}"))
}

fn wrong_method(allowed: &'static str) -> Refusal {
    let mut refusal = error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    let allowed = HeaderValue::from_static(allowed);
    refusal.headers_mut().insert(header::ALLOW, allowed);
    refusal
}
