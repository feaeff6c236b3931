//! The wire protocols, without I/O: which bytes to send next, and what an answer means.

mod lp;
mod nchan;

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;
use crate::http::Answer;
use crate::mark::{Mark, StreamIndex};
use crate::target::Target;

/// The name of a wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DialectName {
    /// Action Cable over long polling, as Pollux speaks it.
    Lp,
    /// Nchan's long polling: GET with the last message's id.
    Nchan,
}

/// Whether an lp poller sends back the cursor of its last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cursor {
    Echo,
    Ignore,
}

/// A protocol with its addresses: everything that is the same for all pollers.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    name: DialectName,
    cursor: Cursor,
    /// May contain `{stream}`.
    subscribe: Target,
    /// May contain `{stream}`.
    publish: Target,
    /// Streams are called `<prefix>/<index>`.
    prefix: String,
    /// Complete header lines that go with every request.
    headers: String,
}

/// What one poller has to remember between answers.
#[derive(Debug)]
pub(crate) enum Session {
    Lp(lp::Session),
    Nchan(nchan::Session),
}

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Poll again at once; the answer carried something.
    Again,
    /// Poll again at once; the poll's time was up.
    Idle,
    /// Poll again after a pause, with what the session knows.
    Retry(Failure),
    /// The server no longer knows the session; begin a new one.
    Reopen(Failure),
    /// The server will not have us. Trying again helps only if others got in.
    Refused(Failure),
}

const STREAM: &str = "{stream}";

impl DialectName {
    pub(crate) const fn subscribe_path(self) -> &'static str {
        match self {
            Self::Lp => "/lp",
            Self::Nchan => "/sub/{stream}",
        }
    }

    pub(crate) const fn publish_path(self) -> &'static str {
        match self {
            Self::Lp => "/_broadcast",
            Self::Nchan => "/pub/{stream}",
        }
    }
}

impl Dialect {
    pub(crate) const fn new(
        name: DialectName,
        cursor: Cursor,
        subscribe: Target,
        publish: Target,
        prefix: String,
        headers: String,
    ) -> Self {
        Self {
            name,
            cursor,
            subscribe,
            publish,
            prefix,
            headers,
        }
    }

    pub(crate) const fn name(&self) -> DialectName {
        self.name
    }

    pub(crate) const fn subscribe_target(&self) -> &Target {
        &self.subscribe
    }

    pub(crate) const fn publish_target(&self) -> &Target {
        &self.publish
    }

    pub(crate) fn stream_name(&self, stream: StreamIndex) -> String {
        format!("{}/{}", self.prefix, stream.0)
    }

    pub(crate) const fn session(&self) -> Session {
        match self.name {
            DialectName::Lp => Session::Lp(lp::Session::new()),
            DialectName::Nchan => Session::Nchan(nchan::Session::new()),
        }
    }

    /// Writes the next request of a poller: the opening one, or a poll.
    pub(crate) fn write_request(&self, session: &Session, stream: StreamIndex, out: &mut Vec<u8>) {
        match session {
            Session::Lp(session) => lp::write_request(self, session, stream, out),
            Session::Nchan(session) => nchan::write_request(self, session, stream, out),
        }
    }

    /// Takes in an answer; `deliver` gets each message in it.
    pub(crate) fn read_answer(
        &self,
        session: &mut Session,
        answer: &Answer<'_>,
        deliver: impl FnMut(Mark),
    ) -> Verdict {
        match session {
            Session::Lp(session) => lp::read_answer(session, answer, deliver),
            Session::Nchan(session) => nchan::read_answer(session, answer, deliver),
        }
    }

    /// Writes one publication.
    pub(crate) fn write_publish(&self, stream: StreamIndex, payload: &str, out: &mut Vec<u8>) {
        match self.name {
            DialectName::Lp => lp::write_publish(self, stream, payload, out),
            DialectName::Nchan => nchan::write_publish(self, stream, payload, out),
        }
    }

    /// The path of `target` with the stream's name in its place.
    fn path(&self, target: &Target, stream: StreamIndex, out: &mut Vec<u8>) {
        match target.path.split_once(STREAM) {
            None => out.extend_from_slice(target.path.as_bytes()),
            Some((before, after)) => {
                out.extend_from_slice(before.as_bytes());
                out.extend_from_slice(self.stream_name(stream).as_bytes());
                out.extend_from_slice(after.as_bytes());
            }
        }
    }

    /// Request line, `Host` and the headers of all requests.
    fn head(&self, method: &str, target: &Target, stream: StreamIndex, out: &mut Vec<u8>) {
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        self.path(target, stream, out);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(target.authority.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.headers.as_bytes());
    }
}

impl Session {
    /// The next poll will be one that waits for messages.
    pub(crate) const fn is_subscribed(&self) -> bool {
        match self {
            Self::Lp(session) => session.is_subscribed(),
            // A poll is a subscription; there is nothing to confirm.
            Self::Nchan(_) => true,
        }
    }
}

fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Ends the head and adds the body.
fn finish(body: &[u8], out: &mut Vec<u8>) {
    field("Content-Length", body.len().to_string().as_bytes(), out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}
