//! The Pollux server: an embeddable library, and the parts of the `pollux`
//! program.
//!
//! # Layout
//!
//! * [`config`]: every option, and where its value came from.
//! * [`node`]: builds a node and runs it.
//! * [`auth`]: who may connect and what they may hear.
//! * `runtime`: wires broker → hub → sessions.
//! * `longpoll`: a poll without HTTP; `http`: the doors with it.
//! * `route` and `proxies`: what a proxy in front says of a client, and which
//!   proxies are believed.
//! * `limits`: what nobody may do too often.
//! * `rooms`: messages of rooms, for polls and sockets.
//! * `socket`: a session's outbox, out through a WebSocket.
//! * `server`: the accept loop; `telemetry`: logs and metrics.
//! * `tls`: the certificate that clients see, and its successors.
//! * `archive`: events of categories in a file.
//! * `supervisor`: what systemd is told.
//! * `health`: asks a node that runs, for `pollux health`; `client`: the other commands that go to
//!   nodes and Redis.
#![forbid(unsafe_code)]

pub mod auth;
pub mod config;
pub mod node;

mod application;
mod archive;
mod banner;
mod client;
mod clock;
mod health;
mod http;
mod limits;
mod longpoll;
mod proxies;
mod rooms;
mod route;
mod runtime;
mod server;
mod sign;
mod socket;
mod supervisor;
mod telemetry;
mod tls;

pub use auth::{Authenticator, Client, ConnectRequest, Presented, Verdict};
pub use config::Config;
pub use node::{Builder, Node, NodeError};
pub use pollux_protocol::{Payload, RoomMessage};
pub use proxies::NotANetwork;
pub use telemetry::traces::{Traces, TracesError};
pub use tls::TlsError;

/// Runs the `pollux` program on a configuration until a signal stops it.
pub mod program;

/// Has the examples of its page compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embed.md")]
struct Embedding;
