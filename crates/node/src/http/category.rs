//! The two doors of a category, as golongpoll has them: polls that wait for its
//! next event, and publications to it.
//!
//! A category is the stream of its name. What has been published is the
//! stream's history, and who waits is a [`Listener`](super::listener::Listener),
//! so categories have no queue and no fan-out of their own.

mod gate;
mod history;
mod look;
mod poll;
mod publish;

use super::{
    body::{AnswerBody, InFlight},
    broadcast::BroadcastDoor,
    cors::Origins,
};
use crate::{archive::Archive, runtime::Runtime};
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use pollux_broker::Keep;
use pollux_protocol::category;
use std::{sync::Arc, time::Duration};

pub(crate) use gate::BasicUser;
pub(crate) use history::Heads;

/// A broker that keeps as long as it can is asked for a year: what is older
/// than that in a category nobody writes to is worth less than its memory.
pub(crate) const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const POLL_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, HEAD, OPTIONS");
const PUBLISH_METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");

/// How long a client that is sent away should wait.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Both doors.
#[derive(Clone, Debug)]
pub(crate) struct CategoryDoor(pub(crate) Arc<Category>);

/// What the doors of one node share.
#[derive(Debug)]
pub(crate) struct Category {
    pub(crate) runtime: Arc<Runtime>,
    /// Whose pages may use the doors; `None`: no answer has a header about it,
    /// and a preflight is a request like any other.
    pub(crate) origins: Option<Origins>,
    /// Who pollers and publishers must be.
    pub(crate) user: Option<BasicUser>,
    /// Who else may publish, and how much at a time.
    pub(crate) publish: BroadcastDoor,
    /// Whether publishing takes neither user nor key.
    pub(crate) is_open: bool,
    /// The longest wait, in seconds.
    pub(crate) max_timeout: u64,
    /// Events kept for a category, and for how long.
    pub(crate) keep: Keep,
    /// An event that was had is gone.
    pub(crate) delete: bool,
    /// Where events survive a restart.
    pub(crate) archive: Option<Archive>,
    /// What is known of the last events of categories.
    pub(crate) heads: Heads,
}

impl CategoryDoor {
    /// Serves one poll.
    pub(crate) async fn poll(&self, request: Request) -> Response<AnswerBody> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        if let Some(answer) = self.0.preflight(&request, origin.as_ref(), POLL_METHODS) {
            return answer;
        }
        let connection = request.extensions().get::<Arc<InFlight>>().cloned();
        let mut answer = match self.0.begin(request).await {
            // Boxed, and with nothing left of the request: this waits.
            Ok(poll) => Box::pin(poll.answer(connection)).await,
            Err(refusal) => *refusal,
        };
        let headers = answer.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
            (header::PRAGMA, "no-cache"),
            (header::EXPIRES, "0"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        self.0.finish(origin.as_ref(), headers);
        answer
    }

    /// Serves one publication.
    pub(crate) async fn publish(&self, request: Request) -> Response<AnswerBody> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        if let Some(answer) = self.0.preflight(&request, origin.as_ref(), PUBLISH_METHODS) {
            return answer;
        }
        let mut answer = match self.0.accept(request).await {
            Ok(()) => json(StatusCode::OK, Bytes::from_static(b"{\"success\": true}")),
            Err(refusal) => *refusal,
        };
        self.0.finish(origin.as_ref(), answer.headers_mut());
        answer
    }
}

impl Category {
    /// The answer to a page that asks whether it may send a request, or that
    /// may not.
    fn preflight(
        &self,
        request: &Request,
        origin: Option<&HeaderValue>,
        methods: HeaderValue,
    ) -> Option<Response<AnswerBody>> {
        let origins = self.origins.as_ref()?;
        if !origins.allow(origin) {
            return Some(refusal(
                StatusCode::FORBIDDEN,
                "This origin is not in allowed_origins.",
            ));
        }
        if *request.method() != Method::OPTIONS {
            return None;
        }
        let mut answer = Response::new(AnswerBody::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        origins.mark(origin, headers);
        Origins::preflight(headers);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        // Clients of golongpoll send whatever headers their page wants.
        let wanted = request
            .headers()
            .get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(wanted) = wanted {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        Some(answer)
    }

    fn finish(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Some(origins) = &self.origins {
            origins.mark(origin, headers);
        }
        if self.runtime.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// An answer with the headers of all answers.
fn json(status: StatusCode, body: Bytes) -> Response<AnswerBody> {
    with_headers(status, AnswerBody::Plain(body))
}

fn with_headers(status: StatusCode, body: AnswerBody) -> Response<AnswerBody> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let is_for_now = [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    if is_for_now.contains(&status) {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    answer
}

/// An answer in place of the wanted one. Boxed, because it is rare and large.
fn refusal(status: StatusCode, text: &str) -> Response<AnswerBody> {
    json(status, category::error(text))
}

type Refusal = Box<Response<AnswerBody>>;
