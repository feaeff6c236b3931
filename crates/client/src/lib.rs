//! A node's clients, as the command line needs them: one that publishes and asks, and one that
//! subscribes over any transport and loses nothing when its connection breaks.
//!
//! * [`Address`] and [`Trust`]: where the node is, and whose certificate it may show.
//! * [`Http`]: requests on one connection.
//! * [`Subscriber`]: messages of streams, by [`Transport`].
#![forbid(unsafe_code)]

mod address;
mod backoff;
mod http;
mod polls;
mod progress;
mod socket;
mod sse;
mod subscriber;
mod trouble;
mod trust;
mod wire;

pub use crate::http::{Answer, Http};
pub use address::Address;
pub use progress::Message;
pub use subscriber::{Said, Subscriber, Transport, Wish};
pub use trouble::Trouble;
pub use trust::{Trust, TrustError, any_certificate};
pub use wire::Wire;
