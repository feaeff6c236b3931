//! What nobody may do too often.

use parking_lot::Mutex;
use pollux_session::{Bucket, Rate, Source, Time};
use std::{collections::HashMap, time::Duration};

/// Seconds' worth of publications that may come at once.
const BURST: usize = 2;

/// How long a source is remembered for the polls it made up.
const WINDOW: Duration = Duration::from_secs(60);

/// Sources that are remembered at a time. Whoever has more addresses than this
/// is not stopped by counting them, and the memory is bounded: half a MiB.
const MAX_SOURCES: usize = 16_384;

/// Where publications come in. Each has a key or a user of its own, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// `/_broadcast`, on whichever port.
    Broadcast,
    /// `/api/publish`.
    Api,
    Category,
    Mailbox,
    Room,
}

/// How often may be published by HTTP.
#[derive(Debug)]
pub(crate) struct PublishLimit {
    rate: Option<Rate>,
    buckets: [Mutex<Bucket>; 5],
}

impl PublishLimit {
    /// So many publications a second for each entrance; zero for no limit.
    pub(crate) fn new(per_second: usize) -> Self {
        Self {
            rate: Rate::new(per_second, per_second.saturating_mul(BURST)),
            buckets: Default::default(),
        }
    }

    /// Takes note of `number` publications.
    ///
    /// # Errors
    /// They are too many before this time is over, and were not noted.
    pub(crate) fn take(
        &self,
        entrance: Entrance,
        number: usize,
        now: Time,
    ) -> Result<(), Duration> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let [broadcast, api, category, mailbox, room] = &self.buckets;
        let bucket = match entrance {
            Entrance::Broadcast => broadcast,
            Entrance::Api => api,
            Entrance::Category => category,
            Entrance::Mailbox => mailbox,
            Entrance::Room => room,
        };
        bucket.lock().take(number, rate, now)
    }
}

/// Who polls with ids of no session, and how often in the last minute: clients
/// whose session has ended do so once, somebody who guesses ids all the time.
#[derive(Debug)]
pub(crate) struct Strangers {
    /// Polls a minute; zero for as many as come.
    max: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    since: Time,
    polls: HashMap<Source, usize>,
}

impl Strangers {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            seen: Mutex::default(),
        }
    }

    /// Whether `source` has made up as many ids as it may.
    pub(crate) fn is_over(&self, source: Source, now: Time) -> bool {
        let seen = self.seen.lock();
        let is_current = self.max > 0 && now.since(seen.since) < WINDOW;
        is_current
            && seen
                .polls
                .get(&source)
                .is_some_and(|polls| *polls >= self.max)
    }

    /// Takes note of a poll with an unknown id.
    ///
    /// # Errors
    /// There were too many, and are until this time is over.
    pub(crate) fn note(&self, source: Source, now: Time) -> Result<(), Duration> {
        if self.max == 0 {
            return Ok(());
        }
        let mut seen = self.seen.lock();
        if now.since(seen.since) >= WINDOW {
            // Its memory goes too: what needs much of it is rare.
            *seen = Seen {
                since: now,
                polls: HashMap::new(),
            };
        }
        if seen.polls.len() >= MAX_SOURCES && !seen.polls.contains_key(&source) {
            return Ok(());
        }
        let until = seen.since + WINDOW;
        let polls = seen.polls.entry(source).or_default();
        if *polls >= self.max {
            return Err(until.since(now));
        }
        *polls += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    fn at(seconds: u64) -> Time {
        Time::from_origin(Duration::from_secs(seconds))
    }

    fn source(number: u64) -> Source {
        Source(NonZeroU64::new(number).unwrap())
    }

    #[test]
    fn entrances_do_not_take_from_each_other() {
        let limit = PublishLimit::new(1);
        assert_eq!(limit.take(Entrance::Api, 2, at(0)), Ok(()));
        assert!(limit.take(Entrance::Api, 1, at(0)).is_err());
        assert_eq!(limit.take(Entrance::Room, 2, at(0)), Ok(()));
        assert_eq!(limit.take(Entrance::Api, 1, at(1)), Ok(()));
        let none = PublishLimit::new(0);
        assert_eq!(none.take(Entrance::Api, usize::MAX, at(0)), Ok(()));
    }

    #[test]
    fn a_stranger_has_a_number_of_tries_a_minute() {
        let strangers = Strangers::new(2);
        assert_eq!(strangers.note(source(1), at(100)), Ok(()));
        assert_eq!(strangers.note(source(1), at(130)), Ok(()));
        let wait = Duration::from_secs(10);
        assert_eq!(strangers.note(source(1), at(150)), Err(wait));
        assert!(strangers.is_over(source(1), at(150)) && !strangers.is_over(source(2), at(150)));
        assert_eq!(strangers.note(source(2), at(150)), Ok(()));
        assert!(!strangers.is_over(source(1), at(160)));
        assert_eq!(strangers.note(source(1), at(160)), Ok(()));
        let none = Strangers::new(0);
        assert_eq!(none.note(source(1), at(0)), Ok(()));
    }

    #[test]
    fn strangers_take_bounded_memory() {
        let strangers = Strangers::new(1);
        for number in 1..=40_000 {
            assert_eq!(strangers.note(source(number), at(0)), Ok(()));
        }
        assert_eq!(strangers.seen.lock().polls.len(), MAX_SOURCES);
        assert!(strangers.note(source(1), at(0)).is_err());
    }
}
