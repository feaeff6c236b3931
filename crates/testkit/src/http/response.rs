//! A response, with its bytes.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::Value;

/// More headers than any answer of ours has.
const MAX_HEADERS: usize = 64;

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers in the order they came, names as they were written.
    pub headers: Vec<(String, String)>,
    /// The head as it came, with the empty line.
    pub head: Bytes,
    /// The body as it came.
    pub body: Bytes,
}

impl Response {
    /// The response's head at the start of `bytes`, its body still empty; `None` if it is not
    /// complete.
    pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let length = match parsed.parse(bytes)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).context("header is not UTF-8");
        let headers = parsed
            .headers
            .iter()
            .map(|header| Ok((header.name.to_owned(), text(header.value)?)))
            .collect::<Result<_>>()?;
        let status = parsed.code.context("no status")?;
        let head = Bytes::copy_from_slice(bytes.get(..length).unwrap_or(bytes));
        Ok(Some(Self {
            status,
            headers,
            head,
            body: Bytes::new(),
        }))
    }

    /// How long the body is.
    pub(crate) fn body_length(&self) -> Result<usize> {
        if matches!(self.status, 100..200 | 204 | 304) {
            return Ok(0);
        }
        match self.header("content-length") {
            Some(length) => length.parse().context("Content-Length is not a number"),
            None => bail!("{} has no Content-Length: {:?}", self.status, self.headers),
        }
    }

    /// A header's value, if there is one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// Whether a header that is a list of words holds this one.
    #[must_use]
    pub fn lists(&self, name: &str, word: &str) -> bool {
        let named = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named
            .flat_map(|(_, value)| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    }

    /// The body as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        str::from_utf8(&self.body).context("the body is not UTF-8")
    }

    /// The body's lines, each one JSON object.
    ///
    /// # Errors
    /// Some line is not, or the last has no newline.
    pub fn frames(&self) -> Result<Vec<Value>> {
        let text = self.text()?;
        ensure!(
            text.is_empty() || text.ends_with('\n'),
            "no newline at the end: {text:?}"
        );
        text.lines()
            .map(|line| {
                let frame: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                ensure!(frame.is_object(), "not an object: {line}");
                Ok(frame)
            })
            .collect()
    }

    /// The `Pollux-Cursor`, if there is one.
    ///
    /// # Errors
    /// It is not a number.
    pub fn cursor(&self) -> Result<Option<u64>> {
        let cursor = self.header("pollux-cursor");
        cursor
            .map(str::parse)
            .transpose()
            .context("Pollux-Cursor is not a number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Response {
        Response::parse_head(head.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn heads_are_read_when_complete() {
        let head = "HTTP/1.1 401 Unauthorized\r\nVary: Origin, x\r\nContent-Length: 12\r\n\r\n";
        let response = parse(&format!("{head}body"));
        assert_eq!(
            (response.status, response.body_length().unwrap()),
            (401, 12)
        );
        assert_eq!(response.head, head.as_bytes());
        assert!(response.lists("vary", "origin") && !response.lists("vary", "orig"));
        assert!(
            Response::parse_head(b"HTTP/1.1 200 OK\r\nA: b")
                .unwrap()
                .is_none()
        );
        assert!(Response::parse_head(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn bodies_are_framed() {
        assert_eq!(
            parse("HTTP/1.1 204 No Content\r\n\r\n")
                .body_length()
                .unwrap(),
            0
        );
        assert!(parse("HTTP/1.1 200 OK\r\n\r\n").body_length().is_err());
    }

    #[test]
    fn lines_are_objects_with_a_newline_each() {
        let mut response = parse("HTTP/1.1 200 OK\r\n\r\n");
        response.body = "{\"a\":1}\n{}\n".into();
        assert_eq!(response.frames().unwrap().len(), 2);
        for bad in ["{}", "[]\n", "x\n"] {
            response.body = bad.into();
            assert!(response.frames().is_err(), "{bad}");
        }
    }
}
