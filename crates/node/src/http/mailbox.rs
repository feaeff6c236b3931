//! `/poll` and `/push`: bytes for one recipient, each message to one poll.
//!
//! A recipient is a stream. What is pushed waits in the stream's history for
//! one of the polls, on whichever node; what does not reach its poll is the
//! first that the next one gets.

mod content;

use super::{
    body::{AnswerBody, InFlight},
    cors::Origins,
    problem::{Problem, too_many_publications},
    pull::{Pull, PullError, Pulled},
    visitor::{self, Publishers, Refusal, bad_request},
};
use crate::{limits::Entrance, runtime::Runtime};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pollux_broker::{Group, Keep, Offer, Offered};
use pollux_protocol::{Meta, Publication, StreamName};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tracing::Instrument as _;

/// Messages kept beyond those that wait: what is on its way to a poll may come
/// back.
const ON_THE_WAY: usize = 128;

const FORM: &str = "application/x-www-form-urlencoded";

/// The operator's rules for mailboxes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MailboxConfig {
    /// How long a poll is held.
    pub(crate) timeout: Duration,
    /// What it is answered with then.
    pub(crate) timeout_status: StatusCode,
    /// Messages that may wait for a recipient who is away.
    pub(crate) capacity: usize,
    /// Publications that any stream keeps.
    pub(crate) history_limit: usize,
    /// How long they are kept.
    pub(crate) ttl: Duration,
}

/// The mailboxes' routes.
#[derive(Clone, Debug)]
pub(crate) struct MailboxDoor {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) origins: Origins,
    pub(crate) publishers: Publishers,
    pub(crate) config: MailboxConfig,
}

impl MailboxConfig {
    fn keep(&self) -> Keep {
        Keep {
            limit: self
                .history_limit
                .max(self.capacity.saturating_add(ON_THE_WAY)),
            ttl: self.ttl,
        }
    }
}

impl MailboxDoor {
    /// Serves one poll.
    pub(crate) async fn poll(&self, request: Request<axum::body::Body>) -> Response<AnswerBody> {
        let (head, _body) = request.into_parts();
        if let Some(answer) = visitor::preflight(&self.origins, &head) {
            return answer;
        }
        let answer = self.wait(&head).await.unwrap_or_else(|refusal| *refusal);
        self.marked(&head, answer)
    }

