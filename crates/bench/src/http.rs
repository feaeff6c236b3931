//! A minimal HTTP/1.1 answer reader: bytes in, one complete answer out. No I/O.
//!
//! It borrows what it can: an answer with `Content-Length` costs no allocation.

use std::borrow::Cow;

/// More headers than any server measured here sends; an answer with more is refused.
const MAX_HEADERS: usize = 48;
/// An answer above this is a server gone wrong, not a poll.
const MAX_ANSWER: usize = 64 << 20;

/// What one look at the bytes gave.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    /// A whole answer and how many bytes it took.
    Whole(Answer<'a>, usize),
    /// More bytes are needed.
    Partial,
    /// This is not HTTP/1.1 as we know it; the text says why.
    Bad(&'static str),
}

/// One complete answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) fields: Fields<'a>,
    pub(crate) body: Cow<'a, [u8]>,
    /// The server will close the connection after this answer.
    pub(crate) closes: bool,
}

/// The header fields the dialects look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub(crate) poll_id: Option<&'a [u8]>,
    pub(crate) cursor: Option<&'a [u8]>,
    pub(crate) gap: Option<&'a [u8]>,
    pub(crate) last_modified: Option<&'a [u8]>,
    pub(crate) etag: Option<&'a [u8]>,
}

enum Length {
    Known(usize),
    Chunked,
    UntilClose,
}

struct Head<'a> {
    status: u16,
    fields: Fields<'a>,
    length: Length,
    closes: bool,
    size: usize,
}

/// Reads an answer while the connection is open.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    match parse_head(bytes) {
        Ok(Some(head)) => body(bytes, head),
        Ok(None) if bytes.len() > MAX_ANSWER => Parsed::Bad("the head does not end"),
        Ok(None) => Parsed::Partial,
        Err(reason) => Parsed::Bad(reason),
    }
}

/// Reads an answer after the server has closed: one without a length ends here.
pub(crate) fn parse_at_end(bytes: &[u8]) -> Parsed<'_> {
    match parse_head(bytes) {
        Ok(Some(head)) if matches!(head.length, Length::UntilClose) => {
            let from = head.size;
            whole(head, Cow::Borrowed(&bytes[from..]), bytes.len())
        }
        _ => parse(bytes),
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head<'_>>, &'static str> {
    let mut skipped = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let size = match response.parse(&bytes[skipped..]) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err("too many headers"),
            Err(_) => return Err("the head is not HTTP/1.1"),
        };
        skipped += size;
        let status = response.code.unwrap_or_default();
        // Interim answers come before the real one and have no body.
        if (100..200).contains(&status) {
            continue;
        }
        let old = response.version == Some(0);
        return read_fields(response.headers, status, old, skipped).map(Some);
    }
}

fn read_fields<'a>(
    headers: &[httparse::Header<'a>],
    status: u16,
    closes: bool,
    size: usize,
) -> Result<Head<'a>, &'static str> {
    let mut head = Head {
        status,
        fields: Fields::default(),
        length: Length::UntilClose,
        closes,
        size,
    };
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value;
        match header.name.len() {
            4 if is("etag") => head.fields.etag = Some(value),
            10 if is("connection") => {
                if value.eq_ignore_ascii_case(b"close") {
                    head.closes = true;
                } else if value.eq_ignore_ascii_case(b"keep-alive") {
                    head.closes = false;
                }
            }
            10 if is("pollux-gap") => head.fields.gap = Some(value),
            13 if is("pollux-cursor") => head.fields.cursor = Some(value),
            13 if is("last-modified") => head.fields.last_modified = Some(value),
            14 if is("content-length") => {
                let known = number(value).ok_or("the content length is no number")?;
                if known > MAX_ANSWER {
                    return Err("the content length is too large");
                }
                head.length = Length::Known(known);
            }
            17 if is("transfer-encoding") => head.length = Length::Chunked,
            18 if is("x-anycable-poll-id") => head.fields.poll_id = Some(value),
            _ => {}
        }
    }
    if matches!(status, 204 | 304) {
        head.length = Length::Known(0);
    }
    if matches!(head.length, Length::UntilClose) {
        head.closes = true;
    }
    Ok(head)
}

