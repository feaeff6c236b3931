//! Answers as bytes.
//!
//! The answer that is sent a hundred thousand times a second, frames for a
//! poll, is written from a template. All others are made by the poll door and
//! written from their headers.

use super::scratch;
use crate::http::{AnswerBody, PollDoor};
use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Response, StatusCode};
use pollux_session::{Delivery, Frames};
use std::{
    cell::RefCell,
    io::{self, Write as _},
    time::{Duration, SystemTime},
};
use tokio::{net::TcpStream, time::timeout};

/// What the socket did not take of an answer.
#[derive(Debug)]
pub(super) struct Rest(Vec<u8>);

/// Writes what the socket takes at once. `None`: all of it.
pub(super) fn write_frames(
    stream: &TcpStream,
    vary: &str,
    cursor: u64,
    gap: bool,
    frames: &Frames,
    length: usize,
) -> io::Result<Option<Rest>> {
    write(stream, |out| {
        out.extend_from_slice(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\npollux-cursor: ",
        );
        number(out, cursor);
        if gap {
            out.extend_from_slice(b"\r\npollux-gap: 1");
        }
        out.extend_from_slice(b"\r\nvary: ");
        out.extend_from_slice(vary.as_bytes());
        out.extend_from_slice(PollDoor::ANY_ORIGIN_LINES);
        out.extend_from_slice(b"content-length: ");
        number(out, length as u64);
        end_head(out);
        for frame in frames {
            out.extend_from_slice(frame.line());
        }
    })
}

/// Writes what the socket takes at once of any answer, and returns its delivery
/// if it has one.
pub(super) fn write_response(
    stream: &TcpStream,
    response: Response<AnswerBody>,
) -> io::Result<(Option<Rest>, Option<Delivery>)> {
    let (parts, body) = response.into_parts();
    let (body, delivery) = match body {
        AnswerBody::Plain(bytes) => (bytes, None),
        AnswerBody::Frames {
            lines, delivery, ..
        } => (lines, delivery),
        // The poll door makes no others.
        AnswerBody::Lent { .. } | AnswerBody::Other(_) => (Bytes::new(), None),
    };
    let rest = write(stream, |out| {
        head(out, parts.status, &parts.headers, body.len());
        out.extend_from_slice(&body);
    })?;
    Ok((rest, delivery))
}

fn head(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, length: usize) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in headers {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    if status != StatusCode::NO_CONTENT {
        out.extend_from_slice(b"\r\ncontent-length: ");
        number(out, length as u64);
    }
    end_head(out);
}

fn end_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\ndate: ");
    date(out);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Puts an answer together in the shared buffer and writes it in one go.
fn write(stream: &TcpStream, make: impl FnOnce(&mut Vec<u8>)) -> io::Result<Option<Rest>> {
    scratch::with_write_buffer(|out| {
        make(out);
        let sent = match stream.try_write(out) {
            Ok(sent) if sent == out.len() => return Ok(None),
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok(Some(Rest(out.get(sent..).unwrap_or_default().to_vec())))
    })
}

impl Rest {
    /// Writes it. Fails if nothing moves for as long as `stall`.
    pub(super) async fn finish(self, stream: &TcpStream, stall: Duration) -> io::Result<()> {
        let mut left = Bytes::from(self.0);
        while !left.is_empty() {
            let writable = timeout(stall, stream.writable()).await;
            writable.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            match stream.try_write(&left) {
                Ok(sent) => left.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
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
