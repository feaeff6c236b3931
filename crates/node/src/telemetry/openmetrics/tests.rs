use super::*;
use crate::{
    rooms::Counts,
    telemetry::{Metrics, exemplars::AnswerSpan},
};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use prometheus::proto::Gauge;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The trace and span that a page shows.
const SHOWN: &str = "{trace_id=\"0af7651916cd43dd8448eb211c80319c\",span_id=\"b7ad6b7169203331\"}";

fn span() -> AnswerSpan {
    let context = SpanContext::new(
        TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        SpanId::from(0xb7ad_6b71_6920_3331),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    AnswerSpan::new(&context).unwrap()
}

fn page(families: &[MetricFamily]) -> String {
    let page = Page {
        families,
        shown: "",
        exemplars: &[],
    };
    page.to_string()
}

/// A family without labels, but for those given here.
fn family(kind: MetricType, name: &str, help: &str, labels: &[(&str, &str)]) -> MetricFamily {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut gauge = Gauge::default();
    gauge.set_value(1.5);
    let mut metric = Metric::from_gauge(gauge);
    metric.set_label(labels.iter().map(pair).collect());
    let mut family = MetricFamily::default();
    family.set_field_type(kind);
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_metric(vec![metric]);
    family
}

/// What the node has when it is new, rooms included.
fn all(metrics: &Metrics) -> (String, String) {
    let more = Counts::default().families(0, 0);
    let classic = String::from_utf8(metrics.page(&more).unwrap()).unwrap();
    (classic, metrics.openmetrics(&more))
}

/// Names and labels of the samples, with bounds as numbers.
fn samples(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| {
        let line = line.split(" # ").next().unwrap();
        let name = line.rsplit_once(' ').unwrap().0;
        match name.split_once("le=\"") {
            Some((start, bound)) => {
                let bound: f64 = bound.trim_end_matches("\"}").parse().unwrap();
                format!("{start}{bound}")
            }
            None => name.to_owned(),
        }
    };
    lines.map(name).collect()
}

#[test]
fn a_small_page_is_as_the_standard_writes_it() {
    use prometheus::{
        Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, core::Collector as _,
    };
    let registry = Registry::new();
    let gauge = IntGauge::new("a_sessions", "Says \"open\" \\ or\nnot").unwrap();
    gauge.set(-3);
    let counters = IntCounterVec::new(Opts::new("a_lines_total", "Lines"), &["kind"]).unwrap();
    counters.with_label_values(&["x\"\\\n}"]).inc_by(12);
    counters.with_label_values(&["y"]).inc();
    let bounds = vec![0.0005, 0.25, 1.0];
    let options = HistogramOpts::new("a_wait_seconds", "Waiting").buckets(bounds);
    let histogram = Histogram::with_opts(options).unwrap();
    for seconds in [0.0001, 0.25, 0.5, 7.25] {
        histogram.observe(seconds);
    }
    registry.register(Box::new(gauge)).unwrap();
    registry.register(Box::new(counters)).unwrap();
    registry.register(Box::new(histogram.clone())).unwrap();
    assert_eq!(histogram.collect().len(), 1);
    let exemplar = |seconds, millis| {
        let time = Duration::from_millis(millis);
        Some(Exemplar::new(span(), seconds, time))
    };
    let page = Page {
        families: &registry.gather(),
        shown: "a_wait_seconds",
        exemplars: &[
            None,
            exemplar(0.25, 1_700_000_000_007),
            None,
            exemplar(7.25, 12),
        ],
    };
    let expected = format!(
        r#"# TYPE a_lines counter
# HELP a_lines Lines
a_lines_total{{kind="x\"\\\n}}"}} 12.0
a_lines_total{{kind="y"}} 1.0
# TYPE a_sessions gauge
# HELP a_sessions Says \"open\" \\ or\nnot
a_sessions -3.0
# TYPE a_wait_seconds histogram
# HELP a_wait_seconds Waiting
a_wait_seconds_bucket{{le="0.0005"}} 1
a_wait_seconds_bucket{{le="0.25"}} 2 # {SHOWN} 0.25 1700000000.007
a_wait_seconds_bucket{{le="1.0"}} 3
a_wait_seconds_bucket{{le="+Inf"}} 4 # {SHOWN} 7.25 0.012
a_wait_seconds_sum 8.0001
a_wait_seconds_count 4
# EOF
"#
    );
    assert_eq!(page.to_string(), expected);
    assert_eq!(self::page(&[]), "# EOF\n");
}

#[test]
fn the_nodes_page_has_every_sample_of_the_classic_one() {
    let metrics = Metrics::new("pollux_").unwrap();
    let (classic, open) = all(&metrics);
    assert_eq!(samples(&open), samples(&classic));
    assert!(samples(&open).len() > 100);
    for name in ["process_resident_memory_bytes ", "vix_ws_lp_polls_total "] {
        assert!(open.contains(&format!("\n{name}")), "{name}");
    }
    assert!(open.ends_with("\n# EOF\n") && open.matches("# EOF").count() == 1);
}

#[test]
fn all_counters_of_the_node_are_called_total() {
    let (classic, open) = all(&Metrics::new("pollux_").unwrap());
    let types = |page: &str| -> BTreeMap<String, String> {
        let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let pairs: Vec<_> = lines.filter_map(|line| line.split_once(' ')).collect();
        let types: BTreeMap<_, _> = pairs
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()))
            .collect();
        assert_eq!(types.len(), pairs.len(), "a family is there twice");
        types
    };
    let (classic, open) = (types(&classic), types(&open));
    assert_eq!(classic.len(), open.len());
    for (name, kind) in &classic {
        let (short, is_total) = match name.strip_suffix(TOTAL) {
            Some(short) => (short, true),
            None => (name.as_str(), false),
        };
        assert_eq!(is_total, kind == "counter", "{name} is a {kind}");
        assert_eq!(open.get(short), Some(kind), "{name}");
    }
}

