//! The body of an event stream.

use crate::{runtime::Runtime, socket::Pings, telemetry::traces::Way};
use bytes::Bytes;
use http_body::{Body, Frame as BodyFrame};
use pollux_protocol::{DisconnectReason, Frame, action_cable::reply, sse::EventWriter};
use pollux_session::{Answer, Poll as Parked, Session, Time};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A comment, which no client sees: for streams without protocol.
const COMMENT: &[u8] = b":\n\n";

/// The shortest and the longest time a client is asked to wait before it comes
/// back, in milliseconds: spread, because all of a node's clients may come back
/// together.
const RETRY: (u64, u64) = (1_000, 4_000);

/// See the module's head. The session ends when this is dropped, which is when
/// the client is gone.
#[derive(Debug)]
pub(super) struct EventBody {
    runtime: Arc<Runtime>,
    session: Arc<Session>,
    writer: EventWriter,
    parked: Option<Parked>,
    pings: Option<Pings>,
    raw: bool,
    /// What was there when the stream began.
    first: Option<Bytes>,
    is_over: bool,
}

impl EventBody {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        session: Arc<Session>,
        writer: EventWriter,
        ping_interval: Duration,
        raw: bool,
    ) -> Self {
        runtime.event_streams.fetch_add(1, Ordering::Relaxed);
        Self {
            runtime,
            session,
            writer,
            parked: None,
            pings: (!ping_interval.is_zero()).then(|| Pings::every(ping_interval)),
            raw,
            first: None,
            is_over: false,
        }
    }

    /// Puts what came before the answer's head at the beginning.
    pub(super) fn begin(&mut self, frames: &[Frame]) {
        let mut random = [0; 2];
        // Without randomness all wait the same.
        let share = getrandom::fill(&mut random).map_or(0, |()| u16::from_be_bytes(random));
        let (shortest, longest) = RETRY;
        let retry = shortest + (longest - shortest) * u64::from(share) / u64::from(u16::MAX);
        let mut events = format!("retry: {retry}\n\n").into_bytes();
        for frame in frames {
            self.writer.push(frame, &mut events);
        }
        self.first = Some(events.into());
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            let parked = self
                .parked
                .get_or_insert_with(|| self.session.park(Time::NEVER));
            let now = self.runtime.clock.now();
            let Poll::Ready(answer) = parked.poll_answer(now, context.waker()) else {
                return self.ping(context);
            };
            self.parked = None;
            let events = self.events(answer);
            if !events.is_empty() {
                return Poll::Ready(Some(events.into()));
            }
        }
    }

    fn ping(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        if pings.poll_tick(context).is_pending() {
            return Poll::Pending;
        }
        if self.raw {
            return Poll::Ready(Some(Bytes::from_static(COMMENT)));
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut events = Vec::new();
        self.writer.push(&reply::ping(seconds), &mut events);
        Poll::Ready(Some(events.into()))
    }

    fn events(&mut self, answer: Answer) -> Vec<u8> {
        let mut events = Vec::new();
        match answer {
            Answer::Frames {
                frames,
                waited,
                mut delivery,
                ..
            } => {
                let traces = self.runtime.traces.as_ref();
                let span = traces
                    .and_then(|traces| traces.answer(&frames, &mut delivery, Way::EventStream));
                for frame in &frames {
                    self.writer.push(frame, &mut events);
                }
                let metrics = &self.runtime.metrics;
                metrics
                    .server_messages
                    .inc_by(u64::try_from(frames.len()).unwrap_or(u64::MAX));
                metrics
                    .data_sent
                    .inc_by(u64::try_from(events.len()).unwrap_or(u64::MAX));
                if let Some(waited) = waited {
                    metrics.publish_to_answer.observe(waited, span);
                }
                // What is lost on the way from here the client asks for again,
                // by its last event's id.
                delivery.flushed(self.runtime.clock.now());
                delivery.confirm();
                self.is_over = self.session.is_told();
            }
            Answer::Empty { .. } => {}
            Answer::Closed { .. } => {
                let farewell = reply::disconnect(DisconnectReason::TooSlow, true);
                self.writer.push(&farewell, &mut events);
                self.is_over = true;
            }
        }
        events
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        self.next(context)
            .map(|events| events.map(|events| Ok(BodyFrame::data(events))))
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.parked = None;
        let subscriptions = self.session.abandon(self.runtime.clock.now());
        self.runtime.detach(&self.session, subscriptions);
        self.runtime.registry.remove(self.session.secret());
        self.runtime.event_streams.fetch_sub(1, Ordering::Relaxed);
    }
}
