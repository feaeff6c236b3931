//! The context of a publication's trace: where it is read from, what it
//! decides, and how it travels.

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator as _, RandomIdGenerator},
};
use pollux_protocol::Meta;

/// The header and the key of `meta`.
pub(super) const TRACEPARENT: &str = "traceparent";
/// What goes with it.
pub(super) const TRACESTATE: &str = "tracestate";

/// No more of it is passed on; W3C asks for 512 characters at least.
pub(super) const TRACESTATE_MAX: usize = 1_024;

/// What the head of a trace says about a publication.
pub(super) enum Head {
    /// Its publisher is traced, and so is it.
    Follow(Context),
    /// Its publisher did not say, and chance did.
    Begin,
    /// It is not traced because chance said so.
    Leave,
    /// It is not traced because somebody before us said so.
    Obey,
}

/// What decides where nobody has: the share of random numbers that make a trace
/// begin; zero for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn new(ratio: f64) -> Self {
        // Beyond the largest number it is the largest.
        Self((ratio * u64::MAX as f64) as u64)
    }

    /// What becomes of a publication.
    pub(super) fn head(self, meta: &Meta) -> Head {
        let parent = match &meta.traceparent {
            Some(_) => {
                TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(meta))
            }
            // An embedding program's own span.
            None => Context::current(),
        };
        let context = parent.span().span_context().clone();
        if context.is_valid() {
            match context.is_sampled() {
                true => Head::Follow(parent),
                false => Head::Obey,
            }
        } else if self.0 > 0 && random() <= self.0 {
            Head::Begin
        } else {
            Head::Leave
        }
    }

    /// Notes that chance said no; else each node that the publication comes to
    /// would ask again.
    pub(super) fn say_no(self, meta: &mut Meta) {
        if self.0 > 0 {
            let ids = RandomIdGenerator::default();
            let (trace, span) = (ids.new_trace_id(), ids.new_span_id());
            meta.traceparent = Some(format!("00-{trace}-{span}-00").into());
            meta.tracestate = None;
        }
    }
}

/// Takes what a publisher by HTTP says in its headers into a publication that
/// does not say it itself.
pub(crate) fn adopt(headers: &HeaderMap, meta: &mut Meta) {
    if meta.traceparent.is_some() {
        return;
    }
    let text = |name| headers.get(name)?.to_str().ok();
    if let Some(parent) = text(TRACEPARENT) {
        meta.traceparent = Some(parent.into());
        let state = text(TRACESTATE).filter(|state| state.len() <= TRACESTATE_MAX);
        meta.tracestate = state.map(Into::into);
    }
}

/// The `traceparent` of the span that this thread is in, if it is in one.
pub(crate) fn current() -> Option<HeaderValue> {
    let context = Context::map_current(|context| context.span().span_context().clone());
    let flags = context.trace_flags().to_u8();
    let (trace, span) = (context.trace_id(), context.span_id());
    let text = context
        .is_valid()
        .then(|| format!("00-{trace}-{span}-{flags:02x}"))?;
    HeaderValue::try_from(text).ok()
}

/// Puts the context of a span into a publication.
pub(super) fn write(meta: &mut Meta, context: &SpanContext) {
    let (trace, span) = (context.trace_id(), context.span_id());
    meta.traceparent = Some(format!("00-{trace}-{span}-01").into());
    let state = context.trace_state().header();
    meta.tracestate = (!state.is_empty() && state.len() <= TRACESTATE_MAX).then(|| state.into());
}

fn random() -> u64 {
    u64::from_be_bytes(RandomIdGenerator::default().new_span_id().to_bytes())
}

/// What `meta` says, as OpenTelemetry asks for it.
struct Carrier<'a>(&'a Meta);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.0.traceparent.as_deref(),
            TRACESTATE => self.0.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}
