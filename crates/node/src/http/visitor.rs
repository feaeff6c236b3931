//! Who may do what through a dialect's doors.

use super::{body::AnswerBody, broadcast::BroadcastDoor, cors::Origins, problem::Problem};
use crate::{
    auth::{Client, ConnectRequest},
    runtime::{Rejected, Runtime},
};
use axum::extract::ConnectInfo;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use pollux_broker::BrokerError;
use pollux_session::Source;
use std::net::SocketAddr;

/// The answer to somebody who may not.
pub(super) type Refusal = Box<Response<AnswerBody>>;

/// Whoever may wait for a stream's publications by its
/// plain name.
pub(super) async fn admit(runtime: &Runtime, head: &Parts) -> Result<Client, Refusal> {
    let connect = ConnectRequest::of(head);
    let client = runtime.let_in_anew(connect).await;
    let client = client.map_err(|rejected| Box::new(rejection(&rejected)))?;
    if !runtime.streams.public {
        let problem = Problem::because("streams", "streams are not public here");
        return Err(Box::new(problem.answer(StatusCode::FORBIDDEN)));
    }
    Ok(client)
}

/// The answer to a client that is not let in.
pub(super) fn rejection(rejected: &Rejected) -> Response<AnswerBody> {
    match rejected {
        Rejected::Dismissed { reason, .. } => {
            let problem = Problem::because("unauthorized", reason.as_str());
            problem.answer(StatusCode::UNAUTHORIZED)
        }
        Rejected::Later => {
            let problem = Problem::because("backend", "nobody can say now who may connect");
            problem.answer(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// Whom a request is counted for.
pub(super) fn source(runtime: &Runtime, head: &Parts) -> Option<Source> {
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(peer)| peer.ip());
    runtime.trusted_proxies.source(peer, &head.headers)
}

/// Who may publish through a dialect's door.
#[derive(Clone, Debug)]
pub(crate) struct Publishers {
    /// Knows who may publish, and publishes.
    pub(crate) door: BroadcastDoor,
    /// Pages that the operator has named.
    pub(crate) origins: Origins,
    /// Without a key: whether everybody may.
    pub(crate) open: bool,
}

impl Publishers {
    /// Whether whoever sends these headers may publish.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.door.key.is_none() {
            if !self.open {
                self.door.runtime.metrics.failed_auths.inc();
                let reason = "publishing takes a key, and none is configured";
                let problem = Problem::because("unauthorized", reason);
                return Err(Box::new(problem.answer(StatusCode::UNAUTHORIZED)));
            }
            let origin = headers.get(header::ORIGIN);
            if !self.origins.is_any() && origin.is_some() && self.origins.allow(origin) {
                return Ok(());
            }
        }
        self.door.admit(headers)
    }

    /// The answer where the broker did not do it.
    pub(super) fn failed(&self, error: &BrokerError) -> Response<AnswerBody> {
        self.door.failed(error)
    }
}

/// What a page asks before it sends its request.
pub(super) fn preflight(origins: &Origins, head: &Parts) -> Option<Response<AnswerBody>> {
    if head.method != Method::OPTIONS {
        return None;
    }
    let mut answer = Response::new(AnswerBody::empty());
    let headers = answer.headers_mut();
    origins.mark(head.headers.get(header::ORIGIN), headers);
    Origins::preflight(headers);
    let methods = HeaderValue::from_static("GET, POST, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    Some(answer)
}

/// Whether a page of this origin may read answers.
pub(super) fn check_origin(origins: &Origins, headers: &HeaderMap) -> Result<(), Refusal> {
    if origins.allow(headers.get(header::ORIGIN)) {
        return Ok(());
    }
    let problem = Problem::because("origin", "pages of this origin may not connect");
    Err(Box::new(problem.answer(StatusCode::FORBIDDEN)))
}

/// The node takes no more clients.
pub(super) fn busy() -> Response<AnswerBody> {
    let problem = Problem::because("busy", "the node takes no more clients now");
    problem.answer(StatusCode::SERVICE_UNAVAILABLE)
}

pub(super) fn bad_request(error: &str, reason: &str) -> Refusal {
    Box::new(Problem::because(error, reason).answer(StatusCode::BAD_REQUEST))
}
