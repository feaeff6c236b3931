//! The one shape of request that is served here.
//!
//! * HTTP/1.1, `POST` (or `OPTIONS`, a page's question before it polls), with
//!   the poll path as its target, a query allowed;
//! * no `Transfer-Encoding`, `Expect`, `Upgrade` or `Connection` other than
//!   `keep-alive`;
//! * none of the headers that matter twice;
//! * a body of known length within the limit, and nothing after it.
//!
//! Everything else is handed over. The parser is hyper's own, with the same
//! settings, so the two can't disagree on where a request ends.

use crate::http::may_compress;
use http::{HeaderMap, HeaderName, HeaderValue};

/// More headers than any browser sends.
const MAX_HEADERS: usize = 64;

/// A head that is not complete after this many bytes is handed over.
const MAX_HEAD: usize = 16 * 1024;

/// What the bytes so far are.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    /// The beginning of a request that may be served here.
    Partial,
    /// A request to serve here.
    Poll(PollHead<'a>),
    /// A page's question whether it may poll.
    Preflight {
        /// Who asks.
        origin: Option<HeaderValue>,
    },
    /// Not for us.
    HandOver,
}

/// A complete poll or open.
#[derive(Debug)]
pub(super) struct PollHead<'a> {
    pub(super) poll_id: Option<&'a str>,
    pub(super) cursor: Option<u64>,
    /// What the page is called that sent it.
    pub(super) origin: Option<HeaderValue>,
    /// Whether it may be answered compressed: [`may_compress`].
    pub(super) takes_gzip: bool,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
    /// All headers, for an open, and for a poll that presents a token: others
    /// were let in when they were opened.
    pub(super) headers: Option<HeaderMap>,
}

/// Looks at the bytes of one request.
pub(super) fn parse<'a>(
    bytes: &'a [u8],
    path: &str,
    max_body: usize,
    token: Option<&str>,
) -> Parsed<'a> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head_length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Parsed::HandOver,
    };
    let Some(query) = request.path.and_then(|target| query_of(target, path)) else {
        return Parsed::HandOver;
    };
    if request.version != Some(1) {
        return Parsed::HandOver;
    }
    let Some(known) = Known::of(request.headers) else {
        return Parsed::HandOver;
    };
    let length = known.content_length.unwrap_or(0);
    if length > max_body {
        return Parsed::HandOver;
    }
    let Some((_, body)) = bytes.split_at_checked(head_length) else {
        return Parsed::HandOver;
    };
    if body.len() > length {
        // Another request follows without waiting for the answer.
        return Parsed::HandOver;
    }
    if body.len() < length {
        return Parsed::Partial;
    }
    match request.method {
        Some("OPTIONS") if body.is_empty() => Parsed::Preflight {
            origin: known.origin,
        },
        Some("POST") => {
            let presents = token.is_some_and(|token| presents(token, request.headers, query));
            let matter = known.poll_id.is_none() || presents;
            let headers = matter.then(|| owned(request.headers));
            let Some(headers) = headers.map_or(Some(None), |headers| headers.map(Some)) else {
                return Parsed::HandOver;
            };
            Parsed::Poll(PollHead {
                poll_id: known.poll_id,
                cursor: known.cursor,
                origin: known.origin,
                takes_gzip: may_compress(known.cursor, known.encodings),
                query,
                body,
                headers,
            })
        }
        _ => Parsed::HandOver,
    }
}

/// Whether there is something of this name that could be a token.
fn presents(token: &str, headers: &[httparse::Header<'_>], query: &str) -> bool {
    let is_it = |header: &httparse::Header<'_>| {
        let name = header.name.as_bytes();
        let (prefix, rest) = name.split_at_checked(2).unwrap_or_default();
        prefix.eq_ignore_ascii_case(b"x-") && rest.eq_ignore_ascii_case(token.as_bytes())
    };
    // A name in the query may be spelled with percent signs.
    headers.iter().any(is_it) || query.contains(token) || query.contains('%')
}

/// The headers of a request that was parsed before.
pub(super) fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(_) => owned(request.headers).unwrap_or_default(),
        Err(_) => HeaderMap::new(),
    }
}

/// The query of a target that is the poll path.
fn query_of<'a>(target: &'a str, path: &str) -> Option<&'a str> {
    match target.strip_prefix(path)? {
        "" => Some(""),
        rest => rest.strip_prefix('?').filter(|query| !query.contains('#')),
    }
}

/// The headers that matter.
#[derive(Debug, Default)]
struct Known<'a> {
    content_length: Option<usize>,
    poll_id: Option<&'a str>,
    cursor: Option<u64>,
    origin: Option<HeaderValue>,
    encodings: Option<&'a [u8]>,
}

