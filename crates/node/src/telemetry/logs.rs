//! Structured logs on standard output, as text or JSON lines.

use crate::config::{LogFormat, LogLevel};
use std::io::IsTerminal as _;
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging for the whole process. A second call changes nothing.
pub(crate) fn init(format: LogFormat, level: LogLevel, debug: bool) {
    let level = match level {
        _ if debug => Level::DEBUG,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from_level(level))
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal());
    // Fails only if logging was started before, by an embedding program.
    drop(match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    });
}
