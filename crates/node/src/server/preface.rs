//! Which HTTP a connection speaks, told from its first bytes.
//!
//! HTTP/2 without TLS is spoken by clients that know beforehand that the server
//! does ("prior knowledge"): such a connection begins with 24 bytes that are no
//! request of HTTP/1.

use bytes::{Bytes, BytesMut};
use std::{io, time::Duration};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection begins with, and the bytes that were read to know.
#[derive(Debug)]
pub(super) enum Spoken {
    Http1(Bytes),
    Http2(Bytes),
    /// It ended, or nothing came in time.
    Nothing,
}

/// Reads on from `already` until it is certain, which takes nothing where one
/// byte differs.
pub(super) async fn hear(stream: &mut TcpStream, already: Bytes, within: Duration) -> Spoken {
    if let Some(spoken) = known(&already) {
        return spoken(already);
    }
    match timeout(within, read_on(stream, already)).await {
        Ok(Ok(spoken)) => spoken,
        Ok(Err(_)) | Err(_) => Spoken::Nothing,
    }
}

/// `None` if it could still become either.
fn known(bytes: &[u8]) -> Option<fn(Bytes) -> Spoken> {
    if bytes.starts_with(PREFACE) {
        Some(Spoken::Http2)
    } else if PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Spoken::Http1)
    }
}

async fn read_on(stream: &mut TcpStream, already: Bytes) -> io::Result<Spoken> {
    let mut bytes = BytesMut::from(already);
    loop {
        // Not more than the preface: whoever serves the connection reads the
        // rest into buffers of its own.
        let missing = PREFACE.len().saturating_sub(bytes.len());
        let mut limited = (&mut *stream).take(u64::try_from(missing).unwrap_or(u64::MAX));
        if limited.read_buf(&mut bytes).await? == 0 {
            // Half a preface is for HTTP/1 to complain about.
            return Ok(match bytes.is_empty() {
                true => Spoken::Nothing,
                false => Spoken::Http1(bytes.freeze()),
            });
        }
        if let Some(spoken) = known(&bytes) {
            return Ok(spoken(bytes.freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_differs_is_enough() {
        for end in 0..PREFACE.len() {
            let start = PREFACE.get(..end).unwrap();
            assert!(known(start).is_none(), "{end}");
            let other = [start, b"\0"].concat();
            let spoken = known(&other).unwrap()(Bytes::new());
            assert!(matches!(spoken, Spoken::Http1(_)), "{end}");
        }
        let more = [PREFACE, b"more"].concat();
        let spoken = known(&more).unwrap()(Bytes::new());
        assert!(matches!(spoken, Spoken::Http2(_)));
    }
}
