//! What a broker tells its nodes about a publication, and what it keeps of it.
//!
//! On a stream's channel: `{"epoch":"…","offset":7,"time":1700000000000000,"data":"…"}` and `meta`
//! if the publication has one. The stream is the channel's. A transient publication has neither
//! epoch nor offset nor time. Instead of `data`, which is text as the publisher wrote it, there may
//! be `json`, which is the payload's JSON itself.

use serde_json::value::RawValue;

use crate::inbound;
use crate::json::{self, Shape};
use crate::names::StreamName;
use crate::payload::Payload;
use crate::position::{Epoch, Offset, Position};
use crate::publication::{Meta, Publication};
use crate::publication_error::PublicationError;

/// A position together with the moment it was given. Two publications that a failover has put at
/// the same position differ in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Where the publication stands.
    pub position: Position,
    /// Microseconds since 1970 by the broker's clock; grows from one publication of a stream to
    /// the next.
    pub time: u64,
}

/// An entry of the broker's intake, and the index of a publication in it: `<ms>-<sequence>-<index>`.
/// Two publications with the same source are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(u128);

impl Source {
    /// Reads a source. Numbers that no real one has are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, '-').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok().map(u128::from);
        let (ms, sequence, index) = (next()?, next()?, next()?);
        Some(Self(
            (ms << 64) | ((sequence & 0xffff_ffff_ffff) << 16) | (index & 0xffff),
        ))
    }
}

/// A publication as the broker announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// `None` for a transient one.
    pub stamp: Option<Stamp>,
    /// What it was made from, if that can be published twice.
    pub source: Option<Source>,
    /// What was published.
    pub publication: Publication,
}

impl Announcement {
    /// Reads what came on the channel of `stream`.
    pub fn parse(stream: StreamName, body: &[u8]) -> Result<Self, PublicationError> {
        let text = str::from_utf8(body)
            .map_err(|error| PublicationError::not_utf8(body, error.valid_up_to()))?;
        let (mut epoch, mut offset, mut time) = (None, None, None);
        let (mut data, mut json, mut meta, mut source) = (None, None, None, None);
        if Shape::of(text) != Shape::Object {
            let shape = Shape::of(text);
            return Err(PublicationError::wrong_type(
                String::new(),
                "an object",
                shape,
            ));
        }
        json::fields(text, |key, value| match key {
            "epoch" => epoch = Some(value),
            "offset" => offset = Some(value),
            "time" => time = Some(value),
            "data" => data = Some(value),
            "json" => json = Some(value),
            "meta" => meta = json::present(value),
            "source" => source = json::text(value).ok().and_then(|text| Source::parse(&text)),
            _ => {}
        })
        .map_err(|error| PublicationError::syntax(&error))?;
        let data = match (json, data) {
            (Some(json), _) => Payload::from_raw(json),
            (None, Some(text)) => Payload::from_text(&self::text(text, "data")?),
            (None, None) => return Err(PublicationError::missing("data".to_owned())),
        };
        let publication = Publication {
            stream,
            data,
            meta: inbound::meta_of(meta)?,
        };
        let stamp = match (epoch, offset) {
            (Some(epoch), Some(offset)) => Some(Stamp {
                position: Position {
                    epoch: Epoch::new(&self::text(epoch, "epoch")?),
                    offset: Offset::new(number(offset, "offset")?),
                },
                time: time.map_or(Ok(0), |time| number(time, "time"))?,
            }),
            _ => None,
        };
        Ok(Self {
            stamp,
            source,
            publication,
        })
    }
}

impl Publication {
    /// Puts together what a broker has kept apart: `data` as the publisher wrote it, or JSON if
    /// `is_json`, and the text of `meta`.
    pub fn from_parts(
        stream: StreamName,
        data: &str,
        is_json: bool,
        meta: Option<&str>,
    ) -> Result<Self, PublicationError> {
        let data = if is_json {
            let raw =
                serde_json::from_str(data).map_err(|error| PublicationError::syntax(&error))?;
            Payload::from_raw(raw)
        } else {
            Payload::from_text(data)
        };
        let meta: Option<&RawValue> = meta
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| PublicationError::syntax(&error))?;
        Ok(Self {
            stream,
            data,
            meta: inbound::meta_of(meta)?,
        })
    }
}

