//! The few JSON tools the parsers share.
//!
//! Rule for this crate: foreign JSON is taken apart one level at a time into `&RawValue`s, so that
//! payloads keep their exact text and an error can name the field it is about. A JSON `null` is the
//! same as an absent field unless a parser says otherwise; of equal keys the last one counts, as in
//! Go, Ruby and JavaScript.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a JSON value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
    /// Nothing that can begin a JSON value.
    None,
}

impl Shape {
    /// The shape `text` has if it is valid JSON.
    pub(crate) fn of(text: &str) -> Self {
        match trim(text).as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') => Self::Null,
            _ => Self::None,
        }
    }

    /// The shape as a noun for messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
            Self::None => "nothing",
        }
    }
}

/// Why a raw value did not yield a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotText {
    /// It is something else.
    Shape(Shape),
    /// It is a string, but escapes in it name half a surrogate pair.
    Surrogate,
}

/// Cuts JSON whitespace (and only that) from both ends.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// Whether `text` is one complete JSON value by the grammar.
///
/// The check does not recurse, so depth costs no stack.
pub(crate) fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Calls `each` with every field of the JSON object `text`.
///
/// An error is a syntax error if `Shape::of(text)` is an object; callers check that first, because
/// serde's message for a wrong type would quote the value.
pub(crate) fn fields<'a>(
    text: &'a str,
    each: impl FnMut(&str, &'a RawValue),
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Fields(each))?;
    deserializer.end()
}

/// The elements of the JSON array `text`.
pub(crate) fn elements(text: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    serde_json::from_str(text)
}

/// The text of a JSON string, borrowed where it has no escapes.
pub(crate) fn text(raw: &RawValue) -> Result<Cow<'_, str>, NotText> {
    let shape = Shape::of(raw.get());
    if shape != Shape::String {
        return Err(NotText::Shape(shape));
    }
    match serde_json::from_str::<Text<'_>>(raw.get()) {
        Ok(Text(text)) => Ok(text),
        Err(_) => Err(NotText::Surrogate),
    }
}

/// Turns a field whose value is `null` into an absent one.
pub(crate) fn present(raw: &RawValue) -> Option<&RawValue> {
    (Shape::of(raw.get()) != Shape::Null).then_some(raw)
}

/// How many bytes [`push_string`] will append for `text`.
pub(crate) fn string_len(text: &str) -> usize {
    2 + text.bytes().map(|byte| escape(byte).len()).sum::<usize>()
}

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = escape(byte);
        if matches!(escape, Escape::None) {
            continue;
        }
        out.extend_from_slice(&bytes[clean_from..at]);
        clean_from = at + 1;
        match escape {
            Escape::None => {}
            Escape::Short(letter) => out.extend_from_slice(&[b'\\', letter]),
            Escape::Unicode => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[high], HEX[low]]);
            }
        }
    }
    out.extend_from_slice(&bytes[clean_from..]);
    out.push(b'"');
}

/// Appends `number` in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        // The remainder is below ten.
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out[start..].reverse();
}

/// How many digits [`push_number`] will append.
pub(crate) fn number_len(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// How one byte of a string is written.
#[derive(Clone, Copy)]
enum Escape {
    None,
    Short(u8),
    Unicode,
}

impl Escape {
    fn len(self) -> usize {
        match self {
            Self::None => 1,
            Self::Short(_) => 2,
            Self::Unicode => 6,
        }
    }
}

fn escape(byte: u8) -> Escape {
    match byte {
        b'"' | b'\\' => Escape::Short(byte),
        b'\n' => Escape::Short(b'n'),
        b'\r' => Escape::Short(b'r'),
        b'\t' => Escape::Short(b't'),
        0x08 => Escape::Short(b'b'),
        0x0c => Escape::Short(b'f'),
        0x00..=0x1f => Escape::Unicode,
        _ => Escape::None,
    }
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

struct Fields<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Fields<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(key), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            (self.0)(&key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_serde_json_writes_them() {
        for code in (0..0x300).chain([0x2028, 0xfeff, 0x1f600]) {
            let Some(letter) = char::from_u32(code) else {
                continue;
            };
            let text = format!("a{letter}b{letter}");
            let mut out = Vec::new();
            push_string(&mut out, &text);
            assert_eq!(out, serde_json::to_vec(&text).unwrap());
            assert_eq!(out.len(), string_len(&text));
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
            assert_eq!(out.len(), number_len(number));
        }
    }

    #[test]
    fn fields_decode_keys_and_keep_values_raw() {
        let mut seen = Vec::new();
        fields(r#" {"a":1.10,"\u0062":[ ]} "#, |key, value| {
            seen.push((key.to_owned(), value.get()));
        })
        .unwrap();
        assert_eq!(seen, [("a".to_owned(), "1.10"), ("b".to_owned(), "[ ]")]);
        assert!(fields("{} x", |_, _| {}).is_err());
    }

    #[test]
    fn half_a_surrogate_pair_is_not_text() {
        let raw = serde_json::from_str::<&RawValue>(r#""\ud800""#).unwrap();
        assert_eq!(text(raw), Err(NotText::Surrogate));
    }
}
