//! What the application saw, and what is wrong with it.

use super::{
    app,
    call::{Call, Reply},
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

/// What calls meet instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The server fails: 500, `INTERNAL`.
    Failing,
    /// The application answers that it failed.
    Error,
    /// The caller's key is not good: 401, `UNAUTHENTICATED`.
    Unauthorized,
    /// The server is too busy and does not look at the call: 503, `RESOURCE_EXHAUSTED`.
    Exhausted,
    /// The call is carried out, and the connection breaks within the answer.
    CutOff,
}

/// What connections are answered with, and what they leave to be read.
#[derive(Debug)]
pub(super) struct Record {
    /// What callers over HTTP must bear.
    key: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    complaints: Vec<String>,
    delay: Duration,
    /// And how many calls meet it.
    trouble: Option<(Trouble, usize)>,
    running: usize,
    most_running: usize,
    abandoned: usize,
    connections: usize,
}

/// A call that is being answered.
struct Running<'a> {
    record: &'a Record,
    is_answered: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.record.state.lock();
        state.running -= 1;
        state.abandoned += usize::from(!self.is_answered);
    }
}

impl Record {
    pub(super) fn new(key: Option<String>) -> Self {
        Self {
            key,
            state: Mutex::default(),
        }
    }

    /// Answers a call as the application is doing now. Dropped before it is ready, the call
    /// counts as abandoned.
    pub(super) async fn answer(self: Arc<Self>, call: Call) -> Result<Reply, Trouble> {
        let (delay, trouble) = self.begin(&call);
        let mut running = Running {
            record: &self,
            is_answered: false,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        running.is_answered = true;
        match trouble {
            None => Ok(app::answer(&call)),
            Some(Trouble::Error) => Ok(Reply::error("out of order")),
            Some(trouble) => Err(trouble),
        }
    }

    fn begin(&self, call: &Call) -> (Duration, Option<Trouble>) {
        let mut state = self.state.lock();
        state.calls.push(call.clone());
        state.running += 1;
        state.most_running = state.most_running.max(state.running);
        let trouble = match &mut state.trouble {
            Some((trouble, calls)) if *calls > 0 => {
                *calls -= 1;
                Some(*trouble)
            }
            _ => None,
        };
        (state.delay, trouble)
    }

    /// Whether a caller may call.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let Some(key) = &self.key else { return true };
        authorization.and_then(|value| value.strip_prefix("Bearer ")) == Some(key)
    }

    /// Notes what a caller did that the protocol does not allow.
    pub(super) fn complain(&self, what: String) {
        self.state.lock().complaints.push(what);
    }

    pub(super) fn count_connection(&self) {
        self.state.lock().connections += 1;
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    pub(super) fn set_trouble(&self, trouble: Trouble, calls: usize) {
        self.state.lock().trouble = Some((trouble, calls));
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    pub(super) fn forget(&self) {
        self.state.lock().calls.clear();
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.state.lock().complaints.clone()
    }

    pub(super) fn running(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.running, state.most_running)
    }

    pub(super) fn abandoned(&self) -> usize {
        self.state.lock().abandoned
    }

    pub(super) fn connections(&self) -> usize {
        self.state.lock().connections
    }
}
