//! One host of the application, and what is known of how it does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    attempt::Attempt,
    breaker::{Admitted, Breaker},
    error::Failure,
    grpc, http,
    tally::Counters,
};

/// After a failure to connect others are asked first for so long, then for
/// twice as long, up to the ceiling.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

/// A host over either transport.
#[derive(Debug)]
pub(crate) enum Wire {
    Http(http::Host),
    Grpc(grpc::Host),
}

#[derive(Debug)]
pub(crate) struct Peer {
    wire: Wire,
    /// Which of the configured hosts it comes from.
    pub(crate) origin: usize,
    breaker: Breaker,
    rest: Mutex<Option<Rest>>,
    counters: Arc<Counters>,
}

/// A host that could not be connected to.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    length: Duration,
}

impl Peer {
    pub(crate) fn new(wire: Wire, origin: usize, counters: Arc<Counters>) -> Self {
        Self {
            wire,
            origin,
            breaker: Breaker::new(Instant::now()),
            rest: Mutex::new(None),
            counters,
        }
    }

    pub(crate) const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Whether it may be called at all.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        self.breaker.admits(now)
    }

    /// Whether others are better asked.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.rest.lock().is_some_and(|rest| now < rest.until)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    pub(crate) fn admit(self: &Arc<Self>, now: Instant) -> Option<Admission> {
        let admitted = self.breaker.admit(now)?;
        Some(Admission {
            peer: Arc::clone(self),
            admitted,
            reported: false,
        })
    }

    fn tire(&self, now: Instant) {
        let mut rest = self.rest.lock();
        // Calls that fail together are one failure.
        if rest.is_some_and(|rest| now < rest.until) {
            return;
        }
        let length = rest.map_or(FIRST_REST, |rest| (rest.length * 2).min(LONGEST_REST));
        *rest = Some(Rest {
            until: now + length,
            length,
        });
    }
}

/// Leave to make one attempt. Dropped without an end it says nothing about the
/// host.
#[derive(Debug)]
pub(crate) struct Admission {
    peer: Arc<Peer>,
    admitted: Admitted,
    reported: bool,
}

impl Admission {
    pub(crate) const fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    pub(crate) async fn call(mut self, attempt: &Attempt<'_>) -> Result<Bytes, Failure> {
        let result = match &self.peer.wire {
            Wire::Http(host) => host.call(attempt).await,
            Wire::Grpc(host) => host.call(attempt).await,
        };
        let now = Instant::now();
        match &result {
            Err(Failure::NotSent(_)) => {
                self.peer.tire(now);
                self.report(true, now);
            }
            Err(Failure::Lost(_)) => self.report(true, now),
            Ok(_) | Err(Failure::Exhausted | Failure::Final(_)) => {
                *self.peer.rest.lock() = None;
                self.report(false, now);
            }
        }
        result
    }

    fn report(&mut self, failed: bool, now: Instant) {
        self.reported = true;
        if self.peer.breaker.report(self.admitted, failed, now) {
            Counters::add(&self.peer.counters.breaker_opened);
            tracing::warn!(host = %self.peer.wire, "A host of the application fails and is left alone");
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.reported {
            self.peer.breaker.withdraw(self.admitted, Instant::now());
        }
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(host) => f.write_str(host.name()),
            Self::Grpc(host) => write!(f, "{}", host.address()),
        }
    }
}
