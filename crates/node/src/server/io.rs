//! A connection's socket as hyper sees it, with an eye on what becomes of the
//! answers.

use super::socket::{Socket, give_back};
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
    io::AsyncWrite as _,
    time::{Sleep, sleep},
};

/// See the module's head.
pub(super) struct Io {
    stream: TokioIo<Socket>,
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
        socket: Socket,
        already: Bytes,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
        write_timeout: Duration,
    ) -> Self {
        Self {
            stream: TokioIo::new(socket),
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

    /// Bounds how long a write may be pending, or with TLS what follows it.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
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
        self.bounded(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_unsure = self.in_flight.is_unsure();
        let outcome = match self.stream.inner_mut() {
            Socket::Tls(secured) if is_unsure => secured.poll_end_unsure(context),
            socket => Pin::new(socket).poll_shutdown(context),
        };
        if outcome.is_ready() {
            return outcome;
        }
        self.bounded(context, outcome)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // A client that closed its socket before the answer came has sent a
        // reset that no read has seen.
        let socket = self.stream.inner();
        if socket.was_reset() {
            self.in_flight.broke();
        }
        let (in_flight, metrics) = (Arc::clone(&self.in_flight), Arc::clone(&self.metrics));
        let parting = if in_flight.is_unsure() {
            socket.parting()
        } else {
            None
        };
        match parting {
            Some(parting) => parting.settle(in_flight, metrics),
            None => give_back(&in_flight, &metrics),
        }
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}