impl<'a> Known<'a> {
    /// `None` if one of them is something to hand over.
    fn of(headers: &[httparse::Header<'a>]) -> Option<Self> {
        let mut known = Self::default();
        let mut cursors = 0;
        for header in headers {
            let (name, value) = (header.name.as_bytes(), header.value);
            // The length tells most headers from those that matter.
            match name.len() {
                6 if name.eq_ignore_ascii_case(b"origin") => {
                    first(&mut known.origin, HeaderValue::from_bytes(value).ok()?)?;
                }
                6 if name.eq_ignore_ascii_case(b"expect") => return None,
                7 if name.eq_ignore_ascii_case(b"upgrade") => return None,
                10 if name.eq_ignore_ascii_case(b"connection")
                    && !value.eq_ignore_ascii_case(b"keep-alive") =>
                {
                    return None;
                }
                13 if name.eq_ignore_ascii_case(b"pollux-cursor") => {
                    cursors += 1;
                    known.cursor = std::str::from_utf8(value).ok()?.trim().parse().ok();
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    first(&mut known.content_length, digits(value)?)?;
                }
                15 if name.eq_ignore_ascii_case(b"accept-encoding") => {
                    first(&mut known.encodings, value)?;
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return None,
                18 if name.eq_ignore_ascii_case(b"x-anycable-poll-id") => {
                    first(&mut known.poll_id, std::str::from_utf8(value).ok()?)?;
                }
                _ => {}
            }
        }
        (cursors < 2).then_some(known)
    }
}

/// Keeps a value; `None` if there was one already.
fn first<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// A number of nothing but digits, few enough not to overflow.
fn digits(value: &[u8]) -> Option<usize> {
    let is_number = !value.is_empty() && value.len() <= 9 && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        value
            .iter()
            .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
    })
}

fn owned(headers: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(request: &str) -> Parsed<'_> {
        parse(request.as_bytes(), "/lp", 100, Some("jid"))
    }

    #[test]
    fn headers_are_kept_where_they_matter() {
        let keeps = |query: &str, header: &str| {
            let request = format!("POST /lp{query} HTTP/1.1\r\n{header}\r\n\r\n");
            match parsed(&request) {
                Parsed::Poll(head) => head.headers.is_some(),
                _ => panic!("not served here"),
            }
        };
        let id = "X-Anycable-Poll-ID: r.s";
        assert!(keeps("", "Host: a"));
        assert!(!keeps("?sid=1", id));
        assert!(keeps("?jid=1", id) && keeps("?%6aid=1", id));
        assert!(keeps("", &format!("{id}\r\nX-JID: a")));
    }

    #[test]
    fn an_ordinary_poll_is_served_here() {
        let request = "POST /lp?sid=1 HTTP/1.1\r\nHost: a\r\nX-Anycable-Poll-ID: r.s\r\n\
            pollux-cursor: 7\r\nContent-Length: 2\r\n\r\nhi";
        let Parsed::Poll(head) = parsed(request) else {
            panic!("not served here")
        };
        assert_eq!((head.poll_id, head.cursor), (Some("r.s"), Some(7)));
        assert_eq!((head.query, head.body), ("sid=1", b"hi".as_slice()));
        assert!(head.headers.is_none());
        for end in 0..request.len() {
            let start = request.get(..end).unwrap();
            assert!(matches!(parsed(start), Parsed::Partial), "{start}");
        }
    }

    #[test]
    fn an_open_brings_all_its_headers() {
        let Parsed::Poll(head) = parsed("POST /lp HTTP/1.1\r\nCookie: a\r\nX: 1\r\n\r\n") else {
            panic!("not served here")
        };
        assert_eq!(head.headers.unwrap().len(), 2);
    }

    #[test]
    fn whatever_is_unusual_is_handed_over() {
        for request in [
            "GET /lp HTTP/1.1\r\n\r\n",
            "POST /other HTTP/1.1\r\n\r\n",
            "POST /lpx HTTP/1.1\r\n\r\n",
            "POST http://host/lp HTTP/1.1\r\n\r\n",
            "POST /lp#a HTTP/1.1\r\n\r\n",
            "POST /lp?a#b HTTP/1.1\r\n\r\n",
            "POST /lp HTTP/1.0\r\n\r\n",
            "POST /lp HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /lp HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            "POST /lp HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "POST /lp HTTP/1.1\r\nConnection: close\r\n\r\n",
            "POST /lp HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST /lp HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
            "POST /lp HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx",
            "POST /lp HTTP/1.1\r\nContent-Length: 101\r\n\r\n",
            "POST /lp HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST /lp HTTP/1.1\r\n\r\nPOST /lp HTTP/1.1\r\n\r\n",
            "POST /lp HTTP/1.1\r\nX-Anycable-Poll-ID: a\r\nX-Anycable-Poll-ID: b\r\n\r\n",
            "POST /lp HTTP/1.1\r\nPollux-Cursor: 1\r\nPollux-Cursor: 2\r\n\r\n",
            "POST /lp HTTP/1.1\r\nOrigin: a\r\nOrigin: b\r\n\r\n",
            "POST /lp HTTP/1.1\r\nAccept-Encoding: a\r\nAccept-Encoding: b\r\n\r\n",
            "OPTIONS /lp HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}",
        ] {
            assert!(matches!(parsed(request), Parsed::HandOver), "{request}");
        }
        let endless = format!("POST /lp HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD));
        assert!(matches!(parsed(&endless), Parsed::HandOver));
    }
}
