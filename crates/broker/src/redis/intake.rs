//! The door of `XADD`: entries of one Redis stream become publications.
//!
//! One node at a time reads them, the one that holds the lease; so the entries
//! of a stream keep their order. When it dies another one takes the lease, and
//! first of all what the dead one had read and not acknowledged. Each entry
//! carries its id into the publish script, which does nothing for an id that a
//! stream has had already; so it does not matter how far the dead one came, or
//! that it was not dead but slow. Where a failover has made Redis forget that,
//! nodes still know the ids of what they delivered last.

mod batch;
mod entry;

use super::{
    commands::Commands,
    config::RedisConfig,
    health::Health,
    names::Names,
    place::io,
    reading::{list, number, text},
    script::Scripts,
};
use ::redis::{
    ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use entry::Entry;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long the lease lasts, and so how long entries wait when its holder
/// dies.
const LEASE: Duration = Duration::from_secs(3);

/// How often it is renewed, and how often others ask for it.
const RENEW: Duration = Duration::from_secs(1);

/// How long one command waits for entries. Never cut short: what Redis gives to
/// a reader that is gone would be found by the next holder of the lease only,
/// behind entries that came later. For the same reason far below [`LEASE`].
const BLOCK: Duration = Duration::from_millis(300);

/// Entries in one command.
const COUNT: usize = 64;

/// How often to look for entries that went to a reader after it had lost the
/// lease: a link that was frozen brings its last command late.
const STRAYS: Duration = Duration::from_secs(5);

/// How long to wait after something went wrong.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) config: RedisConfig,
    pub(super) names: Names,
    pub(super) scripts: Arc<Scripts>,
    pub(super) commands: Arc<Commands>,
    pub(super) health: Arc<Health>,
    pub(super) verb: &'static str,
    /// Give the lease back.
    pub(super) retire: CancellationToken,
}

impl Intake {
    /// Waits for the lease, reads while it holds it, until it is told to
    /// retire.
    pub(super) async fn run(self) {
        let mut told = String::new();
        while !self.retire.is_cancelled() {
            let ended = Box::pin(self.try_lead()).await;
            if self.health.leads.swap(false, Ordering::Relaxed) {
                info!("This node does not read the intake any more");
            }
            let wait = match ended {
                Ok(()) => RENEW,
                Err(error) => {
                    self.commands.note(&error).await;
                    let reason = error.to_string();
                    if reason == told {
                        debug!(%error, "The intake can't be read");
                    } else if self.health.hears() {
                        warn!(%error, "The intake can't be read; will try for ever");
                        told = reason;
                    }
                    PAUSE
                }
            };
            self.retire
                .run_until_cancelled(tokio::time::sleep(wait))
                .await;
        }
    }

    /// Ends well if somebody else holds the lease, or on retirement.
    async fn try_lead(&self) -> RedisResult<()> {
        if !self.renew().await? {
            return Ok(());
        }
        let result = self.lead().await;
        if result.is_ok() {
            self.give_up().await;
        }
        result
    }

    async fn lead(&self) -> RedisResult<()> {
        let intake = &self.config.intake;
        let mut connection = self.commands.patient(intake).await?;
        self.make_group(&mut connection).await?;
        if !self.health.leads.swap(true, Ordering::Relaxed) {
            info!(intake, "This node reads the intake");
        }
        let mut renewed = Instant::now();
        self.take_over(&mut connection, Duration::ZERO).await?;
        let mut claimed = Instant::now();
        self.bury(&mut connection).await?;
        while !self.retire.is_cancelled() {
            if claimed.elapsed() >= STRAYS {
                self.take_over(&mut connection, LEASE).await?;
                claimed = Instant::now();
            }
            if renewed.elapsed() >= RENEW {
                if !self.renew().await? {
                    return Ok(());
                }
                renewed = Instant::now();
            }
            let mut read = ::redis::cmd("XREADGROUP");
            read.arg("GROUP")
                .arg(&self.config.intake_group)
                .arg(&self.config.node)
                .arg("COUNT")
                .arg(COUNT)
                .arg("BLOCK")
                .arg(BLOCK.as_millis().to_string())
                .arg("STREAMS")
                .arg(intake)
                .arg(">");
            let answer = bounded(read.query_async::<Value>(&mut connection)).await?;
            let entries = entry::of_read(&answer).map_err(strange)?;
            if entries.is_empty() {
                continue;
            }
            // A node that was stopped for a while must not go on with what it
            // read before: somebody else may have it.
            if renewed.elapsed() >= LEASE / 2 {
                if !self.renew().await? {
                    return Ok(());
                }
                renewed = Instant::now();
            }
            self.publish(&mut connection, entries, true).await?;
        }
        Ok(())
    }

