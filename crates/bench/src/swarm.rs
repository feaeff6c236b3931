//! All pollers and the publisher on one epoll instance, turned by whoever measures.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::clock::Clock;
use crate::conn::Readiness;
use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::limits::Sources;
use crate::mark::StreamIndex;
use crate::poller::{Poller, Shared, Step};
use crate::publisher::Publisher;
use crate::roster::Roster;
use crate::tally::Tally;

/// Events between two looks at the publishing schedule: about 2 ms of work.
pub(crate) const EVENTS_PER_TURN: usize = 256;
pub(crate) const INPUT_SIZE: usize = 64 << 10;
const PUBLISHER: Token = Token(usize::MAX);

/// The generator.
#[derive(Debug)]
pub(crate) struct Swarm {
    poll: Poll,
    events: Events,
    pollers: Vec<Poller>,
    publisher: Publisher,
    shared: Shared,
    /// Who is to be started next.
    roster: Roster,
    payload: usize,
}

/// What a new swarm is made of.
#[derive(Debug)]
pub(crate) struct Makeup {
    pub(crate) dialect: Dialect,
    pub(crate) tally: Tally,
    pub(crate) clock: Clock,
    pub(crate) pollers: usize,
    pub(crate) streams: u32,
    pub(crate) payload: usize,
    /// Publications that may wait for their answer at the same time.
    pub(crate) in_flight: usize,
}

/// Why turning makes no more sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    /// Not one poller was let in.
    #[error("the server refused to open a poll: {0}")]
    Refused(Failure),
    #[error("epoll failed")]
    Epoll(#[from] io::Error),
}

impl Swarm {
    pub(crate) fn new(makeup: Makeup) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let dialect = makeup.dialect;
        let sources = Sources::plan(dialect.subscribe_target().addr, makeup.pollers);
        let streams = makeup.streams.max(1);
        let pollers = (0..makeup.pollers)
            .map(|index| {
                let stream = StreamIndex(u32::try_from(index).unwrap_or(0) % streams);
                Poller::new(dialect.session(), stream, sources.of(index), Token(index))
            })
            .collect();
        Ok(Self {
            publisher: Publisher::new(
                dialect.publish_target().clone(),
                makeup.in_flight,
                PUBLISHER,
            ),
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            pollers,
            shared: Shared {
                dialect,
                tally: makeup.tally,
                clock: makeup.clock,
                registry,
                input: vec![0; INPUT_SIZE].into_boxed_slice(),
                output: Vec::new(),
            },
            roster: Roster::new(makeup.pollers),
            payload: makeup.payload,
        })
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    pub(crate) const fn len(&self) -> usize {
        self.pollers.len()
    }

    pub(crate) const fn started(&self) -> usize {
        self.roster.started()
    }

    pub(crate) const fn ready(&self) -> usize {
        self.roster.ready()
    }

    pub(crate) fn parked(&self) -> usize {
        self.pollers
            .iter()
            .filter(|poller| poller.is_parked())
            .count()
    }

    /// One more publication may be sent.
    pub(crate) const fn can_publish(&self) -> bool {
        self.publisher.has_room()
    }

    /// Every publication has been answered.
    pub(crate) const fn all_answered(&self) -> bool {
        self.publisher.is_idle()
    }

    /// Dials the publisher's connection.
    pub(crate) fn connect_publisher(&mut self) {
        if let Err(failure) = self.publisher.connect(&self.shared.registry) {
            self.shared.tally.publish_failures.count(failure);
        }
    }

    /// Sends the next publication.
    pub(crate) fn publish(&mut self) {
        let Shared {
            dialect,
            tally,
            clock,
            registry,
            ..
        } = &mut self.shared;
        let mark = tally.publish(clock.now());
        let payload = mark.payload(self.payload);
        self.publisher
            .publish(dialect, mark, &payload, registry, |outcome| {
                tally.answer(outcome, clock.now());
            });
    }

    /// Starts who is due, waits for events no longer than `patience`, and handles them.
    pub(crate) fn turn(&mut self, patience: Duration) -> Result<(), Fatal> {
        let now = self.shared.clock.now();
        while let Some(index) = self.roster.next_due(now) {
            let step = self.pollers[index].start(&mut self.shared);
            self.roster.note(step, index, now)?;
        }
        let patience = self.roster.patience(patience, now);
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let readiness = Readiness::from(event);
            match event.token() {
                PUBLISHER => {
                    let Shared { tally, clock, .. } = &mut self.shared;
                    self.publisher
                        .on_event(readiness, |outcome| tally.answer(outcome, clock.now()));
                }
                Token(index) => {
                    let Some(poller) = self.pollers.get_mut(index) else {
                        continue;
                    };
                    let step = poller.on_event(readiness, &mut self.shared);
                    if step != Step::Waiting {
                        let now = self.shared.clock.now();
                        self.roster.note(step, index, now)?;
                    }
                }
            }
        }
        Ok(())
    }
}
