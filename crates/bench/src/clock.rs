//! Monotonic time as nanoseconds since the process began, small enough to travel in a payload.

use std::time::Duration;

use tokio::time::Instant;

/// Where all times of one process are counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

/// A moment, in nanoseconds after [`Clock`]'s origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanos(u64);

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Nanos {
        Nanos::after_origin(self.origin.elapsed())
    }
}

impl Nanos {
    pub(crate) const fn from_raw(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    fn after_origin(time: Duration) -> Self {
        Self(saturating_nanos(time))
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    pub(crate) fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(time)))
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn saturating_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
