//! Answer bodies that know when they have left.
//!
//! The server hands a poll's frames to hyper as a body. The moment hyper takes
//! the bytes, the batch's [`Delivery`] moves to the connection's [`InFlight`]
//! list; the connection says when its buffers are empty, which is when the
//! batch is flushed, and how it ended.

use super::lent::Lent;
use crate::clock::Clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use pollux_session::Delivery;
use std::{
    mem,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A request and the answer to another may cross for this long: one round trip
/// to the other side of the world.
pub(crate) const CROSSING: Duration = Duration::from_millis(250);

/// The deliveries of one connection, from the moment their bytes were taken.
#[derive(Debug)]
pub(crate) struct InFlight {
    clock: Clock,
    /// The other end.
    peer: Option<IpAddr>,
    /// Requests come while answers to others are on their way.
    is_multiplexed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In hyper's buffers or partly in the socket.
    leaving: Vec<Sent>,
    /// In the socket.
    flushed: Vec<Sent>,
    /// The connection failed, rather than being closed in good order.
    broken: bool,
}

/// What an answer carries that must not be lost with it.
#[derive(Debug)]
enum Sent {
    /// Frames of a session.
    Frames(Delivery),
    /// Publications that nobody else gets meanwhile.
    Lent(Lent),
}

impl Sent {
    fn flushed(&mut self, clock: Clock) {
        match self {
            Self::Frames(delivery) => delivery.flushed(clock.now()),
            Self::Lent(lent) => lent.flushed(),
        }
    }

    fn confirm(self) {
        match self {
            Self::Frames(delivery) => delivery.confirm(),
            Self::Lent(lent) => lent.confirm(),
        }
    }

    /// How many frames are pending again.
    fn failed(self) -> usize {
        match self {
            Self::Frames(delivery) => delivery.failed(),
            Self::Lent(lent) => {
                lent.failed();
                0
            }
        }
    }
}

impl InFlight {
    pub(crate) fn new(clock: Clock, peer: Option<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            peer,
            is_multiplexed: false,
            state: Mutex::default(),
        })
    }

    /// For a connection on which several requests wait at a time.
    pub(crate) fn multiplexed(clock: Clock, peer: Option<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            peer,
            is_multiplexed: true,
            state: Mutex::default(),
        })
    }

    /// The other end of the connection, if the system knows it.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Its bytes are in the server's buffers or partly in the socket.
    pub(crate) fn leaving(&self, delivery: Delivery) {
        self.depart(Sent::Frames(delivery));
    }

    fn depart(&self, sent: Sent) {
        self.state.lock().leaving.push(sent);
    }

    /// Everything that was written before is in the socket.
    pub(crate) fn flushed(&self) {
        let mut state = self.state.lock();
        if state.leaving.is_empty() {
            return;
        }
        let mut flushed = mem::take(&mut state.leaving);
        drop(state);
        for sent in &mut flushed {
            sent.flushed(self.clock);
        }
        self.state.lock().flushed.append(&mut flushed);
    }

    /// Another request came on this connection: its client has read what was
    /// sent before. On a connection with several at a time, what was sent well
    /// before: the request may have crossed with an answer to another.
    pub(crate) fn next_request(&self) {
        let mut state = self.state.lock();
        if state.flushed.is_empty() {
            return;
        }
        let received = if self.is_multiplexed {
            let now = self.clock.now();
            let old = |sent: &mut Sent| match sent {
                Sent::Frames(delivery) => now.since(delivery.flushed_at()) >= CROSSING,
                // It sees for itself when its time is over.
                Sent::Lent(_) => false,
            };
            state.flushed.extract_if(.., old).collect()
        } else {
            mem::take(&mut state.flushed)
        };
        drop(state);
        received.into_iter().for_each(Sent::confirm);
    }

    /// Reading or writing failed. A peer that closes its socket with unread
    /// bytes in it resets the connection, so nothing that was flushed since the
    /// last request is known to have been read.
    pub(crate) fn broke(&self) {
        self.state.lock().broken = true;
    }

    /// Whether there are answers of which only the connection's end can tell
    /// whether they were read.
    pub(crate) fn is_unsure(&self) -> bool {
        let state = self.state.lock();
        !state.flushed.is_empty() && !state.broken
    }

    /// The connection is gone. Returns how many frames did not reach the client
    /// and are pending again.
    pub(crate) fn ended(&self) -> usize {
        let State {
            leaving,
            flushed,
            broken,
        } = mem::take(&mut *self.state.lock());
        let mut again = 0;
        for sent in flushed {
            if broken {
                again += sent.failed();
            } else {
                sent.confirm();
            }
        }
        again + leaving.into_iter().map(Sent::failed).sum::<usize>()
    }
}