impl Meta {
    /// The JSON object, or `None` if there is nothing to say.
    pub fn to_json(&self) -> Option<String> {
        let mut out = Vec::new();
        self.push_json(&mut out);
        let member = String::from_utf8(out).ok()?;
        member.strip_prefix(",\"meta\":").map(str::to_owned)
    }
}

fn text(raw: &RawValue, at: &str) -> Result<String, PublicationError> {
    json::text(raw)
        .map(Into::into)
        .map_err(|reason| PublicationError::not_text(at.to_owned(), reason))
}

fn number(raw: &RawValue, at: &str) -> Result<u64, PublicationError> {
    let wrong = || PublicationError::wrong_type(at.to_owned(), "a number", Shape::of(raw.get()));
    raw.get().parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Announcement, PublicationError> {
        Announcement::parse(StreamName::try_new("s").unwrap(), body.as_bytes())
    }

    #[test]
    fn a_position_and_a_publication() {
        let told = parse(concat!(
            r#"{"epoch":"e1","offset":7,"time":1700000000000001,"#,
            r#""data":"{\"a\":1.10}","meta":{"broadcast_type":"x"}}"#
        ))
        .unwrap();
        let stamp = told.stamp.unwrap();
        assert_eq!(stamp.position.epoch.as_str(), "e1");
        assert_eq!(stamp.position.offset.get(), 7);
        assert_eq!(stamp.time, 1_700_000_000_000_001);
        assert_eq!(told.publication.data.as_str(), r#"{"a":1.10}"#);
        assert_eq!(told.publication.meta.broadcast_type.as_deref(), Some("x"));
    }

    #[test]
    fn json_is_taken_as_it_is_and_text_by_the_publishers_rule() {
        assert_eq!(
            parse(r#"{"json":null}"#).unwrap().publication.data.as_str(),
            "null"
        );
        assert_eq!(
            parse(r#"{"data":"null"}"#)
                .unwrap()
                .publication
                .data
                .as_str(),
            "\"null\""
        );
        assert_eq!(parse(r#"{"data":"x"}"#).unwrap().stamp, None);
    }

    #[test]
    fn sources_are_told_apart() {
        let told = parse(r#"{"epoch":"e","offset":1,"source":"17-3-1","data":"1"}"#).unwrap();
        assert_eq!(told.source, Source::parse("17-3-1"));
        for other in ["17-3-2", "17-4-1", "18-3-1"] {
            assert_ne!(told.source, Source::parse(other));
        }
        for wrong in ["", "17-3", "17-x-1", "a"] {
            assert_eq!(Source::parse(wrong), None);
        }
    }

    #[test]
    fn nonsense_is_told_apart() {
        for body in [
            "",
            "5",
            "{",
            "{}",
            r#"{"data":5}"#,
            r#"{"epoch":"e","offset":"x","data":"1"}"#,
            r#"{"epoch":"e","offset":-1,"data":"1"}"#,
            r#"{"data":"1","meta":5}"#,
        ] {
            parse(body).unwrap_err();
        }
        Announcement::parse(StreamName::try_new("s").unwrap(), b"{\"data\":\"\xff\"}").unwrap_err();
    }

    #[test]
    fn parts_come_together_again() {
        let stream = StreamName::try_new("s").unwrap();
        let meta = Meta {
            transient: true,
            ..Meta::default()
        };
        let told =
            Publication::from_parts(stream.clone(), "null", true, Some(&meta.to_json().unwrap()))
                .unwrap();
        assert_eq!((told.data.as_str(), told.meta), ("null", meta));
        assert_eq!(Meta::default().to_json(), None);
        Publication::from_parts(stream.clone(), "{", true, None).unwrap_err();
        Publication::from_parts(stream, "1", false, Some("{")).unwrap_err();
    }
}
