//! What the options of traces stand for.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::Scheme};
use secrecy::ExposeSecret as _;

use super::{
    rules::Rule,
    settings::{Config, OtlpProtocol},
};

/// What OpenTelemetry's protocol over HTTP puts behind an endpoint.
const TRACES_PATH: &str = "/v1/traces";

impl Config {
    /// The URL that traces are sent to, if there are any.
    pub fn traces_url(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.as_ref()?.expose_secret().trim();
        let base = endpoint.trim_end_matches('/');
        let is_whole = self.otlp_protocol == OtlpProtocol::Grpc || base.ends_with(TRACES_PATH);
        Some(if is_whole {
            base.to_owned()
        } else {
            format!("{base}{TRACES_PATH}")
        })
    }

    /// The headers that go with traces; `None` if they are not well written.
    pub fn traces_headers(&self) -> Option<HeaderMap> {
        let text = self.otlp_headers.expose().unwrap_or_default();
        let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=')?;
                let name = HeaderName::try_from(name.trim()).ok()?;
                let mut value = HeaderValue::try_from(decoded(value.trim())).ok()?;
                value.set_sensitive(true);
                Some((name, value))
            })
            .collect()
    }

    pub(super) fn broken_otlp(&self) -> Vec<Rule> {
        let mut broken = Vec::new();
        if self.traces_url().is_some_and(|url| !is_http(&url)) {
            // Not shown, as it may hold a password.
            let reason = "is no URL such as http://collector:4317";
            broken.push(Rule::new("otlp_endpoint", reason.to_owned()));
        }
        if self.traces_headers().is_none() {
            let reason = "is no list such as name=value, name=value";
            broken.push(Rule::new("otlp_headers", reason.to_owned()));
        }
        broken
    }
}

fn is_http(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let known = [Scheme::HTTP, Scheme::HTTPS];
    uri.scheme().is_some_and(|scheme| known.contains(scheme)) && uri.host().is_some()
}

/// A value without its percent signs.
fn decoded(value: &str) -> String {
    // What has a meaning in forms has none here.
    let form = value.replace('+', "%2B").replace('&', "%26");
    let form = format!("={form}");
    let mut pairs = form_urlencoded::parse(form.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use secrecy::SecretString;

    fn with(endpoint: &str, otlp_protocol: OtlpProtocol, headers: &str) -> Config {
        Config {
            otlp_endpoint: Some(SecretString::from(endpoint)),
            otlp_protocol,
            otlp_headers: Secret::new(headers),
            ..Config::default()
        }
    }

    #[test]
    fn an_endpoint_is_completed_for_http_only() {
        let url = |endpoint, protocol| with(endpoint, protocol, "").traces_url().unwrap();
        assert_eq!(url("http://c:4317/", OtlpProtocol::Grpc), "http://c:4317");
        let whole = "http://c:4318/v1/traces";
        assert_eq!(url("http://c:4318", OtlpProtocol::Http), whole);
        assert_eq!(url("http://c:4318/", OtlpProtocol::Http), whole);
        assert_eq!(url(whole, OtlpProtocol::Http), whole);
        assert_eq!(Config::default().traces_url(), None);
        for wrong in ["collector:4317", "redis://c", "http://", "", "a b"] {
            assert_eq!(
                with(wrong, OtlpProtocol::Grpc, "").broken_otlp().len(),
                1,
                "{wrong}"
            );
        }
    }

    #[test]
    fn headers_are_a_list() {
        let config = with(
            "http://c",
            OtlpProtocol::Grpc,
            "x-key = a%3D+b%2Cc&d , Other=1,",
        );
        let headers = config.traces_headers().unwrap();
        assert_eq!(headers["x-key"], "a=+b,c&d");
        assert_eq!(headers["other"], "1");
        assert!(config.broken_otlp().is_empty());
        for wrong in ["key", "k y=1", "key=%0A"] {
            assert!(
                with("http://c", OtlpProtocol::Grpc, wrong)
                    .traces_headers()
                    .is_none()
            );
        }
        assert!(Config::default().traces_headers().unwrap().is_empty());
    }
}
