//! The accept loop: takes connections in, bounds them, and lets them go.

use super::{
    connection::Service,
    io::Io,
    lot::{self, Left, Lot},
    preface::{self, Spoken},
    socket::Socket,
};
use crate::{
    clock::Clock,
    http::{InFlight, retry_after},
    telemetry::{Metrics, Throttle},
    tls::Tls,
};
use bytes::Bytes;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

/// How long accepting pauses when the system has no more descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Connections beyond `max_connections` that are asked what they want: those of
/// operators and their tools are served, so that a full node does not seem dead.
const SPARE: usize = 16;

/// How long each of those may take to say it.
const SPARE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bounds of the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerConfig {
    /// Connections at once; zero for as many as come.
    pub(crate) max_connections: usize,
    /// For a request's head, and for an idle connection.
    pub(crate) header_read_timeout: Duration,
    /// A write that makes no progress for this long fails.
    pub(crate) write_timeout: Duration,
}

/// What all listeners of a node share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: ServerConfig,
    /// What connections begin with, if with TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends accepting.
    pub(crate) stop_accepting: CancellationToken,
    /// Ends connections after the request they are at.
    pub(crate) stop_connections: CancellationToken,
    /// Knows all connections.
    pub(crate) tasks: TaskTracker,
    pub(crate) connections: AtomicUsize,
    /// What goes wrong with accepting goes wrong many times a second.
    pub(crate) trouble: Throttle,
}

impl Server {
    /// Serves a listener until accepting is stopped.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, service: Arc<Service>) {
        loop {
            let accepted = self.stop_accepting.run_until_cancelled(listener.accept());
            match accepted.await {
                None => return,
                Some(Ok((stream, _peer))) => self.take_in(stream, &service),
                Some(Err(error)) => self.recover(error).await,
            }
        }
    }

    async fn recover(&self, error: io::Error) {
        match error.kind() {
            // The client was gone before it was accepted.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {}
            _ => {
                if let Some(left_out) = self.trouble.pass() {
                    error!(%error, left_out, "Can't accept connections; raise the limit of open files?");
                }
                sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }

    fn take_in(self: &Arc<Self>, stream: TcpStream, service: &Arc<Service>) {
        let max = self.config.max_connections;
        let open = self.connections.fetch_add(1, Ordering::Relaxed);
        let guard = Counted(Arc::clone(self));
        let is_full = max > 0 && open >= max;
        let spare = service.spare.as_ref();
        let spare = spare.filter(|_| open < max.saturating_add(SPARE));
        let Some(service) = (if is_full { spare } else { Some(service) }) else {
            self.metrics.refused_connections.inc();
            // The socket's buffer is empty, so this can't block. In TLS it
            // would take a handshake first, which is no way to be rid of work.
            if self.tls.is_none()
                && let Err(error) = stream.try_write(full().as_bytes())
            {
                debug!(%error, "A refused client did not wait for the answer");
            }
            return;
        };
        self.metrics.connections.inc();
        // One write is one answer; nothing is gained by waiting for more.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "A client left at once");
            return;
        }
        let server = Arc::clone(self);
        let service = Arc::clone(service);
        if let Some(tls) = self.tls.clone() {
            self.tasks.spawn(async move {
                let counted = Some(Arc::new(guard));
                server.serve_tls(stream, tls, service, counted).await;
            });
            return;
        }
        self.tasks.spawn(async move {
            server.serve(stream, service, Some(Arc::new(guard))).await;
        });
    }

    /// Serves one connection. `counted` lives as long as the connection does,
    /// which a socket that leaves HTTP takes with it.
    pub(super) async fn serve(
        &self,
        mut stream: TcpStream,
        service: Arc<Service>,
        counted: Option<Arc<Counted>>,
    ) {
        let already = match &service.poll {
            Some((path, door)) if service.in_lot => {
                let lot = Lot {
                    path,
                    door,
                    metrics: &self.metrics,
                    read_timeout: self.config.header_read_timeout,
                    write_timeout: self.config.write_timeout,
                    stop: &self.stop_connections,
                };
                match lot::serve(&mut stream, lot).await {
                    Left::Closed => return,
                    Left::HandOver(already) => already,
                }
            }
            _ => Bytes::new(),
        };
        // Boxed, so that a poll in the lot does not carry the room for this.
        Box::pin(self.serve_with_hyper(stream, already, service, counted)).await;
    }

    async fn serve_with_hyper(
        &self,
        mut stream: TcpStream,
        already: Bytes,
        service: Arc<Service>,
        counted: Option<Arc<Counted>>,
    ) {
        let timeout = self.head_timeout(&service);
        let spoken = preface::hear(&mut stream, already, timeout);
        match self.stop_connections.run_until_cancelled(spoken).await {
            Some(Spoken::Http1(already)) => {
                let socket = Socket::Plain(stream);
                self.serve_http1(socket, already, service, counted).await;
            }
            // Its streams could stay for as long as they like.
            Some(Spoken::Http2(_)) if service.hurries => {}
            Some(Spoken::Http2(already)) => {
                let socket = Socket::Plain(stream);
                Box::pin(self.serve_http2(socket, already, service)).await;
            }
            Some(Spoken::Nothing) | None => {}
        }
    }

    pub(super) async fn serve_http1(
        &self,
        socket: Socket,
        already: Bytes,
        service: Arc<Service>,
        counted: Option<Arc<Counted>>,
    ) {
        let peer = socket.tcp().peer_addr().ok().map(|peer| peer.ip());
        let in_flight = InFlight::new(self.clock, peer);
        let (metrics, timeout) = (Arc::clone(&self.metrics), self.config.write_timeout);
        let io = Io::new(socket, already, Arc::clone(&in_flight), metrics, timeout);
        let timeout = self.head_timeout(&service);
        let service = service_fn(move |request| {
            Arc::clone(&service).call(Arc::clone(&in_flight), counted.clone(), request)
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(timeout)
                .serve_connection(io, service)
                .with_upgrades()
        );
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.stop_connections.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            debug!(%error, "A connection failed");
        }
    }

    pub(super) fn head_timeout(&self, service: &Service) -> Duration {
        let timeout = self.config.header_read_timeout;
        match service.hurries {
            true => timeout.min(SPARE_TIMEOUT),
            false => timeout,
        }
    }

    /// Waits until all connections are closed.
    pub(crate) async fn finish(&self) {
        self.stop_connections.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let left = self.connections.load(Ordering::Relaxed);
        if left > 0 {
            warn!(left, "Connections are still open");
        }
    }
}

/// Answer to a connection that is one too many.
fn full() -> String {
    let seconds = retry_after();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Server>);

impl Drop for Counted {
    fn drop(&mut self) {
        let before = self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0
            .metrics
            .connections
            .set(i64::try_from(before - 1).unwrap_or(i64::MAX));
    }
}
