//! Redis for those who are no nodes: a command line that publishes, and asks what is there.

use crate::{
    broker::BrokerError,
    redis::{Guest, RedisConfig},
};
use pollux_protocol::StreamName;
use std::time::Duration;

/// Connections to the Redis that nodes share. They are made when they are needed.
#[derive(Debug)]
pub struct RedisGuest(Guest);

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It waits at Redis until a node has published it.
    Waits {
        /// The stream of Redis.
        key: String,
        /// Its entry.
        id: String,
    },
    /// It was told to whoever listened, and is kept nowhere.
    Heard {
        /// The channel of Redis.
        channel: String,
        /// How many listened.
        nodes: u64,
    },
}

/// A node that lives, or did a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// What it is called.
    pub id: String,
    /// How long ago it said this.
    pub silence: Duration,
    /// What it said: see [`Broker::report`](crate::Broker::report).
    pub report: String,
}

/// A stream that was published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSeen {
    /// Its name.
    pub stream: StreamName,
    /// The last position's number.
    pub offset: u64,
    /// Publications in its history.
    pub history: u64,
    /// Nodes that listen to it.
    pub nodes: u64,
}

/// Some streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsSeen {
    /// In no order.
    pub streams: Vec<StreamSeen>,
    /// Whether there may be more.
    pub is_cut: bool,
}

impl RedisGuest {
    /// Of the configuration, what nodes keep and how counts for nothing.
    ///
    /// # Errors
    /// A URL is none, or a certificate can't be read.
    pub fn new(config: RedisConfig) -> Result<Self, BrokerError> {
        Guest::new(config).map(Self)
    }

    /// Publishes what [`Inbound`](pollux_protocol::Inbound) reads: through the intake, or where
    /// none is read, through the channel.
    ///
    /// # Errors
    /// Redis is away or does not allow it.
    pub async fn publish(&self, inbound: Vec<u8>) -> Result<Receipt, BrokerError> {
        self.0.publish(inbound).await
    }

    /// Who says that it lives, by name.
    ///
    /// # Errors
    /// Redis is away or does not allow it.
    pub async fn nodes(&self) -> Result<Vec<NodeSeen>, BrokerError> {
        self.0.nodes().await
    }

    /// Streams whose names begin with `prefix`, at most `limit`. Reads the names of keys in small
    /// pieces, so that nobody else waits, and not without end.
    ///
    /// # Errors
    /// Redis is away or does not allow it.
    pub async fn streams(&self, prefix: &str, limit: usize) -> Result<StreamsSeen, BrokerError> {
        self.0.streams(prefix, limit).await
    }
}
