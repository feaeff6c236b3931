//! Calls over gRPC: one HTTP/2 connection an address.
//!
//! Framing and statuses are tonic's, connections hyper's: whether a request
//! was written or taken is what decides if it may be made again, and tonic's
//! channel does not tell.

use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderValue, Request, Response, Uri, uri::PathAndQuery};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{self, Instant};
use tonic::{
    Code, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataValue},
};
use tower_service::Service;

use crate::{
    attempt::{Attempt, Method},
    dial::{Dialer, Task},
    error::{CallError, Failure},
    shared::Shared,
};

/// So that a connection that a firewall forgot is found out.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A ping without an answer for so long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// An address that is called over gRPC.
pub(crate) struct Host {
    address: SocketAddr,
    /// The scheme, and the host's name.
    origin: Uri,
    dialer: Dialer,
    /// How long a request may take; none: as long as the call.
    timeout: Option<Duration>,
    max_answer_bytes: usize,
    connection: Shared<Connection>,
}

#[derive(Clone)]
struct Connection {
    requests: http2::SendRequest<Body>,
    /// Ends with the last call on the connection.
    _task: Arc<Task>,
}

impl Host {
    pub(crate) fn new(
        address: SocketAddr,
        origin: Uri,
        dialer: Dialer,
        timeout: Option<Duration>,
        max_answer_bytes: usize,
    ) -> Self {
        Self {
            address,
            origin,
            dialer,
            timeout,
            max_answer_bytes,
            connection: Shared::new(),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn call(&self, attempt: &Attempt<'_>) -> Result<Bytes, Failure> {
        let connection = self
            .connection
            .get(
                |connection| !connection.requests.is_closed(),
                self.dialer.in_time(Box::pin(self.open())),
            )
            .await
            .map_err(|why| Failure::NotSent(self.lost(&why)))?;

        let left = attempt.deadline.saturating_duration_since(Instant::now());
        let left = self.timeout.map_or(left, |timeout| timeout.min(left));
        let mut request = tonic::Request::new(attempt.body.clone());
        // The application may stop what nobody waits for.
        request.set_timeout(left);
        let sid = MetadataValue::<Ascii>::try_from(attempt.sid.as_bytes())
            .map_err(|_| Failure::Final(CallError::InvalidArgument))?;
        request.metadata_mut().insert("sid", sid);
        let trace = attempt.trace.map(HeaderValue::as_bytes);
        if let Some(Ok(trace)) = trace.map(MetadataValue::<Ascii>::try_from) {
            request.metadata_mut().insert("traceparent", trace);
        }
        request
            .metadata_mut()
            .insert("protov", MetadataValue::from_static("v1"));

        attempt.progress.sent();
        let service = Stream(connection.requests.clone());
        let mut client = Grpc::with_origin(service, self.origin.clone())
            .max_decoding_message_size(self.max_answer_bytes);
        let path = PathAndQuery::from_static(match attempt.method {
            Method::Connect => "/anycable.RPC/Connect",
            Method::Command => "/anycable.RPC/Command",
            Method::Disconnect => "/anycable.RPC/Disconnect",
        });
        match time::timeout(left, client.unary(request, path, Raw)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) => Err(Failure::Final(CallError::Timeout)),
        }
    }

    async fn open(&self) -> io::Result<Connection> {
        let stream = self.dialer.dial_address(self.address).await?;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let task = Task::spawn(async move {
            // Whoever has a request on it learns of it there.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "Connection to the application ended");
            }
        });
        Ok(Connection {
            requests,
            _task: Arc::new(task),
        })
    }

    fn failure(&self, status: &Status) -> Failure {
        if let Some(source) = status.source() {
            // Not the application's word: the connection's.
            return match source.downcast_ref::<Broken>() {
                Some(broken) if broken.unsent => Failure::NotSent(self.lost(broken)),
                Some(broken) => Failure::Lost(self.lost(broken)),
                None => Failure::Lost(self.lost(&"the connection broke during the answer")),
            };
        }
        // Its message is the application's and may hold anything.
        Failure::Final(match status.code() {
            Code::ResourceExhausted => return Failure::Exhausted,
            Code::Unavailable => CallError::Unavailable(self.lost(&"says so itself")),
            Code::DeadlineExceeded => CallError::Timeout,
            Code::Unauthenticated => CallError::Unauthenticated,
            Code::InvalidArgument => CallError::InvalidArgument,
            Code::OutOfRange if status.message().starts_with(TOO_LONG) => {
                let why = format!("it is longer than {} bytes", self.max_answer_bytes);
                CallError::Malformed(why.into())
            }
            code => CallError::Unknown(format!("with code {code:?}").into()),
        })
    }

    fn lost(&self, why: &dyn fmt::Display) -> Box<str> {
        format!("{}: {why}", self.address).into()
    }
}

/// How tonic begins when an answer passes the limit.
const TOO_LONG: &str = "Error, decoded message length too large";

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("address", &self.address)
            .field("origin", &self.origin)
            .field("dialer", &self.dialer)
            .finish_non_exhaustive()
    }
}

/// A connection as tonic's client takes one.
struct Stream(http2::SendRequest<Body>);

impl Service<Request<Body>> for Stream {
    type Response = Response<Incoming>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Broken>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.0.poll_ready(context).map_err(|error| Broken {
            unsent: true,
            why: error.to_string(),
        })
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sent = self.0.try_send_request(request);
        Box::pin(async move {
            sent.await.map_err(|error| Broken {
                unsent: error.message().is_some() || never_taken(error.error()),
                why: error.error().to_string(),
            })
        })
    }
}

/// Whether the server said that it did not and will not look at the request:
/// it refused the stream, or it goes away and named an earlier stream as the
/// last. (RFC 9113, 8.7: both may be made again, whatever the method.)
fn never_taken(error: &hyper::Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote()
                && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        })
}

/// A connection failed a request before there was any answer.
///
/// It has no source, so that tonic takes it as it is.
#[derive(Debug)]
struct Broken {
    /// The request certainly did not run.
    unsent: bool,
    why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Error for Broken {}

/// Messages are encoded before the first attempt and decoded after the last.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
