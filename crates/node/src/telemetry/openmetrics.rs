//! The page of metrics as OpenMetrics 1.0 has it. Unlike Prometheus's own text
//! format it has room for exemplars.

use super::exemplars::Exemplar;
use prometheus::proto::{Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::{
    fmt::{self, Display, Formatter, Write as _},
    iter,
};

/// What it is called in `Content-Type`.
pub(crate) const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What samples of counters end with, and their families do not.
const TOTAL: &str = "_total";

/// Families as a page: `to_string` is the text.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) families: &'a [MetricFamily],
    /// Name of the one family that has exemplars.
    pub(super) shown: &'a str,
    /// By bucket; the last one is infinity.
    pub(super) exemplars: &'a [Option<Exemplar>],
}

impl Display for Page<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (place, family) in self.families.iter().enumerate() {
            let mut before = self.families.iter().take(place);
            if before.all(|other| other.name() != family.name()) {
                self.family(out, family)?;
            }
        }
        out.write_str("# EOF\n")
    }
}

impl Page<'_> {
    fn family(&self, out: &mut Formatter<'_>, family: &MetricFamily) -> fmt::Result {
        let (name, kind) = self.title(family);
        writeln!(out, "# TYPE {name} {kind}")?;
        if !family.help().is_empty() {
            writeln!(out, "# HELP {name} {}", Escaped(family.help()))?;
        }
        let exemplars = match self.shown == family.name() {
            true => self.exemplars,
            false => &[],
        };
        for metric in family.get_metric() {
            if family.get_field_type() == MetricType::HISTOGRAM {
                let histogram = metric.get_histogram();
                write_histogram(out, name, metric.get_label(), histogram, exemplars)?;
            } else {
                let labels = Labels(metric.get_label(), None);
                // Of counters this is the name with its ending.
                let value = Number(value(family, metric));
                writeln!(out, "{}{labels} {value}", family.name())?;
            }
        }
        Ok(())
    }

    /// A counter loses its ending. One that has none, or whose name would be
    /// another family's, can't be called a counter.
    fn title<'a>(&self, family: &'a MetricFamily) -> (&'a str, &'static str) {
        let name = family.name();
        match family.get_field_type() {
            MetricType::COUNTER => {
                let is_free = |name: &&str| self.families.iter().all(|other| other.name() != *name);
                match name.strip_suffix(TOTAL).filter(is_free) {
                    Some(short) => (short, "counter"),
                    None => (name, "unknown"),
                }
            }
            MetricType::GAUGE => (name, "gauge"),
            MetricType::HISTOGRAM => (name, "histogram"),
            MetricType::SUMMARY | MetricType::UNTYPED => (name, "unknown"),
        }
    }
}

/// Of summaries, which nobody here makes, there is none.
fn value(family: &MetricFamily, metric: &Metric) -> f64 {
    match family.get_field_type() {
        MetricType::COUNTER => metric.get_counter().get_value(),
        MetricType::GAUGE => metric.get_gauge().get_value(),
        MetricType::HISTOGRAM | MetricType::SUMMARY | MetricType::UNTYPED => f64::NAN,
    }
}

fn write_histogram(
    out: &mut Formatter<'_>,
    name: &str,
    labels: &[LabelPair],
    histogram: &Histogram,
    exemplars: &[Option<Exemplar>],
) -> fmt::Result {
    let count = histogram.get_sample_count();
    let buckets = histogram.get_bucket().iter();
    let bounds = buckets
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
        .filter(|(bound, _)| bound.is_finite())
        .chain(iter::once((f64::INFINITY, count)));
    for (place, (bound, count)) in bounds.enumerate() {
        write!(out, "{name}_bucket{} {count}", Labels(labels, Some(bound)))?;
        if let Some(exemplar) = exemplars.get(place).copied().flatten() {
            let (value, time) = (Number(exemplar.seconds), exemplar.time());
            write!(out, " # {{{}}} {value} ", exemplar.span)?;
            write!(out, "{}.{:03}", time.as_secs(), time.subsec_millis())?;
        }
        out.write_char('\n')?;
    }
    let sum = Number(histogram.get_sample_sum());
    let labels = Labels(labels, None);
    writeln!(
        out,
        "{name}_sum{labels} {sum}\n{name}_count{labels} {count}"
    )
}

/// Labels in their brackets, with the bound of a bucket.
struct Labels<'a>(&'a [LabelPair], Option<f64>);

impl Display for Labels<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(pairs, bound) = self;
        let mut separator = '{';
        for pair in *pairs {
            write!(
                out,
                "{separator}{}=\"{}\"",
                pair.name(),
                Escaped(pair.value())
            )?;
            separator = ',';
        }
        if let Some(bound) = bound {
            write!(out, "{separator}le=\"{}\"", Number(*bound))?;
            separator = ',';
        }
        match separator {
            '{' => Ok(()),
            _ => out.write_char('}'),
        }
    }
}

/// Text as it must be in a line, and between quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '\n' => out.write_str("\\n")?,
                '"' | '\\' => write!(out, "\\{char}")?,
                _ => out.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// A number that can be told from an integer: bounds are texts, and `1` would
/// be another bucket than `1.0`.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => out.write_str("+Inf"),
            f64::NEG_INFINITY => out.write_str("-Inf"),
            number => write!(out, "{number:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
