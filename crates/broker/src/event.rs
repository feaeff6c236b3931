//! What a broker tells its node.

use pollux_protocol::{Position, Publication, PublicationError, RemoteDisconnect, StreamName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::{sync::mpsc, time::Instant};

/// Events a broker may be ahead of its node. A full queue slows publishers of
/// the embedded broker down; the Redis subscriber leaves what it can't take to
/// Redis's own output buffer.
pub const EVENT_QUEUE: usize = 1_024;

/// The one queue from a broker to its node. Publications of one stream come in
/// the order of their positions.
pub type Events = mpsc::Receiver<Event>;

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Whoever holds the session of this id is to give it away.
    Want(String),
    /// The session of this id is kept for whoever takes it.
    Kept(String),
}

/// Something that happened at the broker.
#[derive(Debug)]
pub enum Event {
    /// A publication for whoever listens to its stream.
    Delivery {
        /// The publication.
        publication: Arc<Publication>,
        /// Its place in the stream; `None` if it has none (it is transient, or
        /// came through a door that gives none).
        position: Option<Position>,
        /// Microseconds since 1970 by the broker's clock, as history has it;
        /// zero if the publication has no position.
        time: u64,
        /// When this node's broker got it.
        received: Instant,
        /// It was missed, and read from history: it comes late, together with
        /// others.
        late: bool,
    },
    /// Something that was lent to a reader of this stream has come back: those
    /// that wait may take it.
    Back(StreamName),
    /// Close the sessions with these identifiers.
    Disconnect(RemoteDisconnect),
    /// Another node, or this one, has said something to all.
    Word(Word),
    /// Something came that is not a publication.
    Malformed(PublicationError),
    /// Publications have passed this node by and can't be had any more.
    Gap {
        /// To which stream; `None` if that is not known.
        stream: Option<StreamName>,
        /// How many at least; zero if nobody can tell.
        missed: u64,
    },
    /// The broker is connected, for the first time or again.
    Up,
    /// The broker lost its connection and is trying to get it back.
    Down,
}
