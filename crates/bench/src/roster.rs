//! Who is to be started next: new pollers first, then those that rest after a failure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::clock::Nanos;
use crate::poller::Step;
use crate::swarm::Fatal;

/// Pollers that may be on their way to their first parked poll at the same time. Above a
/// server's listen backlog (511 in nginx) connections wait a second for their next SYN.
const OPENING_AT_ONCE: usize = 256;

/// The state of all pollers, as far as starting them goes.
#[derive(Debug)]
pub(crate) struct Roster {
    pollers: usize,
    /// The first poller that was not started yet.
    next: usize,
    /// Pollers that have been parked at least once.
    ready: usize,
    /// Pollers to be started again, soonest first.
    resting: BinaryHeap<Reverse<(Nanos, usize)>>,
}

impl Roster {
    pub(crate) const fn new(pollers: usize) -> Self {
        Self {
            pollers,
            next: 0,
            ready: 0,
            resting: BinaryHeap::new(),
        }
    }

    pub(crate) const fn started(&self) -> usize {
        self.next
    }

    pub(crate) const fn ready(&self) -> usize {
        self.ready
    }

    /// A poller to start now, if there is one.
    pub(crate) fn next_due(&mut self, now: Nanos) -> Option<usize> {
        if self.next < self.pollers && self.next - self.ready < OPENING_AT_ONCE {
            self.next += 1;
            return Some(self.next - 1);
        }
        let &Reverse((due, index)) = self.resting.peek()?;
        if due > now {
            return None;
        }
        self.resting.pop();
        Some(index)
    }

    /// How long one may sleep before somebody is due.
    pub(crate) fn patience(&self, patience: Duration, now: Nanos) -> Duration {
        match self.resting.peek() {
            Some(Reverse((due, _))) => patience.min(due.since(now)),
            None => patience,
        }
    }

    /// Takes in what became of a poller. Fails if nobody was ever let in.
    pub(crate) fn note(&mut self, step: Step, index: usize, now: Nanos) -> Result<(), Fatal> {
        match step {
            Step::Waiting => {}
            Step::Ready => self.ready += 1,
            Step::Refused(failure, _) if self.ready == 0 => return Err(Fatal::Refused(failure)),
            Step::Rest(pause) | Step::Refused(_, pause) => {
                self.resting.push(Reverse((now.plus(pause), index)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn starts_the_new_ones_and_then_those_that_have_rested() {
        let at = Nanos::from_raw;
        let mut roster = Roster::new(2);
        assert_eq!(roster.next_due(at(0)), Some(0));
        assert_eq!(roster.next_due(at(0)), Some(1));
        let nap = Duration::from_nanos(10);
        roster.note(Step::Rest(nap), 0, at(0)).unwrap();
        assert_eq!(roster.next_due(at(9)), None);
        assert_eq!(
            roster.patience(Duration::from_secs(1), at(9)),
            Duration::from_nanos(1)
        );
        assert_eq!(roster.next_due(at(10)), Some(0));
        assert_eq!(roster.next_due(at(10)), None);
    }

    #[test]
    fn a_refusal_ends_it_only_while_nobody_was_let_in() {
        let mut roster = Roster::new(2);
        let now = Nanos::default();
        assert_eq!(
            (roster.next_due(now), roster.next_due(now)),
            (Some(0), Some(1))
        );
        let refused = || Step::Refused(Failure::Rejected, Duration::ZERO);
        assert!(roster.note(refused(), 0, now).is_err());
        roster.note(Step::Ready, 1, now).unwrap();
        roster.note(refused(), 0, now).unwrap();
        assert_eq!(roster.next_due(now), Some(0));
    }
}
