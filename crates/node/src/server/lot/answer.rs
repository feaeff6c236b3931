//! Answers as bytes.
//!
//! The answer that is sent a hundred thousand times a second, frames for a
//! poll, is written from a template. All others are made by the poll door and
//! written from their headers.

use super::scratch;
use crate::http::{AnswerBody, PollDoor};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use pollux_session::Delivery;
use std::{
    cell::RefCell,
    io::{self, IoSlice, Write as _},
    time::{Duration, SystemTime},
};
use tokio::{net::TcpStream, time::timeout};

/// Bodies up to this size are copied behind their head; larger ones are written
/// from where they are.
const COPY_UP_TO: usize = 4 * 1024;

/// An answer on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Bytes of the head that are not in the socket.
    head: Vec<u8>,
    /// Bytes of the body that are not in the socket.
    body: Bytes,
}

/// Writes what the socket takes at once. `None`: all of it.
pub(super) fn write_frames(
    stream: &TcpStream,
    cursor: u64,
    gap: bool,
    body: &Bytes,
) -> io::Result<Option<Outgoing>> {
    write(stream, body, |head| {
        head.extend_from_slice(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\npollux-cursor: ",
        );
        number(head, cursor);
        if gap {
            head.extend_from_slice(b"\r\npollux-gap: 1");
        }
        head.extend_from_slice(PollDoor::ANY_ORIGIN_LINES);
        head.extend_from_slice(b"content-length: ");
        number(head, body.len() as u64);
    })
}

/// Writes what the socket takes at once of any answer, and returns its delivery
/// if it has one.
pub(super) fn write_response(
    stream: &TcpStream,
    response: Response<AnswerBody>,
) -> io::Result<(Option<Outgoing>, Option<Delivery>)> {
    let (parts, body) = response.into_parts();
    let (body, delivery) = match body {
        AnswerBody::Plain(bytes) => (bytes, None),
        AnswerBody::Frames {
            lines, delivery, ..
        } => (lines, delivery),
        // The poll door makes no others.
        AnswerBody::Other(_) => (Bytes::new(), None),
    };
    let rest = write(stream, &body, |head| {
        head_of(head, parts.status, &parts.headers, &body)
    })?;
    Ok((rest, delivery))
}

fn head_of(head: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, body: &Bytes) {
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in headers {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
    }
    if status != StatusCode::NO_CONTENT && !headers.contains_key(header::CONTENT_LENGTH) {
        head.extend_from_slice(b"\r\ncontent-length: ");
        number(head, body.len() as u64);
    }
}

/// One write of head and body.
fn write(
    stream: &TcpStream,
    body: &Bytes,
    head_of: impl FnOnce(&mut Vec<u8>),
) -> io::Result<Option<Outgoing>> {
    scratch::with_write_buffer(|head| {
        head_of(head);
        head.extend_from_slice(b"\r\ndate: ");
        date(head);
        head.extend_from_slice(b"\r\n\r\n");
        let total = head.len() + body.len();
        let sent = if body.len() <= COPY_UP_TO {
            head.extend_from_slice(body);
            stream.try_write(head)
        } else {
            stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(body)])
        };
        let sent = match sent {
            Ok(sent) if sent == total => return Ok(None),
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let head_left = head.get(sent..).unwrap_or_default().to_vec();
        let body_left = if body.len() <= COPY_UP_TO {
            Bytes::new()
        } else {
            body.slice(sent.saturating_sub(head.len())..)
        };
        Ok(Some(Outgoing {
            head: head_left,
            body: body_left,
        }))
    })
}

impl Outgoing {
    /// Writes the rest. Fails if nothing moves for as long as `stall`.
    pub(super) async fn finish(self, stream: &TcpStream, stall: Duration) -> io::Result<()> {
        for mut part in [Bytes::from(self.head), self.body] {
            while !part.is_empty() {
                let writable = timeout(stall, stream.writable()).await;
                writable.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                match stream.try_write(&part) {
                    Ok(sent) => drop(part.split_to(sent)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn number(head: &mut Vec<u8>, number: u64) {
    // Writing to a vector does not fail.
    drop(write!(head, "{number}"));
}

/// The time as HTTP writes it, made once a second.
fn date(head: &mut Vec<u8>) {
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    DATE.with_borrow_mut(|(made_at, text)| {
        if *made_at != second {
            *made_at = second;
            *text = httpdate::fmt_http_date(now);
        }
        head.extend_from_slice(text.as_bytes());
    });
}