#[test]
fn only_the_histogram_of_answers_has_exemplars() {
    let metrics = Metrics::new("pollux_").unwrap();
    let wait = Duration::from_millis(3);
    metrics.publish_to_answer.observe(wait, Some(span()));
    metrics.frames_per_answer.observe(1.0);
    let (classic, open) = all(&metrics);
    let shown: Vec<_> = open.lines().filter(|line| line.contains(SHOWN)).collect();
    let start = "pollux_publish_to_answer_seconds_bucket{le=\"0.005\"} 1 # {trace_id=";
    assert!(shown.len() == 1 && shown[0].starts_with(start), "{shown:?}");
    assert!(shown[0].contains("} 0.003 "), "{shown:?}");
    assert!(!classic.contains("trace_id"));
}

#[test]
fn names_that_would_be_there_twice_are_not() {
    use MetricType::{COUNTER, GAUGE};
    let families = [
        family(GAUGE, "a", "", &[]),
        family(COUNTER, "a_total", "", &[]),
        family(COUNTER, "b", "", &[]),
        family(GAUGE, "a", "", &[]),
    ];
    let expected = "# TYPE a gauge\na 1.5\n# TYPE a_total unknown\na_total 0.0\n\
                    # TYPE b unknown\nb 0.0\n# EOF\n";
    assert_eq!(page(&families), expected);
}

#[test]
fn numbers_are_never_taken_for_integers() {
    for (number, text) in [
        (0.0, "0.0"),
        (-1.0, "-1.0"),
        (4_096.0, "4096.0"),
        (0.00001, "1e-5"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(Number(number).to_string(), text);
    }
}

/// The text before a quote or the line's end, as a reader of the format has it.
fn unescape(text: &str) -> (String, &str) {
    let mut read = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next() {
            None => return (read, ""),
            Some('"') => return (read, rest.as_str()),
            Some('\\') => read.push(match rest.next() {
                Some('n') => '\n',
                Some(char @ ('"' | '\\')) => char,
                other => panic!("{other:?} is escaped in {text}"),
            }),
            Some(char) => read.push(char),
        }
    }
}

proptest! {
    #[test]
    fn any_text_survives(help: String, first: String, second in "[\"\\\\\n,{}= #]*") {
        let labels = [("first", &*first), ("second", &*second)];
        let text = page(&[family(MetricType::GAUGE, "a", &help, &labels)]);
        let mut lines = text.split('\n');
        prop_assert_eq!(lines.next(), Some("# TYPE a gauge"));
        if !help.is_empty() {
            let line = lines.next().and_then(|line| line.strip_prefix("# HELP a "));
            prop_assert_eq!(unescape(line.unwrap()), (help, ""));
        }
        let line = lines.next().and_then(|line| line.strip_prefix("a{first=\""));
        let (read, rest) = unescape(line.unwrap());
        prop_assert_eq!(read, first);
        let (read, rest) = unescape(rest.strip_prefix(",second=\"").unwrap());
        prop_assert_eq!(read, second);
        prop_assert_eq!(rest, "} 1.5");
        prop_assert_eq!(lines.collect::<Vec<_>>(), ["# EOF", ""]);
    }
}
