//! Many nodes that share a Redis.
//!
//! ```text
//! publish ──▶ commands ── script: position, log, announcement ──▶ Redis
//!                                                                  │ channel of the stream
//! events ◀── tracker ◀────────────── links (one; in a cluster one a master)
//!               │ jump, reconnect, silence
//!               └──────────▶ commands ── script: read the log
//! intake: the one node that holds the lease reads XADD entries and publishes them
//! ```
//!
//! Redis pub/sub is only the wake-up; the log is what counts. What a node
//! missed is read from it, in order and once, as long as it is kept.

mod backoff;
mod commands;
mod config;
mod guest;
mod health;
mod history;
mod intake;
mod link;
mod names;
mod place;
mod presence;
mod queue;
mod reading;
mod reports;
mod script;
mod snapshots;
mod state;
mod table;
mod tracker;

pub use config::{RedisConfig, RedisTls};
pub(crate) use guest::Guest;

use crate::{
    broker::{Broker, BrokerError, History, HistoryError, Since, Stats},
    event::{EVENT_QUEUE, Events, Word},
    presence::{Entered, Member},
    queue::{Group, Keep, Offer, Offered, Outcome, Take, Taken, countable},
};
use bytes::Bytes;
use commands::Commands;
use futures_util::future::BoxFuture;
use health::Health;
use intake::Intake;
use names::Names;
use place::{ANSWER_TIMEOUT, Place};
use pollux_protocol::{Position, PresenceRequest, Publication, RemoteDisconnect, StreamName};
use script::{Call, Scripts};
use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use table::{Joined, Table};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracker::{Parts, Tracker};

/// A publisher waits no longer than this.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How long a stopping node tries to hand the intake over.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module's head.
#[derive(Debug)]
pub struct RedisBroker {
    config: RedisConfig,
    /// Whether a dead server is only a part of the whole.
    is_cluster: bool,
    names: Names,
    scripts: Arc<Scripts>,
    commands: Arc<Commands>,
    table: Arc<Table>,
    health: Arc<Health>,
    /// How publications are announced.
    verb: &'static str,
    /// Times this node has said that it lives.
    reports: AtomicU64,
    /// Ends the intake.
    retire: CancellationToken,
    /// Ends all tasks with the broker.
    _stop: DropGuard,
}

impl RedisBroker {
    /// A broker and the queue of its events. Must be called within a runtime.
    /// Returns at once; connections are made, and made again for ever, in the
    /// background, as [`Event::Up`](crate::Event::Up) and
    /// [`Event::Down`](crate::Event::Down) tell.
    ///
    /// # Errors
    /// A URL is none, or a certificate can't be read.
    pub fn start(config: RedisConfig) -> Result<(Arc<Self>, Events), BrokerError> {
        let place = Arc::new(Place::new(&config)?);
        let is_cluster = place.is_cluster();
        // In a cluster only the slot's own server carries it.
        let verb = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let names = Names::new(&config.prefix);
        let scripts = Arc::new(Scripts::new(&config, verb));
        let commands = Arc::new(Commands::new(Arc::clone(&place)));
        let table = Arc::new(Table::new(config.linger));
        let health = Arc::new(Health::default());
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let (tracker, inputs) = Tracker::new(Parts {
            place,
            names: names.clone(),
            scripts: Arc::clone(&scripts),
            commands: Arc::clone(&commands),
            table: Arc::clone(&table),
            health: Arc::clone(&health),
            events,
            config: config.clone(),
        });
        let stop = CancellationToken::new();
        let retire = stop.child_token();
        tokio::spawn(stop.clone().run_until_cancelled_owned(tracker.run(inputs)));
        if !config.intake.is_empty() {
            let intake = Intake {
                config: config.clone(),
                names: names.clone(),
                scripts: Arc::clone(&scripts),
                commands: Arc::clone(&commands),
                health: Arc::clone(&health),
                verb,
                retire: retire.clone(),
            };
            tokio::spawn(stop.clone().run_until_cancelled_owned(intake.run()));
        }
        let broker = Self {
            config,
            is_cluster,
            names,
            scripts,
            commands,
            table,
            health,
            verb,
            reports: AtomicU64::new(0),
            retire,
            _stop: stop.drop_guard(),
        };
        Ok((Arc::new(broker), queue))
    }

