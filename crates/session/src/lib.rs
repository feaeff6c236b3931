//! What lives on a Pollux node for its clients, without I/O and without a clock.
//!
//! Read the modules in this order: [`time`] and [`token`] are the small change,
//! [`outbox`] is the queue that loses nothing, [`session`] the state machine
//! around it, [`rate`] what bounds its commands, [`poll`] one waiting request, [`hub`] the fan-out, [`registry`]
//! the way from an id to its session and [`deadlines`] the one wheel that all
//! timeouts share.
#![forbid(unsafe_code)]

pub mod config;
pub mod deadlines;
pub mod hub;
pub mod outbox;
pub mod poll;
pub mod rate;
pub mod registry;
pub mod session;
mod subscriptions;
pub mod time;
pub mod token;

pub use config::{Overflow, PollConfig};
pub use deadlines::Deadlines;
pub use hub::{FanOut, Hub};
pub use outbox::{Outbox, Remains};
pub use poll::{Answer, Delivery, Frames, Poll};
pub use rate::{Bucket, Rate};
pub use registry::{Census, Registry, Source};
pub use session::{
    AnswerId, Attachment, CloseReason, Delivered, Departed, Due, Fate, Owner, Replay, Session,
    Shared, Stays, Watcher,
};
pub use subscriptions::{Begin, Place, Streams, Subscription};
pub use time::Time;
pub use token::Token;
