//! `/events`: a session's outbox as server-sent events.
//!
//! `GET` opens one subscription, named in the query; `POST` takes a body of
//! commands, each a subscription. What is refused is refused before the stream
//! begins, because a browser tries for ever what has begun well.

mod body;
mod gzip;
mod query;

use super::{
    accept_encoding::accepts_gzip, body::AnswerBody, cors::Origins, problem::Problem,
    visitor::rejection,
};
use crate::{
    auth::ConnectRequest,
    runtime::{Rejected, Runtime},
};
use axum::extract::Request;
use body::EventBody;
use gzip::Gzip;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use pollux_protocol::{
    Command, Frame, HistoryRequest, Identifier,
    sse::{EventWriter, last_event_id, place_of_event_id},
};
use pollux_session::{Answer, Session, Time};
use query::EventQuery;
use std::{future::poll_fn, sync::Arc, time::Duration};

/// What the route takes.
const METHODS: &str = "GET, POST, OPTIONS";

/// The event stream's route.
#[derive(Clone, Debug)]
pub(crate) struct EventDoor {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) origins: Origins,
    /// Between two signs of life; zero for none.
    pub(crate) ping_interval: Duration,
    /// Whether streams are compressed for those who ask for it.
    pub(crate) compress: bool,
}

/// What a request asks for.
struct Wish {
    commands: Vec<Command>,
    writer: EventWriter,
    raw: bool,
}

type Refusal = Box<Response<AnswerBody>>;

impl EventDoor {
    /// Serves one request.
    pub(crate) async fn serve(&self, request: Request) -> Response<axum::body::Body> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        if !self.origins.allow(origin.as_ref()) {
            let problem = Problem::because("origin", "pages of this origin may not connect");
            return refused(problem.answer(StatusCode::FORBIDDEN));
        }
        if request.method() == Method::OPTIONS {
            let mut answer = Response::new(axum::body::Body::empty());
            let headers = answer.headers_mut();
            self.origins.mark(origin.as_ref(), headers);
            Origins::preflight(headers);
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(METHODS),
            );
            return answer;
        }
        let mut answer = match self.open(request).await {
            Ok(answer) => answer,
            Err(refusal) => refused(*refusal),
        };
        self.origins.mark(origin.as_ref(), answer.headers_mut());
        if self.compress {
            let vary = HeaderValue::from_static("Origin, Accept-Encoding");
            answer.headers_mut().insert(header::VARY, vary);
        }
        answer
    }

    async fn open(&self, request: Request) -> Result<Response<axum::body::Body>, Refusal> {
        let (head, body) = request.into_parts();
        if head.method != Method::GET && head.method != Method::POST {
            let problem = Problem::because("method", "event streams are GET or POST requests");
            let mut answer = problem.answer(StatusCode::METHOD_NOT_ALLOWED);
            let allowed = HeaderValue::from_static(METHODS);
            answer.headers_mut().insert(header::ALLOW, allowed);
            return Err(Box::new(answer));
        }
        let query = EventQuery::parse(head.uri.query().unwrap_or_default());
        let wish = if head.method == Method::GET {
            self.one(&head, &query)?
        } else {
            self.several(body, query.raw).await?
        };
        let session = self.admit(&head).await?;
        self.runtime.greet(&session);
        // From here on the session ends with this.
        let mut events = EventBody::new(
            Arc::clone(&self.runtime),
            Arc::clone(&session),
            wish.writer,
            self.ping_interval,
            wish.raw,
        );
        let asked = identifiers(&wish.commands);
        self.runtime.run_commands(&session, wish.commands);
        let first = first_frames(&self.runtime, &session, asked.len()).await;
        if !asked.is_empty() && count(&first, "reject_subscription") >= asked.len() {
            let problem = Problem::because("subscription", "the subscription was rejected");
            return Err(Box::new(problem.answer(StatusCode::BAD_REQUEST)));
        }
        if session.is_over() && count(&first, "confirm_subscription") == 0 {
            return Err(Box::new(rejection(&Rejected::Later)));
        }
        events.begin(&first);
        let encodings = head.headers.get_all(header::ACCEPT_ENCODING);
        let compress = self.compress && accepts_gzip(encodings.iter().map(HeaderValue::as_bytes));
        let mut answer = Response::new(if compress {
            axum::body::Body::new(Gzip::new(events))
        } else {
            axum::body::Body::new(events)
        });
        let headers = answer.headers_mut();
        if compress {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let plain = [
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (
                header::CACHE_CONTROL,
                "private, no-cache, no-store, max-age=0",
            ),
        ];
        for (name, value) in plain {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(answer)
    }

    /// The one subscription of a `GET`.
    fn one(&self, head: &Parts, query: &EventQuery) -> Result<Wish, Refusal> {
        let identifier = query.identifier.as_deref().ok_or_else(|| {
            let reason = "name a subscription: stream, signed_stream, channel or identifier";
            Box::new(Problem::because("query", reason).answer(StatusCode::BAD_REQUEST))
        })?;
        let identifier = Identifier::try_new(identifier).map_err(|_| {
            let problem = Problem::because("query", "the identifier is empty or too long");
            Box::new(problem.answer(StatusCode::BAD_REQUEST))
        })?;
        let header = head.headers.get("last-event-id");
        let last = match header {
            Some(value) => value.to_str().ok().map(str::to_owned),
            None => query.last_event_id.clone(),
        };
        let mut history = HistoryRequest {
            since: query.history_since,
            streams: Vec::new(),
        };
        if let Some(last) = last.filter(|last| !last.is_empty()) {
            let streams = &self.runtime.streams;
            let place = match streams.resolve(&identifier) {
                Some(permission) => {
                    let position = last_event_id(&last, &permission.stream);
                    position.map(|position| (permission.stream, position))
                }
                None if streams.leaves_to_backend(&identifier) => place_of_event_id(&last),
                None => None,
            };
            let Some(place) = place else {
                let reason = "Last-Event-ID is not one of this stream";
                let problem = Problem::because("last-event-id", reason);
                return Err(Box::new(problem.answer(StatusCode::BAD_REQUEST)));
            };
            history.streams.push(place);
        }
        let asks = history.since.is_some() || !history.streams.is_empty();
        Ok(Wish {
            writer: EventWriter::unwrapping(&identifier, query.raw),
            raw: query.raw,
            commands: vec![Command::Subscribe {
                identifier,
                history: asks.then_some(history),
                presence: None,
            }],
        })
    }

    /// The subscriptions of a `POST`.
    async fn several(&self, body: axum::body::Body, raw: bool) -> Result<Wish, Refusal> {
        let limit = self.runtime.max_request_size;
        let read = Limited::new(body, limit).collect();
        let read = tokio::time::timeout(self.runtime.read_timeout, read).await;
        let body = match read {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(_)) => {
                let problem = Problem::because("body", "the body is too large, or broke off");
                return Err(Box::new(problem.answer(StatusCode::PAYLOAD_TOO_LARGE)));
            }
            Err(_) => {
                let problem = Problem::because("body", "the body did not come in time");
                return Err(Box::new(problem.answer(StatusCode::REQUEST_TIMEOUT)));
            }
        };
        let mut commands = self.runtime.parse_commands(&body);
        commands.retain(|command| matches!(command, Command::Subscribe { .. }));
        if commands.is_empty() {
            let problem = Problem::because("body", "there is no subscribe command in it");
            return Err(Box::new(problem.answer(StatusCode::BAD_REQUEST)));
        }
        Ok(Wish {
            writer: EventWriter::whole(raw),
            raw,
            commands,
        })
    }

    async fn admit(&self, head: &Parts) -> Result<Arc<Session>, Refusal> {
        let connect = ConnectRequest::of(head);
        let source = self.runtime.source(&connect);
        let client = self.runtime.let_in_anew(connect).await;
        let client = client.map_err(|rejected| Box::new(rejection(&rejected)))?;
        self.runtime.open_passing(client, source).ok_or_else(|| {
            let problem = Problem::because("busy", "the node takes no more clients now");
            Box::new(problem.answer(StatusCode::SERVICE_UNAVAILABLE))
        })
    }
}

