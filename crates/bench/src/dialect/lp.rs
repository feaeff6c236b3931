//! Action Cable over long polling: open with a subscribe command, then poll by id.

use serde::Deserialize;
use serde_json::json;

use super::{Cursor, Dialect, Verdict, field, finish};
use crate::failure::Failure;
use crate::http::Answer;
use crate::mark::{Mark, StreamIndex};

const POLL_ID: &str = "X-Anycable-Poll-ID";
const CURSOR: &str = "Pollux-Cursor";

/// A poller's session at the server.
#[derive(Debug)]
pub(crate) struct Session {
    /// None until the server has answered the opening request.
    id: Option<Box<[u8]>>,
    /// The last answer's cursor, as the server wrote it.
    cursor: Option<Box<[u8]>>,
    confirmed: bool,
}

/// Frames that are not messages.
#[derive(Deserialize)]
struct Control {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

impl Session {
    pub(super) const fn new() -> Self {
        Self {
            id: None,
            cursor: None,
            confirmed: false,
        }
    }

    pub(super) const fn is_subscribed(&self) -> bool {
        self.id.is_some() && self.confirmed
    }
}

pub(super) fn write_request(
    dialect: &Dialect,
    session: &Session,
    stream: StreamIndex,
    out: &mut Vec<u8>,
) {
    dialect.head("POST", &dialect.subscribe, stream, out);
    let Some(id) = &session.id else {
        let identifier = json!({"channel": "$pubsub", "stream_name": dialect.stream_name(stream)});
        let command = json!({"command": "subscribe", "identifier": identifier.to_string()});
        finish(format!("{command}\n").as_bytes(), out);
        return;
    };
    field(POLL_ID, id, out);
    if let (Cursor::Echo, Some(cursor)) = (dialect.cursor, &session.cursor) {
        field(CURSOR, cursor, out);
    }
    finish(b"", out);
}

pub(super) fn write_publish(
    dialect: &Dialect,
    stream: StreamIndex,
    payload: &str,
    out: &mut Vec<u8>,
) {
    let body = json!({"stream": dialect.stream_name(stream), "data": payload}).to_string();
    dialect.head("POST", &dialect.publish, stream, out);
    field("Content-Type", b"application/json", out);
    finish(body.as_bytes(), out);
}

pub(super) fn read_answer(
    session: &mut Session,
    answer: &Answer<'_>,
    mut deliver: impl FnMut(Mark),
) -> Verdict {
    let failure = Failure::Status(answer.status);
    match (answer.status, &session.id) {
        (200..=299, _) => {}
        (401, Some(_)) => return Verdict::Reopen(failure),
        // Too Many Requests is a wish, not a refusal.
        (429, _) => return Verdict::Retry(failure),
        (400..=499, None) => return Verdict::Refused(failure),
        _ => return Verdict::Retry(failure),
    }
    if session.id.is_none() {
        match answer.fields.poll_id {
            Some(id) => session.id = Some(id.into()),
            None => return Verdict::Refused(Failure::NoPollId),
        }
    }
    if let Some(cursor) = answer.fields.cursor {
        match &mut session.cursor {
            Some(known) if known.len() == cursor.len() => known.copy_from_slice(cursor),
            other => *other = Some(cursor.into()),
        }
    }
    if answer.body.is_empty() {
        return Verdict::Idle;
    }
    for line in answer.body.split(|&byte| byte == b'\n') {
        let mut messages = Mark::find_all(line).peekable();
        if messages.peek().is_some() {
            messages.for_each(&mut deliver);
        } else if let Some(verdict) = read_control(session, line) {
            return verdict;
        }
    }
    Verdict::Again
}

/// Anything but a message. Unknown frames are as welcome as they are to a browser.
fn read_control(session: &mut Session, line: &[u8]) -> Option<Verdict> {
    let control: Control = serde_json::from_slice(line).ok()?;
    match control.kind.as_deref()? {
        "confirm_subscription" => {
            session.confirmed = true;
            None
        }
        "reject_subscription" => Some(Verdict::Refused(Failure::Rejected)),
        "disconnect" => Some(Verdict::Reopen(Failure::Disconnected)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{DialectName, Session as AnySession};
    use crate::http::{Parsed, parse};
    use crate::mark::{RunId, Seq};
    use crate::target::Target;

    fn dialect(cursor: Cursor) -> Dialect {
        let server = Target::parse("http://127.0.0.1:8080").unwrap();
        Dialect::new(
            DialectName::Lp,
            cursor,
            server.join("/lp"),
            server.join("/_broadcast"),
            "bench".to_owned(),
            "Authorization: Bearer x\r\n".to_owned(),
        )
    }

    fn request(dialect: &Dialect, session: &AnySession) -> String {
        let mut out = Vec::new();
        dialect.write_request(session, StreamIndex(0), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn read(session: &mut AnySession, bytes: &[u8]) -> (Verdict, Vec<Mark>) {
        let Parsed::Whole(answer, _) = parse(bytes) else {
            panic!("not whole");
        };
        let mut marks = Vec::new();
        let verdict = dialect(Cursor::Echo).read_answer(session, &answer, |mark| marks.push(mark));
        (verdict, marks)
    }

    fn answer(status: &str, fields: &str, body: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    #[test]
    fn opens_confirms_and_polls_with_the_cursor() {
        let echoing = dialect(Cursor::Echo);
        let mut session = echoing.session();
        let open = request(&echoing, &session);
        assert!(
            open.starts_with(
                "POST /lp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAuthorization: Bearer x\r\n"
            ),
            "{open}"
        );
        assert!(
            open.ends_with(
                "\r\n\r\n{\"command\":\"subscribe\",\"identifier\":\"{\\\"channel\\\":\\\"$pubsub\\\",\\\"stream_name\\\":\\\"bench/0\\\"}\"}\n"
            ),
            "{open}"
        );
        let welcome = answer(
            "200 OK",
            "X-Anycable-Poll-ID: r.s\r\nPollux-Cursor: 1\r\n",
            "{\"type\":\"welcome\",\"sid\":\"a\"}\n",
        );
        assert_eq!(read(&mut session, &welcome), (Verdict::Again, Vec::new()));
        assert!(!session.is_subscribed(), "not confirmed yet");
        let confirm = answer(
            "200 OK",
            "Pollux-Cursor: 2\r\n",
            "{\"type\":\"confirm_subscription\",\"identifier\":\"x\"}\n",
        );
        assert_eq!(read(&mut session, &confirm).0, Verdict::Again);
        assert!(session.is_subscribed());
        let poll = request(&echoing, &session);
        assert!(
            poll.ends_with(
                "X-Anycable-Poll-ID: r.s\r\nPollux-Cursor: 2\r\nContent-Length: 0\r\n\r\n"
            ),
            "{poll}"
        );
        let silent = dialect(Cursor::Ignore);
        assert!(!request(&silent, &session).contains("Pollux-Cursor"));
    }

    #[test]
    fn several_messages_in_one_answer_are_all_delivered() {
        let mark = |seq| Mark {
            run: RunId(1),
            stream: StreamIndex(0),
            seq: Seq(seq),
            sent: crate::clock::Nanos::from_raw(5),
        };
        let body = format!(
            "{{\"identifier\":\"i\",\"message\":{}}}\n{{\"type\":\"ping\"}}\nnonsense\n{{\"identifier\":\"i\",\"message\":{}}}\n",
            mark(1).payload(100),
            mark(2).payload(100)
        );
        let mut session = dialect(Cursor::Echo).session();
        let bytes = answer("200 OK", "X-Anycable-Poll-ID: r.s\r\n", &body);
        let (verdict, marks) = read(&mut session, &bytes);
        assert_eq!(verdict, Verdict::Again);
        assert_eq!(marks, [mark(1), mark(2)]);
    }

    #[test]
    fn failures_are_told_apart() {
        let fresh = || dialect(Cursor::Echo).session();
        let mut open = fresh();
        let id = "X-Anycable-Poll-ID: r.s\r\n";
        assert_eq!(read(&mut open, &answer("200 OK", id, "")).0, Verdict::Idle);
        let expect = |session: &mut AnySession, bytes: &[u8], expected: Verdict| {
            assert_eq!(read(session, bytes).0, expected);
        };
        let unauthorized = answer("401 Unauthorized", "", "");
        let rejected = answer("200 OK", id, "{\"type\":\"reject_subscription\"}\n");
        let disconnect = answer("200 OK", "", "{\"type\":\"disconnect\"}");
        let status = Failure::Status;
        expect(&mut fresh(), &unauthorized, Verdict::Refused(status(401)));
        expect(&mut open, &unauthorized, Verdict::Reopen(status(401)));
        expect(
            &mut open,
            &disconnect,
            Verdict::Reopen(Failure::Disconnected),
        );
        expect(&mut fresh(), &rejected, Verdict::Refused(Failure::Rejected));
        let nameless = answer("200 OK", "", "");
        expect(&mut fresh(), &nameless, Verdict::Refused(Failure::NoPollId));
        for retry in [429, 503] {
            let busy = answer(&format!("{retry} Later"), "", "");
            expect(&mut fresh(), &busy, Verdict::Retry(status(retry)));
        }
    }

    #[test]
    fn a_publication_is_a_broadcast_with_its_data_as_text() {
        let mut out = Vec::new();
        dialect(Cursor::Echo).write_publish(StreamIndex(3), "{\"a\":1}", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("POST /_broadcast HTTP/1.1\r\n"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "{\"data\":\"{\\\"a\\\":1}\",\"stream\":\"bench/3\"}");
    }
}
