//! How long to wait before the next try.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// The first wait is at most this long.
const FIRST: Duration = Duration::from_millis(200);

/// No wait is longer, but one that the node asks for.
const LONGEST: Duration = Duration::from_secs(5);

/// A node that asks for more is not believed.
const ASKED_MAX: Duration = Duration::from_secs(60);

/// Waits that double, each by chance between half and whole: clients that lost a node together do
/// not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    chance: RandomState,
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10));
        let chance = self.chance.hash_one(self.failures) % 1_000;
        self.failures = self.failures.saturating_add(1);
        // A thousandth is precise enough for chance.
        let share = 500 + u32::try_from(chance / 2).unwrap_or(0);
        let wait = doubled.min(LONGEST) * share / 1_000;
        wait.max(asked.unwrap_or_default().min(ASKED_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        for failure in 0..20 {
            let longest = FIRST.saturating_mul(1 << failure.min(10)).min(LONGEST);
            let wait = backoff.next(None);
            assert!(wait <= longest && wait >= longest / 2, "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
        let asked = Some(Duration::from_secs(7));
        assert_eq!(backoff.next(asked), Duration::from_secs(7));
        assert_eq!(backoff.next(Some(Duration::MAX)), ASKED_MAX);
    }
}
