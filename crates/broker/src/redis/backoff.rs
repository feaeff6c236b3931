//! Waiting between attempts: longer each time, never for ever, never in step.

use std::time::Duration;

/// The first wait, at most.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait. Short, because a node that is back late after an outage
/// of Redis loses what is published meanwhile.
const LONGEST: Duration = Duration::from_millis(1_500);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// Forgets past failures.
    pub(super) const fn reset(&mut self) {
        self.attempt = 0;
    }

    /// How long to wait now: a random half to whole of the step, so that nodes
    /// which lost Redis together do not return together.
    pub(super) fn next(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.attempt.min(10)).min(LONGEST);
        self.attempt = self.attempt.saturating_add(1);
        let mut random = [0; 1];
        // Without randomness the longest wait is as good as any.
        let share = getrandom::fill(&mut random).map_or(u8::MAX, |()| random[0]);
        step / 2 + step * u32::from(share) / 510
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_stay_there() {
        let mut backoff = Backoff::default();
        let first = backoff.next();
        assert!((FIRST / 2..=FIRST).contains(&first), "{first:?}");
        for _ in 0..100 {
            assert!(backoff.next() <= LONGEST);
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
