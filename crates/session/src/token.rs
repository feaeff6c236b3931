//! Unguessable ids.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// 128 random bits: a session's public id (`sid`) or the secret half of a poll
/// id. The random bits come from the caller.
///
/// `Debug` shows nothing of it, because both kinds are bearer secrets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u128);

impl Token {
    /// Length of the text form: base64url of sixteen bytes without padding.
    pub const TEXT_LEN: usize = 22;

    /// Wraps 128 bits that the caller took from the system's random source.
    #[must_use]
    pub const fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    /// Reads the text form back. `None` for anything that [`Token::text`] did
    /// not make.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let mut bytes = [0; 16];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == bytes.len()).then(|| Self(u128::from_be_bytes(bytes)))
    }

    /// The text form, 22 characters of the URL-safe base64 alphabet.
    #[must_use]
    pub fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.to_be_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_nothing_else_parses() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let token = Token::from_random(bits);
            assert_eq!(Token::parse(&token.text()), Some(token));
        }
        for wrong in [
            "",
            "null",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
        // The last character holds two bits of padding that must be zero.
        assert_eq!(Token::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        assert_eq!(format!("{:?}", Token::from_random(7)), "Token(…)");
    }
}
