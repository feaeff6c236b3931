//! What the embedded broker promises as a broker.

use super::{MemoryBroker, log::Log, moment};
use crate::{
    broker::{Broker, BrokerError, History, HistoryError, Since, Stats},
    event::Event,
    presence::{Entered, Member, joined, left},
    queue::{Group, Offer, Offered, Outcome, Take, Taken, countable},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use pollux_protocol::{Position, PresenceRequest, Publication, RemoteDisconnect, StreamName};
use std::{
    future::ready,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

impl MemoryBroker {
    async fn tell(&self, event: Event) -> Result<(), BrokerError> {
        let told = self.events.send(event).await;
        told.map_err(|_| BrokerError::Stopped)
    }

    /// A transient publication of the broker's own.
    async fn announce(&self, publication: Publication) -> Result<(), BrokerError> {
        self.offer(publication, Offer::default()).await.map(drop)
    }
}

impl Broker for MemoryBroker {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn publish(
        &self,
        publication: Publication,
    ) -> BoxFuture<'_, Result<Option<Position>, BrokerError>> {
        Box::pin(async move {
            match self.offer(publication, Offer::default()).await? {
                Offered::Accepted(position) => Ok(position),
                Offered::Full => Ok(None),
            }
        })
    }

    fn offer(
        &self,
        publication: Publication,
        offer: Offer,
    ) -> BoxFuture<'_, Result<Offered, BrokerError>> {
        Box::pin(async move {
            let place = self.events.reserve().await;
            let place = place.map_err(|_| BrokerError::Stopped)?;
            let publication = Arc::new(publication);
            let mut shard = self.shard(&publication.stream).lock();
            // Within the lock, so that whoever has read a stream has read
            // everything that is older than what it reads of others then.
            let now = moment();
            if let Some((group, capacity)) = offer.capacity {
                let log = self.log(&mut shard, &publication.stream, now.at);
                self.bytes.fetch_sub(log.expire(now.at), Ordering::Relaxed);
                if !log.has_room(group, capacity, now.at) {
                    return Ok(Offered::Full);
                }
            }
            let placed = (!publication.meta.transient)
                .then(|| self.append(&mut shard, &publication, offer.keep, now));
            let position = placed.as_ref().map(|placed| placed.position.clone());
            place.send(Event::Delivery {
                publication,
                position: position.clone(),
                time: placed.map_or(0, |placed| placed.time),
                received: now.at,
                late: false,
            });
            Ok(Offered::Accepted(position))
        })
    }

    fn disconnect(&self, command: RemoteDisconnect) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(self.tell(Event::Disconnect(command)))
    }

    fn subscribe<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        let head = self.shard(stream).lock().get(stream).and_then(Log::head);
        Box::pin(ready(Ok(head)))
    }

    /// Events of all streams come anyway, so there is nothing to undo.
    fn unsubscribe(&self, _stream: &StreamName) {}

    fn history<'a>(
        &'a self,
        stream: &'a StreamName,
        since: Since,
    ) -> BoxFuture<'a, Result<History, HistoryError>> {
        let mut shard = self.shard(stream).lock();
        let history = match (shard.get_mut(stream), since) {
            (Some(log), since) => {
                let freed = log.expire(Instant::now());
                self.bytes.fetch_sub(freed, Ordering::Relaxed);
                log.since(&since)
            }
            (None, Since::Time(_)) => Ok(History::default()),
            (None, Since::Position(_)) => Err(HistoryError::Unknown),
        };
        Box::pin(ready(history))
    }

    fn take<'a>(
        &'a self,
        stream: &'a StreamName,
        take: &'a Take,
    ) -> BoxFuture<'a, Result<Taken, BrokerError>> {
        let now = Instant::now();
        let mut shard = self.shard(stream).lock();
        let taken = if take.wait.is_some() || shard.contains_key(stream) {
            let log = self.log(&mut shard, stream, now);
            self.bytes.fetch_sub(log.expire(now), Ordering::Relaxed);
            log.take(take, now)
        } else {
            Taken::default()
        };
        Box::pin(ready(Ok(taken)))
    }

    fn claim<'a>(
        &'a self,
        stream: &'a StreamName,
        positions: Vec<Position>,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<Position>, BrokerError>> {
        let now = Instant::now();
        let mut shard = self.shard(stream).lock();
        let granted = shard
            .get_mut(stream)
            .map(|log| log.claim(positions, now + countable(lease), now));
        Box::pin(ready(Ok(granted.unwrap_or_default())))
    }

    fn settle<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        positions: Vec<Position>,
        outcome: Outcome,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            if let Some(log) = self.shard(stream).lock().get_mut(stream) {
                let freed = log.settle(group, &positions, outcome, Instant::now());
                self.bytes.fetch_sub(freed, Ordering::Relaxed);
            }
            match outcome {
                Outcome::Arrived => Ok(()),
                Outcome::Back => self.tell(Event::Back(stream.clone())).await,
            }
        })
    }

    fn leave<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        reader: &'a str,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        if let Some(log) = self.shard(stream).lock().get_mut(stream) {
            log.leave(group, reader);
        }
        Box::pin(ready(Ok(())))
    }

    fn backlog<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        bound: usize,
    ) -> BoxFuture<'a, Result<usize, BrokerError>> {
        let now = Instant::now();
        let mut shard = self.shard(stream).lock();
        let backlog = shard.get_mut(stream).map_or(0, |log| {
            self.bytes.fetch_sub(log.expire(now), Ordering::Relaxed);
            log.backlog(group, now)
        });
        Box::pin(ready(Ok(backlog.min(bound))))
    }

    fn save_session<'a>(
        &'a self,
        id: &'a str,
        snapshot: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        let now = Instant::now();
        self.snapshots
            .lock()
            .save(id, snapshot, now + countable(ttl), now);
        Box::pin(ready(Ok(())))
    }

    fn load_session<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, BrokerError>> {
        let snapshot = self.snapshots.lock().load(id, Instant::now());
        Box::pin(ready(Ok(snapshot)))
    }

    fn take_session<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, BrokerError>> {
        let mut snapshots = self.snapshots.lock();
        let snapshot = snapshots.load(id, Instant::now());
        snapshots.remove(id);
        Box::pin(ready(Ok(snapshot)))
    }

    fn enter<'a>(
        &'a self,
        stream: &'a StreamName,
        member: Member,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Entered, BrokerError>> {
        Box::pin(async move {
            let mut presence = self.presence.lock().await;
            let present = member.present.clone();
            let entered = presence.enter(stream, member, Instant::now() + countable(ttl));
            if entered == Entered::First {
                self.announce(joined(stream, &present)).await?;
            }
            Ok(entered)
        })
    }

    fn exit<'a>(
        &'a self,
        stream: &'a StreamName,
        session: &'a str,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let mut presence = self.presence.lock().await;
            if let Some(id) = presence.exit(stream, session) {
                self.announce(left(stream, &id)).await?;
            }
            Ok(())
        })
    }

    fn touch<'a>(
        &'a self,
        stream: &'a StreamName,
        sessions: Vec<String>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<String>, BrokerError>> {
        Box::pin(async move {
            let mut presence = self.presence.lock().await;
            let (gone, unknown) = presence.touch(stream, sessions, ttl, Instant::now());
            for id in gone {
                self.announce(left(stream, &id)).await?;
            }
            Ok(unknown)
        })
    }

    fn present<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<PresenceRequest>, BrokerError>> {
        Box::pin(async move { Ok(self.presence.lock().await.present(stream, Instant::now())) })
    }

    fn is_ready(&self) -> bool {
        !self.events.is_closed()
    }

    fn stats(&self) -> Stats {
        Stats {
            history_streams: u64::try_from(self.history_streams()).unwrap_or(u64::MAX),
            history_bytes: u64::try_from(self.history_bytes()).unwrap_or(u64::MAX),
            ..Stats::default()
        }
    }
}
