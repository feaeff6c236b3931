//! An event stream, compressed: every piece can be read as soon as it is there.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use http_body::{Body, Frame};
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The fastest level.
const LEVEL: u32 = 1;

/// Every open stream has a state of its own, so its window is small. Events are
/// like those right before them.
const WINDOW_BITS: u8 = 11;

/// Room for what a compressed piece adds: an end of its block, a head, a tail.
const ROOM: usize = 64;

/// See the module's head.
pub(super) struct Gzip<B> {
    events: B,
    compress: Compress,
    is_over: bool,
}

impl<B> Gzip<B> {
    pub(super) fn new(events: B) -> Self {
        Self {
            events,
            compress: Compress::new_gzip(Compression::new(LEVEL), WINDOW_BITS),
            is_over: false,
        }
    }

    /// `None` if it can't go on, which ends the stream.
    fn squeeze(&mut self, mut events: &[u8], flush: FlushCompress) -> Option<Bytes> {
        let mut out = Vec::with_capacity(events.len() / 4 + ROOM);
        loop {
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(events, &mut out, flush).ok()?;
            let taken = usize::try_from(self.compress.total_in() - before).ok()?;
            events = events.get(taken..)?;
            // Room that is left means that nothing waits for any.
            let is_flushed = events.is_empty() && out.len() < out.capacity();
            if status == Status::StreamEnd || (is_flushed && flush == FlushCompress::Sync) {
                return Some(out.into());
            }
            out.reserve(events.len() / 4 + ROOM);
        }
    }
}

impl<B> Body for Gzip<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.events).poll_frame(context));
        let events = frame.and_then(|Ok(frame)| frame.into_data().ok());
        self.is_over = events.is_none();
        let bytes = match events {
            Some(events) => self.squeeze(&events, FlushCompress::Sync),
            None => self.squeeze(&[], FlushCompress::Finish),
        };
        self.is_over |= bytes.is_none();
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl<B: fmt::Debug> fmt::Debug for Gzip<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Gzip");
        text.field("events", &self.events).finish_non_exhaustive()
    }
}
