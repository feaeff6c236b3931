//! Rooms: messages that wait for polls, and go to sockets at once.
//!
//! A polling session is a stream, and so is a room; what waits for a session's
//! polls is what its stream's history has behind the mark of the group. Nothing
//! here is a queue.

mod counts;
mod resolver;

pub(crate) use counts::Counts;
pub(crate) use resolver::Resolver;

use crate::{
    http::{FOR_SOCKETS, Loan, Pull},
    runtime::Runtime,
};
use parking_lot::Mutex;
use pollux_broker::{BrokerError, Group, Keep, Offer};
use pollux_protocol::{
    Meta, NameError, Publication, RoomMessage, StreamName,
    room::{BROADCAST, ROOM_PREFIX},
};
use prometheus::proto::MetricFamily;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{Instrument as _, debug};

/// Sessions that are remembered for the metrics. More are served all the same.
const KNOWN_MAX: usize = 100_000;

/// Sessions whose backlog is asked for when somebody looks at the metrics.
const ASKED_MAX: usize = 1_000;

/// How long looking may take.
const ASKING: Duration = Duration::from_secs(1);

/// The operator's rules for rooms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomsConfig {
    /// After so long without a poll or a message what waits is dropped.
    pub(crate) ttl: Duration,
    /// Messages that may wait.
    pub(crate) buffer: usize,
    /// How much of a room's stream is kept.
    pub(crate) keep: Keep,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Rooms {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) config: RoomsConfig,
    pub(crate) resolver: Resolver,
    pub(crate) counts: Counts,
    /// Sessions that were polled or pushed to here, and when last.
    known: Mutex<HashMap<StreamName, Instant>>,
}

/// The stream of a room's sockets; without a room that of all sockets.
pub(crate) fn stream_of_room(room: &str) -> Result<StreamName, NameError> {
    match room {
        "" => StreamName::try_new(BROADCAST),
        _ => StreamName::try_new(&format!("{ROOM_PREFIX}{room}")),
    }
}

impl Rooms {
    pub(crate) fn new(runtime: Arc<Runtime>, config: RoomsConfig, resolver: Resolver) -> Self {
        Self {
            runtime,
            config,
            resolver,
            counts: Counts::default(),
            known: Mutex::default(),
        }
    }

    /// Keeps a message for a session's polls. Sockets in the room of that name
    /// get it too.
    pub(crate) async fn push(
        &self,
        session: StreamName,
        message: &RoomMessage,
    ) -> Result<(), BrokerError> {
        self.touch(&session);
        let offer = Offer {
            keep: Some(self.config.keep),
            capacity: None,
        };
        let mut publication = message.to_publication(session);
        let span = self.runtime.trace(&mut publication);
        let offered = self.runtime.broker.offer(publication, offer);
        offered.instrument(span).await?;
        self.runtime.metrics.publications.inc();
        self.counts.enqueued.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Tells sockets alone: those in the message's room, or all.
    pub(crate) async fn forward(&self, message: &RoomMessage) {
        let Ok(stream) = stream_of_room(&message.room) else {
            return;
        };
        let publication = Publication {
            meta: Meta {
                transient: true,
                broadcast_type: Some(FOR_SOCKETS.into()),
                ..Meta::default()
            },
            ..message.to_publication(stream)
        };
        if let Err(error) = self.runtime.publish(publication).await {
            debug!(%error, "Sockets were not told");
        }
    }

    /// Keeps a message for polls and tells sockets, each once.
    pub(crate) async fn send(
        &self,
        session: StreamName,
        message: &RoomMessage,
    ) -> Result<(), BrokerError> {
        let elsewhere = stream_of_room(&message.room).is_ok_and(|room| room != session);
        self.push(session, message).await?;
        if elsewhere {
            self.forward(message).await;
        }
        Ok(())
    }

    /// How a session's polls take.
    pub(crate) fn pull(&self, session: StreamName, max: usize) -> Pull {
        self.touch(&session);
        Pull {
            runtime: Arc::clone(&self.runtime),
            stream: session,
            group: Group::Room,
            max: max.min(self.config.buffer),
            bound: self.config.buffer,
            idle: Some(self.config.ttl),
        }
    }

    /// What a loan holds, for good.
    pub(crate) fn keep(&self, loan: Loan) -> Vec<RoomMessage> {
        let messages = self.messages(&loan);
        loan.lent.confirm();
        messages
    }

    /// The messages of a loan.
    pub(crate) fn messages(&self, loan: &Loan) -> Vec<RoomMessage> {
        let messages = loan.entries.iter();
        let messages: Vec<_> = messages
            .map(|entry| RoomMessage::of(&entry.publication))
            .collect();
        let drained = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        self.counts.drained.fetch_add(drained, Ordering::Relaxed);
        messages
    }

    /// A session lives.
    pub(crate) fn touch(&self, session: &StreamName) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if let Some(seen) = known.get_mut(session) {
            let was_alive = now.duration_since(*seen) <= self.config.ttl;
            *seen = now;
            if was_alive {
                return;
            }
        } else if known.len() < KNOWN_MAX {
            known.insert(session.clone(), now);
        }
        self.counts.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets sessions without life. Returns how many.
    pub(crate) fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut known = self.known.lock();
        let before = known.len();
        known.retain(|_, seen| now.duration_since(*seen) <= self.config.ttl);
        before - known.len()
    }

    /// Messages that wait for a session's polls.
    pub(crate) async fn waiting(&self, session: &StreamName) -> Result<usize, BrokerError> {
        let bound = self.config.buffer;
        self.runtime
            .broker
            .backlog(session, Group::Room, bound)
            .await
    }

    /// The metrics.
    pub(crate) async fn families(&self) -> Vec<MetricFamily> {
        self.sweep();
        let known: Vec<_> = self.known.lock().keys().cloned().collect();
        let mut buffered = 0;
        let count = async {
            for session in known.iter().take(ASKED_MAX) {
                buffered += self.waiting(session).await.unwrap_or(0);
            }
        };
        if tokio::time::timeout(ASKING, count).await.is_err() {
            debug!("The broker was too slow to count all messages that wait");
        }
        self.counts.families(known.len(), buffered)
    }
}

#[cfg(test)]
mod tests;
