//! Connections for commands.
//!
//! Publishing has a lane of its own: one connection that all publishers share,
//! because it pipelines by itself and a pool would ask each connection whether
//! it lives before every use. Everything that may be large or slow goes through
//! the pool. A cluster's client does both.

use super::names::slot;
use super::place::{ANSWER_TIMEOUT, Place, io};
use super::script::is_connection_error;
use ::redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection, cluster_async::ClusterConnection,
};
use deadpool_redis::{Manager, Pool, Runtime, Timeouts};
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Pooled connections. They pipeline, so a few are plenty.
const POOL_SIZE: usize = 4;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Commands {
    place: Arc<Place>,
    open: Mutex<Open>,
}

/// What is open at the moment.
#[derive(Default)]
struct Open {
    pool: Option<Pool>,
    express: Option<MultiplexedConnection>,
    cluster: Option<ClusterConnection>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

/// A connection to send commands on.
pub(super) enum Lane {
    Shared(MultiplexedConnection),
    Pooled(deadpool_redis::Connection),
    Cluster(ClusterConnection),
}

impl Lane {
    /// One command.
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Shared(connection) => command.query_async(connection).await,
            Self::Pooled(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    /// Another handle of the same connection, for commands side by side.
    fn fork(&self) -> Self {
        match self {
            Self::Shared(connection) => Self::Shared(connection.clone()),
            Self::Pooled(connection) => Self::Shared(MultiplexedConnection::clone(connection)),
            Self::Cluster(connection) => Self::Cluster(connection.clone()),
        }
    }

    /// Calls side by side, on one connection or, in a cluster, on those of
    /// their slots. On one server they run in this order.
    pub(super) async fn run_all(
        &self,
        calls: &[super::script::Call<'_>],
    ) -> Vec<RedisResult<Value>> {
        let calls = calls.iter().map(|call| {
            let mut lane = self.fork();
            async move { call.run(&mut lane).await }
        });
        join_all(calls).await
    }
}

impl Commands {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            open: Mutex::default(),
        }
    }

    /// The lane for publishing.
    pub(super) async fn express(&self) -> RedisResult<Lane> {
        if self.place.is_cluster() {
            return self.cluster().await;
        }
        let mut open = self.open.lock().await;
        if let Some(connection) = &open.express {
            return Ok(Lane::Shared(connection.clone()));
        }
        let pool = self.pool(&mut open).await?;
        let object = checkout(&pool).await?;
        let connection = deadpool_redis::Connection::take(object);
        open.express = Some(connection.clone());
        Ok(Lane::Shared(connection))
    }

    /// A connection for anything else.
    pub(super) async fn pooled(&self) -> RedisResult<Lane> {
        if self.place.is_cluster() {
            return self.cluster().await;
        }
        let pool = self.pool(&mut *self.open.lock().await).await?;
        checkout(&pool).await.map(Lane::Pooled)
    }

    /// A connection of its own to the server that has `key`. Commands on it
    /// may block; whoever sends them sets the bound.
    pub(super) async fn patient(&self, key: &str) -> RedisResult<MultiplexedConnection> {
        let info = if self.place.is_cluster() {
            let mut ask = ::redis::cmd("CLUSTER");
            ask.arg("SLOTS");
            let answer = self.cluster().await?.send(&ask).await?;
            let slot = slot(key.as_bytes());
            let map = super::tracker::parse_map(&answer).unwrap_or_default();
            let of_slot =
                |(first, last, ..): &&(u16, u16, String, u16)| (*first..=*last).contains(&slot);
            let Some((_, _, host, port)) = map.iter().find(of_slot) else {
                return Err(io("no server has the slot"));
            };
            self.place.node(host, *port)?
        } else {
            self.place.locate().await?
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(None);
        let client = ::redis::Client::open(info)?;
        Box::pin(client.get_multiplexed_async_connection_with_config(&config)).await
    }

    /// Connections of their own to all servers that keys are written to.
    pub(super) async fn masters(&self) -> RedisResult<Vec<MultiplexedConnection>> {
        let places = if self.place.is_cluster() {
            let mut ask = ::redis::cmd("CLUSTER");
            ask.arg("SLOTS");
            let answer = self.cluster().await?.send(&ask).await?;
            let map = super::tracker::parse_map(&answer).unwrap_or_default();
            let servers: std::collections::BTreeSet<_> =
                map.iter().map(|(_, _, host, port)| (host, *port)).collect();
            let servers = servers.into_iter();
            servers
                .map(|(host, port)| self.place.node(host, port))
                .collect::<RedisResult<Vec<_>>>()?
        } else {
            vec![self.place.locate().await?]
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let mut masters = Vec::new();
        for place in places {
            let client = ::redis::Client::open(place)?;
            let connection = client.get_multiplexed_async_connection_with_config(&config);
            masters.push(Box::pin(connection).await?);
        }
        Ok(masters)
    }

    /// Looks at an error: after some, connections must be made anew.
    pub(super) async fn note(&self, error: &RedisError) {
        let is_old_master = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        if !is_connection_error(error) && !is_old_master {
            return;
        }
        let mut open = self.open.lock().await;
        open.express = None;
        if matches!(*self.place, Place::Sentinels(_)) {
            // The master may be elsewhere by now.
            open.pool = None;
        }
    }

    /// Drops all connections: the server they lead to is not the one any more.
    pub(super) async fn forget(&self) {
        *self.open.lock().await = Open::default();
    }

    async fn cluster(&self) -> RedisResult<Lane> {
        let Place::Cluster { client, .. } = &*self.place else {
            return Err(io("not a cluster"));
        };
        let mut open = self.open.lock().await;
        if let Some(connection) = &open.cluster {
            return Ok(Lane::Cluster(connection.clone()));
        }
        let connect = client.get_async_connection();
        let connection = tokio::time::timeout(ANSWER_TIMEOUT, Box::pin(connect))
            .await
            .map_err(|_| io("the cluster does not answer"))??;
        open.cluster = Some(connection.clone());
        Ok(Lane::Cluster(connection))
    }

    async fn pool(&self, open: &mut Open) -> RedisResult<Pool> {
        if let Some(pool) = &open.pool {
            return Ok(pool.clone());
        }
        let info = self.place.locate().await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let timeouts = Timeouts {
            wait: Some(ANSWER_TIMEOUT),
            create: Some(ANSWER_TIMEOUT),
            recycle: Some(ANSWER_TIMEOUT),
        };
        let pool = Pool::builder(Manager::new_with_config(info, config)?)
            .max_size(POOL_SIZE)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| io("the pool of connections can't be made"))?;
        open.pool = Some(pool.clone());
        Ok(pool)
    }
}

async fn checkout(pool: &Pool) -> RedisResult<deadpool_redis::Connection> {
    // Boxed: the future is several kilobytes.
    Box::pin(pool.get()).await.map_err(|error| match error {
        deadpool_redis::PoolError::Backend(error) => error,
        error => RedisError::from((
            ErrorKind::Io,
            "no connection to Redis is free",
            error.to_string(),
        )),
    })
}
