//! What a publisher sends: `{"category":"…","data":…}`.

use super::CATEGORY_MAX;
use crate::{
    json::{self, Shape},
    names::StreamName,
    payload::Payload,
};
use serde_json::value::RawValue;

/// A publisher's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// Where it goes.
    pub stream: StreamName,
    /// What it says; never null.
    pub data: Payload,
}

/// Why a body is no request. The texts are golongpoll's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Not a JSON object, or the category is not a string.
    #[error("Invalid POST body json.")]
    Json,
    /// No category, or one that is empty or too long.
    #[error("Invalid or missing 'category' arg, must be 1-1024 characters long.")]
    Category,
    /// No data, or null.
    #[error("Invalid or missing 'data' arg, must be non-nil.")]
    Data,
}

impl PublishRequest {
    /// Reads the first JSON value of a body and nothing behind it. The case of keys does not
    /// matter; of equal keys the last one counts.
    pub fn parse(body: &[u8]) -> Result<Self, PublishError> {
        let body = String::from_utf8_lossy(body);
        let mut values = serde_json::Deserializer::from_str(&body).into_iter::<&RawValue>();
        let Some(Ok(value)) = values.next() else {
            return Err(PublishError::Json);
        };
        match Shape::of(value.get()) {
            Shape::Object => {}
            Shape::Null => return Err(PublishError::Category),
            _ => return Err(PublishError::Json),
        }
        let (mut category, mut data) = (None, None);
        let mut is_mistaken = false;
        let fields = json::fields(value.get(), |key, value| {
            if key.eq_ignore_ascii_case("category") {
                match json::present(value).map(json::text) {
                    Some(Ok(text)) => category = Some(text),
                    Some(Err(_)) => is_mistaken = true,
                    None => {}
                }
            } else if key.eq_ignore_ascii_case("data") {
                data = json::present(value);
            }
        });
        if fields.is_err() || is_mistaken {
            return Err(PublishError::Json);
        }
        let category = category.ok_or(PublishError::Category)?;
        if category.len() > CATEGORY_MAX {
            return Err(PublishError::Category);
        }
        let stream = StreamName::try_new(&category).map_err(|_| PublishError::Category)?;
        let data = data.ok_or(PublishError::Data)?;
        Ok(Self {
            stream,
            data: Payload::from_valid(compact(data.get())),
        })
    }
}

/// The same JSON without space between its tokens, as golongpoll's encoder leaves none.
fn compact(valid: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(valid.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in valid.as_bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                continue;
            }
            in_string = byte == b'"';
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_of(body: &str) -> Result<String, PublishError> {
        PublishRequest::parse(body.as_bytes()).map(|request| request.data.as_str().to_owned())
    }

    #[test]
    fn the_first_value_counts_and_the_case_of_keys_does_not() {
        for (body, data) in [
            (r#"{"category":"a","data":1}"#, "1"),
            (
                " {\"DATA\" : {\"a\" :\n[ 1 , \" \\\" \\\\\" ]},\"Category\":\"a\",\"x\":{}} trailing",
                r#"{"a":[1," \" \\"]}"#,
            ),
            (
                r#"{"category":"b","category":"a","data":1,"data":2}{"data":3}"#,
                "2",
            ),
            (r#"{"category":"a","data":false}"#, "false"),
            (r#"{"category":"a","data":0}"#, "0"),
            (r#"{"category":"a","data":""}"#, r#""""#),
            (r#"{"category":"a","data":[]}"#, "[]"),
            (r#"{"category":"a","data":{}}"#, "{}"),
            (
                r#"{"category":"a","data":12345678901234567890}"#,
                "12345678901234567890",
            ),
        ] {
            assert_eq!(data_of(body).as_deref(), Ok(data), "{body}");
        }
        let lossy = PublishRequest::parse(b"{\"category\":\"\xff\",\"data\":\"\xff\"}").unwrap();
        assert_eq!(lossy.stream.as_str(), "\u{fffd}");
    }

    #[test]
    fn mistakes_are_told_as_golongpoll_tells_them() {
        let long = format!(r#"{{"category":"{}","data":1}}"#, "x".repeat(1_025));
        for (body, error) in [
            ("", PublishError::Json),
            ("category=a", PublishError::Json),
            ("[]", PublishError::Json),
            ("7", PublishError::Json),
            (r#"{"category":7,"data":1}"#, PublishError::Json),
            (
                r#"{"category":7,"category":"a","data":1}"#,
                PublishError::Json,
            ),
            (r#"{"category":"a","data":1"#, PublishError::Json),
            ("null", PublishError::Category),
            ("{}", PublishError::Category),
            (r#"{"category":null,"data":1}"#, PublishError::Category),
            (r#"{"category":"","data":1}"#, PublishError::Category),
            (long.as_str(), PublishError::Category),
            (r#"{"category":"a"}"#, PublishError::Data),
            (r#"{"category":"a","data":null}"#, PublishError::Data),
        ] {
            assert_eq!(data_of(body), Err(error), "{body}");
        }
        let longest = format!(r#"{{"category":"{}","data":1}}"#, "é".repeat(512));
        assert!(data_of(&longest).is_ok());
    }
}
