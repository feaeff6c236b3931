//! The application: a turn for each call, attempts until one is answered, and
//! an end to it all.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{self, Instant},
};

use crate::{
    attempt::{Attempt, Method, Progress},
    balance::{Balance, NoPeer},
    call::{Command, Commanded, Connect, Connected, Disconnect, Disconnected},
    error::{CallError, Failure},
    json,
    options::{Options, OptionsError},
    proto,
    tally::{Counters, Pending, Tallies},
};

mod build;

/// The first pause after all hosts could not be reached; then it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The first pause after an application had no room; then it doubles.
const FIRST_PAUSE_EXHAUSTED: Duration = Duration::from_millis(10);

/// The application that decides about its clients.
///
/// A call is made at most once where it counts: another attempt follows only
/// if the one before certainly did not run. Dropping a call's future takes it
/// back from the wire, so that the application can stop.
#[derive(Debug)]
pub struct Backend {
    balance: Arc<Balance>,
    codec: Codec,
    /// One for each call at once.
    permits: Semaphore,
    /// Calls that wait for a permit.
    waiting: AtomicUsize,
    max_waiting: usize,
    /// A call's time in all.
    timeout: Duration,
    /// See [`Options::trace`].
    trace: fn() -> Option<HeaderValue>,
    /// Also with the hosts, which count how often they are left alone.
    counters: Arc<Counters>,
}

/// How calls are written.
#[derive(Clone, Copy, Debug)]
enum Codec {
    Json,
    Proto,
}

