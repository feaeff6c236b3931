//! Structured logs on standard output, as text or JSON lines.
//!
//! A line that is written within a trace ends with its `trace_id` and `span_id`.

use super::traces::{self, Traces};
use crate::config::{LogFormat, LogLevel};
use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};
use std::{fmt, io::IsTerminal as _};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, JsonFields, Writer},
        layer,
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// Starts logging for the whole process, and `traces` if there are any. A
/// second call changes nothing.
pub(crate) fn init(format: LogFormat, level: LogLevel, debug: bool, traces: Option<&Traces>) {
    let level = match level {
        _ if debug => Level::DEBUG,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    };
    // Their ids are enough.
    let no_spans = || {
        let ours = |metadata: &Metadata<'_>| metadata.target() != traces::TARGET;
        traces.is_some().then(|| filter_fn(ours))
    };
    let plain = Format::default().with_target(false);
    let text = (format == LogFormat::Text).then(|| {
        let ansi = std::io::stdout().is_terminal();
        let format = WithTrace::Text(plain.clone());
        let layer = layer().with_ansi(ansi).event_format(format);
        layer.with_filter(no_spans())
    });
    let json = (format == LogFormat::Json).then(|| {
        let format = plain.json().flatten_event(true);
        let format = format.with_current_span(false).with_span_list(false);
        let fields = JsonFields::new();
        let layer = layer().fmt_fields(fields);
        let layer = layer.event_format(WithTrace::Json(format));
        layer.with_filter(no_spans())
    });
    let subscriber = tracing_subscriber::registry()
        .with(LevelFilter::from_level(level))
        .with(text)
        .with(json);
    // Fails only if logging was started before, by an embedding program.
    drop(match traces {
        Some(traces) => subscriber.with(traces.layer()).try_init(),
        None => subscriber.try_init(),
    });
}

/// Lines as ever, and within a trace its ids at their end.
enum WithTrace {
    Text(Format),
    Json(Format<Json>),
}

impl<S, N> FormatEvent<S, N> for WithTrace
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(trace) = Context::map_current(current) else {
            return match self {
                Self::Text(format) => format.format_event(context, writer, event),
                Self::Json(format) => format.format_event(context, writer, event),
            };
        };
        let mut line = String::new();
        let inner = Writer::new(&mut line);
        match self {
            Self::Text(format) => format.format_event(context, inner, event)?,
            Self::Json(format) => format.format_event(context, inner, event)?,
        }
        writer.write_str(&with_ids(line.trim_end(), self, &trace))?;
        writer.write_char('\n')
    }
}

/// The span that this thread is in, if it is in one.
fn current(context: &Context) -> Option<SpanContext> {
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| context.clone())
}

fn with_ids(line: &str, format: &WithTrace, trace: &SpanContext) -> String {
    let (trace, span) = (trace.trace_id(), trace.span_id());
    match format {
        WithTrace::Text(_) => format!("{line} trace_id={trace} span_id={span}"),
        WithTrace::Json(_) => {
            let object = line.strip_suffix('}').unwrap_or(line);
            format!("{object},\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    #[test]
    fn lines_end_with_ids() {
        let trace = SpanContext::new(
            TraceId::from(10),
            SpanId::from(11),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        let ids = ["0000000000000000000000000000000a", "000000000000000b"];
        let text = WithTrace::Text(Format::default());
        let expected = format!("WARN Said trace_id={} span_id={}", ids[0], ids[1]);
        assert_eq!(with_ids("WARN Said", &text, &trace), expected);
        let json = WithTrace::Json(Format::default().json());
        let line = with_ids("{\"message\":\"Said\"}", &json, &trace);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "message": "Said", "trace_id": ids[0], "span_id": ids[1],
        });
        assert_eq!(line, expected);
    }
}
