//! What a transport is given of a call.

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Which call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Connect,
    Command,
    Disconnect,
}

/// One attempt of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) method: Method,
    pub(crate) sid: &'a HeaderValue,
    /// The `traceparent` that goes with it.
    pub(crate) trace: Option<&'a HeaderValue>,
    /// Encoded once, and shared by all attempts.
    pub(crate) body: &'a Bytes,
    /// When the whole call is over.
    pub(crate) deadline: Instant,
    pub(crate) progress: &'a Progress,
}

/// How far a call came, for when its time is up in the middle.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<Box<str>>>);

impl Progress {
    /// The request is about to go out: from here on a silence is the
    /// application's.
    pub(crate) fn sent(&self) {
        *self.0.lock() = None;
    }

    /// The last attempt could not reach the application.
    pub(crate) fn unreachable(&self, why: Box<str>) {
        *self.0.lock() = Some(why);
    }

    /// Why the application could not be reached, if that is where it stands.
    pub(crate) fn take(&self) -> Option<Box<str>> {
        self.0.lock().take()
    }
}
