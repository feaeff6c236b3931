//! One coarse wheel for every timeout of every session on a node.
//!
//! A session needs three deadlines (its polls, its flush, its keepalive) but
//! only ever the earliest, and it is in the wheel only once for that: re-arming
//! for a later time does nothing, the early entry fires, and the session puts
//! itself back. So an answered and re-parked poll touches the wheel about once
//! in a keepalive timeout, not once a poll.

use crate::{session::Session, time::Time};
use parking_lot::Mutex;
use std::{
    sync::{
        Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How late a deadline may fire.
pub const TICK: Duration = Duration::from_millis(20);

/// A power of two; `SLOTS × TICK` is 20 s, a little above the default poll
/// interval. What lies beyond is looked at again when its slot comes round.
const SLOTS: u64 = 1_024;

#[derive(Debug)]
struct Entry {
    tick: u64,
    session: Weak<Session>,
}

#[derive(Debug)]
struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// The last tick whose slot was emptied.
    done: u64,
    entries: usize,
}

/// See the module's head. Shared by all sessions of a node.
#[derive(Debug)]
pub struct Deadlines {
    wheel: Mutex<Wheel>,
    /// When the wheel last moved, for those who can't be told the time.
    now: AtomicU64,
}

impl Default for Deadlines {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self {
            wheel: Mutex::new(Wheel {
                slots,
                done: 0,
                entries: 0,
            }),
            now: AtomicU64::new(0),
        }
    }
}

impl Deadlines {
    /// The time, at most a few ticks late.
    pub(crate) fn coarse_now(&self) -> Time {
        Time::from_origin(Duration::from_micros(self.now.load(Ordering::Relaxed)))
    }

    /// The tick at or after `at`.
    pub(crate) fn tick_of(at: Time) -> u64 {
        at.as_micros().div_ceil(tick_micros())
    }

    /// Calls [`Session::due`] on `session` at `tick` or a little later.
    pub(crate) fn arm(&self, tick: u64, session: Weak<Session>) {
        let mut wheel = self.wheel.lock();
        let slot = tick.clamp(wheel.done + 1, wheel.done + SLOTS - 1) % SLOTS;
        wheel.entries += 1;
        if let Some(entries) = wheel.slots.get_mut(index(slot)) {
            entries.push(Entry { tick, session });
        }
    }

    /// Moves the wheel to `now` and puts the sessions whose entry came up into
    /// `due`, each with the tick it was armed for.
    pub fn advance(&self, now: Time, due: &mut Vec<(u64, Weak<Session>)>) {
        self.now.fetch_max(now.as_micros(), Ordering::Relaxed);
        let until = now.as_micros() / tick_micros();
        let mut wheel = self.wheel.lock();
        // A node that slept longer than one round looks at each slot once.
        let from = (wheel.done + 1).max(until.saturating_sub(SLOTS - 1));
        for tick in from..=until {
            let Some(slot) = wheel.slots.get_mut(index(tick % SLOTS)) else {
                continue;
            };
            let entries = std::mem::take(slot);
            wheel.entries -= entries.len();
            due.extend(entries.into_iter().map(|entry| (entry.tick, entry.session)));
        }
        wheel.done = wheel.done.max(until);
    }

    /// Whether no session waits for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wheel.lock().entries == 0
    }
}

fn tick_micros() -> u64 {
    u64::try_from(TICK.as_micros()).unwrap_or(u64::MAX)
}

fn index(slot: u64) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}
