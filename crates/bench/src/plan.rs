//! The command line turned into what a run needs, checked before anything is opened.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cli::{LoadArgs, PollArgs, ServerArgs};
use crate::dialect::{Cursor, Dialect, DialectName};
use crate::limits;
use crate::mark::RunId;
use crate::server::Processes;
use crate::target::Target;

/// One server and the polls to hold at it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) dialect: Dialect,
    pub(crate) metrics: Target,
    pub(crate) processes: Processes,
    pub(crate) pollers: usize,
    pub(crate) streams: u32,
    pub(crate) payload: usize,
    pub(crate) cursor: Cursor,
    /// How long nothing may happen.
    pub(crate) timeout: Duration,
    /// How long polls get to be parked at a server without a gauge.
    pub(crate) settle: Duration,
    pub(crate) run: RunId,
}

/// What to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Publications to each stream.
    pub(crate) publications: u32,
    pub(crate) warmup: u32,
    pub(crate) pace: Pace,
    /// Publications that may wait for their answer at the same time.
    pub(crate) in_flight: usize,
}

/// When to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next one this long after all have the last one.
    Answered(Duration),
    /// So many a second, however slow the pollers are.
    PerSecond(f64),
}

impl Plan {
    /// Checks and resolves everything; fails with a clear sentence if nobody listens.
    pub(crate) fn make(server: &ServerArgs, polls: &PollArgs, run: RunId) -> Result<Self> {
        let base = Target::parse(&server.url)?;
        let name = server.dialect;
        let subscribe = server.subscribe_path.as_deref();
        let publish = match &server.publish_url {
            Some(url) => Target::parse(url)?,
            None => base.join(name.publish_path()),
        };
        let metrics = match &server.metrics_url {
            Some(url) => Target::parse(url)?,
            None => base.join("/metrics"),
        };
        if polls.streams > polls.pollers {
            bail!(
                "{} pollers cannot be spread over {} streams",
                polls.pollers,
                polls.streams
            );
        }
        let cursor = match (polls.cursor, name) {
            (true, DialectName::Lp) => Cursor::Echo,
            _ => Cursor::Ignore,
        };
        let dialect = Dialect::new(
            name,
            cursor,
            base.join(subscribe.unwrap_or_else(|| name.subscribe_path())),
            publish,
            polls.stream_prefix.clone(),
            header_lines(&polls.headers)?,
        );
        let pollers = usize::try_from(polls.pollers)?;
        limits::make_room_for(pollers)?;
        let processes = Processes::find(&server.server_pids)?;
        dialect.subscribe_target().check_somebody_listens()?;
        dialect.publish_target().check_somebody_listens()?;
        Ok(Self {
            url: server.url.clone(),
            dialect,
            metrics,
            processes,
            pollers,
            streams: polls.streams,
            payload: polls.payload,
            cursor,
            timeout: polls.timeout,
            settle: polls.settle,
            run,
        })
    }

    /// How many pollers each stream has.
    pub(crate) fn pollers_by_stream(&self) -> Vec<u32> {
        let pollers = u32::try_from(self.pollers).unwrap_or(u32::MAX);
        let (each, more) = (pollers / self.streams, pollers % self.streams);
        (0..self.streams)
            .map(|stream| each + u32::from(stream < more))
            .collect()
    }
}

impl Load {
    pub(crate) fn new(args: &LoadArgs) -> Self {
        let pace = if args.rate > 0.0 {
            Pace::PerSecond(args.rate)
        } else {
            Pace::Answered(args.pause)
        };
        Self {
            publications: args.publications,
            warmup: args.warmup,
            pace,
            in_flight: usize::try_from(args.in_flight).unwrap_or(1),
        }
    }
}

pub(crate) fn header_lines(headers: &[String]) -> Result<String> {
    let mut lines = String::new();
    for header in headers {
        let named = header
            .split_once(':')
            .is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '));
        if !named || header.contains(char::is_control) {
            bail!("`{header}` is no header; write it as 'Name: value'");
        }
        lines.push_str(header);
        lines.push_str("\r\n");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_cannot_smuggle_lines() {
        let one = ["Authorization: Bearer x".to_owned()];
        assert_eq!(header_lines(&one).unwrap(), "Authorization: Bearer x\r\n");
        for bad in ["a: b\r\nc: d", "no colon", ": x", "a b: c"] {
            assert!(header_lines(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
