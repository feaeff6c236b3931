//! What backends sign, made as they make it and not as the server does.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

fn hmac(secret: &str, text: &str) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A JSON Web Token with these claims, by `HS256`.
#[must_use]
pub fn token(secret: &str, claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(hmac(secret, &text));
    format!("{text}.{signature}")
}

/// A stream's name as Rails' message verifier signs it.
#[must_use]
pub fn signed_stream(secret: &str, name: &str) -> String {
    let encoded = STANDARD.encode(Value::from(name).to_string());
    let signature = hmac(secret, &encoded);
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{encoded}--{hex}")
}
