//! A histogram that remembers for each of its buckets an answer that is traced:
//! from "so many took a second" to one of them.
//!
//! The rule of this module: **an answer that is not traced costs a branch.**

use opentelemetry::trace::{SpanContext, SpanId, TraceId};
use parking_lot::Mutex;
use prometheus::{Histogram, core::Collector as _};
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A trace that goes on and on is remembered anew after this time only: its
/// first answer is as good as its tenth, but one of yesterday is on no graph.
const FRESH: Duration = Duration::from_secs(60);

/// The span of an answer that is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerSpan {
    trace: TraceId,
    span: SpanId,
}

impl AnswerSpan {
    /// `None` if no collector will ever see it.
    pub(super) fn new(context: &SpanContext) -> Option<Self> {
        (context.is_valid() && context.is_sampled()).then(|| Self {
            trace: context.trace_id(),
            span: context.span_id(),
        })
    }
}

/// As labels. Names and values are 63 characters, of the 128 that OpenMetrics
/// allows.
impl fmt::Display for AnswerSpan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "trace_id=\"{}\",span_id=\"{}\"", self.trace, self.span)
    }
}

/// An answer that a bucket has counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar {
    pub(super) span: AnswerSpan,
    pub(super) seconds: f64,
    at: SystemTime,
}

impl Exemplar {
    #[cfg(test)]
    pub(super) fn new(span: AnswerSpan, seconds: f64, since_1970: Duration) -> Self {
        Self {
            span,
            seconds,
            at: UNIX_EPOCH + since_1970,
        }
    }

    /// Since 1970.
    pub(super) fn time(&self) -> Duration {
        self.at.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn serves_for(&self, other: &Self) -> bool {
        let age = other.at.duration_since(self.at);
        self.span.trace == other.span.trace && age.is_ok_and(|age| age < FRESH)
    }
}

/// A histogram of seconds with an exemplar for each bucket, at most.
#[derive(Debug)]
pub(crate) struct Latency {
    histogram: Histogram,
    /// Its buckets' upper bounds, without infinity.
    bounds: &'static [f64],
    /// One for each bound, and for infinity. Only answers that are traced take
    /// the lock, and the page.
    exemplars: Mutex<Box<[Option<Exemplar>]>>,
}

impl Latency {
    /// `bounds` are the histogram's.
    pub(super) fn new(histogram: Histogram, bounds: &'static [f64]) -> Self {
        Self {
            histogram,
            bounds,
            exemplars: Mutex::new(vec![None; bounds.len() + 1].into()),
        }
    }

    /// Counts an answer, and remembers it if it is traced.
    pub(crate) fn observe(&self, waited: Duration, span: Option<AnswerSpan>) {
        let seconds = waited.as_secs_f64();
        self.histogram.observe(seconds);
        if let Some(span) = span {
            let at = SystemTime::now();
            self.remember(Exemplar { span, seconds, at });
        }
    }

    #[cold]
    fn remember(&self, exemplar: Exemplar) {
        let is_in = |bound: &&f64| exemplar.seconds > **bound;
        let bucket = self.bounds.iter().take_while(is_in).count();
        if let Some(kept) = self.exemplars.lock().get_mut(bucket)
            && !kept.is_some_and(|kept| kept.serves_for(&exemplar))
        {
            *kept = Some(exemplar);
        }
    }

    /// What the histogram is called on the page.
    pub(super) fn name(&self) -> String {
        let names = self.histogram.desc();
        names
            .first()
            .map(|desc| desc.fq_name.clone())
            .unwrap_or_default()
    }

