//! The requests of one HTTP/2 connection, and how their answers get on.
//!
//! A stream has a flow control of its own: what hyper has taken of an answer
//! may wait in memory while other answers pass. So an answer's bytes are handed
//! over as a [`Piece`], which sees them leave: when the last one is taken into
//! the connection's own buffer, the batch is leaving, and the connection's next
//! flush means that it is in the socket. A piece that is thrown away before, by
//! a stream that was reset or a connection that broke, gives its batch back.

use crate::{
    http::{AnswerBody, InFlight},
    telemetry::Metrics,
};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use pollux_session::Delivery;
use std::{
    collections::BTreeMap,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// What a connection and its streams share.
#[derive(Debug)]
pub(super) struct Streams {
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Names the next stream.
    next: u64,
    /// Requests that have no complete answer.
    open: usize,
    /// When there was one last.
    quiet_since: Instant,
    /// Streams with bytes to send, and when one of those moved last.
    sending: BTreeMap<u64, Instant>,
}

/// One request, as long as it is served or its answer is under way.
#[derive(Debug)]
pub(super) struct Stream {
    streams: Arc<Streams>,
    id: u64,
}

/// A batch on its way through the server.
#[derive(Debug)]
struct Batch {
    delivery: Option<Delivery>,
    stream: Arc<Stream>,
}

/// An answer's body on a stream.
#[derive(Debug)]
pub(super) struct StreamBody {
    body: AnswerBody,
    batch: Batch,
}

/// Some of an answer's bytes; see the module's head.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    batch: Batch,
}

impl Streams {
    pub(super) fn new(in_flight: Arc<InFlight>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            in_flight,
            metrics,
            state: Mutex::new(State {
                next: 0,
                open: 0,
                quiet_since: Instant::now(),
                sending: BTreeMap::new(),
            }),
        })
    }

    pub(super) const fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// A request came.
    pub(super) fn open(self: &Arc<Self>) -> Arc<Stream> {
        let mut state = self.state.lock();
        state.open += 1;
        let id = state.next;
        state.next += 1;
        drop(state);
        let streams = Arc::clone(self);
        Arc::new(Stream { streams, id })
    }

    /// How long there has been no request.
    pub(super) fn quiet_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        (state.open == 0).then(|| state.quiet_since.elapsed())
    }

    /// Whether an answer has not moved for this long.
    pub(super) fn is_stuck(&self, stall: Duration) -> bool {
        let state = self.state.lock();
        state.sending.values().any(|moved| moved.elapsed() >= stall)
    }
}

impl Stream {
    fn moved(&self) {
        let now = Instant::now();
        self.streams.state.lock().sending.insert(self.id, now);
    }

    fn sent(&self) {
        self.streams.state.lock().sending.remove(&self.id);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.streams.state.lock();
        state.open -= 1;
        state.quiet_since = Instant::now();
        state.sending.remove(&self.id);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            let again = u64::try_from(delivery.failed()).unwrap_or(u64::MAX);
            let metrics = &self.stream.streams.metrics;
            metrics.failed_server_messages.inc_by(again);
        }
    }
}

impl StreamBody {
    pub(super) fn new(mut body: AnswerBody, stream: Arc<Stream>) -> Self {
        let delivery = body.take_delivery();
        if delivery.is_some() {
            // Its bytes are there; that the client gives them no window counts
            // as much as that it takes none.
            stream.moved();
        }
        let batch = Batch { delivery, stream };
        Self { body, batch }
    }
}

impl Body for StreamBody {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        let Self { body, batch } = self.get_mut();
        let frame = ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let piece = |bytes| {
                batch.stream.moved();
                let delivery = batch.delivery.take();
                let stream = Arc::clone(&batch.stream);
                let batch = Batch { delivery, stream };
                Piece { bytes, batch }
            };
            frame.map(|frame| frame.map_data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if self.bytes.has_remaining() {
            self.batch.stream.moved();
            return;
        }
        self.batch.stream.sent();
        if let Some(delivery) = self.batch.delivery.take() {
            self.batch.stream.streams.in_flight.leaving(delivery);
        }
    }
}
