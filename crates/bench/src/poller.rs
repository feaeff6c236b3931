//! One poller: connect, open, poll, receive, poll again; reconnect when the server hangs up.
//!
//! A poller owns no buffers while it waits; what all pollers use in turn is in [`Shared`].

use std::net::IpAddr;
use std::time::Duration;

use mio::{Registry, Token};

use crate::clock::Clock;
use crate::conn::{After, Broken, Conn, Readiness};
use crate::dialect::{Dialect, Session, Verdict};
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::mark::StreamIndex;
use crate::tally::Tally;

/// The pause after the second setback in a row; it doubles with each one more.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// What one poller keeps.
#[derive(Debug)]
pub(crate) struct Poller {
    /// None before the start and between connections.
    conn: Option<Conn>,
    session: Session,
    ledger: Ledger,
    stream: StreamIndex,
    source: Option<IpAddr>,
    token: Token,
    /// Failures since the last good answer.
    setbacks: u8,
    /// Has been parked at least once.
    ready: bool,
}

/// What all pollers use, one at a time.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dialect: Dialect,
    pub(crate) tally: Tally,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    /// Every read goes through this.
    pub(crate) input: Box<[u8]>,
    /// Every request is put together here.
    pub(crate) output: Vec<u8>,
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing the swarm has to know.
    Waiting,
    /// Parked for the first time.
    Ready,
    /// Not connected; to be started again after this time.
    Rest(Duration),
    /// The server will not have this poller; rest unless all are refused.
    Refused(Failure, Duration),
}

impl Poller {
    pub(crate) const fn new(
        session: Session,
        stream: StreamIndex,
        source: Option<IpAddr>,
        token: Token,
    ) -> Self {
        Self {
            conn: None,
            session,
            ledger: Ledger {
                highest: 0,
                missing: Vec::new(),
            },
            stream,
            source,
            token,
            setbacks: 0,
            ready: false,
        }
    }

    /// Forgets what it has received, because the next run counts from 1 again.
    pub(crate) fn forget(&mut self) {
        self.ledger = Ledger::default();
    }

    /// The server holds, or is about to hold, a poll of this poller.
    pub(crate) fn is_parked(&self) -> bool {
        self.session.is_subscribed()
            && self
                .conn
                .as_ref()
                .is_some_and(|conn| conn.is_connected() && conn.is_flushed())
    }

    /// Begins to connect.
    pub(crate) fn start(&mut self, shared: &mut Shared) -> Step {
        let addr = shared.dialect.subscribe_target().addr;
        match Conn::open(addr, self.source, &shared.registry, self.token) {
            Ok(conn) => {
                self.conn = Some(conn);
                Step::Waiting
            }
            Err(error) => self.broken(error.into(), shared),
        }
    }

    pub(crate) fn on_event(&mut self, readiness: Readiness, shared: &mut Shared) -> Step {
        let step = self.advance(readiness, shared);
        step.unwrap_or_else(|broken| self.broken(broken, shared))
    }

    fn advance(&mut self, readiness: Readiness, shared: &mut Shared) -> Result<Step, Broken> {
        let Some(conn) = &mut self.conn else {
            return Ok(Step::Waiting);
        };
        if !conn.is_connected() {
            if !conn.finish_connect()? {
                return Ok(Step::Waiting);
            }
            return self.request(shared);
        }
        if readiness.writable && !conn.is_flushed() {
            conn.flush()?;
        }
        if readiness.readable {
            return self.read(readiness, shared);
        }
        Ok(self.note_ready())
    }

    fn read(&mut self, readiness: Readiness, shared: &mut Shared) -> Result<Step, Broken> {
        let Some(conn) = &mut self.conn else {
            return Ok(Step::Waiting);
        };
        let Shared {
            dialect,
            tally,
            clock,
            input,
            ..
        } = shared;
        let (session, ledger, stream) = (&mut self.session, &mut self.ledger, self.stream);
        let received = conn.receive(input, readiness, |answer| {
            let now = clock.now();
            let mut messages = false;
            let verdict = dialect.read_answer(session, answer, |mark| {
                messages = true;
                tally.deliver(ledger, stream, mark, now);
            });
            if messages {
                tally.answer_with_messages();
            }
            if answer.fields.gap.is_some() {
                tally.counters.gaps += 1;
            }
            verdict
        })?;
        match received {
            Some((verdict, after)) => self.follow(verdict, after, shared),
            None => Ok(Step::Waiting),
        }
    }

    fn follow(
        &mut self,
        verdict: Verdict,
        after: After,
        shared: &mut Shared,
    ) -> Result<Step, Broken> {
        let failure = match verdict {
            Verdict::Again => None,
            Verdict::Idle => {
                shared.tally.counters.idle_answers += 1;
                None
            }
            Verdict::Retry(failure) => Some(failure),
            Verdict::Reopen(failure) => {
                shared.tally.counters.reopens += 1;
                self.session = shared.dialect.session();
                Some(failure)
            }
            Verdict::Refused(failure) => {
                self.session = shared.dialect.session();
                let Step::Rest(pause) = self.broken(Broken::Failed(failure), shared) else {
                    return Ok(Step::Waiting);
                };
                return Ok(Step::Refused(failure, pause));
            }
        };
        if let Some(failure) = failure {
            return Err(Broken::Failed(failure));
        }
        self.setbacks = 0;
        match after {
            After::Open => self.request(shared),
            After::Closing => Err(Broken::Closed),
            // There was one request, so there is one answer.
            After::More => Err(Broken::Failed(Failure::BadAnswer("bytes follow it"))),
        }
    }

    fn request(&mut self, shared: &mut Shared) -> Result<Step, Broken> {
        let Some(conn) = &mut self.conn else {
            return Ok(Step::Waiting);
        };
        shared.output.clear();
        shared
            .dialect
            .write_request(&self.session, self.stream, &mut shared.output);
        conn.send(&shared.output)?;
        Ok(self.note_ready())
    }

    fn note_ready(&mut self) -> Step {
        if !self.ready && self.is_parked() {
            self.ready = true;
            return Step::Ready;
        }
        Step::Waiting
    }

    /// Lets go of the connection. The session stays: its next poll tells whether it still lives.
    fn broken(&mut self, broken: Broken, shared: &mut Shared) -> Step {
        if self.conn.take().is_some_and(|conn| conn.is_connected()) {
            shared.tally.counters.reconnects += 1;
        }
        if let Broken::Failed(failure) = broken {
            shared.tally.failures.count(failure);
        }
        let pause = match self.setbacks {
            0 => Duration::ZERO,
            setbacks => {
                let factor = 1_u32 << u32::from(setbacks - 1).min(10);
                (FIRST_BACKOFF * factor).min(LONGEST_BACKOFF)
            }
        };
        self.setbacks = self.setbacks.saturating_add(1);
        Step::Rest(pause + self.jitter())
    }

    /// Spreads pollers that failed together over some milliseconds.
    fn jitter(&self) -> Duration {
        match self.setbacks {
            0 | 1 => Duration::ZERO,
            _ => Duration::from_millis(u64::try_from(self.token.0 % 32).unwrap_or(0)),
        }
    }
}
