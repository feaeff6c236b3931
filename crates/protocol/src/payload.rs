//! What a publication carries.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::json::{self, Shape};

/// A JSON text on one line: valid by the grammar, no raw `\n` or `\r` anywhere, no whitespace
/// around it. Everything else is kept as the publisher wrote it, so `1.10` stays `1.10`. A clone
/// shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payload(Bytes);

impl Payload {
    /// Takes the `data` string of a publication by AnyCable's rule: JSON other than `null` is that
    /// JSON, anything else is a JSON string of the text.
    pub fn from_text(text: &str) -> Self {
        let trimmed = json::trim(text);
        if Shape::of(trimmed) != Shape::Null && json::is_valid(trimmed) {
            return Self::one_line(trimmed);
        }
        let mut quoted = Vec::with_capacity(json::string_len(text));
        json::push_string(&mut quoted, text);
        Self(Bytes::from(quoted))
    }

    /// Takes a JSON value as it is, `null` and strings included.
    pub fn from_raw(raw: &RawValue) -> Self {
        Self::one_line(json::trim(raw.get()))
    }

    /// The JSON `null`.
    #[must_use]
    pub const fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// Takes what this crate has written: valid, and on one line.
    pub(crate) fn from_valid(json: Vec<u8>) -> Self {
        Self(Bytes::from(json))
    }

    /// The JSON text as bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The JSON text. Checks the encoding again; hot paths take [`Payload::as_bytes`].
    #[expect(
        clippy::expect_used,
        reason = "each constructor starts from a str and swaps ASCII for ASCII"
    )]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("a payload is made from a str")
    }

    /// Valid JSON has raw line ends only between tokens, where a space means the same.
    fn one_line(valid: &str) -> Self {
        let mut line = valid.as_bytes().to_vec();
        for byte in &mut line {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        Self(Bytes::from(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> String {
        Payload::from_text(text).as_str().to_owned()
    }

    #[test]
    fn json_text_is_kept_verbatim_on_one_line() {
        assert_eq!(
            from_text(r#"{"b":1.10,"a":"<é>"}"#),
            r#"{"b":1.10,"a":"<é>"}"#
        );
        assert_eq!(from_text(" \r\n{\r\n\"a\" :\n1}\n"), "{  \"a\" : 1}");
        assert_eq!(from_text("\"<turbo-stream>\""), "\"<turbo-stream>\"");
        assert_eq!(
            from_text("12345678901234567890123"),
            "12345678901234567890123"
        );
        assert_eq!(from_text("false"), "false");
    }

    #[test]
    fn other_text_and_null_become_strings() {
        assert_eq!(from_text("hello"), "\"hello\"");
        assert_eq!(from_text(""), "\"\"");
        assert_eq!(from_text(" a\nb\r"), r#"" a\nb\r""#);
        assert_eq!(from_text("null"), "\"null\"");
        assert_eq!(from_text(" null "), "\" null \"");
        assert_eq!(from_text("nul"), "\"nul\"");
        assert_eq!(from_text("{\"a\":1} {}"), r#""{\"a\":1} {}""#);
        assert_eq!(from_text("\u{feff}1"), "\"\u{feff}1\"");
        assert_eq!(from_text("\u{a0}1"), "\"\u{a0}1\"");
    }

    #[test]
    fn a_raw_value_is_kept_even_if_null_or_a_string() {
        for (json, expected) in [
            ("null", "null"),
            (" \"x\" ", "\"x\""),
            ("[1,\n2]", "[1, 2]"),
        ] {
            let raw = serde_json::from_str::<&RawValue>(json).unwrap();
            assert_eq!(Payload::from_raw(raw).as_str(), expected);
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(from_text(&deep), deep);
    }
}