    /// Serves one push.
    pub(crate) async fn push(&self, request: Request<axum::body::Body>) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        if let Some(answer) = visitor::preflight(&self.origins, &head) {
            return answer;
        }
        let answer = match self.deliver(&head, body).await {
            Ok(()) => Response::new(AnswerBody::empty()),
            Err(refusal) => *refusal,
        };
        self.marked(&head, answer)
    }

    fn marked(&self, head: &Parts, mut answer: Response<AnswerBody>) -> Response<AnswerBody> {
        let origin = head.headers.get(header::ORIGIN);
        self.origins.mark(origin, answer.headers_mut());
        answer
    }

    async fn wait(&self, head: &Parts) -> Result<Response<AnswerBody>, Refusal> {
        visitor::check_origin(&self.origins, &head.headers)?;
        if head.method == Method::HEAD {
            let reason = "a HEAD request would take a message and show nothing of it";
            return Err(bad_request("method", reason));
        }
        let client = visitor::admit(&self.runtime, head).await?;
        let query = head.uri.query().unwrap_or_default();
        let stream = recipient(field(query.as_bytes(), "rcpt").as_deref())?;
        let pull = Pull {
            runtime: Arc::clone(&self.runtime),
            stream,
            group: Group::Mailbox,
            max: 1,
            bound: self.config.keep().limit,
            idle: None,
        };
        let source = visitor::source(&self.runtime, head);
        let pulled = Box::pin(pull.within(client, source, self.config.timeout)).await;
        let connection = head.extensions.get::<Arc<InFlight>>().cloned();
        let (status, body) = match pulled {
            Ok(Pulled::Loan(loan)) => {
                let data = loan.entries.first();
                let data = data.map(|entry| content::to_bytes(&entry.publication.data));
                let bytes = Bytes::from(data.unwrap_or_default());
                (
                    StatusCode::OK,
                    AnswerBody::lent(bytes, loan.lent, connection),
                )
            }
            Ok(Pulled::Live(live)) => {
                // An answer is one message. What nobody keeps can't wait for
                // another.
                let lost = u64::try_from(live.len().saturating_sub(1)).unwrap_or(u64::MAX);
                self.runtime.metrics.dropped.inc_by(lost);
                let data = live.first();
                let data = data.map(|publication| content::to_bytes(&publication.data));
                let bytes = Bytes::from(data.unwrap_or_default());
                (StatusCode::OK, AnswerBody::Plain(bytes))
            }
            Ok(Pulled::Nothing) => (self.config.timeout_status, AnswerBody::empty()),
            Err(PullError::Busy) => return Err(Box::new(visitor::busy())),
            Err(PullError::Broker(error)) => {
                return Err(Box::new(self.publishers.failed(&error)));
            }
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        let plain = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        for (name, value) in plain {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Ok(answer)
    }

    async fn deliver(&self, head: &Parts, body: axum::body::Body) -> Result<(), Refusal> {
        if head.method != Method::POST {
            return Err(bad_request("method", "messages are pushed by POST"));
        }
        self.publishers.admit(&head.headers)?;
        let query = head.uri.query().unwrap_or_default();
        let named = field(query.as_bytes(), "rcpt");
        if named.is_none() && !is_form(&head.headers) {
            return Err(recipient(None).err().unwrap_or_else(no_recipient));
        }
        let body = self.read(body).await?;
        // With the recipient in the query the body is the message, whatever
        // type it claims to have.
        let (stream, message) = match named {
            Some(name) => (recipient(Some(&name))?, body),
            None => {
                let name = field(&body, "rcpt");
                let message = field(&body, "message").unwrap_or_default();
                (recipient(name.as_deref())?, Bytes::from(message))
            }
        };
        let data = content::to_payload(&message)
            .filter(|data| data.as_bytes().len() <= self.runtime.max_publication_size)
            .ok_or_else(|| self.too_large())?;
        let noted = self.runtime.note_publications(Entrance::Mailbox, 1);
        noted.map_err(|wait| Box::new(too_many_publications(wait)))?;
        let mut publication = Publication {
            stream,
            data,
            meta: Meta::default(),
        };
        let offer = Offer {
            keep: Some(self.config.keep()),
            capacity: Some((Group::Mailbox, self.config.capacity)),
        };
        let span = self.runtime.trace(&mut publication);
        let offered = self.runtime.broker.offer(publication, offer);
        match offered.instrument(span).await {
            Ok(Offered::Accepted(_)) => {
                self.runtime.metrics.publications.inc();
                Ok(())
            }
            Ok(Offered::Full) => {
                let problem = Problem::because("full", "nobody listens, and no room is left");
                Err(Box::new(problem.answer(StatusCode::SERVICE_UNAVAILABLE)))
            }
            Err(error) => Err(Box::new(self.publishers.failed(&error))),
        }
    }

    async fn read(&self, body: axum::body::Body) -> Result<Bytes, Refusal> {
        let read = Limited::new(body, self.runtime.max_publication_size).collect();
        match timeout(self.runtime.read_timeout, read).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(self.too_large()),
            Ok(Err(_)) => Err(bad_request("body", "the body ended too early")),
            Err(_) => {
                let problem = Problem::because("body", "the body did not come in time");
                Err(Box::new(problem.answer(StatusCode::REQUEST_TIMEOUT)))
            }
        }
    }

    fn too_large(&self) -> Refusal {
        let limit = self.runtime.max_publication_size;
        let limit = format!("a message takes at most {limit} bytes, as JSON");
        let problem = Problem::because("body too large", &limit);
        Box::new(problem.answer(StatusCode::PAYLOAD_TOO_LARGE))
    }
}

fn no_recipient() -> Refusal {
    bad_request("rcpt", "name a recipient: rcpt=<name>")
}

fn recipient(name: Option<&str>) -> Result<StreamName, Refusal> {
    let name = name.unwrap_or_default();
    if name.is_empty() {
        return Err(no_recipient());
    }
    StreamName::try_new(name).map_err(|error| bad_request("rcpt", &error.to_string()))
}

/// The last field of this name, as in the other dialects.
fn field(form: &[u8], name: &str) -> Option<String> {
    let fields = form_urlencoded::parse(form).filter(|(key, _)| key == name);
    fields.last().map(|(_, value)| value.into_owned())
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(FORM)
}
