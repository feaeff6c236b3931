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
    format!("{encoded}--{}", derived_key(secret, &encoded))
}

/// The key that a phrase makes of an application's one secret, in hexadecimal.
#[must_use]
pub fn derived_key(secret: &str, phrase: &str) -> String {
    let key = hmac(secret, phrase);
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_the_documented_ones() {
        assert_eq!(
            super::derived_key("qwerty", "rpc-cable"),
            "57c40610d142fe7d7999be4e23dfba4f42c3c542e1f278063e8e3b6a30b0c2bd"
        );
    }
}
