//! Tokens that say who a client is: JSON Web Tokens (RFC 7519) as AnyCable's SDKs make them.
//!
//! Signed with an HMAC of the SHA-2 family (`HS256`, `HS384`, `HS512`) and nothing else: a token
//! without a signature, or with one that the server's secret can't have made, is nobody's. The
//! claim `ext` is a string with the connection identifiers, `exp` and `nbf` are optional.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Sha256, Sha384, Sha512};

use crate::json;

/// Checks and makes tokens.
#[derive(Clone)]
pub struct TokenVerifier {
    /// The first one signs.
    keys: Vec<Key>,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The connection identifiers, as they stand in the claim `ext`.
    pub identifiers: String,
    /// When it ends, in seconds since 1970; `None` if it never does.
    pub expires: Option<u64>,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It has not three parts of base64, or its header is not understood.
    #[error("the token is not a JSON Web Token")]
    Malformed,
    /// It names an algorithm that is not one of ours, `none` among them.
    #[error("the token's algorithm is not HS256, HS384 or HS512")]
    Algorithm,
    /// No secret of ours made the signature.
    #[error("the token's signature does not match")]
    BadSignature,
    /// The signature is ours, but a claim is missing or of the wrong type.
    #[error("the token's claims are not understood")]
    BadClaims,
    /// It is not valid any more (`exp`).
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet (`nbf`).
    #[error("the token is not valid yet")]
    NotYet,
}

/// One secret, ready for each algorithm.
#[derive(Clone)]
struct Key {
    hs256: Hmac<Sha256>,
    hs384: Hmac<Sha384>,
    hs512: Hmac<Sha512>,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: &'a str,
    /// Extensions that must be understood: there are none that are.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    ext: String,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
}

impl TokenVerifier {
    /// Takes the current secret and any older ones that still count. Empty secrets are left out,
    /// as everybody knows them; `None` if nothing remains, and then tokens prove nothing.
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>) -> Option<Self> {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        let keys: Vec<_> = secrets.map(|secret| Key::new(&secret)).collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// Who the token's bearer is, at `now` (seconds since 1970). There is no leeway: a token
    /// counts until the second in `exp` begins, and from the one in `nbf` on.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |text: &str| {
            let decoded = URL_SAFE_NO_PAD.decode(text);
            decoded.map_err(|_| TokenError::Malformed)
        };
        let signature = decode(signature)?;
        let algorithm = Algorithm::of(&decode(header)?)?;
        // Nothing of the claims is looked at before the signature.
        let mut keys = self.keys.iter();
        if !keys.any(|key| key.signed(algorithm, signed, &signature)) {
            return Err(TokenError::BadSignature);
        }
        let claims: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::BadClaims)?;
        let expires = claims.exp.map(seconds).transpose()?;
        if expires.is_some_and(|expires| now >= expires) {
            return Err(TokenError::Expired);
        }
        if let Some(begins) = claims.nbf
            && now < seconds(begins.ceil())?
        {
            return Err(TokenError::NotYet);
        }
        Ok(Identity {
            identifiers: claims.ext,
            expires,
        })
    }

    /// A token for this identity, signed with the current secret by `HS256`.
    pub fn sign(&self, identity: &Identity) -> String {
        let mut claims = b"{\"ext\":".to_vec();
        json::push_string(&mut claims, &identity.identifiers);
        if let Some(expires) = identity.expires {
            claims.extend_from_slice(format!(",\"exp\":{expires}").as_bytes());
        }
        claims.push(b'}');
        let mut token = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims));
        if let Some(key) = self.keys.first() {
            let mut mac = key.hs256.clone();
            mac.update(token.as_bytes());
            token.push('.');
            token.push_str(&URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        }
        token
    }
}

/// Secrets are never shown.
impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("secrets", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Algorithm {
    /// What the header asks for, if it is one of ours.
    fn of(header: &[u8]) -> Result<Self, TokenError> {
        let header: Header<'_> =
            serde_json::from_slice(header).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        match header.alg {
            "HS256" => Ok(Self::Hs256),
            "HS384" => Ok(Self::Hs384),
            "HS512" => Ok(Self::Hs512),
            _ => Err(TokenError::Algorithm),
        }
    }
}

impl Key {
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of any length")]
    fn new(secret: &[u8]) -> Self {
        const ANY: &str = "HMAC takes keys of any length";
        Self {
            hs256: Hmac::new_from_slice(secret).expect(ANY),
            hs384: Hmac::new_from_slice(secret).expect(ANY),
            hs512: Hmac::new_from_slice(secret).expect(ANY),
        }
    }

    /// Whether this secret made the signature; the comparison takes the same time for every
    /// wrong one.
    fn signed(&self, algorithm: Algorithm, text: &str, signature: &[u8]) -> bool {
        fn check<M: Mac + Clone>(mac: &M, text: &str, signature: &[u8]) -> bool {
            let mut mac = mac.clone();
            mac.update(text.as_bytes());
            mac.verify_slice(signature).is_ok()
        }
        match algorithm {
            Algorithm::Hs256 => check(&self.hs256, text, signature),
            Algorithm::Hs384 => check(&self.hs384, text, signature),
            Algorithm::Hs512 => check(&self.hs512, text, signature),
        }
    }
}

/// A time of the claims, which may have a fraction. Before 1970 is 1970.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float stops at the bounds of the type"
)]
fn seconds(number: f64) -> Result<u64, TokenError> {
    if number.is_finite() {
        Ok(number as u64)
    } else {
        Err(TokenError::BadClaims)
    }
}

#[cfg(test)]
mod tests;
