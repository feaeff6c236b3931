//! How a call can fail.

use thiserror::Error;

/// A call without an answer. No text of it holds a secret, a header or a body.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The application cannot be reached, or the connection to it broke before
    /// it had answered; in the latter case the call may have run.
    #[error("the application is unavailable: {0}")]
    Unavailable(Box<str>),
    /// As many calls as may wait do wait.
    #[error("too many calls wait for the application")]
    Busy,
    /// No answer in time; the call may have run.
    #[error("the application did not answer in time")]
    Timeout,
    /// The application does not take our secret.
    #[error("the application does not accept the secret of the calls")]
    Unauthenticated,
    /// The application does not understand the call.
    #[error("the application refuses the call as invalid")]
    InvalidArgument,
    /// The application answered with something that is none of the above.
    #[error("the application answered {0}")]
    Unknown(Box<str>),
    /// The application answered, but nothing that can be read.
    #[error("the application's answer cannot be read: {0}")]
    Malformed(Box<str>),
}

/// How an attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It certainly did not run, so it may be made again.
    NotSent(Box<str>),
    /// The application said that it has no room for it and did not run it.
    Exhausted,
    /// The connection broke with the request on its way: it may have run.
    Lost(Box<str>),
    /// The end of the call.
    Final(CallError),
}
