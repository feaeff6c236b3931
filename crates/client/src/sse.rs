//! Server-sent events: a session as long as its answer.

use crate::{Http, Trouble, Wire, http::trouble, subscriber::Batch};
use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::timeout;

/// A node answers an open at once, or when its backend has.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Of an answer that is no stream, and of one line, no more is read.
const LINE_MAX: usize = 64 << 20;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    /// Ends the connection when it is dropped.
    _http: Http,
    parser: Parser,
}

/// Takes the data out of events. Their names are those of the frames in it.
#[derive(Debug, Default)]
struct Parser {
    /// A line whose end has not come yet.
    line: Vec<u8>,
    data: Option<String>,
}

impl Events {
    pub(crate) async fn open(
        wire: &Wire,
        path: &str,
        commands: &[String],
    ) -> Result<Self, Trouble> {
        let mut http = Http::new(wire.clone());
        let accept = HeaderValue::from_static("text/event-stream");
        let more: [(HeaderName, HeaderValue); 1] = [(header::ACCEPT, accept)];
        let body = Bytes::from(commands.join("\n"));
        let open = async {
            let answer = http.send(Method::POST, path, &more, body).await?;
            let (head, body) = answer.into_parts();
            if head.status == StatusCode::OK {
                return Ok(body);
            }
            let said = Limited::new(body, LINE_MAX).collect().await;
            let said = said.map_err(|error| Trouble::away(&*error))?.to_bytes();
            Err(trouble(head.status, &head.headers, &said))
        };
        let opened = timeout(OPEN_TIMEOUT, open).await;
        let body = opened.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", OPEN_TIMEOUT.as_secs());
            Err(Trouble::Away(why))
        })?;
        Ok(Self {
            body,
            _http: http,
            parser: Parser::default(),
        })
    }

    pub(crate) async fn frames(&mut self) -> Result<Batch, Trouble> {
        loop {
            let Some(frame) = self.body.frame().await else {
                return Err(Trouble::Away("the node closed the connection".to_owned()));
            };
            let frame = frame.map_err(|error| Trouble::away(&error))?;
            let lines = match frame.data_ref() {
                Some(bytes) => self.parser.feed(bytes)?,
                None => continue,
            };
            if !lines.is_empty() {
                return Ok(Batch { lines, gap: false });
            }
        }
    }
}

impl Parser {
    /// The data of the events that are complete now.
    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, Trouble> {
        let mut complete = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len().saturating_add(piece.len()) > LINE_MAX {
                return Err(Trouble::refused("an event is too large"));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let text = String::from_utf8_lossy(&line);
                complete.extend(self.line_of(text.trim_end_matches(['\n', '\r'])));
            }
        }
        Ok(complete)
    }

    fn line_of(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            return self.data.take();
        }
        let text = line.strip_prefix("data:")?;
        let text = text.strip_prefix(' ').unwrap_or(text);
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(text);
            }
            None => self.data = Some(text.to_owned()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_their_bytes_come() {
        let stream = "retry: 1000\n\nevent: welcome\ndata: {\"a\":1}\n\n: comment\n\
                      data: ü\r\ndata:b\r\n\r\ndata: cut";
        let mut at_once = Parser::default();
        let expected = vec!["{\"a\":1}".to_owned(), "ü\nb".to_owned()];
        assert_eq!(at_once.feed(stream.as_bytes()).unwrap(), expected);
        let mut by_bytes = Parser::default();
        let mut got = Vec::new();
        for byte in stream.as_bytes().chunks(1) {
            got.extend(by_bytes.feed(byte).unwrap());
        }
        assert_eq!(got, expected);
    }
}
