//! The embedded broker: one node, history in the process.
//!
//! Positions and history of a stream live under one lock, and the event is
//! queued under that lock too, so events leave in the order of their positions.

mod contract;
mod log;
mod presence;
mod queue;
mod snapshots;

use crate::{
    broker::BrokerError,
    event::{EVENT_QUEUE, Event, Events},
    queue::{Entry, Keep},
};
use log::{Log, Moment};
use parking_lot::Mutex;
use pollux_protocol::{Epoch, Publication, StreamName};
use presence::Presence;
use snapshots::Snapshots;
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
    snapshots: Mutex<Snapshots>,
    /// Held while what changes is announced, so that events have one order.
    presence: tokio::sync::Mutex<Presence>,
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
            snapshots: Mutex::default(),
            presence: tokio::sync::Mutex::default(),
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

    /// Takes a publication of an earlier process into history, with the time it
    /// had: microseconds since 1970. Nobody is told. To be called before there
    /// is anything else in the stream, oldest first.
    pub fn restore(&self, publication: Publication, time: u64, keep: Keep) {
        let publication = Arc::new(publication);
        let now = moment();
        let age = Duration::from_micros(now.micros.saturating_sub(time));
        let past = Moment {
            // The machine may not have run for so long.
            at: now.at.checked_sub(age).unwrap_or(now.at),
            micros: time,
        };
        let mut shard = self.shard(&publication.stream).lock();
        self.append(&mut shard, &publication, Some(keep), past);
    }

    fn shard(&self, stream: &StreamName) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(stream) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }

    /// The stream's log, made if there is none.
    fn log<'a>(&self, shard: &'a mut Shard, stream: &StreamName, now: Instant) -> &'a mut Log {
        if !shard.contains_key(stream) {
            self.make_room_for_stream(shard);
            self.streams.fetch_add(1, Ordering::Relaxed);
        }
        shard.entry(stream.clone()).or_insert_with(|| {
            let generation = self.generation.load(Ordering::Relaxed);
            let epoch = Epoch::new(&format!("{}-{generation}", self.process));
            Log::new(epoch, now, self.config.history_ttl)
        })
    }

    fn append(
        &self,
        shard: &mut Shard,
        publication: &Arc<Publication>,
        keep: Option<Keep>,
        now: Moment,
    ) -> Entry {
        let log = self.log(shard, &publication.stream, now.at);
        let freed = log.expire(now.at);
        let keep = keep.unwrap_or(Keep {
            limit: self.config.history_limit,
            ttl: self.config.history_ttl,
        });
        let (placed, added, removed) = log.append(publication, now, keep);
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.bytes.fetch_sub(freed + removed, Ordering::Relaxed);
        self.make_room_for_bytes(shard, &publication.stream);
        placed
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
        let mut idle = Vec::new();
        for (name, log) in shard.iter_mut() {
            self.bytes.fetch_sub(log.expire(now), Ordering::Relaxed);
            let ttl = log.ttl().saturating_mul(HEAD_TTL_FACTOR);
            if now.duration_since(log.last_write()) > ttl {
                idle.push(name.clone());
            }
        }
        for name in idle {
            self.forget(&mut shard, &name);
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
        micros: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests;
