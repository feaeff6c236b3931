//! A connection's socket, with TLS or without.

use crate::{
    http::{CROSSING, InFlight},
    telemetry::Metrics,
};
use socket2::SockRef;
use std::{
    io,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    time::sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

/// See the module's head.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    /// Boxed: what a connection without TLS is moved around with is not to
    /// grow.
    Tls(Box<Secured>),
}

#[derive(Debug)]
pub(super) struct Secured {
    stream: TlsStream<TcpStream>,
    /// The peer has closed its end.
    peer_left: bool,
    /// The node's connections.
    tasks: TaskTracker,
}

/// The socket of a connection that is over.
#[derive(Debug)]
pub(super) struct Parting {
    socket: socket2::Socket,
    tasks: TaskTracker,
}

impl Socket {
    pub(super) fn secured(stream: TlsStream<TcpStream>, tasks: TaskTracker) -> Self {
        Self::Tls(Box::new(Secured {
            stream,
            peer_left: false,
            tasks,
        }))
    }

    /// Whether the peer has refused bytes that were sent to it. Asking clears
    /// it.
    pub(super) fn was_reset(&self) -> bool {
        !matches!(self.tcp().take_error(), Ok(None))
    }

    /// What to wait with for a reset that may yet come, with TLS only.
    pub(super) fn parting(&self) -> Option<Parting> {
        let Self::Tls(secured) = self else {
            return None;
        };
        Some(Parting {
            socket: SockRef::from(self.tcp()).try_clone().ok()?,
            tasks: secured.tasks.clone(),
        })
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(secured) => secured.stream.get_ref().0,
        }
    }
}

impl Parting {
    /// Waits until it is certain what became of the answers that were flushed.
    ///
    /// All polls over TLS come here, those of clients included which abort one
    /// poll to send another: the answer may cross the end of the connection,
    /// and then a reset comes a round trip later. The parking lot does the same
    /// for connections without TLS.
    pub(super) fn settle(self, in_flight: Arc<InFlight>, metrics: Arc<Metrics>) {
        let Self { socket, tasks } = self;
        let settle = async move {
            sleep(CROSSING).await;
            if !matches!(socket.take_error(), Ok(None)) {
                in_flight.broke();
            }
            give_back(&in_flight, &metrics);
        };
        // Without a runtime the process ends, and all its sessions with it.
        if let Ok(runtime) = Handle::try_current() {
            drop(tasks.spawn_on(settle, &runtime));
        }
    }
}

/// Settles what a connection has not brought to its client.
pub(super) fn give_back(in_flight: &InFlight, metrics: &Metrics) {
    let again = u64::try_from(in_flight.ended()).unwrap_or(u64::MAX);
    if again > 0 {
        metrics.failed_server_messages.inc_by(again);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(secured) => secured.poll_read(context, buffer),
        }
    }
}

impl Secured {
    /// Ends the connection while it is not certain that its answers were read,
    /// so that the end itself does not blur what the client says to them.
    ///
    /// TLS's farewell is left out: a client that has closed its socket would
    /// answer it with a reset, although it has read what came before. To a
    /// client that has closed one direction nothing is said at all: with both
    /// closed its system would no longer send a reset for what it throws away.
    /// The socket is closed when the waiting is over.
    pub(super) fn poll_end_unsure(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.peer_left {
            return Poll::Ready(Ok(()));
        }
        Pin::new(self.stream.get_mut().0).poll_shutdown(context)
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
            // Many clients close the socket without TLS's own farewell. HTTP
            // says for itself where a message ends, so this is an end like any
            // other; were it a break, answers that were read would come again.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.peer_left = true;
            }
            Err(error) => return Poll::Ready(Err(error)),
            Ok(()) => {
                self.peer_left |= buffer.filled().len() == before && buffer.remaining() > 0;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(secured) => {
                Pin::new(&mut secured.stream).poll_write_vectored(context, slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(secured) => secured.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_shutdown(context),
        }
    }
}
