//! Where a node is.

use ::http::Uri;
use std::fmt;

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// A node's address, and the path if one was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// Not zero.
    pub port: u16,
    /// The path and query, if there is more than a slash.
    pub path: Option<String>,
}

impl Address {
    /// Reads `http://host:port`, `https://…`, `ws://…` or `wss://…`, with or without a path.
    /// `None` if it is something else, or holds a password, which would end up in logs.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        let (tls, port) = match uri.scheme_str()? {
            "http" | "ws" => (false, HTTP_PORT),
            "https" | "wss" => (true, HTTPS_PORT),
            _ => return None,
        };
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host();
        // A port that is none is left out of what is parsed, and the default one was not meant.
        let said = authority.as_str().strip_prefix(host)?;
        let port = match said.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => port,
        };
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let path = uri.path_and_query().map(|path| path.as_str());
        (!host.is_empty()).then(|| Self {
            tls,
            host: host.to_owned(),
            port,
            path: path.filter(|path| *path != "/").map(str::to_owned),
        })
    }

    /// What a `Host` header says.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let path = self.path.as_deref().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_nothing_is_guessed() {
        for (url, read) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://node1/", "http://node1:80"),
            ("ws://[::1]:81/cable?a=b", "http://[::1]:81/cable?a=b"),
            ("https://example.com/x", "https://example.com:443/x"),
        ] {
            let address = Address::parse(url).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(read), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:8080",
            "ftp://node1",
            "http://user:password@node1",
            "http://node1:99999",
            "http://node1:0",
            "http://node1:/",
            "http:///x",
        ] {
            assert_eq!(Address::parse(url), None, "{url}");
        }
    }
}