impl Backend {
    /// Reads the options and the certificates they name. Nothing is connected
    /// before the first call.
    ///
    /// # Errors
    ///
    /// If the options cannot be meant, or a certificate cannot be read.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        build::backend(options)
    }

    /// Asks whether a client may connect.
    ///
    /// # Errors
    ///
    /// If there is no answer; a refusal is one.
    pub async fn connect(&self, sid: &str, call: Connect) -> Result<Connected, CallError> {
        let body = match self.codec {
            Codec::Json => json::connect(&call),
            Codec::Proto => proto::connect(call),
        };
        let read = |answer: Bytes| match self.codec {
            Codec::Json => json::connected(&answer).map_err(unread),
            Codec::Proto => proto::connected(answer).map_err(unread),
        };
        self.call(Method::Connect, sid, body, read).await
    }

    /// Tells what a client wants of a channel.
    ///
    /// # Errors
    ///
    /// If there is no answer; a refusal is one.
    pub async fn command(&self, sid: &str, call: Command) -> Result<Commanded, CallError> {
        let body = match self.codec {
            Codec::Json => json::command(&call),
            Codec::Proto => proto::command(call),
        };
        let read = |answer: Bytes| match self.codec {
            Codec::Json => json::commanded(&answer).map_err(unread),
            Codec::Proto => proto::commanded(answer).map_err(unread),
        };
        self.call(Method::Command, sid, body, read).await
    }

    /// Tells that a client is gone.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub async fn disconnect(&self, sid: &str, call: Disconnect) -> Result<Disconnected, CallError> {
        let body = match self.codec {
            Codec::Json => json::disconnect(&call),
            Codec::Proto => proto::disconnect(call),
        };
        let read = |answer: Bytes| match self.codec {
            Codec::Json => json::disconnected(&answer).map_err(unread),
            Codec::Proto => proto::disconnected(answer).map_err(unread),
        };
        self.call(Method::Disconnect, sid, body, read).await
    }

    /// What the calls came to so far.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        let (open, hosts) = self.balance.count();
        let waiting = self.waiting.load(Relaxed) as u64;
        self.counters.read(waiting, open, hosts)
    }

    async fn call<T>(
        &self,
        method: Method,
        sid: &str,
        body: Bytes,
        read: impl Fn(Bytes) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let pending = Pending::new(&self.counters);
        let answer = self.answer(method, sid, &body).await;
        let result = answer.and_then(read);
        if let Err(error) = &result {
            Counters::add(&self.counters.errors);
            match error {
                CallError::Timeout => Counters::add(&self.counters.timeouts),
                CallError::Busy => Counters::add(&self.counters.busy),
                _ => {}
            }
        }
        pending.end();
        result
    }

    async fn answer(&self, method: Method, sid: &str, body: &Bytes) -> Result<Bytes, CallError> {
        // The id may be a client's own and hold what no header can carry.
        let sid = HeaderValue::from_str(sid).map_err(|_| CallError::InvalidArgument)?;
        let trace = (self.trace)();
        let progress = Progress::default();
        let deadline = Instant::now() + self.timeout;
        let attempt = Attempt {
            method,
            sid: &sid,
            trace: trace.as_ref(),
            body,
            deadline,
            progress: &progress,
        };
        let turn = async {
            let _permit = self.permit().await?;
            // On the heap, so that a call that waits for its turn is small.
            Box::pin(self.attempts(&attempt)).await
        };
        match time::timeout_at(deadline, turn).await {
            Ok(result) => result,
            Err(_) => Err(progress
                .take()
                .map_or(CallError::Timeout, CallError::Unavailable)),
        }
    }

    async fn attempts(&self, attempt: &Attempt<'_>) -> Result<Bytes, CallError> {
        let mut tried = Vec::new();
        let mut unreachable = Pause::new(FIRST_PAUSE);
        let mut exhausted = Pause::new(FIRST_PAUSE_EXHAUSTED);
        loop {
            let why = match self.balance.pick(&tried).await {
                Ok(admission) => {
                    tried.push(Arc::clone(admission.peer()));
                    match admission.call(attempt).await {
                        Ok(answer) => return Ok(answer),
                        Err(Failure::Final(error)) => return Err(error),
                        Err(Failure::Lost(why)) => return Err(CallError::Unavailable(why)),
                        Err(Failure::NotSent(why)) => Some(why),
                        Err(Failure::Exhausted) => None,
                    }
                }
                Err(NoPeer::Nameless(why)) => Some(why),
                Err(NoPeer::AllOpen) => {
                    let why = attempt.progress.take();
                    return Err(CallError::Unavailable(
                        why.unwrap_or_else(|| "no host has answered lately".into()),
                    ));
                }
            };
            if let Some(why) = why {
                self.balance.failed();
                attempt.progress.unreachable(why.clone());
                if !self.balance.has_others(&tried) {
                    tried.clear();
                    unreachable
                        .pass(attempt.deadline)
                        .await
                        .map_err(|TooLate| CallError::Unavailable(why))?;
                }
            } else {
                exhausted
                    .pass(attempt.deadline)
                    .await
                    .map_err(|TooLate| CallError::Timeout)?;
            }
            Counters::add(&self.counters.retries);
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting, self.max_waiting).ok_or(CallError::Busy)?;
        // It is never closed.
        self.permits.acquire().await.map_err(|_| CallError::Busy)
    }
}

/// The error says where the answer is wrong, never what it holds.
fn unread(error: impl fmt::Display) -> CallError {
    CallError::Malformed(error.to_string().into())
}

/// A pause that doubles.
struct Pause(Duration);

/// The pause would outlast the call.
struct TooLate;

impl Pause {
    const fn new(first: Duration) -> Self {
        Self(first)
    }

    async fn pass(&mut self, deadline: Instant) -> Result<(), TooLate> {
        let end = Instant::now() + self.0;
        if end >= deadline {
            return Err(TooLate);
        }
        self.0 *= 2;
        time::sleep_until(end).await;
        Ok(())
    }
}

/// A place among those that wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        waiting
            .fetch_update(Relaxed, Relaxed, |waiting| {
                (waiting < max).then_some(waiting + 1)
            })
            .ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_waits_is_small() {
        let backend = Backend::new(Options::default()).unwrap();
        let size = size_of_val(&backend.disconnect("sid", Disconnect::default()));
        assert!(size <= 1536, "{size} bytes");
    }
}
