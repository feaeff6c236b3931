//! Stream names signed the way Rails' `MessageVerifier` signs: `base64(JSON string)--hex(HMAC)`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{
    STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::json;
use crate::names::{NameError, StreamName};

type HmacSha256 = Hmac<Sha256>;

/// Stands between name and signature. URL-safe base64 may hold it too, so the last one counts.
const SEPARATOR: &str = "--";

/// Bytes of a SHA-256 signature.
const SIGNATURE_LEN: usize = 32;

/// Checks and makes signed stream names.
#[derive(Clone)]
pub struct StreamVerifier {
    /// Signs, and is tried first.
    current: HmacSha256,
    /// Only checked, while names signed before a change of secrets are still about.
    previous: Vec<HmacSha256>,
}

/// Why a signed stream name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedStreamError {
    /// There is no signature, or not one in lower-case hex of the right length.
    #[error("the signed stream name has no well-formed signature")]
    Malformed,
    /// No secret of ours made the signature.
    #[error("the signature does not match")]
    BadSignature,
    /// The signature is ours, but what was signed is not base64.
    #[error("the signed text is not base64")]
    NotBase64,
    /// The signature is ours, but what was signed is not a JSON string.
    #[error("the signed text is not a JSON string")]
    NotAString,
    /// The signature is ours, but the name is none.
    #[error("the stream name is not valid")]
    BadName(#[source] NameError),
}

impl StreamVerifier {
    /// Takes the current secret and any older ones that still count. Empty secrets are left out,
    /// as everybody knows them; `None` if nothing remains, and then signed names must be refused.
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>) -> Option<Self> {
        let mut keys = secrets
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .map(|secret| keyed(&secret));
        Some(Self {
            current: keys.next()?,
            previous: keys.collect(),
        })
    }

    /// The name in `signed`, if one of the secrets signed it.
    ///
    /// Both base64 alphabets are read, padded or not: Ruby signs with the URL-safe one, the other
    /// SDKs with the standard one.
    pub fn verify(&self, signed: &str) -> Result<StreamName, SignedStreamError> {
        let (encoded, signature) = signed
            .rsplit_once(SEPARATOR)
            .ok_or(SignedStreamError::Malformed)?;
        let signature = from_hex(signature).ok_or(SignedStreamError::Malformed)?;
        let is_ours = |key: &HmacSha256| {
            let mut mac = key.clone();
            mac.update(encoded.as_bytes());
            mac.verify_slice(&signature).is_ok()
        };
        if !is_ours(&self.current) && !self.previous.iter().any(is_ours) {
            return Err(SignedStreamError::BadSignature);
        }
        decode(encoded)
    }

    /// Signs `name` with the current secret, in the standard alphabet.
    pub fn sign(&self, name: &StreamName) -> String {
        let mut text = Vec::with_capacity(json::string_len(name.as_str()));
        json::push_string(&mut text, name.as_str());
        let mut signed = STANDARD.encode(text);
        let mut mac = self.current.clone();
        mac.update(signed.as_bytes());
        signed.push_str(SEPARATOR);
        push_hex(&mut signed, &mac.finalize().into_bytes());
        signed
    }
}

/// Secrets are never shown.
impl fmt::Debug for StreamVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamVerifier")
            .field("secrets", &(1 + self.previous.len()))
            .finish_non_exhaustive()
    }
}

/// A key for one purpose (`broadcast-cable`, `rpc-cable`, `api-cable`) out of the one application
/// secret: the HMAC-SHA256 of `phrase`, in lower-case hex.
pub fn derived_key(secret: &[u8], phrase: &str) -> String {
    let mut mac = keyed(secret);
    mac.update(phrase.as_bytes());
    let mut key = String::with_capacity(2 * SIGNATURE_LEN);
    push_hex(&mut key, &mac.finalize().into_bytes());
    key
}

#[expect(clippy::expect_used, reason = "HMAC is defined for keys of any length")]
fn keyed(secret: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(secret).expect("HMAC takes keys of any length")
}

fn decode(encoded: &str) -> Result<StreamName, SignedStreamError> {
    let engine = if encoded.contains(['-', '_']) {
        URL_SAFE_PAD_INDIFFERENT
    } else {
        STANDARD_PAD_INDIFFERENT
    };
    let text = engine
        .decode(encoded)
        .map_err(|_| SignedStreamError::NotBase64)?;
    let name: String = serde_json::from_slice(&text).map_err(|_| SignedStreamError::NotAString)?;
    StreamName::try_new(&name).map_err(SignedStreamError::BadName)
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// Reads a signature. Upper-case hex is refused: one name has one signed form.
fn from_hex(text: &str) -> Option<[u8; SIGNATURE_LEN]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * SIGNATURE_LEN {
        return None;
    }
    let mut signature = [0; SIGNATURE_LEN];
    for (byte, pair) in signature.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(signature)
}

#[cfg(test)]
mod tests;