    /// Takes the lease, or keeps it. False if somebody else has it.
    async fn renew(&self) -> RedisResult<bool> {
        let call = self
            .scripts
            .lease
            .call(self.names.lease(&self.config.intake))
            .arg(&self.config.node)
            .arg(LEASE.as_millis().to_string());
        let mut lane = self.commands.pooled().await?;
        let answer = call.run(&mut lane).await?;
        Ok(matches!(answer, Value::Int(1)))
    }

    async fn give_up(&self) {
        let call = self
            .scripts
            .release
            .call(self.names.lease(&self.config.intake))
            .arg(&self.config.node);
        let release = async {
            let mut lane = self.commands.pooled().await?;
            call.run(&mut lane).await
        };
        if let Err(error) = release.await {
            debug!(%error, "The lease could not be given back; it will expire");
        }
    }

    /// From the very beginning: entries are deleted once published, so what is
    /// there has not been.
    async fn make_group(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut create = ::redis::cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&self.config.intake)
            .arg(&self.config.intake_group)
            .arg("0")
            .arg("MKSTREAM");
        match bounded(create.query_async::<Value>(connection)).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            _ => Ok(()),
        }
    }

    /// Publishes what others, or this node before an error, had read and not
    /// acknowledged, in the order of the ids.
    async fn take_over(
        &self,
        connection: &mut MultiplexedConnection,
        idle: Duration,
    ) -> RedisResult<()> {
        let mut cursor = "0-0".to_owned();
        loop {
            let mut claim = ::redis::cmd("XAUTOCLAIM");
            claim
                .arg(&self.config.intake)
                .arg(&self.config.intake_group)
                .arg(&self.config.node)
                .arg(idle.as_millis().to_string())
                .arg(&cursor)
                .arg("COUNT")
                .arg(COUNT);
            let answer = bounded(claim.query_async::<Value>(connection)).await?;
            let [next, entries, ..] = list(&answer).map_err(strange)? else {
                return Err(strange(()));
            };
            let entries = entry::of_entries(entries).map_err(strange)?;
            if !entries.is_empty() {
                info!(
                    entries = entries.len(),
                    "Publishing intake entries that were read and not acknowledged"
                );
                self.publish(connection, entries, false).await?;
            }
            cursor = text(next).map_err(strange)?.to_owned();
            if cursor == "0-0" {
                return Ok(());
            }
            if !self.renew().await? {
                return Err(io("somebody else holds the lease"));
            }
        }
    }

    /// Removes consumers that have nothing any more: only one reads at a time.
    async fn bury(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut ask = ::redis::cmd("XINFO");
        ask.arg("CONSUMERS")
            .arg(&self.config.intake)
            .arg(&self.config.intake_group);
        let answer = bounded(ask.query_async::<Value>(connection)).await?;
        for consumer in entry::consumers(&answer) {
            if consumer.name == self.config.node || consumer.pending > 0 {
                continue;
            }
            let mut bury = ::redis::cmd("XGROUP");
            bury.arg("DELCONSUMER")
                .arg(&self.config.intake)
                .arg(&self.config.intake_group)
                .arg(&consumer.name);
            bounded(bury.query_async::<Value>(connection)).await?;
            debug!(consumer = consumer.name, "Removed a consumer of the intake");
        }
        Ok(())
    }

    /// Whether the entry was given to this node, and to nobody before or
    /// after.
    async fn is_mine_alone(
        &self,
        connection: &mut MultiplexedConnection,
        entry: &Entry,
    ) -> RedisResult<bool> {
        let mut ask = ::redis::cmd("XPENDING");
        ask.arg(&self.config.intake)
            .arg(&self.config.intake_group)
            .arg(&entry.id)
            .arg(&entry.id)
            .arg(1);
        let answer = bounded(ask.query_async::<Value>(connection)).await?;
        let Some(Value::Array(pending)) = list(&answer).map_err(strange)?.first() else {
            return Ok(false);
        };
        let [_, consumer, _, deliveries] = pending.as_slice() else {
            return Ok(false);
        };
        let is_mine = text(consumer).is_ok_and(|name| name == self.config.node);
        Ok(is_mine && number(deliveries).is_ok_and(|deliveries| deliveries == 1))
    }
}

/// Blocking commands have no bound of their own.
async fn bounded<T>(command: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(BLOCK + super::ANSWER_TIMEOUT, command)
        .await
        .map_err(|_| io("no answer in time"))?
}

fn strange<E>(_: E) -> RedisError {
    RedisError::from((
        ErrorKind::Server(ServerErrorKind::ResponseError),
        "the intake's answer is not understood",
    ))
}
