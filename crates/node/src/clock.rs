//! The one clock that sessions are told the time from.

use pollux_session::Time;
use std::time::Duration;
use tokio::time::Instant;

/// Turns the system's monotonic time into the sessions' [`Time`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

/// Times start a little after zero, so that a moment before the node's start
/// can still be told from it.
const HEAD_START: Duration = Duration::from_secs(3_600);

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Time {
        self.at(Instant::now())
    }

    pub(crate) fn at(self, instant: Instant) -> Time {
        Time::from_origin(instant.duration_since(self.origin) + HEAD_START)
    }
}
