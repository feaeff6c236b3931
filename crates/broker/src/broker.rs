//! The contract of every broker.

use crate::{
    event::Word,
    presence::{Entered, Member},
    queue::{Entry, Group, Offer, Offered, Outcome, Take, Taken},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use pollux_protocol::{Position, PresenceRequest, Publication, RemoteDisconnect, StreamName};
use std::{fmt::Debug, time::Duration};

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
pub trait Broker: Debug + Send + Sync + 'static {
    /// The name operators know it by.
    fn name(&self) -> &'static str;

    /// Gives the publication its position, keeps it and announces it. Returns
    /// the position, or `None` where the broker gives none.
    fn publish(
        &self,
        publication: Publication,
    ) -> BoxFuture<'_, Result<Option<Position>, BrokerError>>;

    /// Publishes on terms: with a history of its own length, or only if there
    /// is room for it.
    fn offer(
        &self,
        publication: Publication,
        offer: Offer,
    ) -> BoxFuture<'_, Result<Offered, BrokerError>>;

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

    /// Takes what waits for a group of readers. See [`Take`].
    fn take<'a>(
        &'a self,
        stream: &'a StreamName,
        take: &'a Take,
    ) -> BoxFuture<'a, Result<Taken, BrokerError>>;

    /// Borrows publications that were read from history, so that no other
    /// reader of [`Group::Once`] gets them. Returns those that nobody has
    /// borrowed and that are still there.
    fn claim<'a>(
        &'a self,
        stream: &'a StreamName,
        positions: Vec<Position>,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Vec<Position>, BrokerError>>;

    /// Says what became of publications that were taken or claimed. What is
    /// not settled comes back when its lease ends.
    fn settle<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        positions: Vec<Position>,
        outcome: Outcome,
    ) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// A reader that waited is gone.
    fn leave<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        reader: &'a str,
    ) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// Publications that wait for a group of readers, at most `bound`.
    fn backlog<'a>(
        &'a self,
        stream: &'a StreamName,
        group: Group,
        bound: usize,
    ) -> BoxFuture<'a, Result<usize, BrokerError>>;

    /// Keeps what a node knows of a session, for whichever node its client
    /// comes back to. Zero for `ttl` forgets it.
    fn save_session<'a>(
        &'a self,
        id: &'a str,
        snapshot: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// What was kept of a session.
    fn load_session<'a>(&'a self, id: &'a str)
    -> BoxFuture<'a, Result<Option<Bytes>, BrokerError>>;

    /// Takes what was kept of a session away: of several that ask, one gets it.
    fn take_session<'a>(&'a self, id: &'a str)
    -> BoxFuture<'a, Result<Option<Bytes>, BrokerError>>;

    /// Whether there may be other nodes at this broker.
    fn has_others(&self) -> bool {
        false
    }

    /// Says something to all nodes, this one included, as far as they listen.
    fn tell_nodes(&self, _word: Word) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(std::future::ready(Err(BrokerError::Unsupported)))
    }

    /// A session is present in a stream, for `ttl` unless it is touched.
    /// The first one of an id is announced to all subscribers, as a transient
    /// publication with the broadcast type `presence`.
    fn enter<'a>(
        &'a self,
        stream: &'a StreamName,
        member: Member,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Entered, BrokerError>>;

    /// A session is not present any more. The last one of an id is announced.
    fn exit<'a>(
        &'a self,
        stream: &'a StreamName,
        session: &'a str,
    ) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// These sessions are still present, for `ttl` from now. Others whose time
    /// is over are taken out, and announced. Returns those of the given ones
    /// that the broker does not know (any more): they must enter again.
    fn touch<'a>(
        &'a self,
        stream: &'a StreamName,
        sessions: Vec<String>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<String>, BrokerError>>;

    /// Who is present, each id once.
    fn present<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<PresenceRequest>, BrokerError>>;

    /// Says that this node lives and what it holds, in JSON that the broker does not read, for
    /// whoever asks the cluster; `None` takes it back. A node says it every few seconds. Where
    /// there is no cluster nothing comes of it.
    fn report(&self, _report: Option<Bytes>) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(std::future::ready(Ok(())))
    }

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
    /// Publications with their positions, oldest first. Without gaps, but for
    /// those that have left history because they were read once.
    pub entries: Vec<Entry>,
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
