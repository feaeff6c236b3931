//! Where requests go: a plain `http://` URL, taken apart once.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const HTTP_PORT: u16 = 80;
/// A server on the next desk answers a connect in microseconds; beyond this nobody is there.
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(3);

/// A server and a path on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Resolved once, so that no poller waits for DNS.
    pub(crate) addr: SocketAddr,
    /// What goes into the `Host` header.
    pub(crate) authority: String,
    /// Starts with a slash or is empty.
    pub(crate) path: String,
}

impl Target {
    /// Reads `http://host[:port][/path]`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("`{url}` is not an http:// URL (TLS is not measured; put it in front)");
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        if authority.is_empty() || authority.contains(['@', '?', '#', ' ']) {
            bail!("`{url}` has no usable host");
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let dialled = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:{HTTP_PORT}")
        };
        let addr = dialled
            .to_socket_addrs()
            .with_context(|| format!("failed to resolve `{dialled}`"))?
            .min_by_key(SocketAddr::is_ipv6)
            .with_context(|| format!("`{dialled}` has no address"))?;
        Ok(Self {
            addr,
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// The same server, another path below this one.
    pub(crate) fn join(&self, path: &str) -> Self {
        let slash = if path.starts_with('/') { "" } else { "/" };
        Self {
            path: format!("{}{slash}{path}", self.path),
            ..self.clone()
        }
    }

    /// Fails with a sentence a person understands if nobody listens.
    pub(crate) fn check_somebody_listens(&self) -> Result<()> {
        match TcpStream::connect_timeout(&self.addr, PREFLIGHT_TIMEOUT) {
            Ok(_) => Ok(()),
            Err(error) => bail!(
                "nothing listens at http://{} ({error}); is the server running?",
                self.authority
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        let target = Target::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!(target.addr.to_string(), "127.0.0.1:8080");
        assert_eq!(target.authority, "127.0.0.1:8080");
        assert_eq!(target.join("/lp").path, "/lp");
        let below = Target::parse("http://127.0.0.1/app/").unwrap();
        assert_eq!(below.addr.port(), 80);
        assert_eq!(below.join("lp").path, "/app/lp");
        assert_eq!(
            Target::parse("http://[::1]:9").unwrap().addr.to_string(),
            "[::1]:9"
        );
    }

    #[test]
    fn refuses_what_it_cannot_dial() {
        for url in [
            "127.0.0.1:8080",
            "https://a",
            "http://",
            "http:///lp",
            "http://a b",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
