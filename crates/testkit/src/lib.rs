//! Starts real nodes and Redis servers for tests, speaks bytes with them, and checks continuity.
//!
//! * [`Node`] and [`Redis`] are processes that die with their handle.
//! * [`Connection`] is an HTTP/1.1 client that hides nothing and misbehaves on demand.
//! * [`Poller`] is a long-poll client with a [`Fault`] for every way to lose an answer.
//! * [`Continuity`] says exactly what a reader lost, got twice or got out of order.
//! * [`assert_eventually!`] is the only way to wait for something.

mod chance;
mod continuity;
pub mod frames;
mod http;
mod memory;
mod metrics;
mod node;
mod poller;
mod process;
mod redis;
mod wait;

pub use chance::Chance;
pub use continuity::{Continuity, Finding, Report};
pub use http::{Connection, Request, Response};
pub use metrics::Metrics;
pub use node::{Node, NodeBuilder, free_port, run};
pub use poller::{Answer, Fault, PATIENCE, Parked, Poller};
pub use process::Log;
pub use redis::Redis;
#[doc(hidden)]
pub use wait::{CHECK_EVERY, Deadline};