/// A poll's answer, or that of any other door.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// Bytes that nobody waits to hear of.
    Plain(Bytes),
    /// Frames of a poll.
    Frames {
        /// The lines; empty once taken.
        lines: Bytes,
        /// Moves to the connection with the lines.
        delivery: Option<Delivery>,
        /// The connection, or `None` where the server is not ours: then the
        /// batch counts as flushed when its bytes are taken.
        connection: Option<Arc<InFlight>>,
        /// For servers that are not ours.
        clock: Clock,
    },
    /// Publications that were lent to one client.
    Lent {
        /// The body; empty once taken.
        bytes: Bytes,
        /// Moves to the connection with the bytes.
        lent: Option<Lent>,
        /// As above.
        connection: Option<Arc<InFlight>>,
    },
    /// The answer of another door.
    Other(axum::body::Body),
}

impl AnswerBody {
    /// A body without bytes.
    pub(crate) const fn empty() -> Self {
        Self::Plain(Bytes::new())
    }

    /// A body with what was lent to its client.
    pub(crate) fn lent(bytes: Bytes, lent: Lent, connection: Option<Arc<InFlight>>) -> Self {
        let mut body = Self::Lent {
            bytes,
            lent: Some(lent),
            connection,
        };
        if let Self::Lent { bytes, .. } = &body
            && bytes.is_empty()
        {
            // Nobody would ask an empty body for its bytes.
            body.depart();
        }
        body
    }

    fn depart(&mut self) -> Bytes {
        let Self::Lent {
            bytes,
            lent,
            connection,
        } = self
        else {
            return Bytes::new();
        };
        match (lent.take(), connection) {
            (Some(lent), Some(connection)) => connection.depart(Sent::Lent(lent)),
            (Some(mut lent), None) => lent.flushed(),
            (None, _) => {}
        }
        mem::take(bytes)
    }

    /// The delivery of a poll's frames, for a server that sees for itself what
    /// becomes of them.
    pub(crate) fn take_delivery(&mut self) -> Option<Delivery> {
        match self {
            Self::Frames { delivery, .. } => delivery.take(),
            Self::Plain(_) | Self::Lent { .. } | Self::Other(_) => None,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = match self.get_mut() {
            Self::Other(body) => return Pin::new(body).poll_frame(context),
            body @ Self::Lent { .. } => body.depart(),
            Self::Plain(bytes) => mem::take(bytes),
            Self::Frames {
                lines,
                delivery,
                connection,
                clock,
            } => {
                match (delivery.take(), connection) {
                    (Some(delivery), Some(connection)) => {
                        connection.leaving(delivery);
                    }
                    (Some(mut delivery), None) => delivery.flushed(clock.now()),
                    (None, _) => {}
                }
                mem::take(lines)
            }
        };
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(bytes) | Self::Lent { bytes, .. } | Self::Frames { lines: bytes, .. } => {
                bytes.is_empty()
            }
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(bytes) | Self::Lent { bytes, .. } | Self::Frames { lines: bytes, .. } => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Self::Other(body) => body.size_hint(),
        }
    }
}