    /// By bucket. All of them are counted in what is gathered after this.
    pub(super) fn exemplars(&self) -> Box<[Option<Exemplar>]> {
        self.exemplars.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{TraceFlags, TraceState};
    use prometheus::HistogramOpts;

    const BOUNDS: [f64; 2] = [0.25, 1.0];

    fn latency() -> Latency {
        let options = HistogramOpts::new("a_seconds", "A").buckets(BOUNDS.to_vec());
        Latency::new(Histogram::with_opts(options).unwrap(), &BOUNDS)
    }

    fn span(trace: u128, span: u64) -> AnswerSpan {
        AnswerSpan {
            trace: TraceId::from(trace),
            span: SpanId::from(span),
        }
    }

    fn kept(latency: &Latency) -> Vec<Option<(AnswerSpan, f64)>> {
        let exemplars = latency.exemplars();
        let both = |exemplar: &Exemplar| (exemplar.span, exemplar.seconds);
        exemplars
            .iter()
            .map(|kept| kept.as_ref().map(both))
            .collect()
    }

    #[test]
    fn an_exemplar_is_in_the_bucket_that_counts_it() {
        for (millis, bucket) in [(0, 0), (250, 0), (251, 1), (1_000, 1), (1_001, 2)] {
            let latency = latency();
            latency.observe(Duration::from_millis(millis), Some(span(1, 2)));
            let family = latency.histogram.collect().remove(0);
            let buckets = family.get_metric()[0].get_histogram().get_bucket();
            let below = buckets
                .iter()
                .filter(|bucket| bucket.cumulative_count() == 0);
            assert_eq!(below.count(), bucket, "{millis}");
            let there: Vec<_> = kept(&latency).iter().map(Option::is_some).collect();
            let expected: Vec<_> = (0..3).map(|place| place == bucket).collect();
            assert_eq!(there, expected, "{millis}");
        }
    }

    #[test]
    fn answers_that_are_not_traced_leave_none() {
        let latency = latency();
        latency.observe(Duration::ZERO, None);
        assert_eq!(kept(&latency), [None; 3]);
        assert_eq!(latency.histogram.get_sample_count(), 1);
        assert_eq!(latency.name(), "a_seconds");
    }

    #[test]
    fn a_new_trace_replaces_an_old_one_and_not_itself() {
        let latency = latency();
        let quick = |span, millis| latency.observe(Duration::from_millis(millis), Some(span));
        quick(span(1, 1), 1);
        quick(span(1, 2), 2);
        assert_eq!(kept(&latency)[0], Some((span(1, 1), 0.001)));
        quick(span(2, 3), 3);
        assert_eq!(kept(&latency)[0], Some((span(2, 3), 0.003)));
        // Until it is old.
        let exemplar = |number| Exemplar {
            span: span(2, number),
            seconds: 0.0,
            at: SystemTime::now() + FRESH,
        };
        latency.remember(exemplar(4));
        assert_eq!(kept(&latency)[0], Some((span(2, 4), 0.0)));
        // A clock that was set back keeps nothing for ever.
        latency.observe(Duration::ZERO, Some(span(2, 5)));
        assert_eq!(kept(&latency)[0], Some((span(2, 5), 0.0)));
    }

    #[test]
    fn labels_are_as_short_as_openmetrics_asks() {
        let widest = AnswerSpan {
            trace: TraceId::from(u128::MAX),
            span: SpanId::from(u64::MAX),
        };
        let text = widest.to_string();
        assert_eq!(
            text,
            format!(
                "trace_id=\"{}\",span_id=\"{}\"",
                "f".repeat(32),
                "f".repeat(16)
            )
        );
        let counted = text.chars().filter(|char| !"=\",".contains(*char)).count();
        assert_eq!(counted, 63);
    }

    #[test]
    fn spans_that_nobody_will_see_are_none() {
        let context = |trace: u128, flags| {
            let trace = TraceId::from(trace);
            SpanContext::new(trace, SpanId::from(1), flags, false, TraceState::NONE)
        };
        assert!(AnswerSpan::new(&context(7, TraceFlags::SAMPLED)).is_some());
        assert!(AnswerSpan::new(&context(7, TraceFlags::NOT_SAMPLED)).is_none());
        assert!(AnswerSpan::new(&context(0, TraceFlags::SAMPLED)).is_none());
    }
}
