//! A request, written as it was built.

/// A request. Nothing is checked or escaped, so that bad ones can be built too.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `POST`.
    #[must_use]
    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body, sent as one chunk, or none if it is empty.
    #[must_use]
    pub fn in_one_chunk(self, body: &str) -> Self {
        let chunked = match body.len() {
            0 => "0\r\n\r\n".to_owned(),
            length => format!("{length:x}\r\n{body}\r\n0\r\n\r\n"),
        };
        self.header("Transfer-Encoding", "chunked").body(chunked)
    }

    /// The bytes on the wire. `Host` and, where there may be a body, `Content-Length` are added
    /// unless they or a `Transfer-Encoding` were given.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.has("host") {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = self.has("content-length") || self.has("transfer-encoding");
        if !framed && (self.method == "POST" || !self.body.is_empty()) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_built() {
        let request = Request::post("/lp").header("X-A", "1").body("hi");
        let expected =
            "POST /lp HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(request.to_bytes(), expected.as_bytes());
        let request = Request::get("/").header("host", "a");
        assert_eq!(request.to_bytes(), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let request = Request::post("/").header("content-length", "9");
        assert_eq!(
            request.to_bytes(),
            b"POST / HTTP/1.1\r\nHost: localhost\r\ncontent-length: 9\r\n\r\n"
        );
    }
}
