//! HTTP/2 connections: many requests at a time, each through the same doors.
//!
//! Nothing here is in the parking lot: a poll on a stream costs what hyper
//! makes it cost. WebSocket over HTTP/2 (RFC 8441) is not spoken.

use super::{
    accept::Server,
    connection::Service,
    io::Io,
    socket::Socket,
    streams::{StreamBody, Streams},
};
use crate::http::InFlight;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioTimer;
use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Requests of one connection at a time. A client with more polls waits, or
/// opens another connection.
const MAX_STREAMS: u32 = 250;

/// Bytes of a request's head, after decompression.
const MAX_HEADER_LIST: u32 = 16 * 1024;

/// Bytes of a body, and of all bodies of a connection, that may come before
/// they are read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of an endless answer that wait for a client which takes none.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that a client has reset before they were looked at, and those that
/// were reset for its mistakes: beyond this it is an attack (CVE-2023-44487),
/// and the connection ends.
const MAX_RESET_STREAMS: usize = 100;

/// A peer that is silent for so long is asked whether it lives, and has so long
/// to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection without requests that is told to end does so within this.
const GOODBYE: Duration = Duration::from_secs(2);

/// Streams' tasks are known like those of connections.
#[derive(Clone, Debug)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}

impl Server {
    /// Serves one connection that has begun with the preface.
    pub(super) async fn serve_http2(&self, socket: Socket, already: Bytes, service: Arc<Service>) {
        let peer = socket.tcp().peer_addr().ok().map(|peer| peer.ip());
        let in_flight = InFlight::multiplexed(self.clock, peer);
        let streams = Streams::new(Arc::clone(&in_flight), Arc::clone(&self.metrics));
        let (metrics, timeout) = (Arc::clone(&self.metrics), self.config.write_timeout);
        let io = Io::new(socket, already, in_flight, metrics, timeout);
        let served = Arc::clone(&streams);
        let service = service_fn(move |request| {
            serve_stream(Arc::clone(&service), Arc::clone(&served), request)
        });
        let mut connection = pin!(
            http2::Builder::new(Tasks(self.tasks.clone()))
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEADER_LIST)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
                .max_local_error_reset_streams(MAX_RESET_STREAMS)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .serve_connection(io, service)
        );
        let idle = self.config.header_read_timeout;
        let mut is_leaving = false;
        loop {
            let look = if is_leaving {
                GOODBYE / 4
            } else {
                idle.min(timeout)
            };
            tokio::select! {
                outcome = connection.as_mut() => {
                    if let Err(error) = outcome {
                        debug!(%error, "A connection failed");
                    }
                    return;
                }
                () = self.stop_connections.cancelled(), if !is_leaving => {}
                () = sleep(look) => {
                    if streams.is_stuck(timeout) {
                        self.metrics.timeout_server_messages.inc();
                        debug!("A connection ended: an answer on it did not move");
                        return;
                    }
                    let enough = if is_leaving { GOODBYE } else { idle };
                    if streams.quiet_for().is_none_or(|quiet| quiet < enough) {
                        continue;
                    }
                    if is_leaving {
                        return;
                    }
                }
            }
            is_leaving = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Serves one request.
async fn serve_stream(
    service: Arc<Service>,
    streams: Arc<Streams>,
    mut request: Request<Incoming>,
) -> Result<Response<StreamBody>, Infallible> {
    let stream = streams.open();
    speak_http1(&mut request);
    let in_flight = Arc::clone(streams.in_flight());
    let mut response = Box::pin(service.call(in_flight, None, request)).await?;
    // Words of HTTP/1: this connection is told to end in another manner.
    for word in [header::CONNECTION, header::UPGRADE] {
        response.headers_mut().remove(word);
    }
    Ok(response.map(|body| StreamBody::new(body, stream)))
}

/// Says in HTTP/1's words what HTTP/2 has others for, so that no door has to
/// know both.
fn speak_http1<B>(request: &mut Request<B>) {
    if !request.headers().contains_key(header::HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    let cookies: Vec<_> = request.headers().get_all(header::COOKIE).iter().collect();
    if cookies.len() > 1 {
        let cookies: Vec<_> = cookies.into_iter().map(HeaderValue::as_bytes).collect();
        if let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(b"; ".as_slice())) {
            request.headers_mut().insert(header::COOKIE, cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_hear_http1() {
        let mut request = Request::builder()
            .uri("http://a.example:8080/lp")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        speak_http1(&mut request);
        assert_eq!(request.headers()["host"], "a.example:8080");
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }
}
