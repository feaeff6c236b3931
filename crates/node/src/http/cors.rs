//! Which web pages may talk to this node.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers of ours that pages may read.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("X-Anycable-Poll-ID, Pollux-Cursor, Pollux-Gap");

/// Headers that pages may send.
const ALLOWED: HeaderValue = HeaderValue::from_static(
    "X-Anycable-Poll-ID, Pollux-Cursor, X-Anycable-Restore-Sid, X-JID, Authorization, \
     Content-Type, X-Requested-With",
);

/// Methods of the poll route.
const METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");

/// Two hours, the longest Chromium honours. Without it a page asks before every
/// poll, because browsers remember an answer without it for five seconds only.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The operator's list of origins.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    /// Lower-case `host[:port]` or `*suffix`; empty for any.
    allowed: Vec<String>,
}

impl Origins {
    pub(crate) fn new(allowed: &[String]) -> Self {
        let allowed = allowed
            .iter()
            .map(|origin| host_of(origin).to_ascii_lowercase());
        Self {
            allowed: allowed.filter(|origin| !origin.is_empty()).collect(),
        }
    }

    /// Whether pages of every origin are served.
    pub(crate) fn is_any(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Whether a request from a page of this origin is served. One without an
    /// origin is: it comes from no page.
    pub(crate) fn allow(&self, origin: Option<&HeaderValue>) -> bool {
        let Some(origin) = origin.filter(|_| !self.is_any()) else {
            return true;
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let host = host_of(origin).to_ascii_lowercase();
        self.allowed
            .iter()
            .any(|allowed| match allowed.strip_prefix('*') {
                Some(suffix) => host.ends_with(suffix),
                None => host == *allowed,
            })
    }

    /// Adds what browsers need to let a page read an answer. With a list, the
    /// origin is named and its cookies are welcome; without one, any page may
    /// read and none may bring cookies.
    pub(crate) fn mark(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        answer.insert(header::VARY, HeaderValue::from_static("Origin"));
        if self.is_any() {
            answer.insert(ALLOW_ORIGIN, HeaderValue::from_static("*"));
            answer.insert(EXPOSE_HEADERS, EXPOSED);
        } else if let Some(origin) = origin.filter(|origin| self.allow(Some(origin))) {
            answer.insert(ALLOW_ORIGIN, origin.clone());
            answer.insert(EXPOSE_HEADERS, EXPOSED);
            answer.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
    }

    /// Adds what a preflight asks for.
    pub(crate) fn preflight(answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
}

const ALLOW_ORIGIN: HeaderName = header::ACCESS_CONTROL_ALLOW_ORIGIN;
const EXPOSE_HEADERS: HeaderName = header::ACCESS_CONTROL_EXPOSE_HEADERS;

/// An origin without its scheme.
fn host_of(origin: &str) -> &str {
    origin
        .split_once("://")
        .map_or(origin, |(_, host)| host)
        .trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> Option<&'static HeaderValue> {
        Some(Box::leak(Box::new(HeaderValue::from_static(origin))))
    }

    fn origins(list: &[&str]) -> Origins {
        Origins::new(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn without_a_list_every_page_may_read_and_none_may_bring_cookies() {
        let any = origins(&[]);
        assert!(any.allow(from("https://evil.example")));
        let mut answer = HeaderMap::new();
        any.mark(
            Some(&HeaderValue::from_static("https://a.example")),
            &mut answer,
        );
        assert_eq!(answer[ALLOW_ORIGIN], "*");
        assert!(!answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn a_list_names_hosts_and_suffixes() {
        let some = origins(&[
            "app.example.com",
            "*.trusted.example",
            "https://localhost:3000/",
        ]);
        for good in [
            "https://app.example.com",
            "http://APP.example.com",
            "https://a.trusted.example",
            "http://localhost:3000",
        ] {
            assert!(some.allow(from(good)), "{good}");
        }
        for bad in [
            "https://example.com",
            "https://app.example.com:81",
            "https://trusted.example",
            "null",
            "https://a.trusted.example.evil",
        ] {
            assert!(!some.allow(from(bad)), "{bad}");
        }
        assert!(some.allow(None));
        let mut answer = HeaderMap::new();
        some.mark(
            Some(&HeaderValue::from_static("https://app.example.com")),
            &mut answer,
        );
        assert_eq!(answer[ALLOW_ORIGIN], "https://app.example.com");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(answer[header::VARY], "Origin");
        let mut refused = HeaderMap::new();
        some.mark(
            Some(&HeaderValue::from_static("https://evil.example")),
            &mut refused,
        );
        assert!(!refused.contains_key(ALLOW_ORIGIN));
    }
}
