//! A connection's socket as hyper sees it, with an eye on what becomes of the
//! answers.

use crate::{http::InFlight, telemetry::Metrics};
use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};

/// See the module's head.
pub(super) struct Io {
    stream: TokioIo<TcpStream>,
    /// What was read before hyper got the connection.
    already: Bytes,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    /// How long a write may make no progress.
    write_timeout: Duration,
    /// Runs while a write makes none; most connections never have it.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Io {
    pub(super) fn new(
        stream: TcpStream,
        already: Bytes,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
        write_timeout: Duration,
    ) -> Self {
        Self {
            stream: TokioIo::new(stream),
            already,
            in_flight,
            metrics,
            write_timeout,
            stall: None,
        }
    }

    /// Looks at the outcome of a read or write for signs of a broken peer.
    fn watch<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &outcome {
            self.in_flight.broke();
        }
        outcome
    }

    /// Bounds how long a write may be pending.
    fn bounded(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.stall = None;
            return self.watch(outcome);
        }
        let timeout = self.write_timeout;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stall.as_mut().poll(context));
        self.metrics.timeout_server_messages.inc();
        self.watch(Poll::Ready(Err(io::ErrorKind::TimedOut.into())))
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.already.is_empty() {
            let fits = self.already.len().min(buffer.remaining());
            let first = self.already.split_to(fits);
            buffer.put_slice(&first);
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(outcome)
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when its own buffers are empty, so this is the moment the
    /// answers it was given are completely in the socket.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = outcome {
            self.in_flight.flushed();
        }
        self.watch(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // A client that closed its socket before the answer came has sent a
        // reset that no read has seen.
        if !matches!(self.stream.inner().take_error(), Ok(None)) {
            self.in_flight.broke();
        }
        let again = u64::try_from(self.in_flight.ended()).unwrap_or(u64::MAX);
        if again > 0 {
            self.metrics.failed_server_messages.inc_by(again);
        }
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}
