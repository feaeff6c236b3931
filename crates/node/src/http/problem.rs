//! Errors as JSON, for people and programs that made a mistake.

use super::body::AnswerBody;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::time::Duration;

/// The longest that a client which is sent away should wait, in seconds.
const LONGEST_WAIT: u8 = 5;

/// How many seconds a client that is sent away should wait. At random: those
/// who are sent away together should not come back together.
pub(crate) fn retry_after() -> u8 {
    let mut random = [0];
    // Without randomness all wait the same.
    getrandom::fill(&mut random).map_or(1, |()| 1 + random[0] % LONGEST_WAIT)
}

/// The answer to publications that are too many now.
pub(super) fn too_many_publications(wait: Duration) -> Response<AnswerBody> {
    let reason = "too many publications; none of these was published, send them again later";
    Problem::because("rate", reason).answer_after(StatusCode::TOO_MANY_REQUESTS, wait)
}

/// The body of every error answer that is not the protocol's own.
#[derive(Debug, Serialize)]
pub(crate) struct Problem<'a> {
    /// What went wrong, in a few words.
    pub(crate) error: &'a str,
    /// What exactly, if there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'a str>,
    /// The part of the body that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<&'a str>,
    /// The line of the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// The column in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
}

impl<'a> Problem<'a> {
    pub(crate) const fn new(error: &'a str) -> Self {
        Self {
            error,
            reason: None,
            at: None,
            line: None,
            column: None,
        }
    }

    pub(crate) const fn because(error: &'a str, reason: &'a str) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(error)
        }
    }

    /// The answer to somebody who should wait.
    pub(crate) fn answer_after(&self, status: StatusCode, wait: Duration) -> Response<AnswerBody> {
        let mut response = self.answer(status);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let seconds = HeaderValue::from(seconds.max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        response
    }

    /// The answer. 503 says when to come back.
    pub(crate) fn answer(&self, status: StatusCode) -> Response<AnswerBody> {
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        let mut response = Response::new(AnswerBody::Plain(json.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(u16::from(retry_after())),
            );
        }
        response
    }
}
