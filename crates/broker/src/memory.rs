//! The embedded broker: one node, history in the process.
//!
//! Positions and history of a stream live under one lock, and the event is
//! queued under that lock too, so events leave in the order of their positions.

mod log;

use crate::{
    broker::{Broker, BrokerError, History, HistoryError, Since, Stats},
    event::{EVENT_QUEUE, Event, Events},
};
use futures_util::future::BoxFuture;
use log::{Log, Moment};
use parking_lot::Mutex;
use pollux_protocol::{Epoch, Position, Publication, RemoteDisconnect, StreamName};
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

const SHARDS: usize = 64;

/// An idle stream's counter outlives its history by this factor, so that
/// positions which a client still holds keep their meaning.
const HEAD_TTL_FACTOR: u32 = 10;

/// Limits of the embedded broker.
#[derive(Clone, Copy, Debug)]
pub struct MemoryConfig {
    /// Publications kept per stream.
    pub history_limit: usize,
    /// How long each is kept.
    pub history_ttl: Duration,
    /// Streams whose history is kept; the one not written to for longest goes.
    pub max_streams: usize,
    /// Bytes of history in total; the streams not written to for longest go.
    pub max_bytes: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            history_limit: 100,
            history_ttl: Duration::from_secs(300),
            max_streams: 100_000,
            max_bytes: 256 << 20,
        }
    }
}

type Shard = HashMap<StreamName, Log>;

/// See the module's head.
#[derive(Debug)]
pub struct MemoryBroker {
    config: MemoryConfig,
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    events: mpsc::Sender<Event>,
    /// Random per process, so that nobody takes an old process's positions for
    /// this one's.
    process: String,
    /// Counts forgotten streams. Part of the epoch of streams made afterwards:
    /// a forgotten stream that comes back starts at offset 1 again, so its old
    /// positions must lose their meaning.
    generation: AtomicU64,
    /// Bytes of history held.
    bytes: AtomicUsize,
    /// Streams held.
    streams: AtomicUsize,
}

impl MemoryBroker {
    /// A broker and the queue of its events. Must be called within a runtime:
    /// a task forgets what has expired, until the broker is dropped.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn start(config: MemoryConfig) -> Result<(Arc<Self>, Events), BrokerError> {
        let mut random = [0; 4];
        getrandom::fill(&mut random)
            .map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let broker = Arc::new(Self {
            config,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            events,
            process: format!("{:08x}", u32::from_be_bytes(random)),
            generation: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
        });
        tokio::spawn(sweep(Arc::downgrade(&broker), config.history_ttl));
        Ok((broker, queue))
    }

    /// Bytes of history held.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Streams whose history or counter is held.
    #[must_use]
    pub fn history_streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn shard(&self, stream: &StreamName) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(stream) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }

    fn append(&self, shard: &mut Shard, publication: &Arc<Publication>, now: Moment) -> Position {
        if !shard.contains_key(&publication.stream) {
            self.make_room_for_stream(shard);
            let generation = self.generation.load(Ordering::Relaxed);
            let epoch = Epoch::new(&format!("{}-{generation}", self.process));
            shard.insert(publication.stream.clone(), Log::new(epoch, now.at));
            self.streams.fetch_add(1, Ordering::Relaxed);
        }
        let ttl = self.config.history_ttl;
        let log = shard
            .entry(publication.stream.clone())
            .or_insert_with(|| Log::new(Epoch::new(&self.process), now.at));
        let freed = log.expire(now.at, ttl);
        let (position, added, removed) = log.append(publication, now, self.config.history_limit);
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.bytes.fetch_sub(freed + removed, Ordering::Relaxed);
        self.make_room_for_bytes(shard, &publication.stream);
        position
    }

    fn make_room_for_stream(&self, shard: &mut Shard) {
        if self.streams.load(Ordering::Relaxed) < self.config.max_streams {
            return;
        }
        let oldest = shard.iter().min_by_key(|(_, log)| log.last_write());
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.forget(shard, &name);
        }
    }

    fn make_room_for_bytes(&self, shard: &mut Shard, writing: &StreamName) {
        while self.history_bytes() > self.config.max_bytes {
            let others = shard
                .iter()
                .filter(|(name, log)| *name != writing && !log.is_empty());
            let oldest = others.min_by_key(|(_, log)| log.last_write());
            let victim = oldest.map_or_else(|| writing.clone(), |(name, _)| name.clone());
            let Some(log) = shard.get_mut(&victim) else {
                return;
            };
            let freed = if victim == *writing {
                log.drop_oldest()
            } else {
                log.clear()
            };
            if freed == 0 {
                return;
            }
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    fn forget(&self, shard: &mut Shard, name: &StreamName) {
        if let Some(mut log) = shard.remove(name) {
            self.bytes.fetch_sub(log.clear(), Ordering::Relaxed);
            self.streams.fetch_sub(1, Ordering::Relaxed);
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sweep_shard(&self, index: usize, now: Instant) {
        let Some(shard) = self.shards.get(index) else {
            return;
        };
        let mut shard = shard.lock();
        let ttl = self.config.history_ttl;
        let mut idle = Vec::new();
        for (name, log) in shard.iter_mut() {
            self.bytes
                .fetch_sub(log.expire(now, ttl), Ordering::Relaxed);
            if now.duration_since(log.last_write()) > ttl * HEAD_TTL_FACTOR {
                idle.push(name.clone());
            }
        }
        for name in idle {
            self.forget(&mut shard, &name);
        }
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
            let place = self
                .events
                .reserve()
                .await
                .map_err(|_| BrokerError::Stopped)?;
            let publication = Arc::new(publication);
            let now = moment();
            let mut shard = self.shard(&publication.stream).lock();
            let position =
                (!publication.meta.transient).then(|| self.append(&mut shard, &publication, now));
            place.send(Event::Delivery {
                publication,
                position: position.clone(),
                received: now.at,
                late: false,
            });
            Ok(position)
        })
    }

    fn disconnect(&self, command: RemoteDisconnect) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let sent = self.events.send(Event::Disconnect(command)).await;
            sent.map_err(|_| BrokerError::Stopped)
        })
    }

    fn subscribe<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        let head = self.shard(stream).lock().get(stream).and_then(Log::head);
        Box::pin(std::future::ready(Ok(head)))
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
                let freed = log.expire(Instant::now(), self.config.history_ttl);
                self.bytes.fetch_sub(freed, Ordering::Relaxed);
                log.since(&since)
            }
            (None, Since::Time(_)) => Ok(History::default()),
            (None, Since::Position(_)) => Err(HistoryError::Unknown),
        };
        Box::pin(std::future::ready(history))
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

/// Forgets what has expired, one shard at a time so that no publisher waits
/// for long.
async fn sweep(broker: Weak<MemoryBroker>, ttl: Duration) {
    let shards = u32::try_from(SHARDS).unwrap_or(u32::MAX);
    let every = (ttl / shards).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for index in (0..SHARDS).cycle() {
        let now = ticks.tick().await;
        let Some(broker) = broker.upgrade() else {
            return;
        };
        broker.sweep_shard(index, now);
    }
}

fn moment() -> Moment {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Moment {
        at: Instant::now(),
        unix: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests;
