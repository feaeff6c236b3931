//! The node's own HTTP server: an accept loop over hyper's connections.
//!
//! It is ours because what a parked poll costs is decided here: a general
//! server spends several times the memory a connection, and knows nothing of
//! what became of an answer.

mod accept;
mod connection;
mod handshake;
mod http2;
mod io;
mod listen;
mod lot;
mod preface;
mod socket;
mod streams;

pub(crate) use accept::{Counted, Server, ServerConfig};
pub(crate) use connection::Service;
pub(crate) use listen::listen;
