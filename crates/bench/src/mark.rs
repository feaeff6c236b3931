//! The record every payload carries: which run, stream and publication it is, and when it was sent.
//!
//! It is plain ASCII of fixed width, so it survives every JSON re-encoding and is found in an
//! answer without parsing the JSON around it.

use crate::clock::Nanos;

/// Begins a record. A tilde occurs in no frame, header or padding otherwise.
const OPENING: &[u8] = b"~pb";
const RUN_DIGITS: usize = 8;
const STREAM_DIGITS: usize = 5;
const SEQ_DIGITS: usize = 10;
const TIME_DIGITS: usize = 20;
/// Four fields with a dot between each.
const LENGTH: usize = OPENING.len() + RUN_DIGITS + STREAM_DIGITS + SEQ_DIGITS + TIME_DIGITS + 3;
const BEFORE: &str = "{\"bench\":\"";
const BETWEEN: &str = "\",\"pad\":\"";
const AFTER: &str = "\"}";

/// The most streams the record's field can name.
pub(crate) const MAX_STREAMS: u32 = 99_999;
/// The shortest payload that has room for the record and the JSON around it.
pub(crate) const MIN_PAYLOAD: usize = BEFORE.len() + LENGTH + BETWEEN.len() + AFTER.len();

/// Tells the messages of one run from those an earlier run left in the server's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunId(pub(crate) u32);

/// A stream's index, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamIndex(pub(crate) u32);

/// A publication's number within its stream, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(pub(crate) u32);

/// What the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) run: RunId,
    pub(crate) stream: StreamIndex,
    pub(crate) seq: Seq,
    pub(crate) sent: Nanos,
}

impl Mark {
    /// A JSON object of exactly `size` bytes, or [`MIN_PAYLOAD`] if that is more.
    pub(crate) fn payload(&self, size: usize) -> String {
        let pad = size.saturating_sub(MIN_PAYLOAD);
        format!(
            "{BEFORE}~pb{:08x}.{:05}.{:010}.{:020}{BETWEEN}{}{AFTER}",
            self.run.0,
            self.stream.0,
            self.seq.0,
            self.sent.raw(),
            "x".repeat(pad)
        )
    }

    /// All records in `bytes`, in order. What looks like a record but is none is passed over.
    pub(crate) const fn find_all(bytes: &[u8]) -> Marks<'_> {
        Marks { rest: bytes }
    }

    fn parse(record: &[u8]) -> Option<Self> {
        let fields = std::str::from_utf8(record.strip_prefix(OPENING)?).ok()?;
        let mut fields = fields.split('.');
        let run = u32::from_str_radix(fields.next()?, 16).ok()?;
        let stream = fields.next()?.parse().ok()?;
        let seq = fields.next()?.parse().ok()?;
        let sent = fields.next()?.parse().ok()?;
        Some(Self {
            run: RunId(run),
            stream: StreamIndex(stream),
            seq: Seq(seq),
            sent: Nanos::from_raw(sent),
        })
    }
}

/// Iterates over the records of an answer.
#[derive(Debug)]
pub(crate) struct Marks<'a> {
    rest: &'a [u8],
}

impl Iterator for Marks<'_> {
    type Item = Mark;

    fn next(&mut self) -> Option<Mark> {
        loop {
            let start = self.rest.iter().position(|&byte| byte == OPENING[0])?;
            let found = &self.rest[start..];
            match found.get(..LENGTH).and_then(Mark::parse) {
                Some(mark) => {
                    self.rest = &found[LENGTH..];
                    return Some(mark);
                }
                None => self.rest = &found[1..],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u32) -> Mark {
        Mark {
            run: RunId(0xfeed),
            stream: StreamIndex(7),
            seq: Seq(seq),
            sent: Nanos::from_raw(123_456_789),
        }
    }

    #[test]
    fn a_payload_has_the_asked_size_and_is_json() {
        for size in [MIN_PAYLOAD, 200, 4096] {
            let payload = mark(3).payload(size);
            assert_eq!(payload.len(), size);
            serde_json::from_str::<serde_json::Value>(&payload).unwrap();
        }
        assert_eq!(mark(3).payload(0).len(), MIN_PAYLOAD);
    }

    #[test]
    fn finds_every_record_whatever_surrounds_it() {
        let text = format!(
            "~ ~pb ~pbzz {} ~{} ~pb0",
            mark(1).payload(100),
            mark(2).payload(70)
        );
        let found: Vec<Mark> = Mark::find_all(text.as_bytes()).collect();
        assert_eq!(found, [mark(1), mark(2)]);
    }
}
