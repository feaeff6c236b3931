//! What gives a publication its position, keeps history and carries
//! publications to every node that wants them.
//!
//! A broker knows streams and publications; it knows neither sessions nor HTTP.
//! What happens to the streams comes back as [`Event`]s on one queue.
//!
//! * [`memory`]: one node, everything in the process.
//! * [`redis`]: many nodes that share a Redis server, its sentinels or a cluster.
//! * [`RedisGuest`]: that Redis, for a command line.
#![forbid(unsafe_code)]

mod broker;
mod event;
mod guest;
pub mod memory;
mod presence;
mod queue;
pub mod redis;

pub use broker::{Broker, BrokerError, History, HistoryError, Since, Stats};
pub use event::{EVENT_QUEUE, Event, Events, Word};
pub use guest::{NodeSeen, Receipt, RedisGuest, StreamSeen, StreamsSeen};
pub use memory::{MemoryBroker, MemoryConfig};
pub use presence::{Entered, Member};
pub use queue::{Entry, Group, Keep, Offer, Offered, Outcome, Take, Taken};
pub use redis::{RedisBroker, RedisConfig, RedisTls};
