//! Requests to a node, on one connection as long as that lasts.

use crate::{Trouble, Wire};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::time::Duration;
use tokio::{task::JoinHandle, time::timeout};

/// No more of an answer is read: a node's outboxes and pages are far smaller.
const ANSWER_MAX: usize = 64 << 20;

/// Of what a node says is wrong, no more is shown.
const REASON_MAX: usize = 300;

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pollux/", env!("CARGO_PKG_VERSION")));

/// An answer with all of its body.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// See the module's head.
#[derive(Debug)]
pub struct Http {
    wire: Wire,
    open: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http {
    /// No connection is made yet.
    #[must_use]
    pub const fn new(wire: Wire) -> Self {
        Self { wire, open: None }
    }

    /// One request and its whole answer, whatever its status. It is sent once: where the
    /// connection broke before an answer, it may or may not have been heard.
    ///
    /// # Errors
    /// [`Trouble::Away`], or [`Trouble::Refused`] if TLS failed.
    pub async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        more: &[(HeaderName, HeaderValue)],
        body: Bytes,
        within: Duration,
    ) -> Result<Answer, Trouble> {
        let exchange = async {
            let (head, body) = self.send(method, path, more, body).await?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            let body = body.map_err(|error| Trouble::away(&*error))?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        let answer = timeout(within, exchange).await.unwrap_or_else(|_| {
            let seconds = within.as_secs_f64();
            Err(Trouble::Away(format!("no answer within {seconds} s")))
        });
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    /// One request, and the answer whose body is still to be read.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        more: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Trouble> {
        let mut request = self.request(method, path, more, body)?;
        // What a node that is going had closed was never sent, so it can be sent again.
        if let Some(mut connection) = self.open.take() {
            match connection.sender.try_send_request(request).await {
                Ok(answer) => {
                    self.open = Some(connection);
                    return Ok(answer);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Trouble::away(error.error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let answer = connection.sender.send_request(request).await;
        let answer = answer.map_err(|error| Trouble::away(&error))?;
        self.open = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let stream = TokioIo::new(self.wire.connect().await?);
        let (sender, connection) = http1::handshake(stream)
            .await
            .map_err(|error| Trouble::away(&error))?;
        // Its errors are those of the requests.
        let task = tokio::spawn(async { drop(connection.await) });
        Ok(Connection { sender, task })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        more: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Trouble> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.wire.address().authority())
            .header(header::USER_AGENT, USER_AGENT)
            .body(Full::new(body))
            .map_err(|error| Trouble::refused(error.to_string()))?;
        let headers = request.headers_mut();
        for (name, value) in more {
            headers.insert(name, value.clone());
        }
        for (name, value) in self.wire.headers() {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }
}

impl Answer {
    /// The trouble that an answer without success stands for.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        trouble(self.status, &self.headers, &self.body)
    }
}

pub(crate) fn trouble(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
    let mut why = status.to_string();
    let said = reason(body);
    if !said.is_empty() {
        why = format!("{why}: {said}");
    }
    match status {
        StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => Trouble::Busy {
            why,
            after: headers
                .get(header::RETRY_AFTER)
                .and_then(|after| after.to_str().ok()?.parse().ok())
                .map(Duration::from_secs),
        },
        _ => Trouble::Refused {
            status: Some(status.as_u16()),
            why,
        },
    }
}

/// What is wrong, in the words of the answer: a problem, a `disconnect` line, or plain text.
fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        error: Option<String>,
        reason: Option<String>,
        at: Option<String>,
    }

    let text = match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { error, reason, at }) => {
            let at = at.map(|at| format!("at {at}"));
            let parts: Vec<_> = [error, reason, at].into_iter().flatten().collect();
            parts.join(", ")
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            text.lines().next().unwrap_or_default().trim().to_owned()
        }
    };
    // Without what a terminal would obey.
    let shown = text.chars().filter(|letter| !letter.is_control());
    shown.take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_its_own_words() {
        let told = |status: u16, body: &[u8]| {
            let status = StatusCode::from_u16(status).unwrap();
            trouble(status, &HeaderMap::new(), body).to_string()
        };
        let problem =
            br#"{"error":"invalid publication","reason":"must not be empty","at":"stream"}"#;
        assert_eq!(
            told(422, problem),
            "422 Unprocessable Entity: invalid publication, must not be empty, at stream"
        );
        let line = b"{\"type\":\"disconnect\",\"reason\":\"unauthorized\",\"reconnect\":false}\n";
        assert_eq!(told(401, line), "401 Unauthorized: unauthorized");
        assert_eq!(told(502, b"<html>\x1b[1m\n"), "502 Bad Gateway: <html>[1m");
        assert_eq!(told(404, b""), "404 Not Found");
    }

    #[test]
    fn a_busy_node_says_when_to_come_back() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("3"));
        let trouble = trouble(StatusCode::SERVICE_UNAVAILABLE, &headers, b"");
        let Trouble::Busy { after, .. } = trouble else {
            panic!("{trouble:?}");
        };
        assert_eq!(after, Some(Duration::from_secs(3)));
    }
}
