//! Sends publications in order over one connection of its own, several in flight if allowed.

use mio::{Registry, Token};

use crate::conn::{After, Broken, Conn, Readiness};
use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::http::Answer;
use crate::mark::Mark;
use crate::target::Target;

/// Answers to publications are short.
const INPUT_SIZE: usize = 16 << 10;

/// What the server said to one publication.
pub(crate) type Outcome = Result<(), Failure>;

/// The publishing side of a run.
#[derive(Debug)]
pub(crate) struct Publisher {
    target: Target,
    token: Token,
    conn: Option<Conn>,
    /// Requests that wait for the connection to stand.
    queued: Vec<u8>,
    /// Publications not answered yet, queued ones included.
    in_flight: usize,
    /// The most of them; more than one means HTTP pipelining.
    limit: usize,
    input: Box<[u8]>,
}

impl Publisher {
    pub(crate) fn new(target: Target, limit: usize, token: Token) -> Self {
        Self {
            target,
            token,
            conn: None,
            queued: Vec::new(),
            in_flight: 0,
            limit,
            input: vec![0; INPUT_SIZE].into_boxed_slice(),
        }
    }

    /// Every publication has been answered.
    pub(crate) const fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// One more publication may be sent.
    pub(crate) const fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    /// Connects ahead of time, so that the first publication does not pay for it.
    pub(crate) fn connect(&mut self, registry: &Registry) -> Result<(), Failure> {
        if self.conn.is_none() {
            let conn = Conn::open(self.target.addr, None, registry, self.token)
                .map_err(|error| Failure::from_io(&error))?;
            self.conn = Some(conn);
        }
        Ok(())
    }

    /// Sends `payload` with `mark`, or queues it until the connection stands. `outcomes` gets
    /// what happened to this and earlier ones if the connection broke.
    pub(crate) fn publish(
        &mut self,
        dialect: &Dialect,
        mark: Mark,
        payload: &str,
        registry: &Registry,
        outcomes: impl FnMut(Outcome),
    ) {
        dialect.write_publish(mark.stream, payload, &mut self.queued);
        self.in_flight += 1;
        let sent = self
            .connect(registry)
            .map_err(Broken::Failed)
            .and_then(|()| self.send_queued());
        if let Err(broken) = sent {
            self.fail(&broken, outcomes);
        }
    }

    /// Takes in an event; `outcomes` gets the answers it brought, in order.
    pub(crate) fn on_event(&mut self, readiness: Readiness, mut outcomes: impl FnMut(Outcome)) {
        if let Err(broken) = self.advance(readiness, &mut outcomes) {
            self.fail(&broken, outcomes);
        }
    }

    fn send_queued(&mut self) -> Result<(), Broken> {
        if let Some(conn) = &mut self.conn
            && conn.is_connected()
            && !self.queued.is_empty()
        {
            conn.send(&self.queued)?;
            self.queued.clear();
        }
        Ok(())
    }

    fn advance(
        &mut self,
        readiness: Readiness,
        outcomes: &mut impl FnMut(Outcome),
    ) -> Result<(), Broken> {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        if !conn.is_connected() {
            return if conn.finish_connect()? {
                self.send_queued()
            } else {
                Ok(())
            };
        }
        if readiness.writable && !conn.is_flushed() {
            conn.flush()?;
        }
        if !readiness.readable {
            return Ok(());
        }
        let mut received = conn.receive(&mut self.input, readiness, outcome)?;
        while let Some((outcome, after)) = received {
            if self.in_flight == 0 {
                return Err(Broken::Failed(Failure::BadAnswer("nobody asked")));
            }
            self.in_flight -= 1;
            outcomes(outcome);
            match after {
                After::Open => break,
                After::Closing => return Err(Broken::Closed),
                After::More => received = conn.receive_more(self::outcome)?,
            }
        }
        Ok(())
    }

    /// What is in flight will not be answered. The next publication dials again.
    fn fail(&mut self, broken: &Broken, mut outcomes: impl FnMut(Outcome)) {
        self.conn = None;
        self.queued.clear();
        let failure = match broken {
            Broken::Closed => Failure::NoAnswer,
            Broken::Failed(failure) => *failure,
        };
        for _ in 0..self.in_flight {
            outcomes(Err(failure));
        }
        self.in_flight = 0;
    }
}

fn outcome(answer: &Answer<'_>) -> Outcome {
    match answer.status {
        200..=299 => Ok(()),
        status => Err(Failure::Status(status)),
    }
}
