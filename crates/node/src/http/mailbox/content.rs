//! Bytes of any kind as a publication's JSON, and back.
//!
//! Text travels as a JSON string, so that every other client of the stream can
//! read it. What is no text travels as `{"base64":"…"}`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pollux_protocol::Payload;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What every content that is no text begins with.
const ENCODED: &[u8] = b"{\"base64\":\"";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

/// The payload that carries these bytes.
pub(super) fn to_payload(bytes: &[u8]) -> Option<Payload> {
    let json = match str::from_utf8(bytes) {
        Ok(text) => serde_json::to_string(text),
        Err(_) => serde_json::to_string(&Encoded {
            base64: STANDARD.encode(bytes),
        }),
    };
    let raw = RawValue::from_string(json.ok()?).ok()?;
    Some(Payload::from_raw(&raw))
}

/// What a payload carries: the text of a string, the bytes that were encoded,
/// and of all that others have published the JSON text.
pub(super) fn to_bytes(payload: &Payload) -> Vec<u8> {
    let json = payload.as_bytes();
    if json.first() == Some(&b'"')
        && let Ok(text) = serde_json::from_slice::<String>(json)
    {
        return text.into_bytes();
    }
    if json.starts_with(ENCODED)
        && let Ok(encoded) = serde_json::from_slice::<Encoded>(json)
        && let Ok(bytes) = STANDARD.decode(encoded.base64)
    {
        return bytes;
    }
    json.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_comes_back_as_it_was() {
        for content in [
            &b""[..],
            b"hi",
            b"{\"a\": 1}\r\n",
            b" 1 ",
            b"null",
            b"\"x\"",
            b"{\"base64\":\"AAAA\"}",
            b"\0\x01\x7f",
            b"\xff\xfe\0",
            "\u{2028}é😀".as_bytes(),
            &(0..=255).collect::<Vec<u8>>(),
        ] {
            let payload = to_payload(content).unwrap();
            assert_eq!(to_bytes(&payload), content);
        }
    }

    #[test]
    fn what_others_published_is_its_json_or_its_text() {
        assert_eq!(
            to_bytes(&Payload::from_text("{\"a\":1.10}")),
            b"{\"a\":1.10}"
        );
        assert_eq!(to_bytes(&Payload::from_text("hi")), b"hi");
        assert_eq!(to_bytes(&Payload::null()), b"null");
        // Half a surrogate pair is JSON, but no text.
        let raw = serde_json::from_str::<&RawValue>("\"\\ud800\"").unwrap();
        assert_eq!(to_bytes(&Payload::from_raw(raw)), b"\"\\ud800\"");
    }
}
