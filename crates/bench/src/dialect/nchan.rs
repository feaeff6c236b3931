//! Nchan's long polling: each poll names the last message by its time and tag.

use super::{Dialect, Verdict, field, finish};
use crate::failure::Failure;
use crate::http::Answer;
use crate::mark::{Mark, StreamIndex};

/// The last message's id, as the server wrote it.
#[derive(Debug)]
pub(crate) struct Session {
    /// Empty before the first message.
    last_modified: Vec<u8>,
    etag: Vec<u8>,
}

impl Session {
    pub(super) const fn new() -> Self {
        Self {
            last_modified: Vec::new(),
            etag: Vec::new(),
        }
    }
}

pub(super) fn write_request(
    dialect: &Dialect,
    session: &Session,
    stream: StreamIndex,
    out: &mut Vec<u8>,
) {
    dialect.head("GET", &dialect.subscribe, stream, out);
    if !session.last_modified.is_empty() {
        field("If-Modified-Since", &session.last_modified, out);
        field("If-None-Match", &session.etag, out);
    }
    out.extend_from_slice(b"\r\n");
}

pub(super) fn write_publish(
    dialect: &Dialect,
    stream: StreamIndex,
    payload: &str,
    out: &mut Vec<u8>,
) {
    dialect.head("POST", &dialect.publish, stream, out);
    field("Content-Type", b"application/json", out);
    finish(payload.as_bytes(), out);
}

pub(super) fn read_answer(
    session: &mut Session,
    answer: &Answer<'_>,
    deliver: impl FnMut(Mark),
) -> Verdict {
    match answer.status {
        200 => {}
        // A poll whose time is up, in Nchan's new form, its old form, and everybody else's.
        408 | 304 | 204 => return Verdict::Idle,
        status @ 400..=499 if session.last_modified.is_empty() => {
            return Verdict::Refused(Failure::Status(status));
        }
        // The channel is gone, and the id with it.
        status @ (404 | 410) => return Verdict::Reopen(Failure::Status(status)),
        status => return Verdict::Retry(Failure::Status(status)),
    }
    let (Some(modified), Some(etag)) = (answer.fields.last_modified, answer.fields.etag) else {
        return Verdict::Refused(Failure::NoMessageId);
    };
    session.last_modified.clear();
    session.last_modified.extend_from_slice(modified);
    session.etag.clear();
    session.etag.extend_from_slice(etag);
    Mark::find_all(&answer.body).for_each(deliver);
    Verdict::Again
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Cursor, DialectName};
    use crate::http::{Parsed, parse};
    use crate::target::Target;

    fn dialect() -> Dialect {
        let server = Target::parse("http://127.0.0.1:8081").unwrap();
        Dialect::new(
            DialectName::Nchan,
            Cursor::Ignore,
            server.join("/sub/{stream}"),
            server.join("/pub/{stream}"),
            "bench".to_owned(),
            String::new(),
        )
    }

    #[test]
    fn a_poll_names_the_last_message() {
        let dialect = dialect();
        let mut session = dialect.session();
        let mut out = Vec::new();
        dialect.write_request(&session, StreamIndex(4), &mut out);
        assert_eq!(
            out,
            b"GET /sub/bench/4 HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n"
        );
        let bytes = b"HTTP/1.1 200 OK\r\nLast-Modified: Sat, 21 Nov 2026 03:00:00 GMT\r\nEtag: 2\r\nContent-Length: 2\r\n\r\nhi";
        let Parsed::Whole(answer, _) = parse(bytes) else {
            panic!("not whole");
        };
        let verdict = dialect.read_answer(&mut session, &answer, |_| {});
        assert_eq!(verdict, Verdict::Again);
        out.clear();
        dialect.write_request(&session, StreamIndex(4), &mut out);
        assert_eq!(
            out,
            b"GET /sub/bench/4 HTTP/1.1\r\nHost: 127.0.0.1:8081\r\nIf-Modified-Since: Sat, 21 Nov 2026 03:00:00 GMT\r\nIf-None-Match: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_poll_that_timed_out_is_no_failure() {
        let dialect = dialect();
        for (status, expected) in [
            ("408 Request Timeout", Verdict::Idle),
            ("304 Not Modified", Verdict::Idle),
            ("403 Forbidden", Verdict::Refused(Failure::Status(403))),
            ("502 Bad Gateway", Verdict::Retry(Failure::Status(502))),
            ("200 OK", Verdict::Refused(Failure::NoMessageId)),
        ] {
            let bytes = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let Parsed::Whole(answer, _) = parse(bytes.as_bytes()) else {
                panic!("not whole");
            };
            let verdict = dialect.read_answer(&mut dialect.session(), &answer, |_| {});
            assert_eq!(verdict, expected, "{status}");
        }
    }
}
