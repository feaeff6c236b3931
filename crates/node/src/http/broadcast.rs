//! `POST /_broadcast`: publishing for backends that speak no Redis.

use super::{
    body::AnswerBody,
    problem::{Problem, too_many_publications},
};
use crate::{auth::BearerKey, limits::Entrance, runtime::Runtime, telemetry::traces::adopt};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use pollux_broker::BrokerError;
use pollux_protocol::{Inbound, PublicationError};
use std::{net::IpAddr, sync::Arc};
use tokio::time::timeout;
use tracing::warn;

/// The publishing route.
#[derive(Clone, Debug)]
pub(crate) struct BroadcastDoor {
    pub(crate) runtime: Arc<Runtime>,
    /// What its publications are counted as.
    pub(crate) entrance: Entrance,
    /// What publishers must present; `None` takes publications from everybody
    /// who is not a page of another origin.
    pub(crate) key: Option<BearerKey>,
    /// Bytes of a body.
    pub(crate) max_size: usize,
    /// Pages of every origin may publish (if they have the key).
    pub(crate) cors: bool,
    /// Only pages that came from this machine by its own name may publish
    /// without a key: any other name can be made to point here.
    pub(crate) local_only: bool,
}

impl BroadcastDoor {
    /// Serves one request.
    pub(crate) async fn serve(&self, request: Request<axum::body::Body>) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let mut response = if self.cors && head.method == Method::OPTIONS {
            Response::new(AnswerBody::empty())
        } else {
            match self.accept(&head.method, &head.headers, body).await {
                Ok(()) => {
                    let mut response = Response::new(AnswerBody::empty());
                    *response.status_mut() = StatusCode::CREATED;
                    response
                }
                Err(response) => response,
            }
        };
        if self.cors {
            let headers = response.headers_mut();
            let add = |headers: &mut HeaderMap, name, value| {
                headers.insert(name, HeaderValue::from_static(value));
            };
            add(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
            add(
                headers,
                header::ACCESS_CONTROL_ALLOW_METHODS,
                "POST, OPTIONS",
            );
            add(
                headers,
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Authorization, Content-Type",
            );
        }
        response
    }

    async fn accept(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: axum::body::Body,
    ) -> Result<(), Response<AnswerBody>> {
        if *method != Method::POST {
            let problem = Problem::because("method", "publications are POST requests");
            return Err(problem.answer(StatusCode::UNPROCESSABLE_ENTITY));
        }
        self.admit(headers).map_err(|refusal| *refusal)?;
        let body = self.read(body).await?;
        match Inbound::parse(&body) {
            Ok(mut inbound) => {
                self.adopt_trace(headers, &mut inbound);
                let number = match &inbound {
                    Inbound::Publications(publications) => publications.len(),
                    Inbound::Disconnect(_) => 1,
                };
                let noted = self.runtime.note_publications(self.entrance, number);
                noted.map_err(too_many_publications)?;
                self.publish(inbound).await
            }
            Err(error) => {
                self.runtime.metrics.failed_broadcasts.inc();
                Err(invalid(&error))
            }
        }
    }

    /// Whether whoever sends these headers may use the door.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Box<Response<AnswerBody>>> {
        self.admit_with(headers, "broadcast key")
    }

    /// The same, where the key is called something else.
    pub(super) fn admit_with(
        &self,
        headers: &HeaderMap,
        called: &str,
    ) -> Result<(), Box<Response<AnswerBody>>> {
        match &self.key {
            Some(key) if !key.is_in(headers) => {
                self.runtime.metrics.failed_auths.inc();
                let reason = format!("present the {called} as Authorization: Bearer <key>");
                let problem = Problem::because("unauthorized", &reason);
                Err(Box::new(problem.answer(StatusCode::UNAUTHORIZED)))
            }
            None if !self.cors && self.is_foreign(headers) => {
                // Without a key, any page a developer visits could publish.
                let reason = "a page of another origin may not publish without a key";
                let problem = Problem::because("origin", reason);
                Err(Box::new(problem.answer(StatusCode::FORBIDDEN)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a browser sent this for a page that did not come from here.
    pub(super) fn is_foreign(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return false;
        };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let origin = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        let (Some((_, from)), Some(host)) = (origin, host) else {
            return true;
        };
        from != host || (self.local_only && !is_loopback(host))
    }

    /// Whether a browser may have been led here by another name, for a page that could then read
    /// the answer as its own. Such a request has no origin.
    pub(super) fn is_led_astray(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        self.key.is_none() && self.local_only && !host.is_some_and(is_loopback)
    }

    async fn read(&self, body: axum::body::Body) -> Result<Bytes, Response<AnswerBody>> {
        let limit = self.runtime.read_timeout;
        let Ok(body) = timeout(limit, Limited::new(body, self.max_size).collect()).await else {
            let problem = Problem::because("body", "the body took too long");
            return Err(problem.answer(StatusCode::REQUEST_TIMEOUT));
        };
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let limit = format!("a body holds at most {} bytes", self.max_size);
                let problem = Problem::because("body too large", &limit);
                Err(problem.answer(StatusCode::PAYLOAD_TOO_LARGE))
            }
            Err(_) => {
                let problem = Problem::because("body", "the body ended too early");
                Err(problem.answer(StatusCode::UNPROCESSABLE_ENTITY))
            }
        }
    }

    /// Publications that say nothing of a trace are part of the request's.
    fn adopt_trace(&self, headers: &HeaderMap, inbound: &mut Inbound) {
        if let (Some(_), Inbound::Publications(publications)) = (&self.runtime.traces, inbound) {
            for publication in publications {
                adopt(headers, &mut publication.meta);
            }
        }
    }

    async fn publish(&self, inbound: Inbound) -> Result<(), Response<AnswerBody>> {
        let published = match inbound {
            Inbound::Disconnect(command) => self.runtime.disconnect(command).await,
            Inbound::Publications(publications) => {
                let mut published = Ok(());
                for publication in publications {
                    published = self.runtime.publish(publication).await;
                    if published.is_err() {
                        break;
                    }
                }
                published
            }
        };
        published.map_err(|error| self.failed(&error))
    }

    /// The answer where the broker did not do it.
    pub(super) fn failed(&self, error: &BrokerError) -> Response<AnswerBody> {
        if let Some(left_out) = self.runtime.throttles.publication.pass() {
            warn!(%error, left_out, "The broker did not do what a backend asked for");
        }
        let status = match error {
            BrokerError::Unsupported => StatusCode::NOT_IMPLEMENTED,
            BrokerError::Stream(reason) => {
                return Problem::because("stream", reason).answer(StatusCode::UNPROCESSABLE_ENTITY);
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::because("broker", "the broker can't be reached; try again").answer(status)
    }
}

fn invalid(error: &PublicationError) -> Response<AnswerBody> {
    let problem = Problem {
        error: "invalid publication",
        reason: Some(error.message()),
        at: Some(error.at()).filter(|at| !at.is_empty()),
        line: error.line(),
        column: error.column(),
    };
    problem.answer(StatusCode::UNPROCESSABLE_ENTITY)
}

/// Whether a host, perhaps with a port, is a name of this machine that nobody
/// else gives out.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_own_names_are_loopback() {
        for own in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "127.1.2.3",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "[::2]",
            "127.0.0.1.evil",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }
}
