//! Calls over HTTP/1.1.
//!
//! The connections are kept here and not by a ready-made client: whether a
//! request was written is what decides if it may be made again, and only the
//! connection itself knows.

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use parking_lot::Mutex;
use tokio::time::{self, Instant};

use crate::{
    attempt::{Attempt, Method},
    dial::{Dialer, Task},
    error::{CallError, Failure},
    host::Base,
};

/// Servers close a connection that was idle for some seconds, Node's after 5.
/// A request written at that moment is lost, so we are earlier.
const MAX_IDLE: Duration = Duration::from_secs(4);

const SID: HeaderName = HeaderName::from_static("x-anycable-meta-sid");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const PROTOCOL: HeaderName = HeaderName::from_static("x-anycable-meta-protov");

/// A host that is called over HTTP.
pub(crate) struct Host {
    base: Base,
    /// The paths of the calls, in the order of [`Method`].
    paths: [PathAndQuery; 3],
    /// What every request carries.
    headers: HeaderMap,
    dialer: Dialer,
    /// How long a request may take.
    timeout: Duration,
    max_answer_bytes: usize,
    /// Connections without a request, the last used at the end. Never more
    /// than there are calls at once.
    idle: Mutex<Vec<Idle>>,
}

struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    _task: Task,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Host {
    /// None if the base cannot be the beginning of a path.
    pub(crate) fn new(
        base: Base,
        secret: Option<&HeaderValue>,
        dialer: Dialer,
        timeout: Duration,
        max_answer_bytes: usize,
    ) -> Option<Self> {
        let paths = [
            base.path_of("connect")?,
            base.path_of("command")?,
            base.path_of("disconnect")?,
        ];
        let mut headers = HeaderMap::new();
        let authority = base.target.authority.as_str();
        headers.insert(HOST, HeaderValue::from_str(authority).ok()?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(PROTOCOL, HeaderValue::from_static("v1"));
        if let Some(secret) = secret {
            headers.insert(AUTHORIZATION, secret.clone());
        }
        Some(Self {
            base,
            paths,
            headers,
            dialer,
            timeout,
            max_answer_bytes,
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.base.target.authority.as_str()
    }

    pub(crate) async fn call(&self, attempt: &Attempt<'_>) -> Result<Bytes, Failure> {
        let mut request = self.request(attempt);
        loop {
            let (mut connection, reused) = match self.take().await {
                Some(connection) => (connection, true),
                None => (self.open().await?, false),
            };
            attempt.progress.sent();
            let sent = connection.requests.try_send_request(request);
            let exchange = async {
                match sent.await {
                    Ok(response) => Ok(self.read(response).await),
                    Err(error) => Err(error),
                }
            };
            let mut error = match time::timeout(self.timeout, exchange).await {
                Ok(Ok(answer)) => {
                    let answer = answer?;
                    self.put_back(connection);
                    return answer.map_err(Failure::Final);
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(Failure::Final(CallError::Timeout)),
            };
            // Hyper gives a request back that it has not begun to write.
            match error.take_message() {
                Some(unsent) if reused => request = unsent,
                Some(_) => return Err(Failure::NotSent(self.lost(error.error()))),
                None => return Err(Failure::Lost(self.lost(error.error()))),
            }
        }
    }

    fn request(&self, attempt: &Attempt<'_>) -> Request<Full<Bytes>> {
        let [connect, command, disconnect] = &self.paths;
        let path = match attempt.method {
            Method::Connect => connect,
            Method::Command => command,
            Method::Disconnect => disconnect,
        };
        let mut request = Request::new(Full::new(attempt.body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = path.clone().into();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(SID, attempt.sid.clone());
        if let Some(trace) = attempt.trace {
            request.headers_mut().insert(TRACEPARENT, trace.clone());
        }
        request
    }

    /// What the application said, with the connection ready for another
    /// request; or how the connection failed.
    async fn read(
        &self,
        response: Response<Incoming>,
    ) -> Result<Result<Bytes, CallError>, Failure> {
        let status = response.status();
        let body = Limited::new(response.into_body(), self.max_answer_bytes);
        let answer = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let why = format!("it is longer than {} bytes", self.max_answer_bytes);
                return Err(Failure::Final(CallError::Malformed(why.into())));
            }
            Err(error) => return Err(Failure::Lost(self.lost(&*error))),
        };
        Ok(match status {
            StatusCode::OK => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(CallError::Unauthenticated),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(CallError::InvalidArgument)
            }
            _ => Err(CallError::Unknown(
                format!("with status {}", status.as_u16()).into(),
            )),
        })
    }

    async fn open(&self) -> Result<Connection, Failure> {
        let connecting = async {
            let stream = self.dialer.dial(&self.base.target).await?;
            http1::handshake(stream).await.map_err(io::Error::other)
        };
        let (requests, connection) = self
            .dialer
            .in_time(Box::pin(connecting))
            .await
            .map_err(|error| Failure::NotSent(self.lost(&error)))?;
        let task = Task::spawn(async move {
            // Whoever has a request on it learns of it there.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "Connection to the application ended");
            }
        });
        Ok(Connection {
            requests,
            _task: task,
        })
    }

    /// A connection of an earlier call.
    async fn take(&self) -> Option<Connection> {
        loop {
            let idle = self.idle.lock().pop()?;
            let mut connection = idle.connection;
            // The older ones below it are past their time as well, or will be
            // found to be.
            if idle.since.elapsed() < MAX_IDLE && connection.requests.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn put_back(&self, connection: Connection) {
        if connection.requests.is_closed() {
            return;
        }
        let since = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|idle| {
            idle.since.elapsed() < MAX_IDLE && !idle.connection.requests.is_closed()
        });
        idle.push(Idle { connection, since });
    }

    fn lost(&self, error: &dyn fmt::Display) -> Box<str> {
        format!("{}: {error}", self.name()).into()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("base", &self.base)
            .field("dialer", &self.dialer)
            .field("idle", &self.idle.lock().len())
            .finish_non_exhaustive()
    }
}