    async fn give_position(
        &self,
        publication: &Publication,
        offer: Offer,
    ) -> Result<Offered, BrokerError> {
        let stream = &publication.stream;
        self.check(stream)?;
        let keep = offer.keep.unwrap_or(Keep {
            limit: self.config.history_limit,
            ttl: self.config.history_ttl,
        });
        let script = match offer.capacity {
            Some(_) => &self.scripts.offer,
            None => &self.scripts.publish,
        };
        let mut call = script.of_stream(&self.names, stream);
        if let Some((group, _)) = offer.capacity {
            call = call
                .key(self.names.lent(stream, group))
                .key(self.names.waiting(stream, group));
        }
        call = call
            .arg(keep.limit.to_string())
            .arg(countable(keep.ttl).as_millis().max(1).to_string())
            .arg(self.verb)
            .arg("json")
            .arg(publication.data.as_bytes())
            .arg(publication.meta.to_json().unwrap_or_default());
        if let Some((group, capacity)) = offer.capacity {
            call = call.arg(group.name()).arg(capacity.to_string());
        }
        let answer = self.call(&call).await?;
        if offer.capacity.is_some() && reading::list(&answer)?.is_empty() {
            return Ok(Offered::Full);
        }
        reading::position(&answer).map(Offered::Accepted)
    }

    /// A script that is small and soon done.
    async fn call(&self, call: &Call<'_>) -> Result<::redis::Value, BrokerError> {
        let run = async {
            let mut lane = self.commands.express().await?;
            call.run(&mut lane).await
        };
        self.within(run).await
    }

    /// The same for a plain command.
    async fn send(&self, command: &::redis::Cmd) -> Result<::redis::Value, BrokerError> {
        let run = async {
            let mut lane = self.commands.express().await?;
            lane.send(command).await
        };
        self.within(run).await
    }

    /// In a cluster a name's hash tag ends at its first closing brace; one that
    /// begins with it has none, and so no common slot for its keys.
    fn check(&self, stream: &StreamName) -> Result<(), BrokerError> {
        if self.is_cluster && stream.as_str().starts_with('}') {
            let reason = "on a Redis Cluster a stream's name can't begin with a closing brace";
            return Err(BrokerError::Stream(reason));
        }
        Ok(())
    }

    /// `PUBLISH` to the channel all nodes listen to.
    async fn tell_all(&self, message: Vec<u8>) -> Result<(), BrokerError> {
        let heard = self.tell(&self.config.channel, message).await?;
        // A cluster's server counts only those that listen to itself.
        if !self.is_cluster && matches!(heard, ::redis::Value::Int(0)) {
            return Err(BrokerError::Unavailable("no node heard it".to_owned()));
        }
        Ok(())
    }

    async fn tell(&self, channel: &str, message: Vec<u8>) -> Result<::redis::Value, BrokerError> {
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(channel).arg(message);
        let send = async {
            let mut lane = self.commands.express().await?;
            lane.send(&publish).await
        };
        self.within(send).await
    }

    async fn within(
        &self,
        command: impl Future<Output = ::redis::RedisResult<::redis::Value>>,
    ) -> Result<::redis::Value, BrokerError> {
        if !self.is_cluster && !self.health.hears() {
            // Said at once: a publisher that waits for a timeout has its own
            // clients waiting.
            let reason = "not connected to Redis".to_owned();
            return Err(BrokerError::Unavailable(reason));
        }
        match tokio::time::timeout(PUBLISH_TIMEOUT, Box::pin(command)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.commands.note(&error).await;
                Err(BrokerError::Unavailable(error.to_string()))
            }
            Err(_) => {
                self.commands.note(&place::io("no answer in time")).await;
                Err(BrokerError::Unavailable(
                    "Redis did not answer in time".to_owned(),
                ))
            }
        }
    }

    /// Joins at the call, not at the first poll, so that each call counts.
    fn join(&self, stream: &StreamName) -> Joined {
        self.table.join(stream)
    }
}

