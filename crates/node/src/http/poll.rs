//! `POST /lp`: hyper's requests to [`LongPoll`] and back.

use super::{
    accept_encoding::may_compress,
    body::{AnswerBody, InFlight},
    cors::Origins,
    gzip::compressed,
    problem::Problem,
};
use crate::{
    auth::ConnectRequest,
    longpoll::{Handled, LongPoll, PollAnswer, PollRequest},
    runtime::Runtime,
};
use axum::extract::ConnectInfo;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use pollux_session::Frames;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Names a session. Answered to an open, sent with every poll.
const POLL_ID: HeaderName = HeaderName::from_static("x-anycable-poll-id");
/// The number of an answer's last frame; sent back, it says what arrived.
const CURSOR: HeaderName = HeaderName::from_static("pollux-cursor");
/// Frames were lost before this answer.
const GAP: HeaderName = HeaderName::from_static("pollux-gap");

/// A body that is too large is read up to this many times its limit, because a
/// client that is still sending when the connection closes does not see the
/// answer.
const DRAIN_FACTOR: usize = 16;

/// The poll route.
#[derive(Clone, Debug)]
pub(crate) struct PollDoor {
    runtime: Arc<Runtime>,
    origins: Origins,
    /// Bytes from which on an answer may be compressed; zero for none.
    compress_min_size: usize,
}

/// What of a request its answer depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asker {
    /// The page that asks.
    pub(crate) origin: Option<HeaderValue>,
    /// Whether it takes gzip.
    pub(crate) takes_gzip: bool,
}

/// What was read of a request's body.
enum Read {
    Whole(Bytes),
    TooLarge,
    TooSlow,
    Broken,
}

impl PollDoor {
    /// What [`PollDoor::response`] adds to every answer where
    /// [`PollDoor::is_plain`] holds, after the line with `vary`.
    pub(crate) const ANY_ORIGIN_LINES: &[u8] = b"\r\n\
        access-control-allow-origin: *\r\n\
        access-control-expose-headers: X-Anycable-Poll-ID, Pollux-Cursor, Pollux-Gap\r\n";

    pub(crate) const fn new(
        runtime: Arc<Runtime>,
        origins: Origins,
        compress_min_size: usize,
    ) -> Self {
        Self {
            runtime,
            origins,
            compress_min_size,
        }
    }

