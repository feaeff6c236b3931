//! What the calls came to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the start, and a few numbers of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tallies {
    /// Calls made, whatever came of them.
    pub calls: u64,
    /// Attempts beyond the first of a call.
    pub retries: u64,
    /// Calls that ended with a [`CallError`](crate::CallError) of any kind.
    pub errors: u64,
    /// Of the errors those for which the time was up.
    pub timeouts: u64,
    /// Of the errors those that found no room to wait.
    pub busy: u64,
    /// Calls whose caller went away before they ended.
    pub canceled: u64,
    /// Calls that run or wait now.
    pub pending: u64,
    /// Of the pending calls those that wait for their turn.
    pub waiting: u64,
    /// How often a host was found to be failing and left alone.
    pub breaker_opened: u64,
    /// Hosts that are left alone now.
    pub open_hosts: u64,
    /// Hosts known now: over gRPC their addresses.
    pub hosts: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) canceled: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) breaker_opened: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self, waiting: u64, open_hosts: u64, hosts: u64) -> Tallies {
        Tallies {
            calls: self.calls.load(Relaxed),
            retries: self.retries.load(Relaxed),
            errors: self.errors.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            busy: self.busy.load(Relaxed),
            canceled: self.canceled.load(Relaxed),
            pending: self.pending.load(Relaxed),
            waiting,
            breaker_opened: self.breaker_opened.load(Relaxed),
            open_hosts,
            hosts,
        }
    }
}

/// A call from its start to its end, or to where its caller left it.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    counters: &'a Counters,
    ended: bool,
}

impl<'a> Pending<'a> {
    pub(crate) fn new(counters: &'a Counters) -> Self {
        Counters::add(&counters.calls);
        Counters::add(&counters.pending);
        Self {
            counters,
            ended: false,
        }
    }

    pub(crate) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.counters.pending.fetch_sub(1, Relaxed);
        if !self.ended {
            Counters::add(&self.counters.canceled);
        }
    }
}
