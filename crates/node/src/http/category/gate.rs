//! Who may poll and who may publish.

use super::{Category, Refusal, refusal};
use crate::{
    auth::{Client, ConnectRequest},
    runtime::Rejected,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"pollux\", charset=\"UTF-8\"");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"pollux\"");

/// A user and a password, as HTTP's Basic authentication puts them together.
#[derive(Clone, Debug)]
pub(crate) struct BasicUser(SecretString);

impl BasicUser {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        Self(format!("{user}:{password}").into())
    }

    /// Whether the headers name this user. Takes the same time for every wrong
    /// pair of the right length.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get(header::AUTHORIZATION);
        let presented = presented.and_then(|value| value.as_bytes().split_at_checked(6));
        let Some((scheme, pair)) = presented else {
            return false;
        };
        let pair = STANDARD.decode(pair.trim_ascii()).unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"basic ")
            && pair.ct_eq(self.0.expose_secret().as_bytes()).into()
    }
}

impl Category {
    /// Lets a poller in who named the user, if there is one.
    pub(super) fn admit_user(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.user {
            Some(user) if !user.is_in(headers) => Err(self.unauthorized(BASIC)),
            _ => Ok(()),
        }
    }

    /// Lets a poller in who may connect. Whoever named the user may.
    pub(super) async fn admit_client(&self, head: &Parts) -> Result<Client, Refusal> {
        if self.user.is_some() {
            return Ok(Client::default());
        }
        let connect = ConnectRequest::of(head);
        let asked = self.runtime.let_in_anew(connect).await;
        asked.map_err(|rejected| match rejected {
            Rejected::Dismissed { .. } => self.unauthorized(BEARER),
            Rejected::Later => {
                let reason = "Nobody can say now who may poll; try again later.";
                Box::new(refusal(StatusCode::SERVICE_UNAVAILABLE, reason))
            }
        })
    }

    /// Lets a publisher in who named the user or has the broadcast key, or
    /// anybody where neither is asked for.
    pub(super) fn admit_publisher(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let has_key = |headers| match &self.publish.key {
            Some(key) => key.is_in(headers),
            None => false,
        };
        match &self.user {
            Some(user) if user.is_in(headers) || has_key(headers) => Ok(()),
            Some(_) => Err(self.unauthorized(BASIC)),
            None if has_key(headers) => Ok(()),
            None if self.publish.key.is_some() => Err(self.unauthorized(BEARER)),
            None if !self.is_open => {
                self.runtime.metrics.failed_auths.inc();
                let reason = "Publishing takes a broadcast_key or a category_user.";
                Err(Box::new(refusal(StatusCode::FORBIDDEN, reason)))
            }
            // Without a key, any page a developer visits could publish.
            None if self.origins.is_none() && self.publish.is_foreign(headers) => {
                let reason = "A page of another origin may not publish without a key.";
                Err(Box::new(refusal(StatusCode::FORBIDDEN, reason)))
            }
            None => Ok(()),
        }
    }

    fn unauthorized(&self, challenge: HeaderValue) -> Refusal {
        self.runtime.metrics.failed_auths.inc();
        let mut answer = refusal(StatusCode::UNAUTHORIZED, "Unauthorized.");
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        Box::new(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_pair_is_the_user() {
        let user = BasicUser::new("ann", "s3c:rét");
        let names = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            user.is_in(&headers)
        };
        let pair = |pair: &str| STANDARD.encode(pair);
        assert!(names(&format!("Basic {}", pair("ann:s3c:rét"))));
        assert!(names(&format!("basic  {}", pair("ann:s3c:rét"))));
        for wrong in [
            format!("Basic {}", pair("ann:s3c:re")),
            format!("Basic {}", pair("ann:")),
            format!("Basic {}", pair("ann")),
            format!("Bearer {}", pair("ann:s3c:rét")),
            "Basic ann:s3c:r".to_owned(),
            "Basic ".to_owned(),
            "Basic".to_owned(),
            String::new(),
        ] {
            assert!(!names(&wrong), "{wrong}");
        }
        assert!(!user.is_in(&HeaderMap::new()));
    }
}
