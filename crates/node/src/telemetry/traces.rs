//! The way of a publication as a trace: in at a door (`publish`), out to the
//! sessions of each node (`fan out`), into the sockets (`answer`).
//!
//! The rule of this module: **what is not sampled costs a branch.** It is
//! decided before there is a span, from the `traceparent` that travels in the
//! publication's `meta`, and else by chance at the first node that could begin
//! a trace. Nothing of a trace is kept with sessions or frames; which answers
//! carry a traced publication is looked up in [`answers`], and only while
//! there is one under way.

mod answers;
mod client;
mod context;
mod export;

pub use export::TracesError;

use super::exemplars::AnswerSpan;
use crate::config::Config;
use answers::Answers;
use context::{Chance, Head, write};
use export::Tally;
use opentelemetry::{
    Context, InstrumentationScope,
    trace::{SpanContext, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use pollux_protocol::{Frame, Publication};
use pollux_session::{Delivery, Watcher};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout};
use tracing::{Level, Span, Subscriber, field, span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

pub(crate) use answers::{Origin, Way};
pub(crate) use context::{adopt, current};

/// What spans of a publication's way are told by from those of libraries.
pub(super) const TARGET: &str = "pollux::traces";

/// Spans that wait are sent when the node stops, for no longer than this.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Traces of a process, sent to a collector. A clone is the same.
///
/// Started from the options before the node, which is then built with it; a
/// program with a subscriber of its own adds [`Traces::layer`] to that.
#[derive(Clone, Debug)]
pub struct Traces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: SdkTracerProvider,
    chance: Chance,
    /// Streams may be named.
    names_streams: bool,
    answers: Arc<Answers>,
    tally: Arc<Tally>,
}

/// One publication's fan-out that is traced.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) span: Span,
    /// What its answers belong to.
    pub(crate) origin: Arc<Origin>,
}

impl Traced {
    /// Says how many sessions get it, as how many frames.
    pub(crate) fn count(&self, sessions: usize, frames: usize) {
        self.origin.expect(sessions);
        self.span.record("pollux.sessions", sessions);
        self.span.record("pollux.frames", frames);
    }
}

impl Traces {
    /// Begins to send traces if the options name a collector. Must be called
    /// within a tokio runtime, which the sending uses. A node without a name
    /// gets one, because traces are told apart by it.
    ///
    /// # Errors
    /// The options can't be used, or the system gives no certificates,
    /// threads or randomness.
    pub fn start(config: &mut Config) -> Result<Option<Self>, TracesError> {
        let Some(url) = config.traces_url() else {
            return Ok(None);
        };
        let tally = Arc::new(Tally::default());
        let provider = export::provider(config, url, Arc::clone(&tally))?;
        let scope = InstrumentationScope::builder("pollux")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let answers = Answers::new(provider.tracer_with_scope(scope));
        Ok(Some(Self(Arc::new(Inner {
            provider,
            chance: Chance::new(config.traces_sample_ratio),
            names_streams: config.traces_stream_names,
            answers: Arc::new(answers),
            tally,
        }))))
    }

    /// What makes spans of the node's, for the process's subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.provider.tracer("pollux"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    }

    /// Sends what is left. Returns within seconds, whatever the collector does.
    pub async fn shutdown(&self) {
        let provider = self.0.provider.clone();
        // It waits for its thread.
        let last = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_EXPORT));
        match timeout(LAST_EXPORT + Duration::from_secs(1), last).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "Spans are lost: the last ones could not be sent"),
            Ok(Err(_)) | Err(_) => warn!("Spans are lost: sending the last ones took too long"),
        }
    }

    /// Is told what becomes of answers.
    pub(crate) fn watcher(&self) -> Arc<dyn Watcher> {
        Arc::<Answers>::clone(&self.0.answers)
    }

    /// Spans that ended, those that were sent, and those that could not be.
    pub(crate) fn numbers(&self) -> [u64; 3] {
        let Tally {
            ended, sent, lost, ..
        } = &*self.0.tally;
        [ended, sent, lost].map(|number| number.load(Ordering::Relaxed))
    }

    /// The span of a publication's way in, with its context in the publication
    /// for the nodes it goes to; disabled if there is to be none.
    pub(crate) fn publish(&self, publication: &mut Publication) -> Span {
        let parent = match self.0.chance.head(&publication.meta) {
            Head::Follow(parent) => Some(parent),
            Head::Begin => None,
            Head::Leave => {
                self.0.chance.say_no(&mut publication.meta);
                return Span::none();
            }
            Head::Obey => return Span::none(),
        };
        // Level error, so that spans do not depend on what is logged.
        let span = span!(
            target: TARGET,
            Level::ERROR,
            "publish",
            otel.kind = "producer",
            otel.status_code = field::Empty,
            messaging.system = "pollux",
            messaging.operation.name = "publish",
            messaging.message.body.size = publication.data.as_bytes().len(),
            messaging.destination.name = field::Empty,
        );
        let context = self.begin(&span, parent, publication);
        if context.is_valid() {
            write(&mut publication.meta, &context);
        }
        span
    }

    /// The span of a publication's fan-out, if there is to be one.
    pub(crate) fn fan_out(
        &self,
        publication: &Publication,
        received: Instant,
        late: bool,
    ) -> Option<Traced> {
        let parent = match self.0.chance.head(&publication.meta) {
            Head::Follow(parent) => Some(parent),
            Head::Begin => None,
            Head::Leave | Head::Obey => return None,
        };
        let span = span!(
            target: TARGET,
            Level::ERROR,
            "fan out",
            otel.kind = "consumer",
            messaging.system = "pollux",
            messaging.operation.name = "fan out",
            messaging.destination.name = field::Empty,
            pollux.late = late,
            pollux.sessions = field::Empty,
            pollux.frames = field::Empty,
        );
        let context = self.begin(&span, parent, publication);
        let waited = received.elapsed();
        let arrived = SystemTime::now().checked_sub(waited);
        Some(Traced {
            span,
            origin: Arc::new(Origin::new(context, arrived)),
        })
    }

    /// An answer that carries this frame is part of the trace. Said before the
    /// frame is in any outbox.
    pub(crate) fn follow(&self, frame: &Frame, origin: &Arc<Origin>) {
        self.0.answers.follow(frame, origin);
    }

    /// Looks whether an answer carries something that is traced. Returns its
    /// span if it does.
    pub(crate) fn answer(
        &self,
        frames: &[Frame],
        delivery: &mut Delivery,
        way: Way,
    ) -> Option<AnswerSpan> {
        self.0.answers.compose(frames, delivery, way)
    }

    fn begin(
        &self,
        span: &Span,
        parent: Option<Context>,
        publication: &Publication,
    ) -> SpanContext {
        if let Some(parent) = parent
            && let Err(error) = span.set_parent(parent)
        {
            // No subscriber has our layer.
            tracing::debug!(%error, "A span has no parent");
        }
        if self.0.names_streams {
            span.record("messaging.destination.name", publication.stream.as_str());
        }
        span.context().span().span_context().clone()
    }
}

/// The span of a call to the backend, if the call is made within a trace: that
/// of an embedding program, as polls and sockets begin none here.
pub(crate) fn call(method: &'static str) -> Span {
    if !Context::map_current(|context| context.span().span_context().is_sampled()) {
        return Span::none();
    }
    span!(
        target: TARGET,
        Level::ERROR,
        "call",
        otel.kind = "client",
        rpc.system = "anycable",
        rpc.method = method,
    )
}

#[cfg(test)]
mod tests;
