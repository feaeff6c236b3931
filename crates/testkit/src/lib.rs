//! Starts real nodes and Redis servers for tests, speaks bytes with them, and checks continuity.
//!
//! * [`Node`] and [`Redis`] are processes that die with their handle; [`Sentinels`] and
//!   [`RedisCluster`] are several of them.
//! * [`Backend`] is the application behind a node, which has its calls on record.
//! * [`Tool`] is a command of the binary that runs until it is told to stop.
//! * [`Collector`] takes the traces of nodes.
//! * [`Prometheus`] asks nodes for what they count, and evaluates alerts.
//! * [`Nginx`] stands in front of nodes, with the bundled configuration.
//! * [`Gate`] is a way between two processes that can be closed.
//! * [`RedisClient`] publishes at speed and says what is certain about a command that failed.
//! * [`Connection`] is an HTTP/1.1 client that hides nothing and misbehaves on demand.
//! * [`Secure`] is one over TLS, that takes its leave in every way there is.
//! * [`Http2`] is a client with many requests on one connection.
//! * [`Poller`] is a long-poll client with a [`Fault`] for every way to lose an answer.
//! * [`Continuity`] says exactly what a reader lost, got twice or got out of order.
//! * [`Traffic`] keeps publishers and readers busy while a test breaks things.
//! * [`assert_eventually!`] is the only way to wait for something.

mod backend;
mod cable;
mod certificates;
mod chance;
mod collector;
mod continuity;
mod events;
pub mod frames;
mod gate;
mod http;
mod http2;
mod memory;
mod metrics;
mod nginx;
mod node;
mod poller;
mod process;
mod prometheus;
mod redis;
mod secure;
mod signed;
mod tool;
mod traffic;
mod wait;

pub use backend::{Backend, BackendBuilder, Call, Callers, Face, Kind, Trouble};
pub use cable::{Cable, PROTOCOLS, Said};
pub use certificates::Certificates;
pub use chance::Chance;
pub use collector::{Collector, Span};
pub use continuity::{Continuity, Finding, Report};
pub use events::{Event, EventStream};
pub use gate::Gate;
pub use http::{Connection, Request, Response};
pub use http2::{Http2, Http2Stream};
pub use metrics::Metrics;
pub use nginx::{Nginx, NginxBuilder, Upstream};
pub use node::{Node, NodeBuilder, binary, free_port, run};
pub use poller::{Answer, Fault, PATIENCE, Parked, Poller};
pub use process::Log;
pub use prometheus::Prometheus;
pub use redis::{
    ClusterClient, CommandError, Redis, RedisBuilder, RedisClient, RedisCluster, Reply, Sentinels,
};
pub use secure::{Leave, Secure};
pub use signed::{derived_key, signed_stream, token};
pub use tool::Tool;
pub use traffic::{Client, Door, Outcome, Server, Traffic};
#[doc(hidden)]
pub use wait::{CHECK_EVERY, Deadline};