impl Broker for RedisBroker {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn publish(
        &self,
        publication: Publication,
    ) -> BoxFuture<'_, Result<Option<Position>, BrokerError>> {
        Box::pin(async move {
            match self.give_position(&publication, Offer::default()).await? {
                Offered::Accepted(position) => Ok(position),
                Offered::Full => Ok(None),
            }
        })
    }

    fn disconnect(&self, command: RemoteDisconnect) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(self.tell_all(command.to_json()))
    }

    fn subscribe<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        let joined = self.join(stream);
        if let Err(error) = self.check(stream) {
            return Box::pin(ready(Err(error)));
        }
        match joined {
            Joined::Live(position) => Box::pin(ready(Ok(position))),
            Joined::Wait(ready) => Box::pin(async move {
                ready.await.map_err(|_| BrokerError::Stopped)?;
                Ok(self.table.position(stream))
            }),
        }
    }

    fn unsubscribe(&self, stream: &StreamName) {
        self.table.leave(stream);
    }

    fn history<'a>(
        &'a self,
        stream: &'a StreamName,
        since: Since,
    ) -> BoxFuture<'a, Result<History, HistoryError>> {
        Box::pin(async move {
            self.check(stream)?;
            let read = history::read(&self.commands, &self.scripts, &self.names, stream, since);
            tokio::time::timeout(ANSWER_TIMEOUT, read)
                .await
                .map_err(|_| BrokerError::Unavailable("no answer in time".to_owned()))?
        })
    }

    fn offer(
        &self,
        publication: Publication,
        offer: Offer,
    ) -> BoxFuture<'_, Result<Offered, BrokerError>> {
        Box::pin(async move { self.give_position(&publication, offer).await })
    }

    fn take<'a>(
        &'a self,
        stream: &'a StreamName,
        take: &'a Take,
    ) -> BoxFuture<'a, Result<Taken, BrokerError>> {
        Box::pin(self.take_some(stream, take))
    }

    fn claim<'a>(
        &'a self,
        stream: &'a StreamName,
        positions: Vec<Position>,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<Position>, BrokerError>> {
        Box::pin(self.claim_some(stream, positions, lease))
    }

    fn settle<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        positions: Vec<Position>,
        outcome: Outcome,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(self.settle_some(stream, group, positions, outcome))
    }

    fn leave<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        reader: &'a str,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(self.stop_waiting(stream, group, reader))
    }

    fn backlog<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        bound: usize,
    ) -> BoxFuture<'a, Result<usize, BrokerError>> {
        Box::pin(self.count_waiting(stream, group, bound))
    }

    fn save_session<'a>(
        &'a self,
        id: &'a str,
        snapshot: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(self.write_snapshot(id, snapshot, ttl))
    }

    fn load_session<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, BrokerError>> {
        Box::pin(self.read_snapshot(id))
    }

    fn take_session<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, BrokerError>> {
        Box::pin(self.take_snapshot(id))
    }

    fn has_others(&self) -> bool {
        true
    }

    fn tell_nodes(&self, word: Word) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let message = serde_json::to_vec(&word).unwrap_or_default();
            self.tell(&self.names.nodes(), message).await.map(drop)
        })
    }

    fn enter<'a>(
        &'a self,
        stream: &'a StreamName,
        member: Member,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Entered, BrokerError>> {
        Box::pin(self.enter_presence(stream, member, ttl))
    }

    fn exit<'a>(
        &'a self,
        stream: &'a StreamName,
        session: &'a str,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(self.exit_presence(stream, session))
    }

    fn touch<'a>(
        &'a self,
        stream: &'a StreamName,
        sessions: Vec<String>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<String>, BrokerError>> {
        Box::pin(self.touch_presence(stream, sessions, ttl))
    }

    fn present<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<PresenceRequest>, BrokerError>> {
        Box::pin(self.list_presence(stream))
    }

    fn report(&self, report: Option<Bytes>) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(self.write_report(report))
    }

    fn is_ready(&self) -> bool {
        self.health.hears()
    }

    fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            streams: u64::try_from(self.table.len()).unwrap_or(u64::MAX),
            messages: of(&self.health.messages),
            connections: of(&self.health.connections),
            deaf_connections: of(&self.health.deaf),
            repaired: of(&self.health.repaired),
            unrepaired: of(&self.health.missed),
            intake_entries: of(&self.health.taken),
            intake_poison: of(&self.health.set_aside),
            intake_leader: self.health.leads.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.retire.cancel();
            let released = async {
                while self.health.leads.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            drop(tokio::time::timeout(STOP_TIMEOUT, released).await);
        })
    }
}
