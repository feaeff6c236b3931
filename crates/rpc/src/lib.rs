//! Calls to the application behind Pollux: who may connect, what a subscription
//! follows, what a message a client sends does.
//!
//! The three calls and their fields are `AnyCable`'s (`anycable.RPC`, protocol
//! version `v1`), so a Rails, Laravel or Node application that serves them
//! needs no change. [`call`] has them in this process's words, whichever
//! transport carries them.

#![forbid(unsafe_code)]

mod attempt;
mod backend;
mod balance;
mod breaker;
pub mod call;
mod dial;
mod error;
#[expect(
    missing_docs,
    reason = "generated: the proto says what there is to say, and `call` the rest"
)]
#[cfg_attr(
    feature = "server",
    expect(
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )
)]
#[rustfmt::skip]
pub mod generated;
mod grpc;
mod host;
mod http;
mod json;
mod options;
mod peer;
mod proto;
mod shared;
mod tally;
mod tls;

pub use backend::Backend;
pub use error::CallError;
pub use options::{Options, OptionsError, PemPart, Tls};
pub use tally::Tallies;
