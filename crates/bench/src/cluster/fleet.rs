//! The pollers of all nodes and one door on one epoll instance, turned by whoever measures.
//!
//! Every node has a tally of its own, and every publication is entered in all of them: what a
//! node's pollers do not subscribe to, it expects of nobody.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::door::{Door, Outcomes};
use super::setup::{NodeAt, Setup};
use crate::clock::Clock;
use crate::conn::Readiness;
use crate::failure::Failure;
use crate::limits::Sources;
use crate::mark::{RunId, StreamIndex};
use crate::poller::{Poller, Shared};
use crate::roster::Roster;
use crate::swarm::{EVENTS_PER_TURN, Fatal, INPUT_SIZE};
use crate::tally::Tally;

/// Who subscribes to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Every stream has a subscriber at every node.
    Everywhere,
    /// Every stream has one subscriber; so many nodes, the first ones, have their turns.
    Spread(usize),
}

/// The generator.
#[derive(Debug)]
pub(super) struct Fleet {
    poll: Poll,
    events: Events,
    /// Of all nodes, in the order of their tokens.
    pollers: Vec<(usize, Poller)>,
    sites: Vec<Site>,
    roster: Roster,
    door: Door,
    /// Emptied after each use.
    outcomes: Outcomes,
    clock: Clock,
    payload: usize,
}

/// One node.
#[derive(Debug)]
pub(super) struct Site {
    /// What its pollers use in turn, its tally among it.
    shared: Shared,
    /// How many of them each stream has.
    subscribers: Vec<u32>,
}

impl Fleet {
    /// Pollers that are not started yet. `door` and `run` are for the first messages.
    pub(super) fn new(
        setup: &Setup,
        layout: Layout,
        streams: u32,
        door: Door,
        clock: Clock,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut pollers = Vec::new();
        let mut sites = Vec::new();
        for (number, node) in setup.nodes.iter().enumerate() {
            let is_here = |stream: u32| {
                let stream = usize::try_from(stream).unwrap_or(0);
                match layout {
                    Layout::Everywhere => true,
                    Layout::Spread(nodes) => stream % nodes.max(1) == number,
                }
            };
            let site = Site {
                shared: shared(node, &poll, clock)?,
                subscribers: (0..streams).map(|stream| is_here(stream).into()).collect(),
            };
            let here = (0..streams).filter(|&stream| is_here(stream));
            let sources = Sources::plan(node.addr(), here.clone().count());
            for (index, stream) in here.enumerate() {
                let session = node.dialect.session();
                let token = Token(pollers.len());
                let poller = Poller::new(session, StreamIndex(stream), sources.of(index), token);
                pollers.push((number, poller));
            }
            sites.push(site);
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            roster: Roster::new(pollers.len()),
            pollers,
            sites,
            door,
            outcomes: Outcomes::new(),
            clock,
            payload: setup.payload,
        })
    }

    /// How many pollers that makes.
    pub(super) fn size(layout: Layout, nodes: usize, streams: u32) -> usize {
        let streams = usize::try_from(streams).unwrap_or(usize::MAX);
        match layout {
            Layout::Everywhere => streams.saturating_mul(nodes),
            Layout::Spread(_) => streams,
        }
    }

    /// Counts from nothing, and publishes through `door` from now on. The pollers stay: sessions
    /// that nobody polls any more would cost the nodes time in the next run.
    pub(super) fn begin(&mut self, door: Door, run: RunId, warmup: usize) -> Result<(), Failure> {
        self.door = door;
        for site in &mut self.sites {
            site.shared.tally = Tally::new(run, site.subscribers.clone(), warmup);
        }
        for (_, poller) in &mut self.pollers {
            poller.forget();
        }
        self.door.connect(self.poll.registry())
    }

    pub(super) const fn len(&self) -> usize {
        self.pollers.len()
    }

    pub(super) const fn ready(&self) -> usize {
        self.roster.ready()
    }

    pub(super) const fn door(&self) -> &Door {
        &self.door
    }

    /// Of all nodes, in their order.
    pub(super) fn tallies(&self) -> impl Iterator<Item = &Tally> + Clone {
        self.sites.iter().map(|site| &site.shared.tally)
    }

    /// Everything published was answered and has arrived everywhere.
    pub(super) fn is_settled(&self) -> bool {
        self.door.is_idle() && self.tallies().all(Tally::has_all)
    }

    /// Receipts that the node which is farthest behind has to come yet.
    pub(super) fn behind(&self) -> u64 {
        self.tallies().map(Tally::outstanding).max().unwrap_or(0)
    }

    /// Enters the next publication and hands it to the door, which must have room. The clock
    /// starts here.
    pub(super) fn publish(&mut self) {
        let now = self.clock.now();
        let mut next = None;
        for site in &mut self.sites {
            let index = site.shared.tally.published();
            next = Some((index, site.shared.tally.publish(now)));
        }
        if let Some((index, mark)) = next {
            let payload = mark.payload(self.payload);
            let registry = self.poll.registry();
            self.door
                .publish(index, mark, &payload, registry, &mut self.outcomes);
        }
    }

    /// Sends what was published since.
    pub(super) fn send(&mut self) {
        self.door.send(self.poll.registry(), &mut self.outcomes);
        self.note_outcomes();
    }

    fn note_outcomes(&mut self) {
        let now = self.clock.now();
        for (index, outcome) in self.outcomes.drain(..) {
            for site in &mut self.sites {
                site.shared.tally.answer_to(index, outcome, now);
            }
        }
    }

    /// Starts who is due, waits for events no longer than `patience`, and handles them.
    pub(super) fn turn(&mut self, patience: Duration) -> Result<(), Fatal> {
        let now = self.clock.now();
        while let Some(index) = self.roster.next_due(now) {
            let (site, poller) = &mut self.pollers[index];
            let step = poller.start(&mut self.sites[*site].shared);
            self.roster.note(step, index, now)?;
        }
        let patience = self.roster.patience(patience, now);
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let readiness = Readiness::from(event);
            let Token(index) = event.token();
            if let Some((site, poller)) = self.pollers.get_mut(index) {
                let step = poller.on_event(readiness, &mut self.sites[*site].shared);
                self.roster.note(step, index, now)?;
            } else {
                self.door
                    .on_event(event.token(), readiness, &mut self.outcomes);
            }
        }
        self.note_outcomes();
        Ok(())
    }
}

fn shared(node: &NodeAt, poll: &Poll, clock: Clock) -> io::Result<Shared> {
    Ok(Shared {
        dialect: node.dialect.clone(),
        // Of a run that nobody publishes for.
        tally: Tally::new(RunId(0), Vec::new(), usize::MAX),
        clock,
        registry: poll.registry().try_clone()?,
        input: vec![0; INPUT_SIZE].into_boxed_slice(),
        output: Vec::new(),
    })
}
