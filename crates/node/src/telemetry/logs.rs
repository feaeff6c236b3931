//! Structured logs on standard output, as text or JSON lines.
//!
//! A line that is written within a trace ends with its `trace_id` and `span_id`. One for systemd's
//! journal begins with its priority there, and as text does not repeat the time.

use super::traces::{self, Traces};
use crate::{
    config::{LogFormat, LogLevel},
    supervisor::Supervisor,
};
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
        format::{Format, Full, Json, JsonFields, Writer},
        layer,
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// Who reads the lines first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reader {
    Anybody,
    Journal,
}

impl Reader {
    /// The one at the other end of standard output.
    pub(crate) fn of(supervisor: &Supervisor) -> Self {
        match supervisor.keeps_journal_of(&std::io::stdout()) {
            true => Self::Journal,
            false => Self::Anybody,
        }
    }
}

/// Starts logging for the whole process, and `traces` if there are any. A
/// second call changes nothing.
pub(crate) fn init(
    format: LogFormat,
    level: LogLevel,
    debug: bool,
    reader: Reader,
    traces: Option<&Traces>,
) {
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
        let text = match reader {
            Reader::Anybody => Kind::Text(plain.clone()),
            Reader::Journal => Kind::Untimed(plain.clone().without_time()),
        };
        let lines = Lines { kind: text, reader };
        let layer = layer().with_ansi(ansi).event_format(lines);
        layer.with_filter(no_spans())
    });
    let json = (format == LogFormat::Json).then(|| {
        let format = plain.json().flatten_event(true);
        let format = format.with_current_span(false).with_span_list(false);
        let fields = JsonFields::new();
        let layer = layer().fmt_fields(fields);
        let kind = Kind::Json(format);
        let layer = layer.event_format(Lines { kind, reader });
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

/// What a line looks like.
enum Kind {
    Text(Format),
    Untimed(Format<Full, ()>),
    Json(Format<Json>),
}

/// Lines as ever, within a trace with its ids at their end.
struct Lines {
    kind: Kind,
    reader: Reader,
}

impl<S, N> FormatEvent<S, N> for Kind
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Text(format) => format.format_event(context, writer, event),
            Self::Untimed(format) => format.format_event(context, writer, event),
            Self::Json(format) => format.format_event(context, writer, event),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
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
        if self.reader == Reader::Journal {
            writer.write_str(priority(*event.metadata().level()))?;
        }
        let Some(trace) = Context::map_current(current) else {
            return self.kind.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.kind
            .format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with_ids(line.trim_end(), &self.kind, &trace))?;
        writer.write_char('\n')
    }
}

/// The journal takes it off the line, and `journalctl -p warning` goes by it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// The span that this thread is in, if it is in one.
fn current(context: &Context) -> Option<SpanContext> {
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| context.clone())
}

fn with_ids(line: &str, kind: &Kind, trace: &SpanContext) -> String {
    let (trace, span) = (trace.trace_id(), trace.span_id());
    match kind {
        Kind::Text(_) | Kind::Untimed(_) => format!("{line} trace_id={trace} span_id={span}"),
        Kind::Json(_) => {
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
        let text = Kind::Text(Format::default());
        let expected = format!("WARN Said trace_id={} span_id={}", ids[0], ids[1]);
        assert_eq!(with_ids("WARN Said", &text, &trace), expected);
        let json = Kind::Json(Format::default().json());
        let line = with_ids("{\"message\":\"Said\"}", &json, &trace);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "message": "Said", "trace_id": ids[0], "span_id": ids[1],
        });
        assert_eq!(line, expected);
    }
}
