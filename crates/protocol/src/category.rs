//! The category dialect: long polling with a cursor, as golongpoll v1.3 speaks it.
//!
//! A category is a stream. A poll says where its client stands with the time of the last event it
//! has seen, in milliseconds, and that event's id; see [`Cursor`].

mod answer;
mod cursor;
mod event;
mod id;
mod publish;
mod query;

pub use answer::{error, events, timeout};
pub use cursor::{Cursor, Place};
pub use event::{Event, StoredEvent, StoredEventError};
pub use id::EventId;
pub use publish::{PublishError, PublishRequest};
pub use query::{CATEGORIES_MAX, PollQuery, QueryError};

/// The longest category in bytes.
pub const CATEGORY_MAX: usize = 1024;
