//! What the proxy in front tells nodes apart by.
//!
//! A poll id is `<route>.<secret>`. A proxy that balances by the route finds
//! the same node for every poll of a session, whoever the client is. So that
//! this holds for the open too, which has no id yet, the proxy chooses the
//! route and says it with the request; the node puts it into the id.

use crate::{auth::ConnectRequest, proxies::TrustedProxies};
use http::{HeaderName, HeaderValue};

/// In which header the proxy says it.
const HEADER: HeaderName = HeaderName::from_static("x-pollux-route");

/// Room for any hash and any UUID. A route is sent with every poll.
const MAX_LENGTH: usize = 64;

/// A route that a trusted proxy chose: letters, digits, dashes and underscores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route<'a>(&'a str);

/// Why a route that came with a request is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// It may come from the client itself.
    Untrusted,
    /// A dot would end it early, and other characters have no place in an id.
    Malformed,
}

impl Ignored {
    /// The values of the metric's label.
    pub(crate) const REASONS: [&str; 2] = ["untrusted", "malformed"];

    /// The value of the metric's label.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Malformed => "malformed",
        }
    }
}

impl<'a> Route<'a> {
    /// The route that came with a request, if any did.
    ///
    /// # Errors
    /// One did, and is not to be used.
    pub(crate) fn of(
        request: &ConnectRequest<'a>,
        proxies: &TrustedProxies,
    ) -> Result<Option<Self>, Ignored> {
        let mut routes = request.headers.get_all(HEADER).iter();
        let Some(route) = routes.next() else {
            return Ok(None);
        };
        if !request.peer.is_some_and(|peer| proxies.include(peer)) {
            return Err(Ignored::Untrusted);
        }
        // A second one was added by somebody who should have replaced the first.
        let only = routes.next().is_none();
        let route = Self::parse(route).filter(|_| only);
        route.map(Some).ok_or(Ignored::Malformed)
    }

    /// The text of it.
    pub(crate) const fn as_str(self) -> &'a str {
        self.0
    }

    fn parse(value: &'a HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let fits = !text.is_empty() && text.len() <= MAX_LENGTH;
        (fits && text.bytes().all(allowed)).then_some(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    /// What comes of these values of the header, from this peer.
    fn of(values: &[&str], peer: Option<&str>) -> Result<Option<String>, Ignored> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let request = ConnectRequest {
            headers: &headers,
            path: "/lp",
            query: "",
            authority: None,
            peer: peer.map(|peer| peer.parse().unwrap()),
        };
        let proxies = TrustedProxies::try_new(&["10.0.0.0/8".to_owned()]).unwrap();
        let route = Route::of(&request, &proxies)?;
        Ok(route.map(|route| route.as_str().to_owned()))
    }

    #[test]
    fn a_trusted_proxy_is_taken_at_its_word() {
        let long = "x".repeat(MAX_LENGTH);
        for route in ["a", "0b1f-_Z", &long] {
            assert_eq!(of(&[route], Some("10.0.0.9")), Ok(Some(route.to_owned())));
        }
        assert_eq!(of(&[], Some("10.0.0.9")), Ok(None));
    }

    #[test]
    fn nobody_else_is() {
        assert_eq!(of(&["a"], Some("11.0.0.9")), Err(Ignored::Untrusted));
        assert_eq!(of(&["a"], None), Err(Ignored::Untrusted));
        assert_eq!(of(&[], None), Ok(None));
    }

    #[test]
    fn what_does_not_fit_into_an_id_is_ignored() {
        let long = "x".repeat(MAX_LENGTH + 1);
        for route in ["", "a.b", "a b", "a,b", "ä", "a/b", &long] {
            assert_eq!(
                of(&[route], Some("10.0.0.9")),
                Err(Ignored::Malformed),
                "{route:?}"
            );
        }
        assert_eq!(of(&["a", "a"], Some("10.0.0.9")), Err(Ignored::Malformed));
    }
}
