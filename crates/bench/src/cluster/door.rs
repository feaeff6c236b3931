//! Publishes by one way: over HTTP connections, or over one to Redis.

use mio::{Registry, Token};

use super::redis::{RedisPublisher, Server, Verb};
use crate::conn::Readiness;
use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::mark::Mark;
use crate::publisher::{Outcome, Publisher};

/// What became of publications: their indexes, in any order.
pub(super) type Outcomes = Vec<(usize, Outcome)>;

/// The publishing side of a run. Its connections have the tokens from the last one down.
#[derive(Debug)]
pub(super) enum Door {
    Http(Box<HttpDoor>),
    Redis(Box<RedisDoor>),
}

/// Several connections with one request each, as an application's workers have them.
#[derive(Debug)]
pub(super) struct HttpDoor {
    /// How a publication is written, and where it goes.
    dialect: Dialect,
    /// Each with the publication it waits for.
    connections: Vec<(Publisher, Option<usize>)>,
    /// Connections that wait for nothing.
    idle: Vec<usize>,
}

/// One connection on which commands are pipelined.
#[derive(Debug)]
pub(super) struct RedisDoor {
    publisher: RedisPublisher,
    verb: Verb,
    /// Names streams.
    dialect: Dialect,
}

impl Door {
    pub(super) fn http(dialect: Dialect, limit: usize) -> Self {
        let target = dialect.publish_target().clone();
        let connections = (0..limit)
            .map(|index| (Publisher::new(target.clone(), 1, token_of(index)), None))
            .collect();
        Self::Http(Box::new(HttpDoor {
            dialect,
            connections,
            idle: (0..limit).rev().collect(),
        }))
    }

    pub(super) fn redis(verb: Verb, server: Server, dialect: Dialect, limit: usize) -> Self {
        Self::Redis(Box::new(RedisDoor {
            publisher: RedisPublisher::new(server, limit, token_of(0)),
            verb,
            dialect,
        }))
    }

    /// Dials all connections.
    pub(super) fn connect(&mut self, registry: &Registry) -> Result<(), Failure> {
        match self {
            Self::Http(door) => door
                .connections
                .iter_mut()
                .try_for_each(|(publisher, _)| publisher.connect(registry)),
            Self::Redis(door) => door.publisher.connect(registry),
        }
    }

    /// One more publication may be sent.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Http(door) => !door.idle.is_empty(),
            Self::Redis(door) => door.publisher.has_room(),
        }
    }

    /// Every publication has been answered.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Http(door) => door.idle.len() == door.connections.len(),
            Self::Redis(door) => door.publisher.is_idle(),
        }
    }

    /// What the server said when it first refused something.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Http(_) => None,
            Self::Redis(door) => door.publisher.refusal(),
        }
    }

    /// Publishes, or queues it until [`Self::send`]. There must be room.
    pub(super) fn publish(
        &mut self,
        index: usize,
        mark: Mark,
        payload: &str,
        registry: &Registry,
        outcomes: &mut Outcomes,
    ) {
        match self {
            Self::Http(door) => door.publish(index, mark, payload, registry, outcomes),
            Self::Redis(door) => {
                let stream = door.dialect.stream_name(mark.stream);
                door.publisher.queue(door.verb, index, &stream, payload);
            }
        }
    }

    /// Sends what is queued.
    pub(super) fn send(&mut self, registry: &Registry, outcomes: &mut Outcomes) {
        if let Self::Redis(door) = self {
            door.publisher
                .send(registry, |index, outcome| outcomes.push((index, outcome)));
        }
    }

    /// Takes in an event. False if the token is none of the door's.
    pub(super) fn on_event(
        &mut self,
        token: Token,
        readiness: Readiness,
        outcomes: &mut Outcomes,
    ) -> bool {
        let at = usize::MAX - token.0;
        match self {
            Self::Http(door) => door.on_event(at, readiness, outcomes),
            Self::Redis(door) => {
                if at == 0 {
                    door.publisher.on_event(readiness, |index, outcome| {
                        outcomes.push((index, outcome));
                    });
                }
                at == 0
            }
        }
    }
}

impl HttpDoor {
    fn publish(
        &mut self,
        index: usize,
        mark: Mark,
        payload: &str,
        registry: &Registry,
        outcomes: &mut Outcomes,
    ) {
        let Some(at) = self.idle.pop() else {
            return;
        };
        let Self {
            dialect,
            connections,
            idle,
        } = self;
        let Some((publisher, waiting)) = connections.get_mut(at) else {
            return;
        };
        *waiting = Some(index);
        publisher.publish(dialect, mark, payload, registry, |outcome| {
            settle(at, waiting, outcome, idle, outcomes);
        });
    }

    fn on_event(&mut self, at: usize, readiness: Readiness, outcomes: &mut Outcomes) -> bool {
        let Some((publisher, waiting)) = self.connections.get_mut(at) else {
            return false;
        };
        publisher.on_event(readiness, |outcome| {
            settle(at, waiting, outcome, &mut self.idle, outcomes);
        });
        true
    }
}

fn settle(
    at: usize,
    waiting: &mut Option<usize>,
    outcome: Outcome,
    idle: &mut Vec<usize>,
    outcomes: &mut Outcomes,
) {
    if let Some(index) = waiting.take() {
        outcomes.push((index, outcome));
        idle.push(at);
    }
}

const fn token_of(connection: usize) -> Token {
    Token(usize::MAX - connection)
}
