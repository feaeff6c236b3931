//! What an identifier asks for.

use serde_json::value::RawValue;

use crate::json::{self, NotText, Shape};
use crate::names::{Identifier, NameError, StreamName};

/// Streams by name, without a backend.
const PUBSUB: &str = "$pubsub";

/// Turbo's stream tags subscribe to this one.
const TURBO: &str = "Turbo::StreamsChannel";

/// CableReady's, to this one.
const CABLE_READY: &str = "CableReady::Stream";

/// The channel an identifier names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// `$pubsub`: a stream by its name.
    PubSub(StreamRef),
    /// `Turbo::StreamsChannel`: the signed name of a stream, still to be verified.
    Turbo(String),
    /// `CableReady::Stream`: the same.
    CableReady(String),
    /// Any other, which is for a backend to judge.
    Other,
}

/// How `$pubsub` names a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRef {
    /// By its plain name.
    Public(StreamName),
    /// By a signed name, still to be verified.
    Signed(String),
}

/// Why an identifier of a channel we know asks for nothing we could give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifierError {
    /// It has none of the fields that name a stream in its channel.
    #[error("the identifier names no stream")]
    NoName,
    /// A name is there but is not a string.
    #[error("`{0}` is not a string")]
    NotAString(&'static str),
    /// A name is there but is empty or too long.
    #[error("`{field}` is not a name")]
    BadName {
        /// The field it stands in.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

impl Channel {
    /// Reads an identifier. One that is not a JSON object, or names another channel, is
    /// [`Channel::Other`]. If both names are there the signed one counts.
    pub fn parse(identifier: &Identifier) -> Result<Self, IdentifierError> {
        let text = identifier.as_str();
        if Shape::of(text) != Shape::Object {
            return Ok(Self::Other);
        }
        let (mut channel, mut public, mut signed, mut other) = (None, None, None, None);
        let read = json::fields(text, |key, value| match key {
            "channel" => channel = Some(value),
            "stream_name" => public = json::present(value),
            "signed_stream_name" => signed = json::present(value),
            "identifier" => other = json::present(value),
            _ => {}
        });
        let (Ok(()), Some(Ok(channel))) = (read, channel.map(json::text)) else {
            return Ok(Self::Other);
        };
        match &*channel {
            PUBSUB => {}
            TURBO => return Ok(Self::Turbo(name(signed, "signed_stream_name")?)),
            CABLE_READY => return Ok(Self::CableReady(name(other, "identifier")?)),
            _ => return Ok(Self::Other),
        }
        let public = string(public, "stream_name")?
            .map(|name| StreamName::try_new(&name))
            .transpose()
            .map_err(|source| bad_name("stream_name", source))?;
        match (string(signed, "signed_stream_name")?, public) {
            (Some(signed), _) if signed.is_empty() => {
                Err(bad_name("signed_stream_name", NameError::Empty))
            }
            (Some(signed), _) => Ok(Self::PubSub(StreamRef::Signed(signed))),
            (None, Some(public)) => Ok(Self::PubSub(StreamRef::Public(public))),
            (None, None) => Err(IdentifierError::NoName),
        }
    }
}

/// A signed name that has to be there.
fn name(raw: Option<&RawValue>, field: &'static str) -> Result<String, IdentifierError> {
    match string(raw, field)? {
        None => Err(IdentifierError::NoName),
        Some(name) if name.is_empty() => Err(bad_name(field, NameError::Empty)),
        Some(name) => Ok(name),
    }
}

fn string(raw: Option<&RawValue>, field: &'static str) -> Result<Option<String>, IdentifierError> {
    raw.map(|raw| json::text(raw).map(Into::into))
        .transpose()
        .map_err(|_: NotText| IdentifierError::NotAString(field))
}

fn bad_name(field: &'static str, source: NameError) -> IdentifierError {
    IdentifierError::BadName { field, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(identifier: &str) -> Result<Channel, IdentifierError> {
        Channel::parse(&Identifier::try_new(identifier).unwrap())
    }

    fn signed(name: &str) -> Result<Channel, IdentifierError> {
        Ok(Channel::PubSub(StreamRef::Signed(name.to_owned())))
    }

    #[test]
    fn public_and_signed_streams() {
        let name = StreamName::try_new("chat/42").unwrap();
        assert_eq!(
            parse(r#"{"channel":"$pubsub","stream_name":"chat/42"}"#),
            Ok(Channel::PubSub(StreamRef::Public(name)))
        );
        assert_eq!(
            parse(r#"{"signed_stream_name":"abc--00","channel":"$pubsub","x":1}"#),
            signed("abc--00")
        );
    }

    #[test]
    fn of_two_names_the_signed_one_counts() {
        let both = r#"{"channel":"$pubsub","stream_name":"a","signed_stream_name":"b"}"#;
        assert_eq!(parse(both), signed("b"));
        let null = r#"{"channel":"$pubsub","stream_name":null,"signed_stream_name":"b"}"#;
        assert_eq!(parse(null), signed("b"));
    }

    #[test]
    fn what_is_not_pubsub_is_for_others() {
        for identifier in [
            "chat_1",
            "7",
            "[]",
            "{",
            "{}",
            r#"{"channel":"ChatChannel","id":42}"#,
            r#"{"channel":["$pubsub"]}"#,
            r#"{"channel":"$pubsub","stream_name":"a"} x"#,
        ] {
            assert_eq!(parse(identifier), Ok(Channel::Other), "{identifier}");
        }
    }

    #[test]
    fn turbo_and_cable_ready_sign_their_streams() {
        let turbo = r#"{"channel":"Turbo::StreamsChannel","signed_stream_name":"abc--00"}"#;
        assert_eq!(parse(turbo), Ok(Channel::Turbo("abc--00".to_owned())));
        let ready = r#"{"channel":"CableReady::Stream","identifier":"abc--00"}"#;
        assert_eq!(parse(ready), Ok(Channel::CableReady("abc--00".to_owned())));
        let swapped = r#"{"channel":"CableReady::Stream","signed_stream_name":"abc--00"}"#;
        assert_eq!(parse(swapped), Err(IdentifierError::NoName));
        let plain = r#"{"channel":"Turbo::StreamsChannel","stream_name":"a"}"#;
        assert_eq!(parse(plain), Err(IdentifierError::NoName));
        let empty = r#"{"channel":"Turbo::StreamsChannel","signed_stream_name":""}"#;
        assert!(matches!(parse(empty), Err(IdentifierError::BadName { .. })));
    }

    #[test]
    fn malformed_pubsub_is_an_error() {
        let with = |rest: &str| parse(&format!(r#"{{"channel":"$pubsub"{rest}}}"#));
        assert_eq!(with(""), Err(IdentifierError::NoName));
        assert_eq!(
            with(r#","stream_name":42"#),
            Err(IdentifierError::NotAString("stream_name"))
        );
        assert_eq!(
            with(r#","stream_name":7,"signed_stream_name":"b""#),
            Err(IdentifierError::NotAString("stream_name"))
        );
        assert_eq!(
            with(r#","stream_name":"""#),
            Err(bad_name("stream_name", NameError::Empty))
        );
        assert_eq!(
            with(r#","stream_name":"a","signed_stream_name":"""#),
            Err(bad_name("signed_stream_name", NameError::Empty))
        );
        let long = format!(r#","stream_name":"{}""#, "x".repeat(3000));
        assert!(matches!(with(&long), Err(IdentifierError::BadName { .. })));
    }
}
