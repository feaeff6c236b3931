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
    /// broker knows one. While the broker is away this waits.
    ///
    /// Counted: each call, whether it succeeds or not, and even if its future
    /// is dropped, is undone by one [`Broker::unsubscribe`]. Sessions come and
    /// go side by side, and counting is what has no order to get wrong.
    fn subscribe<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>>;

    /// Undoes one [`Broker::subscribe`]. Events may still come for a while.
    fn unsubscribe(&self, stream: &StreamName);

    /// What a stream's history has after `since`, oldest first.
    fn history<'a>(
        &'a self,
        stream: &'a StreamName,
        since: Since,
    ) -> BoxFuture<'a, Result<History, HistoryError>>;

    /// Whether publishing and receiving work at this moment.
    fn is_ready(&self) -> bool;

    /// How the broker is doing, for metrics.
    fn stats(&self) -> Stats;

    /// Gives back what others would wait for, before the node stops.
    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What a broker says of itself. Numbers count from its start; what a broker
/// does not have stays zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Streams whose history is held in this process.
    pub history_streams: u64,
    /// Bytes of that history.
    pub history_bytes: u64,
    /// Streams listened to.
    pub streams: u64,
    /// Messages received from the broker's server.
    pub messages: u64,
    /// Connections made to listen.
    pub connections: u64,
    /// Connections that were found deaf.
    pub deaf_connections: u64,
    /// Publications that were missed and read from history.
    pub repaired: u64,
    /// Publications that were missed and are gone, at least.
    pub unrepaired: u64,
    /// Intake entries published by this node.
    pub intake_entries: u64,
    /// Intake entries that can't be published and were set aside.
    pub intake_poison: u64,
    /// Whether this node reads the intake.
    pub intake_leader: bool,
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
    /// No publication can go to this stream, now or later.
    #[error("use this stream: {0}")]
    Stream(&'static str),
    /// What it was told to connect to makes no sense.
    #[error("set up the broker: {0}")]
    Config(String),
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
