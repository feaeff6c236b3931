//! What operators and their tools ask for.

use super::{
    accept::prefers_openmetrics,
    body::AnswerBody,
    problem::{Problem, retry_after},
};
use crate::{runtime::Runtime, telemetry::openmetrics};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prometheus::proto::MetricFamily;
use std::sync::atomic::Ordering;
use tracing::error;

/// The console page.
const CONSOLE: &str = include_str!("../../console/index.html");

/// The client that it uses, which is that of applications.
const CLIENT: &str = include_str!("../../../../clients/js/index.js");

/// Whether the process lives.
pub(super) fn health() -> Response<AnswerBody> {
    plain(StatusCode::OK, "ok\n")
}

/// Whether clients and publishers may be sent here.
pub(super) fn ready(runtime: &Runtime) -> Response<AnswerBody> {
    if runtime.is_leaving() {
        plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if runtime.broker.is_ready() {
        plain(StatusCode::OK, "ready\n")
    } else {
        plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "the broker can't be reached\n",
        )
    }
}

/// All metrics, and `more` of them, in the format that is asked for. Gauges of
/// sessions are counted now.
pub(super) fn metrics(
    runtime: &Runtime,
    headers: &HeaderMap,
    more: &[MetricFamily],
) -> Response<AnswerBody> {
    let metrics = &runtime.metrics;
    let census = runtime.registry.census();
    let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.sessions.set(gauge(census.sessions));
    metrics.clients.set(gauge(census.sessions));
    metrics.unique_clients.set(gauge(census.unique));
    let sockets = runtime.sockets.load(Ordering::Relaxed);
    metrics.websocket_clients.set(gauge(sockets));
    let streams = runtime.event_streams.load(Ordering::Relaxed);
    metrics.sse_clients.set(gauge(streams));
    let streaming = sockets + streams;
    let polling = census.sessions.saturating_sub(streaming);
    metrics.long_poll_clients.set(gauge(polling));
    // To a session a socket or stream is a poll that always waits.
    metrics
        .parked_polls
        .set(gauge(census.parked.saturating_sub(streaming)));
    metrics.subscriptions.set(gauge(census.subscriptions));
    let (present, watched) = runtime.present_here();
    metrics.present_sessions.set(gauge(present));
    metrics.presence_streams.set(gauge(watched));
    metrics.outbox_frames.set(gauge(census.outbox_frames));
    metrics.outbox_bytes.set(gauge(census.outbox_bytes));
    metrics.streams.set(gauge(runtime.hub.streams()));
    metrics.broker_up.set(i64::from(runtime.broker.is_ready()));
    metrics
        .memory_limit
        .set(i64::try_from(crate::telemetry::memory::limit()).unwrap_or(i64::MAX));
    metrics.show_broker(&runtime.broker.stats());
    if let Some(traces) = &runtime.traces {
        metrics.show_traces(traces.numbers());
    }
    if let Some(application) = &runtime.application {
        metrics.show_backend(&application.backend.tallies(), application.farewells.len());
    }
    let asked = headers.get_all(header::ACCEPT);
    let made = if prefers_openmetrics(asked.iter().map(HeaderValue::as_bytes)) {
        Ok((metrics.openmetrics(more).into_bytes(), openmetrics::FORMAT))
    } else {
        let format = "text/plain; version=0.0.4; charset=utf-8";
        metrics.page(more).map(|page| (page, format))
    };
    match made {
        Ok((page, format)) => {
            let mut response = Response::new(AnswerBody::Plain(page.into()));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format));
            headers.insert(header::VARY, HeaderValue::from_static("accept"));
            response
        }
        Err(error) => {
            error!(%error, "The metrics page can't be made");
            Problem::new("metrics").answer(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// The console page: a client of this node like any other.
pub(super) fn console() -> Response<AnswerBody> {
    page(CONSOLE, "text/html; charset=utf-8")
}

/// The console's client.
pub(super) fn client() -> Response<AnswerBody> {
    page(CLIENT, "text/javascript; charset=utf-8")
}

fn page(text: &'static str, format: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Plain(Bytes::from_static(text.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Plain(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from(u16::from(retry_after()));
        headers.insert(header::RETRY_AFTER, seconds);
    }
    response
}