fn refused(refusal: Response<AnswerBody>) -> Response<axum::body::Body> {
    refusal.map(axum::body::Body::new)
}

fn identifiers(commands: &[Command]) -> Vec<Identifier> {
    let mut identifiers: Vec<_> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Subscribe { identifier, .. } => Some(identifier.clone()),
            _ => None,
        })
        .collect();
    identifiers.sort();
    identifiers.dedup();
    identifiers
}

/// The frames up to the verdicts on all subscriptions.
async fn first_frames(runtime: &Runtime, session: &Arc<Session>, asked: usize) -> Vec<Frame> {
    let mut first = Vec::new();
    loop {
        let verdicts = count(&first, "confirm_subscription") + count(&first, "reject_subscription");
        if verdicts >= asked {
            return first;
        }
        let mut poll = session.park(Time::NEVER);
        let answer =
            poll_fn(|context| poll.poll_answer(runtime.clock.now(), context.waker())).await;
        match answer {
            Answer::Frames {
                frames,
                mut delivery,
                ..
            } => {
                first.extend(frames);
                delivery.flushed(runtime.clock.now());
                delivery.confirm();
            }
            Answer::Empty { .. } => {}
            Answer::Closed { .. } => return first,
        }
    }
}

fn count(frames: &[Frame], kind: &str) -> usize {
    let start = format!("{{\"type\":\"{kind}\"");
    frames
        .iter()
        .filter(|frame| frame.line().starts_with(start.as_bytes()))
        .count()
}
