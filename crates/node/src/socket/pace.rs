//! When a socket is pinged, and how long its client may be silent.

use std::{
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// The operator's rules for sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketConfig {
    /// Between two pings; zero for none.
    pub(crate) ping_interval: Duration,
    /// What a ping's time is told in.
    pub(crate) precision: Precision,
    /// How long a client of the extended protocol may be silent; zero for ever.
    pub(crate) pong_timeout: Duration,
    /// Ping with WebSocket's own frames instead of messages.
    pub(crate) native_pings: bool,
    /// For one write.
    pub(crate) write_timeout: Duration,
    /// Bytes of one message of a client.
    pub(crate) max_message_size: usize,
    /// Bytes that may wait for a client.
    pub(crate) max_pending: usize,
}

/// What a ping's time is told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Seconds,
    Milliseconds,
    Nanoseconds,
}

impl Precision {
    /// As AnyCable writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Milliseconds),
            "ns" => Some(Self::Nanoseconds),
            _ => None,
        }
    }
}

/// The rules for one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    interval: Duration,
    precision: Precision,
    silence: Duration,
    pub(crate) native: bool,
    pub(crate) write_timeout: Duration,
}

/// Longer than any connection lives; an interval can't be endless.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The shortest interval a client may ask for.
const SHORTEST: Duration = Duration::from_secs(1);

impl Pace {
    /// The operator's rules, with what the client asks for in its query: `pi`
    /// (seconds between pings, 0 for none) and `ptp` (what their time is told
    /// in).
    pub(crate) fn of(config: &SocketConfig, query: &str, is_extended: bool) -> Self {
        let mut pace = Self {
            interval: config.ping_interval,
            precision: config.precision,
            silence: Duration::ZERO,
            native: config.native_pings,
            write_timeout: config.write_timeout,
        };
        if is_extended || config.native_pings {
            pace.silence = config.pong_timeout;
        }
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("pi", seconds)) => {
                    if let Ok(seconds) = seconds.parse::<u32>() {
                        let asked = Duration::from_secs(seconds.into());
                        pace.interval = match seconds {
                            0 => asked,
                            _ => asked.max(SHORTEST),
                        };
                    }
                }
                Some(("ptp", precision)) => {
                    pace.precision = Precision::parse(precision).unwrap_or(pace.precision);
                }
                _ => {}
            }
        }
        pace
    }

    /// When to ping.
    pub(crate) fn pings(&self) -> Pings {
        Pings::every(if self.interval.is_zero() {
            NEVER
        } else {
            self.interval
        })
    }
    /// Whether the client has been silent for too long.
    pub(crate) fn is_overdue(&self, heard: Instant) -> bool {
        !self.silence.is_zero() && heard.elapsed() > self.silence
    }

    /// The time now, as a ping tells it.
    pub(crate) fn timestamp(&self) -> i64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let number = match self.precision {
            Precision::Seconds => u128::from(now.as_secs()),
            Precision::Milliseconds => now.as_millis(),
            Precision::Nanoseconds => now.as_nanos(),
        };
        i64::try_from(number).unwrap_or(i64::MAX)
    }
}

/// See [`Pace::pings`].
#[derive(Debug)]
pub(crate) struct Pings(Interval);

impl Pings {
    /// The first after a random half to one and a half of the interval, so that
    /// clients that came together are not pinged together.
    pub(crate) fn every(every: Duration) -> Self {
        let mut random = [0; 1];
        let share = getrandom::fill(&mut random).map_or(128, |()| u32::from(random[0]));
        let first = every / 2 + every / 255 * share;
        let mut ticks = interval_at(Instant::now() + first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(ticks)
    }

    pub(crate) fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_tick(context).map(drop)
    }

    pub(crate) async fn tick(&mut self) {
        self.0.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: SocketConfig = SocketConfig {
        ping_interval: Duration::from_secs(3),
        precision: Precision::Seconds,
        pong_timeout: Duration::from_secs(6),
        native_pings: false,
        write_timeout: Duration::from_secs(2),
        max_message_size: 65_536,
        max_pending: 1 << 20,
    };

    #[test]
    fn clients_may_choose_their_pings() {
        let pace = Pace::of(&CONFIG, "", false);
        assert_eq!(
            (pace.interval, pace.silence),
            (CONFIG.ping_interval, Duration::ZERO)
        );
        let pace = Pace::of(&CONFIG, "jid=x&pi=10&ptp=ms", true);
        assert_eq!(pace.interval, Duration::from_secs(10));
        assert_eq!(pace.precision, Precision::Milliseconds);
        assert_eq!(pace.silence, CONFIG.pong_timeout);
        assert_eq!(Pace::of(&CONFIG, "pi=0", true).interval, Duration::ZERO);
        let nonsense = Pace::of(&CONFIG, "pi=-1&ptp=years&pi", true);
        assert_eq!(nonsense.interval, CONFIG.ping_interval);
        assert_eq!(nonsense.precision, Precision::Seconds);
    }

    #[test]
    fn times_are_told_as_asked() {
        let tell = |query| Pace::of(&CONFIG, query, false).timestamp();
        let seconds = tell("ptp=s");
        assert!((tell("ptp=ms") / 1_000 - seconds).abs() <= 1);
        assert!((tell("ptp=ns") / 1_000_000_000 - seconds).abs() <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_start_apart_and_go_on_in_step() {
        let pace = Pace::of(&CONFIG, "", false);
        let start = Instant::now();
        let mut pings = pace.pings();
        pings.tick().await;
        let first = start.elapsed();
        assert!(first >= CONFIG.ping_interval / 2 && first <= CONFIG.ping_interval * 3 / 2);
        pings.tick().await;
        assert_eq!(start.elapsed() - first, CONFIG.ping_interval);
        assert!(!pace.is_overdue(start));
        assert!(Pace::of(&CONFIG, "", true).is_overdue(start - Duration::from_secs(7)));
    }
}
