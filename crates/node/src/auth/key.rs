//! Bearer keys of publishers.

use http::{HeaderMap, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// The key a publisher must present as `Authorization: Bearer <key>`.
#[derive(Clone, Debug)]
pub(crate) struct BearerKey(SecretString);

impl BearerKey {
    pub(crate) fn new(key: String) -> Self {
        Self(key.into())
    }

    /// Whether the headers present the key. Takes the same time for every wrong
    /// key of the right length.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
        presented
            .and_then(|value| value.strip_prefix(b"Bearer "))
            .is_some_and(|key| key.ct_eq(self.0.expose_secret().as_bytes()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_is_the_key() {
        let key = BearerKey::new("s3Krit".to_owned());
        let presents = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            key.is_in(&headers)
        };
        assert!(presents("Bearer s3Krit"));
        for wrong in [
            "Bearer s3Kri",
            "Bearer s3Krit2",
            "Bearer ",
            "Basic s3Krit",
            "s3Krit",
            "",
        ] {
            assert!(!presents(wrong), "{wrong}");
        }
        assert!(!key.is_in(&HeaderMap::new()));
    }
}