    /// What an answer with frames depends on.
    pub(crate) const fn vary(&self) -> &'static str {
        match self.compress_min_size {
            0 => "Origin",
            _ => "Origin, Accept-Encoding",
        }
    }

    /// Whether an answer of this length is compressed for this asker.
    pub(crate) const fn compresses(&self, asker: &Asker, length: usize) -> bool {
        asker.takes_gzip && self.compress_min_size > 0 && length >= self.compress_min_size
    }

    pub(crate) const fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Bytes a request's body may have.
    pub(crate) fn max_request_size(&self) -> usize {
        self.runtime.max_request_size
    }

    /// Whether pages of this origin are served.
    pub(crate) fn admits(&self, origin: Option<&HeaderValue>) -> bool {
        self.origins.allow(origin)
    }

    /// Whether all answers carry the same headers, whoever asks.
    pub(crate) fn is_plain(&self) -> bool {
        self.origins.is_any() && !self.runtime.is_draining()
    }

    /// Serves one request. `connection` is told when the answer has left;
    /// `None` where the server is not ours.
    pub(crate) async fn serve<B>(
        &self,
        request: Request<B>,
        connection: Option<Arc<InFlight>>,
    ) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let encodings = head.headers.get_all(header::ACCEPT_ENCODING);
        let asker = Asker {
            origin: head.headers.get(header::ORIGIN).cloned(),
            takes_gzip: may_compress(
                cursor_of(&head.headers),
                encodings.iter().map(HeaderValue::as_bytes),
            ),
        };
        if !self.admits(asker.origin.as_ref()) {
            return self.refuse_origin();
        }
        if head.method == Method::OPTIONS {
            return self.preflight(asker.origin.as_ref());
        }
        let handled = if head.method == Method::POST {
            let peer = match &connection {
                Some(connection) => connection.peer(),
                None => peer_of(&head),
            };
            self.accept(head, body, peer).await
        } else {
            Err(refuse_method())
        };
        match handled {
            Err(mut refusal) => {
                self.origins
                    .mark(asker.origin.as_ref(), refusal.headers_mut());
                refusal
            }
            Ok(handled) => {
                // From here on, in the worst case for many seconds, nothing of
                // the request but its asker is in memory.
                let answer = match handled {
                    Handled::Answer(answer) => answer,
                    Handled::Parked(parked) => parked.await,
                };
                self.response(answer, &asker, connection)
            }
        }
    }

    /// The answer to a page that asks whether it may poll.
    pub(crate) fn preflight(&self, origin: Option<&HeaderValue>) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Origins::preflight(response.headers_mut());
        self.origins.mark(origin, response.headers_mut());
        response
    }

    /// The answer to a page whose origin is not served.
    pub(crate) fn refuse_origin(&self) -> Response<AnswerBody> {
        let problem = Problem::because("origin", "this origin is not in allowed_origins");
        let mut response = problem.answer(StatusCode::FORBIDDEN);
        self.origins.mark(None, response.headers_mut());
        response
    }

    async fn accept<B>(
        &self,
        head: http::request::Parts,
        body: B,
        peer: Option<IpAddr>,
    ) -> Result<Handled, Response<AnswerBody>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let limit = self.runtime.read_timeout;
        let body = tokio::time::timeout(limit, read(body, self.max_request_size()));
        let body = match body.await.unwrap_or(Read::TooSlow) {
            Read::Whole(body) => body,
            Read::TooLarge => {
                self.runtime.metrics.oversize_polls.inc();
                let limit = format!("a body holds at most {} bytes", self.max_request_size());
                let problem = Problem::because("body too large", &limit);
                return Err(problem.answer(StatusCode::PAYLOAD_TOO_LARGE));
            }
            Read::TooSlow => {
                let problem = Problem::because("body", "the body took too long");
                return Err(problem.answer(StatusCode::REQUEST_TIMEOUT));
            }
            Read::Broken => {
                let problem = Problem::because("body", "the body ended too early");
                return Err(problem.answer(StatusCode::BAD_REQUEST));
            }
        };
        let text = |name| {
            head.headers
                .get(name)
                .map(|value: &HeaderValue| value.to_str())
        };
        let request = PollRequest {
            // An id that is not even text is as unknown as any other.
            poll_id: text(POLL_ID).map(Result::unwrap_or_default),
            cursor: cursor_of(&head.headers),
            connect: ConnectRequest {
                peer,
                ..ConnectRequest::of(&head)
            },
            body: &body,
        };
        Ok(LongPoll::handle(&self.runtime, request).await)
    }

    /// An answer with its headers.
    pub(crate) fn response(
        &self,
        answer: PollAnswer,
        asker: &Asker,
        connection: Option<Arc<InFlight>>,
    ) -> Response<AnswerBody> {
        let has_frames = matches!(answer, PollAnswer::Frames { .. });
        let mut response = match answer {
            PollAnswer::Frames {
                frames,
                length,
                cursor,
                gap,
                poll_id,
                delivery,
            } => {
                let lines = lines(&frames, length);
                let compressed = self.compresses(asker, length).then(|| compressed(&lines));
                let compressed = compressed.flatten();
                let is_compressed = compressed.is_some();
                let mut response = Response::new(AnswerBody::Frames {
                    lines: compressed.unwrap_or(lines),
                    delivery: Some(delivery),
                    connection,
                    clock: self.runtime.clock,
                });
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, JSON_LINES);
                headers.insert(CURSOR, HeaderValue::from(cursor));
                if gap {
                    headers.insert(GAP, HeaderValue::from_static("1"));
                }
                name_session(headers, poll_id);
                if is_compressed {
                    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
                response
            }
            PollAnswer::Empty { cursor, poll_id } => {
                let mut response = Response::new(AnswerBody::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                let headers = response.headers_mut();
                headers.insert(CURSOR, HeaderValue::from(cursor));
                name_session(headers, poll_id);
                response
            }
            PollAnswer::Refused { line, gap } => {
                let is_told = line.is_some();
                let line = line.map_or_else(Bytes::new, |line| line.line().clone());
                let mut response = Response::new(AnswerBody::Plain(line));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                let headers = response.headers_mut();
                if is_told {
                    headers.insert(header::CONTENT_TYPE, JSON_LINES);
                }
                if gap {
                    headers.insert(GAP, HeaderValue::from_static("1"));
                }
                response
            }
            PollAnswer::TooMany(wait) => {
                let reason = "too many commands; none of these ran, send them again later";
                Problem::because("rate", reason).answer_after(StatusCode::TOO_MANY_REQUESTS, wait)
            }
            PollAnswer::Stranger(wait) => {
                let reason = "too many polls with ids of no session come from your address";
                Problem::because("rate", reason).answer_after(StatusCode::TOO_MANY_REQUESTS, wait)
            }
            PollAnswer::Later => {
                let reason = "nobody can say now who may connect";
                Problem::because("backend", reason).answer(StatusCode::SERVICE_UNAVAILABLE)
            }
            PollAnswer::Busy => {
                let reason = "this node takes no more for the moment";
                Problem::because("busy", reason).answer(StatusCode::SERVICE_UNAVAILABLE)
            }
        };
        let headers = response.headers_mut();
        if self.runtime.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.origins.mark(asker.origin.as_ref(), headers);
        if has_frames {
            headers.insert(header::VARY, HeaderValue::from_static(self.vary()));
        }
        response
    }
}

