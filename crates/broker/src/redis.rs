//! Many nodes on one Redis channel.
//!
//! Every node subscribes to the channel and delivers what comes to its own
//! sessions; publishing is a `PUBLISH` to the same channel, so that a message
//! that entered at one node reaches all. At most once: Redis keeps nothing for
//! a node that is away, so there are no positions and no history.

mod backoff;
mod subscriber;

use crate::{
    broker::{Broker, BrokerError, History, HistoryError, Since},
    event::{EVENT_QUEUE, Events},
};
use ::redis::{AsyncConnectionConfig, Client, IntoConnectionInfo as _};
use deadpool_redis::{Manager, Pool, Runtime, Timeouts};
use futures_util::future::BoxFuture;
use pollux_protocol::{Position, Publication, RemoteDisconnect, StreamName};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A publisher waits no longer than this for an answer of Redis, or for a
/// connection to it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections for commands. They pipeline, so a few are plenty.
const POOL_SIZE: usize = 4;

/// How a node reaches Redis.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/db]`.
    pub url: String,
    /// The channel that backends publish to.
    pub channel: String,
    /// How this node calls its connections (`CLIENT SETNAME`).
    pub client_name: String,
    /// How often a silent connection is asked whether it lives.
    pub keepalive_interval: Duration,
}

impl std::fmt::Debug for RedisConfig {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConfig")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// See the module's head.
pub struct RedisBroker {
    pool: Pool,
    channel: String,
    /// Whether the subscriber hears the channel. Shared with its task.
    hears: Arc<AtomicBool>,
    /// Ends the subscriber with the broker.
    _stop: DropGuard,
}

impl std::fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBroker")
            .field("channel", &self.channel)
            .field("hears", &self.hears)
            .finish_non_exhaustive()
    }
}

impl RedisBroker {
    /// A broker and the queue of its events. Must be called within a runtime.
    /// Returns at once; the connection is made, and made again for ever, in the
    /// background, as [`Event::Up`](crate::Event::Up) and
    /// [`Event::Down`](crate::Event::Down) tell.
    ///
    /// # Errors
    /// The URL is not one of a Redis server.
    pub fn start(config: RedisConfig) -> Result<(Arc<Self>, Events), BrokerError> {
        let unavailable =
            |error: &dyn std::fmt::Display| BrokerError::Unavailable(error.to_string());
        let info = config
            .url
            .as_str()
            .into_connection_info()
            .map_err(|error| unavailable(&error))?;
        let command_config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let manager = Manager::new_with_config(info.clone(), command_config)
            .map_err(|error| unavailable(&error))?;
        let timeouts = Timeouts {
            wait: Some(COMMAND_TIMEOUT),
            create: Some(COMMAND_TIMEOUT),
            recycle: Some(COMMAND_TIMEOUT),
        };
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| unavailable(&error))?;
        let client = Client::open(subscriber::connection_info(info, config.keepalive_interval))
            .map_err(|error| unavailable(&error))?;
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let hears = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let subscriber = subscriber::Subscriber {
            client,
            channel: config.channel.clone(),
            client_name: config.client_name,
            events,
            hears: Arc::clone(&hears),
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(subscriber.run()));
        let broker = Self {
            pool,
            channel: config.channel,
            hears,
            _stop: stop.drop_guard(),
        };
        Ok((Arc::new(broker), queue))
    }

    /// `PUBLISH` to the channel all nodes listen to.
    async fn announce(&self, message: Vec<u8>) -> Result<(), BrokerError> {
        // Without this a publication would be told as accepted while the
        // node's own clients can't get it.
        if !self.is_ready() {
            return Err(BrokerError::Unavailable(
                "not connected to Redis".to_owned(),
            ));
        }
        let unavailable =
            |error: &dyn std::fmt::Display| BrokerError::Unavailable(error.to_string());
        // Boxed: deadpool's future is several kilobytes.
        let mut connection = Box::pin(self.pool.get())
            .await
            .map_err(|error| unavailable(&error))?;
        let heard: u64 = ::redis::cmd("PUBLISH")
            .arg(&self.channel)
            .arg(message)
            .query_async(&mut connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if heard == 0 {
            return Err(BrokerError::Unavailable("no node heard it".to_owned()));
        }
        Ok(())
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
            self.announce(publication.to_json()).await?;
            Ok(None)
        })
    }

    fn disconnect(&self, command: RemoteDisconnect) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(self.announce(command.to_json()))
    }

    fn subscribe<'a>(
        &'a self,
        _stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn unsubscribe<'a>(&'a self, _stream: &'a StreamName) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn history<'a>(
        &'a self,
        _stream: &'a StreamName,
        _since: Since,
    ) -> BoxFuture<'a, Result<History, HistoryError>> {
        Box::pin(std::future::ready(Err(BrokerError::Unsupported.into())))
    }

    fn is_ready(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }
}
