//! What a backend is told of the request that opened a connection.

use crate::{auth::ConnectRequest, proxies::TrustedProxies};
use http::{HeaderMap, HeaderName, header};
use pollux_rpc::call::State;

/// Under which name the address of the client goes with its headers.
const REMOTE_ADDR: &str = "REMOTE_ADDR";

/// Where a proxy says what was spoken with it.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The operator's rules for that.
#[derive(Debug)]
pub(crate) struct Telling {
    headers: Vec<HeaderName>,
    /// Cookies by name; none named means all.
    cookies: Vec<String>,
    /// Whose word about the client is taken.
    proxies: TrustedProxies,
    /// The node's own ports speak TLS.
    is_secure: bool,
}

/// What is told of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(super) url: String,
    pub(super) headers: State,
}

impl Telling {
    /// Tells of these headers, of which `token` may be one, and of cookies with
    /// these names, or all if none is named. What is no header's name is none.
    pub(crate) fn new(
        headers: &[String],
        token: &str,
        cookies: &[String],
        proxies: TrustedProxies,
        is_secure: bool,
    ) -> Self {
        let token = format!("x-{token}");
        let names = headers.iter().chain([&token]);
        let names = names.filter_map(|name| name.trim().to_ascii_lowercase().parse().ok());
        Self {
            headers: names.collect(),
            cookies: cookies.to_vec(),
            proxies,
            is_secure,
        }
    }

    pub(crate) fn of(&self, request: &ConnectRequest<'_>) -> Told {
        let mut headers = State::new();
        for name in &self.headers {
            if let Some(value) = self.value(request.headers, name) {
                headers.insert(name.as_str().to_owned(), value);
            }
        }
        let peer = request.peer;
        let client = peer.and_then(|peer| self.proxies.client(peer, request.headers));
        if let Some(client) = client.or(peer) {
            let client = client.to_canonical().to_string();
            headers.insert(REMOTE_ADDR.to_owned(), client);
        }
        Told {
            url: self.url(request),
            headers,
        }
    }

    fn value(&self, headers: &HeaderMap, name: &HeaderName) -> Option<String> {
        let values = headers.get_all(name).iter();
        let texts: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        if texts.is_empty() {
            return None;
        }
        if *name != header::COOKIE {
            return Some(texts.join(", "));
        }
        let cookies = texts.iter().flat_map(|text| text.split(';'));
        let cookies = cookies.map(str::trim).filter(|cookie| {
            let name = cookie.split('=').next().unwrap_or_default();
            self.cookies.is_empty() || self.cookies.iter().any(|known| known == name)
        });
        let cookies: Vec<_> = cookies.filter(|cookie| !cookie.is_empty()).collect();
        (!cookies.is_empty()).then(|| cookies.join("; "))
    }

    fn url(&self, request: &ConnectRequest<'_>) -> String {
        let is_trusted = request.peer.is_some_and(|peer| self.proxies.include(peer));
        let forwarded = request.headers.get(FORWARDED_PROTO);
        let forwarded = forwarded.filter(|_| is_trusted);
        let is_secure = match forwarded {
            Some(proto) => proto.as_bytes().eq_ignore_ascii_case(b"https"),
            None => self.is_secure,
        };
        let scheme = if is_secure { "https" } else { "http" };
        let host = request.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let host = request.authority.or(host).unwrap_or("localhost");
        let mut url = format!("{scheme}://{host}{}", request.path);
        if !request.query.is_empty() {
            url.push('?');
            url.push_str(request.query);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::net::IpAddr;

    fn telling(cookies: &[&str]) -> Telling {
        let cookies: Vec<_> = cookies.iter().map(|&name| name.to_owned()).collect();
        let headers = [
            "Cookie".to_owned(),
            "origin".to_owned(),
            "no name".to_owned(),
        ];
        let proxies = TrustedProxies::try_new(&["127.0.0.0/8".to_owned()]).unwrap();
        Telling::new(&headers, "jid", &cookies, proxies, false)
    }

    fn told(telling: &Telling, headers: &HeaderMap, peer: &str) -> Told {
        telling.of(&ConnectRequest {
            headers,
            path: "/cable",
            query: "jid=x",
            authority: None,
            peer: Some(peer.parse::<IpAddr>().unwrap()),
        })
    }

    #[test]
    fn a_backend_is_told_what_the_operator_named() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "app.test:8080"),
            ("cookie", "_session=1; theme=dark;other=2"),
            ("origin", "https://app.test"),
            ("x-jid", "token"),
            ("authorization", "secret"),
            ("x-forwarded-for", "10.9.9.9"),
            ("x-forwarded-proto", "https"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let direct = told(&telling(&[]), &headers, "192.0.2.7");
        assert_eq!(direct.url, "http://app.test:8080/cable?jid=x");
        let get = |told: &Told, name: &str| told.headers.get(name).cloned();
        assert_eq!(
            get(&direct, "cookie").as_deref(),
            Some("_session=1; theme=dark; other=2")
        );
        assert_eq!(get(&direct, "origin").as_deref(), Some("https://app.test"));
        assert_eq!(get(&direct, "x-jid").as_deref(), Some("token"));
        assert_eq!(get(&direct, "REMOTE_ADDR").as_deref(), Some("192.0.2.7"));
        assert_eq!(direct.headers.len(), 4);
        // A proxy's word counts, and cookies by their names.
        let proxied = told(&telling(&["theme", "none"]), &headers, "127.0.0.1");
        assert_eq!(proxied.url, "https://app.test:8080/cable?jid=x");
        assert_eq!(get(&proxied, "REMOTE_ADDR").as_deref(), Some("10.9.9.9"));
        assert_eq!(get(&proxied, "cookie").as_deref(), Some("theme=dark"));
        assert_eq!(
            get(&told(&telling(&["x"]), &headers, "::1"), "cookie"),
            None
        );
    }
}