fn cursor_of(headers: &HeaderMap) -> Option<u64> {
    let cursor = headers.get(CURSOR)?.to_str().ok()?;
    cursor.trim().parse().ok()
}

/// The other end of a connection to a server that is not ours, if that says so
/// in axum's manner.
fn peer_of(head: &http::request::Parts) -> Option<IpAddr> {
    let info = head.extensions.get::<ConnectInfo<SocketAddr>>();
    info.map(|ConnectInfo(peer)| peer.ip())
}

fn refuse_method() -> Response<AnswerBody> {
    let problem = Problem::because("method", "polls are POST requests");
    let mut response = problem.answer(StatusCode::METHOD_NOT_ALLOWED);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    response
}

/// The body of an answer. A single frame is shared, several are put together.
fn lines(frames: &Frames, length: usize) -> Bytes {
    if let [frame] = frames.as_slice() {
        return frame.line().clone();
    }
    let mut lines = BytesMut::with_capacity(length);
    for frame in frames {
        lines.extend_from_slice(frame.line());
    }
    lines.freeze()
}

const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");

fn name_session(headers: &mut HeaderMap, poll_id: Option<String>) {
    if let Some(poll_id) = poll_id.and_then(|poll_id| HeaderValue::try_from(poll_id).ok()) {
        headers.insert(POLL_ID, poll_id);
    }
}

/// Reads a body of at most `limit` bytes.
async fn read<B>(mut body: B, limit: usize) -> Read
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Read::Whole(Bytes::new());
    }
    let announced = body.size_hint().lower();
    let drain_limit = limit.saturating_mul(DRAIN_FACTOR);
    if announced > u64::try_from(drain_limit).unwrap_or(u64::MAX) {
        return Read::TooLarge;
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Read::Broken;
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length > drain_limit {
            return Read::TooLarge;
        }
        if length > limit {
            // Read on, keep nothing.
            rest = BytesMut::new();
        } else if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if length > limit {
        Read::TooLarge
    } else if rest.is_empty() {
        Read::Whole(first)
    } else {
        let mut whole = BytesMut::with_capacity(length);
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Read::Whole(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_may_say_who_is_at_the_other_end() {
        let (mut head, ()) = Request::new(()).into_parts();
        assert_eq!(peer_of(&head), None);
        let peer: SocketAddr = "10.1.2.3:4".parse().unwrap();
        head.extensions.insert(ConnectInfo(peer));
        assert_eq!(peer_of(&head), Some(peer.ip()));
    }
}
