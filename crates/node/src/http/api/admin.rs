//! What a node holds. Never a message, nor anything with which a session could be taken over.

use super::ApiDoor;
use crate::http::{body::AnswerBody, problem::Problem};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;

/// What this node says of itself.
const NODE: &str = "/admin/node";

/// Sessions of this node.
const SESSIONS: &str = "/admin/sessions";

/// Streams that somebody listens to here.
const STREAMS: &str = "/admin/streams";

/// Rows unless a request says how many.
const LIMIT: usize = 100;

/// However many it says: an answer is made in one piece.
const LIMIT_MAX: usize = 10_000;

/// Letters of a `sid` that are shown: enough to find it in a log, too few to come back with it.
const SID_SHOWN: usize = 6;

#[derive(Serialize)]
struct SessionRow {
    sid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifiers: Option<String>,
    transport: &'static str,
    subscriptions: usize,
    waits: bool,
    outbox_frames: usize,
}

#[derive(Serialize)]
struct StreamRow<'a> {
    stream: &'a str,
    subscriptions: usize,
}

impl ApiDoor {
    /// Serves one request under `/admin`.
    pub(crate) fn admin(&self, request: &Request<axum::body::Body>) -> Response<AnswerBody> {
        if request.method() != Method::GET {
            let problem = Problem::because("method", "what a node holds is asked for with GET");
            return problem.answer(StatusCode::METHOD_NOT_ALLOWED);
        }
        if let Err(refusal) = self.publish.admit_with(request.headers(), "API key") {
            return *refusal;
        }
        if self.publish.is_led_astray(request.headers()) {
            let reason = "without a key, ask by localhost, 127.0.0.1 or [::1]";
            return Problem::because("host", reason).answer(StatusCode::FORBIDDEN);
        }
        let query = request.uri().query().unwrap_or_default();
        let of = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let (_, value) = pairs.find(|(known, _)| known == name)?;
            Some(value.into_owned())
        };
        let limit = of("limit").map_or(Some(LIMIT), |limit| limit.parse().ok());
        let Some(limit) = limit.map(|limit| limit.min(LIMIT_MAX)) else {
            let problem = Problem::because("limit", "limit is a number");
            return problem.answer(StatusCode::BAD_REQUEST);
        };
        match request.uri().path() {
            NODE => json(&self.report.now()),
            SESSIONS => json(&self.sessions(limit)),
            STREAMS => {
                let prefix = of("prefix").unwrap_or_default();
                let streams = self.publish.runtime.hub.some(&prefix, limit);
                let rows = streams.iter().map(|(stream, subscriptions)| StreamRow {
                    stream: stream.as_str(),
                    subscriptions: *subscriptions,
                });
                json(&rows.collect::<Vec<_>>())
            }
            _ => {
                let reason = "there is /admin/node, /admin/sessions and /admin/streams";
                Problem::because("not found", reason).answer(StatusCode::NOT_FOUND)
            }
        }
    }

    fn sessions(&self, limit: usize) -> Vec<SessionRow> {
        let runtime = &self.publish.runtime;
        let sessions = runtime.registry.some(limit);
        let rows = sessions.iter().map(|session| {
            let census = session.census();
            let sid = session.sid().text();
            let shown = sid.chars().take(SID_SHOWN);
            SessionRow {
                sid: shown.chain(['…']).collect(),
                identifiers: session.named_identifiers().map(str::to_owned),
                transport: match () {
                    () if session.has_rules(&runtime.shared) => "lp",
                    () if session.has_rules(&runtime.streaming) => "ws",
                    () => "sse",
                },
                subscriptions: census.subscriptions,
                waits: census.parked > 0,
                outbox_frames: census.outbox_frames,
            }
        });
        rows.collect()
    }
}

fn json(value: &impl Serialize) -> Response<AnswerBody> {
    let Ok(text) = serde_json::to_vec(value) else {
        return Problem::new("json").answer(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = Response::new(AnswerBody::Plain(text.into()));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    response
}
