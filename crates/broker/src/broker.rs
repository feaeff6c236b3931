//! The contract of every broker.

use futures_util::future::BoxFuture;
use pollux_protocol::{Position, Publication, RemoteDisconnect, StreamName};
use std::{fmt::Debug, sync::Arc};

/// A broker.
///
/// **Order.** Publications of one stream reach every node in the order of their
/// positions. There is no order between streams.
///
/// **Atomicity.** Giving a position, appending to history and announcing are
/// one step: a publication that is in history was or will be announced, and one
/// that is announced with a position is in history until that forgets it.
///
/// **Delivery.** An event reaches the node at most once. What a node missed
/// shows as a jump in positions or as [`Event::Gap`](crate::Event::Gap), and is
/// read from [`Broker::history`].
///
/// **Retries** are the caller's: after an error from [`Broker::publish`] the
/// publication may or may not have happened.
///
/// Presence and session snapshots will be further methods here, with defaults
/// that say [`BrokerError::Unsupported`].
pub trait Broker: Debug + Send + Sync + 'static {
    /// The name operators know it by.
    fn name(&self) -> &'static str;

    /// Gives the publication its position, keeps it and announces it. Returns
    /// the position, or `None` where the broker gives none.
    fn publish(
        &self,
        publication: Publication,
    ) -> BoxFuture<'_, Result<Option<Position>, BrokerError>>;

    /// Carries a remote command to every node, this one included.
    fn disconnect(&self, command: RemoteDisconnect) -> BoxFuture<'_, Result<(), BrokerError>>;

    /// From the moment this returns, publications to `stream` come as events.
    /// Returns the position of the last publication before that moment, if the
    /// broker knows one. Idempotent.
    fn subscribe<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>>;

    /// The node has no more interest in `stream`. Events may still come for a
    /// while. Idempotent.
    fn unsubscribe<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, ()>;

    /// What a stream's history has after `since`, oldest first.
    fn history<'a>(
        &'a self,
        stream: &'a StreamName,
        since: Since,
    ) -> BoxFuture<'a, Result<History, HistoryError>>;

    /// Whether publishing and receiving work at this moment.
    fn is_ready(&self) -> bool;
}

/// Where a reading of history starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// Strictly after this position.
    Position(Position),
    /// At or after this Unix time in seconds.
    Time(i64),
}

/// A piece of history.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Publications with their positions, oldest first, without gaps.
    pub entries: Vec<(Position, Arc<Publication>)>,
}

/// Why a broker could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The connection is away; the caller may try again.
    #[error("reach the broker: {0}")]
    Unavailable(String),
    /// This broker can't do it at all.
    #[error("do what this broker does not support")]
    Unsupported,
    /// The node is stopping.
    #[error("use a broker that has been stopped")]
    Stopped,
}

/// Why there is no history to give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The position belongs to an older life of the stream.
    #[error("read history of another epoch")]
    Epoch,
    /// Nothing is known of the stream.
    #[error("read history of an unknown stream")]
    Unknown,
    /// Publications right after the position are no longer kept.
    #[error("read history that is no longer kept")]
    Truncated,
    /// The position is after the last publication.
    #[error("read history after the last publication")]
    Beyond,
    /// The broker failed, or keeps no history.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
