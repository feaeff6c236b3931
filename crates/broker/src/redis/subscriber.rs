//! The supervisor of the subscription.
//!
//! The rule of this file: **the subscriber is never deaf without knowing it.**
//! A closed connection ends the attempt, a silent one is asked every few
//! seconds, a full queue counts as a gap; and after every ending comes another
//! attempt, for ever.

use super::backoff::Backoff;
use crate::event::Event;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, ProtocolVersion, PushInfo, PushKind,
    RedisError, Value,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2},
};
use pollux_protocol::Inbound;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tracing::{debug, info, warn};

/// Messages that may wait for this node. Behind it stands Redis's own output
/// buffer for the connection.
const PUSH_QUEUE: usize = 8_192;

/// An unanswered question for this long means that the connection is dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the connection is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Subscriber {
    pub(super) client: Client,
    pub(super) channel: String,
    pub(super) client_name: String,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) hears: Arc<AtomicBool>,
}

/// The settings of a connection that is there to listen: RESP3, because only
/// that lets one connection both listen and answer pings.
pub(super) fn connection_info(info: ConnectionInfo, keepalive: Duration) -> ConnectionInfo {
    let redis = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let keepalive = socket2::TcpKeepalive::new().with_time(keepalive);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    info.set_redis_settings(redis).set_tcp_settings(tcp)
}

impl Subscriber {
    /// Subscribes, and subscribes again, until it is cancelled or nobody takes
    /// the events.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut told = false;
        while !self.events.is_closed() {
            let ended = Box::pin(self.listen(&mut backoff)).await;
            let heard = self.hears.swap(false, Ordering::Relaxed);
            if heard && self.events.send(Event::Down).await.is_err() {
                return;
            }
            let wait = backoff.next();
            // Once an outage; the attempts between are for debugging.
            if heard || !told {
                warn!(error = %ended, channel = self.channel, "Redis is away; will try for ever");
            } else {
                debug!(error = %ended, ?wait, "Redis is still away");
            }
            told = true;
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection's life. Returns why it ended.
    async fn listen(&self, backoff: &mut Backoff) -> RedisError {
        let (pushes, mut queue) = mpsc::channel(PUSH_QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        let mut connection = match Box::pin(self.connect(pushes, Arc::clone(&missed))).await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        backoff.reset();
        self.hears.store(true, Ordering::Relaxed);
        info!(channel = self.channel, "Listening to Redis");
        if self.events.send(Event::Up).await.is_err() {
            return stopped();
        }
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = pings.tick() => {
                    // The connection reads pushes on a task of its own, so
                    // messages wait in the queue meanwhile.
                    let ping: Result<Value, _> = ::redis::cmd("PING").query_async(&mut connection).await;
                    if let Err(error) = ping {
                        return error;
                    }
                }
                push = queue.recv() => {
                    let Some(push) = push else { return disconnected() };
                    if push.kind == PushKind::Disconnection {
                        return disconnected();
                    }
                    if !self.handle(push).await {
                        return stopped();
                    }
                }
            }
            let missed = missed.swap(0, Ordering::Relaxed);
            if missed > 0 {
                warn!(
                    missed,
                    "This node is too slow for its Redis channel; messages were lost"
                );
                if self.events.send(Event::Gap(missed)).await.is_err() {
                    return stopped();
                }
            }
        }
    }

    async fn connect(
        &self,
        pushes: mpsc::Sender<PushInfo>,
        missed: Arc<AtomicU64>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let sender = move |push: PushInfo| -> Result<(), mpsc::error::TrySendError<PushInfo>> {
            match pushes.try_send(push) {
                Err(mpsc::error::TrySendError::Full(_)) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                sent => sent,
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_push_sender(sender);
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut name = ::redis::cmd("CLIENT");
        name.arg("SETNAME").arg(&self.client_name);
        if let Err(error) = name.query_async::<Value>(&mut connection).await {
            // Some hosted Redis forbid it, and it is only a help for people.
            debug!(%error, "Could not name the connection");
        }
        connection.subscribe(&self.channel).await?;
        Ok(connection)
    }

    /// Turns a push into events. False if nobody takes events any more.
    async fn handle(&self, push: PushInfo) -> bool {
        let (PushKind::Message, [_, Value::BulkString(message)]) =
            (push.kind, push.data.as_slice())
        else {
            return true;
        };
        let received = Instant::now();
        match Inbound::parse(message) {
            Ok(Inbound::Publications(publications)) => {
                for publication in publications {
                    let publication = Arc::new(publication);
                    let event = Event::Delivery {
                        publication,
                        position: None,
                        received,
                    };
                    if self.events.send(event).await.is_err() {
                        return false;
                    }
                }
                true
            }
            Ok(Inbound::Disconnect(command)) => {
                self.events.send(Event::Disconnect(command)).await.is_ok()
            }
            Err(error) => self.events.send(Event::Malformed(error)).await.is_ok(),
        }
    }
}

fn disconnected() -> RedisError {
    RedisError::from((ErrorKind::Io, "the connection was closed"))
}

fn stopped() -> RedisError {
    RedisError::from((ErrorKind::Client, "the node is stopping"))
}