/// A decimal number in a header value.
pub(crate) fn number(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

fn body<'a>(bytes: &'a [u8], head: Head<'a>) -> Parsed<'a> {
    match head.length {
        Length::Known(length) => {
            let from = head.size;
            let to = from + length;
            match bytes.get(from..to) {
                Some(body) => whole(head, Cow::Borrowed(body), to),
                None => Parsed::Partial,
            }
        }
        Length::Chunked => {
            let from = head.size;
            match dechunk(&bytes[from..]) {
                Ok(Some((body, size))) => whole(head, Cow::Owned(body), from + size),
                Ok(None) => Parsed::Partial,
                Err(reason) => Parsed::Bad(reason),
            }
        }
        Length::UntilClose if bytes.len() > MAX_ANSWER => Parsed::Bad("the answer does not end"),
        Length::UntilClose => Parsed::Partial,
    }
}

fn whole<'a>(head: Head<'a>, body: Cow<'a, [u8]>, size: usize) -> Parsed<'a> {
    let answer = Answer {
        status: head.status,
        fields: head.fields,
        body,
        closes: head.closes,
    };
    Parsed::Whole(answer, size)
}

/// The joined chunks and the size they had on the wire, or nothing if the last is missing.
fn dechunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (used, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("a chunk has no size"),
        };
        at += used;
        if size == 0 {
            return Ok(end_of_trailers(&bytes[at..]).map(|trailers| (body, at + trailers)));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_ANSWER || body.len() + size > MAX_ANSWER {
            return Err("the chunks are too large");
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else {
            return Ok(None);
        };
        let (data, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err("a chunk does not end where it says");
        }
        body.extend_from_slice(data);
        at += size + 2;
    }
}

fn end_of_trailers(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|pair| pair == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(parsed: Parsed<'_>) -> (u16, Vec<u8>, usize) {
        match parsed {
            Parsed::Whole(answer, size) => (answer.status, answer.body.into_owned(), size),
            other => panic!("not whole: {other:?}"),
        }
    }

    #[test]
    fn an_answer_in_pieces_is_whole_only_at_its_last_byte() {
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Anycable-Poll-Id: a.b\r\n\r\nhello",
            b"HTTP/1.1 204 No Content\r\nPollux-Cursor: 4\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        ];
        for bytes in answers {
            for cut in 0..bytes.len() {
                assert!(matches!(parse(&bytes[..cut]), Parsed::Partial), "{cut}");
            }
            let (_, _, size) = body_of(parse(bytes));
            assert_eq!(size, bytes.len());
        }
        assert_eq!(body_of(parse(answers[0])).1, b"hello");
        assert_eq!(body_of(parse(answers[2])).1, b"hello");
        assert_eq!(body_of(parse(answers[3])).0, 201);
    }

    #[test]
    fn fields_are_found_whatever_their_case() {
        let bytes = b"HTTP/1.1 200 OK\r\nETAG: 0\r\nlast-modified: Thu\r\nx-anycable-poll-id: r.s\r\nPollux-Cursor: 12\r\nPollux-Gap: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let Parsed::Whole(answer, _) = parse(bytes) else {
            panic!("not whole");
        };
        assert_eq!(answer.fields.etag, Some(&b"0"[..]));
        assert_eq!(answer.fields.last_modified, Some(&b"Thu"[..]));
        assert_eq!(answer.fields.poll_id, Some(&b"r.s"[..]));
        assert_eq!(answer.fields.cursor.and_then(number), Some(12));
        assert_eq!(answer.fields.gap, Some(&b"1"[..]));
        assert!(answer.closes);
    }

    #[test]
    fn an_answer_without_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert!(matches!(parse(bytes), Parsed::Partial));
        assert_eq!(body_of(parse_at_end(bytes)).1, b"abc");
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
        assert!(matches!(parse_at_end(cut), Parsed::Partial));
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            assert!(matches!(parse(bytes), Parsed::Bad(_)), "{bytes:?}");
        }
    }
}
