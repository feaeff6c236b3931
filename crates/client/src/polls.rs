//! Long polling: a session that is polled until it is over.

use crate::{Answer, Http, Trouble, Wire, http::trouble, subscriber::Batch};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use std::time::Duration;

const POLL_ID: HeaderName = HeaderName::from_static("x-anycable-poll-id");
const CURSOR: HeaderName = HeaderName::from_static("pollux-cursor");
const GAP: HeaderName = HeaderName::from_static("pollux-gap");

/// A node answers an open at once, or when its backend has.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer than any poll is held: proxies would have ended it.
const POLL_TIMEOUT: Duration = Duration::from_secs(180);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Polls {
    http: Http,
    path: String,
    id: HeaderValue,
    /// The number of the last frame that arrived.
    cursor: Option<HeaderValue>,
}

impl Polls {
    pub(crate) async fn open(
        wire: &Wire,
        path: &str,
        more: &[(HeaderName, HeaderValue)],
        commands: &[String],
    ) -> Result<(Self, Batch), Trouble> {
        let mut http = Http::new(wire.clone());
        let body = Bytes::from(commands.join("\n"));
        let answer = http
            .exchange(Method::POST, path, more, body, OPEN_TIMEOUT)
            .await?;
        if !answer.status.is_success() {
            return Err(answer.trouble());
        }
        let Some(id) = answer.headers.get(POLL_ID).cloned() else {
            return Err(Trouble::refused(format!(
                "what answers at {path} is no long-polling door of a node"
            )));
        };
        let mut polls = Self {
            http,
            path: path.to_owned(),
            id,
            cursor: None,
        };
        let batch = polls.accept(&answer)?;
        Ok((polls, batch))
    }

    /// The frames of one poll; none if there was nothing to tell.
    pub(crate) async fn frames(&mut self) -> Result<Batch, Trouble> {
        let mut more = vec![(POLL_ID, self.id.clone())];
        more.extend(self.cursor.clone().map(|cursor| (CURSOR, cursor)));
        let poll = self
            .http
            .exchange(Method::POST, &self.path, &more, Bytes::new(), POLL_TIMEOUT);
        let answer = poll.await?;
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => self.accept(&answer),
            // Whether a new session is wanted is said when one is asked for.
            StatusCode::UNAUTHORIZED if !is_final(&answer.body) => Err(Trouble::Over),
            status => Err(trouble(status, &answer.headers, &answer.body)),
        }
    }

    fn accept(&mut self, answer: &Answer) -> Result<Batch, Trouble> {
        let text = std::str::from_utf8(&answer.body)
            .map_err(|_| Trouble::refused("the node's answer is not UTF-8"))?;
        self.cursor = cursor(&answer.headers).or_else(|| self.cursor.take());
        Ok(Batch {
            lines: text.lines().map(str::to_owned).collect(),
            gap: answer.headers.contains_key(GAP),
        })
    }
}

fn cursor(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(CURSOR).cloned()
}

/// Whether the session's end says that there must be no other.
fn is_final(body: &[u8]) -> bool {
    let line = serde_json::from_slice::<serde_json::Value>(body);
    line.is_ok_and(|line| line["reconnect"] == false)
}

#[cfg(test)]
mod tests {
    use super::is_final;

    #[test]
    fn only_what_says_so_is_final() {
        assert!(is_final(br#"{"type":"disconnect","reconnect":false}"#));
        for body in [&b""[..], b"{}", br#"{"reconnect":true}"#, b"<html>"] {
            assert!(!is_final(body));
        }
    }
}
