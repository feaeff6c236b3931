//! Leaves a host alone that answers to nobody.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a result counts.
const WINDOW: Duration = Duration::from_secs(SLOTS as u64);
/// The window goes on in steps of a second.
const SLOTS: usize = 10;
/// Fewer requests in a window say nothing.
const LEAST_REQUESTS: u32 = 10;
/// Of a hundred requests so many have to fail.
const FAILED_PERCENT: u64 = 80;
/// How long a host is left alone, before one call tries it.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// Opens when a host fails, and lets one call through now and then.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    Open {
        until: Instant,
    },
    /// One call is on its way to see.
    Trial,
}

/// Whether a call's result decides about an open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    Usual,
    Trial,
}

impl Breaker {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State::Closed(Window::new(now))),
        }
    }

    /// Whether [`Breaker::admit`] would let a call through.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        match &*self.state.lock() {
            State::Closed(_) => true,
            State::Open { until } => *until <= now,
            State::Trial => false,
        }
    }

    /// Lets a call through, which then has to report or to be withdrawn.
    pub(crate) fn admit(&self, now: Instant) -> Option<Admitted> {
        let mut state = self.state.lock();
        match &*state {
            State::Closed(_) => Some(Admitted::Usual),
            State::Open { until } if *until <= now => {
                *state = State::Trial;
                Some(Admitted::Trial)
            }
            State::Open { .. } | State::Trial => None,
        }
    }

    /// Notes how a call ended; whether that opened the breaker.
    pub(crate) fn report(&self, admitted: Admitted, failed: bool, now: Instant) -> bool {
        let mut state = self.state.lock();
        let open = match (&mut *state, admitted) {
            (State::Closed(window), _) => window.note(failed, now),
            (State::Trial, Admitted::Trial) if failed => true,
            (State::Trial, Admitted::Trial) => {
                *state = State::Closed(Window::new(now));
                false
            }
            // Calls from before it opened have been counted enough.
            _ => false,
        };
        if open {
            *state = State::Open {
                until: now + OPEN_FOR,
            };
        }
        open
    }

    /// The call came to no end: another may be the trial.
    pub(crate) fn withdraw(&self, admitted: Admitted, now: Instant) {
        let mut state = self.state.lock();
        if admitted == Admitted::Trial && matches!(*state, State::Trial) {
            *state = State::Open { until: now };
        }
    }

    /// Whether the host is left alone, or on trial.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(*self.state.lock(), State::Closed(_))
    }
}

/// The results of the last seconds.
#[derive(Debug)]
struct Window {
    start: Instant,
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Seconds since the start of the window that this is about.
    second: u64,
    requests: u32,
    failed: u32,
}

impl Window {
    fn new(start: Instant) -> Self {
        Self {
            start,
            slots: [Slot::default(); SLOTS],
        }
    }

    /// Whether it is too much now.
    fn note(&mut self, failed: bool, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.start).as_secs();
        let index = usize::try_from(second % WINDOW.as_secs()).unwrap_or_default();
        let slot = &mut self.slots[index];
        if slot.second != second {
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot.requests = slot.requests.saturating_add(1);
        slot.failed = slot.failed.saturating_add(u32::from(failed));

        let (mut requests, mut failures) = (0_u32, 0_u32);
        for slot in &self.slots {
            if slot.second + WINDOW.as_secs() > second {
                requests = requests.saturating_add(slot.requests);
                failures = failures.saturating_add(slot.failed);
            }
        }
        requests >= LEAST_REQUESTS
            && u64::from(failures) * 100 >= u64::from(requests) * FAILED_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn call(breaker: &Breaker, failed: bool) -> Option<bool> {
        let admitted = breaker.admit(Instant::now())?;
        Some(breaker.report(admitted, failed, Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn opens_at_ten_requests_of_which_eight_failed() {
        let breaker = Breaker::new(Instant::now());
        for turn in 0..9 {
            assert_eq!(call(&breaker, turn > 1), Some(false));
        }
        assert_eq!(call(&breaker, true), Some(true));
        assert!(breaker.is_open());
        assert_eq!(call(&breaker, true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn stays_closed_while_a_quarter_is_answered() {
        let breaker = Breaker::new(Instant::now());
        for turn in 0..100 {
            assert_eq!(call(&breaker, turn % 4 != 0), Some(false), "{turn}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ten_seconds_old_counts_no_more() {
        let breaker = Breaker::new(Instant::now());
        for _ in 0..9 {
            call(&breaker, true);
        }
        advance(WINDOW).await;
        assert_eq!(call(&breaker, true), Some(false));
        advance(Duration::from_secs(300)).await;
        for _ in 0..9 {
            assert_eq!(call(&breaker, true), Some(false));
        }
        assert_eq!(call(&breaker, true), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_seconds_one_call_decides() {
        let breaker = Breaker::new(Instant::now());
        for _ in 0..10 {
            call(&breaker, true);
        }
        advance(Duration::from_millis(4999)).await;
        assert!(!breaker.admits(Instant::now()));
        advance(Duration::from_millis(1)).await;
        assert!(breaker.admits(Instant::now()));
        let trial = breaker.admit(Instant::now()).unwrap();
        assert_eq!(breaker.admit(Instant::now()), None, "one call only");
        assert!(breaker.report(trial, true, Instant::now()), "opens again");

        advance(OPEN_FOR).await;
        let trial = breaker.admit(Instant::now()).unwrap();
        breaker.withdraw(trial, Instant::now());
        assert_eq!(call(&breaker, false), Some(false), "another may try");
        assert!(!breaker.is_open());
        assert_eq!(call(&breaker, true), Some(false), "counts from zero");
    }

    #[tokio::test(start_paused = true)]
    async fn late_results_do_not_close_it() {
        let breaker = Breaker::new(Instant::now());
        let early = breaker.admit(Instant::now()).unwrap();
        for _ in 0..10 {
            call(&breaker, true);
        }
        breaker.report(early, false, Instant::now());
        assert!(breaker.is_open());
    }
}
