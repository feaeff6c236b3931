//! Which answers carry publications that are traced.
//!
//! An answer has the very frames that the fan-out made, so a frame is known by
//! where its bytes are. They are held here as long as they are followed, or
//! another frame could be at the same place.

use crate::telemetry::exemplars::AnswerSpan;
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, Span as _, SpanContext, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use parking_lot::Mutex;
use pollux_protocol::Frame;
use pollux_session::{AnswerId, Delivery, Fate, Watcher};
use smallvec::SmallVec;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Answers that are part of a publication's trace on one node: enough to see
/// how they spread, few enough that ten thousand listeners are no flood.
pub(crate) const ANSWERS_MAX: usize = 10;

/// Frames that are followed at a time, with those that are just followed no
/// more.
const FOLLOWED_MAX: usize = 1_024;

/// Bytes in them.
const BYTES_MAX: usize = 4 << 20;

/// A frame that was not fetched for so long is followed no more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers on their way at a time.
const OPEN_MAX: usize = 1_024;

/// A traced publication, to its answers.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The span of its fan-out.
    context: SpanContext,
    /// When it came to this node.
    arrived: SystemTime,
    /// Answers that may yet be part of its trace.
    left: AtomicUsize,
}

impl Origin {
    pub(super) fn new(context: SpanContext, arrived: Option<SystemTime>) -> Self {
        Self {
            context,
            arrived: arrived.unwrap_or_else(SystemTime::now),
            left: AtomicUsize::new(ANSWERS_MAX),
        }
    }

    /// There will be no more answers than sessions.
    pub(crate) fn expect(&self, sessions: usize) {
        self.left
            .store(sessions.min(ANSWERS_MAX), Ordering::Relaxed);
    }

    /// Whether one more may be.
    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

/// How an answer goes to its client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    LongPoll,
    WebSocket,
    EventStream,
    /// A category's poll or a room's socket.
    Listener,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::LongPoll => "long_poll",
            Self::WebSocket => "websocket",
            Self::EventStream => "sse",
            Self::Listener => "listener",
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Answers {
    tracer: SdkTracer,
    /// Frames in `followed`, to be asked before its lock.
    count: AtomicUsize,
    followed: Mutex<Followed>,
    /// Spans of answers that are on their way.
    open: Mutex<HashMap<AnswerId, Span>>,
}

/// Frames, by where their bytes are.
#[derive(Debug, Default)]
struct Followed {
    frames: HashMap<usize, Entry>,
    /// The same in the order they came, with those that are gone.
    order: VecDeque<(Instant, usize)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    frame: Frame,
    since: Instant,
    origin: Arc<Origin>,
}

fn place_of(frame: &Frame) -> usize {
    frame.line().as_ptr().addr()
}

impl Followed {
    fn insert(&mut self, frame: &Frame, origin: &Arc<Origin>, now: Instant) {
        if frame.len() > BYTES_MAX {
            return;
        }
        self.forget(now);
        while self.order.len() >= FOLLOWED_MAX || self.bytes + frame.len() > BYTES_MAX {
            let Some((since, place)) = self.order.pop_front() else {
                break;
            };
            self.remove_if(place, |entry| entry.since == since);
        }
        let place = place_of(frame);
        self.bytes += frame.len();
        self.order.push_back((now, place));
        let entry = Entry {
            frame: frame.clone(),
            since: now,
            origin: Arc::clone(origin),
        };
        if let Some(before) = self.frames.insert(place, entry) {
            self.bytes -= before.frame.len();
        }
    }

    /// Lets go of what is old, and of the order's memory of what is gone.
    fn forget(&mut self, now: Instant) {
        while let Some((since, place)) = self.order.front().copied() {
            let is_old = now.duration_since(since) >= PATIENCE;
            let is_there = self
                .frames
                .get(&place)
                .is_some_and(|entry| entry.since == since);
            if is_there && !is_old {
                return;
            }
            self.order.pop_front();
            self.remove_if(place, |entry| entry.since == since);
        }
    }

    fn remove_if(&mut self, place: usize, which: impl Fn(&Entry) -> bool) {
        if self.frames.get(&place).is_some_and(which)
            && let Some(entry) = self.frames.remove(&place)
        {
            self.bytes -= entry.frame.len();
        }
    }
}

impl Answers {
    pub(super) fn new(tracer: SdkTracer) -> Self {
        Self {
            tracer,
            count: AtomicUsize::new(0),
            followed: Mutex::default(),
            open: Mutex::default(),
        }
    }

    pub(super) fn follow(&self, frame: &Frame, origin: &Arc<Origin>) {
        let mut followed = self.followed.lock();
        followed.insert(frame, origin, Instant::now());
        self.count.store(followed.frames.len(), Ordering::Relaxed);
    }

    /// Begins a span if frames among these are followed. It ends when the
    /// answer has left.
    pub(super) fn compose(
        &self,
        frames: &[Frame],
        delivery: &mut Delivery,
        way: Way,
    ) -> Option<AnswerSpan> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let origins = self.origins(frames);
        let (first, others) = origins.split_first()?;
        let started = origins.iter().map(|origin| origin.arrived).min();
        let links = others
            .iter()
            .map(|other| Link::with_context(other.context.clone()));
        let frames = i64::try_from(frames.len()).unwrap_or(i64::MAX);
        let builder = self
            .tracer
            .span_builder("answer")
            .with_start_time(started.unwrap_or(first.arrived))
            .with_links(links.collect())
            .with_attributes([
                KeyValue::new("pollux.transport", way.as_str()),
                KeyValue::new("pollux.frames", frames),
            ]);
        let parent = Context::new().with_remote_span_context(first.context.clone());
        let span = builder.start_with_context(&self.tracer, &parent);
        let name = AnswerSpan::new(span.span_context());
        let mut open = self.open.lock();
        if open.len() < OPEN_MAX {
            open.insert(delivery.watch(), span);
        }
        name
    }

    /// The traced publications among frames, each once.
    fn origins(&self, frames: &[Frame]) -> SmallVec<[Arc<Origin>; 1]> {
        let mut origins = SmallVec::<[Arc<Origin>; 1]>::new();
        let mut followed = self.followed.lock();
        followed.forget(Instant::now());
        for frame in frames {
            let place = place_of(frame);
            let Some(entry) = followed.frames.get(&place) else {
                continue;
            };
            let known = origins
                .iter()
                .any(|known| Arc::ptr_eq(known, &entry.origin));
            if !known && entry.origin.take() {
                origins.push(Arc::clone(&entry.origin));
            }
            followed.remove_if(place, |entry| entry.origin.is_spent());
        }
        self.count.store(followed.frames.len(), Ordering::Relaxed);
        origins
    }
}

impl Watcher for Answers {
    fn note(&self, answer: AnswerId, fate: Fate) {
        let span = self.open.lock().remove(&answer);
        if let Some(mut span) = span {
            if fate == Fate::Lost {
                span.set_status(Status::error(
                    "the client did not get it; it will be sent again",
                ));
            }
            span.end();
        }
    }
}

#[cfg(test)]
mod tests;
