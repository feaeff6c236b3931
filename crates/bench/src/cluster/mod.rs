//! Several nodes on one Redis: what each way to publish costs, and how long it takes.
//!
//! Modules in reading order: `args` and `setup` say what is wanted; `latency` is one command,
//! `throughput` and `interest` are two, both of them a `flood`. A `leader` turns a `fleet` of
//! pollers at all nodes through them. A `door` publishes, over HTTP or over a connection to
//! `redis` that speaks `resp`. `arrivals` says what arrived, `cost` what the processes spent, and
//! `listeners` which processes these are.

pub(crate) mod args;
mod arrivals;
mod cost;
mod door;
mod fleet;
mod flood;
pub(crate) mod interest;
pub(crate) mod latency;
mod leader;
mod listeners;
mod redis;
mod resp;
mod setup;
pub(crate) mod throughput;
