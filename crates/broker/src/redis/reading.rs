//! What the scripts answer, as values.

use super::state::{Placed, Reading};
use crate::{
    broker::BrokerError,
    queue::{Entry as Taking, Taken},
};
use ::redis::Value;
use pollux_protocol::{Epoch, Offset, Position, Publication, Source, Stamp, StreamName};
use std::sync::Arc;
use tokio::time::Instant;

/// An entry of a log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) time: u64,
    /// `None`: it is no publication.
    pub(super) publication: Option<Arc<Publication>>,
    pub(super) source: Option<Source>,
}

/// The answer of the history script.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) epoch: Epoch,
    pub(super) last: u64,
    pub(super) entries: Vec<Entry>,
    /// Up to here entries may be missing that were read once.
    pub(super) removed: u64,
}

/// Reads the answer of the read script, which was asked for `count` entries.
pub(super) fn reading(
    stream: &StreamName,
    answer: &Value,
    count: usize,
) -> Result<Option<Reading>, BrokerError> {
    match list(answer)? {
        [] => Ok(None),
        [epoch, offset, time, relation, low, entries] => {
            let epoch = Epoch::new(text(epoch)?);
            let stamp = |offset, time| Stamp {
                position: Position {
                    epoch: epoch.clone(),
                    offset: Offset::new(offset),
                },
                time,
            };
            let received = Instant::now();
            let entries = entries_of(stream, entries)?;
            Ok(Some(Reading {
                head: stamp(number(offset)?, number(time)?),
                same: text(relation)? == "same",
                low: number(low)?,
                more: count > 0 && entries.len() == count,
                entries: entries
                    .into_iter()
                    .map(|entry| Placed {
                        stamp: stamp(entry.offset, entry.time),
                        publication: entry.publication,
                        source: entry.source,
                        received,
                    })
                    .collect(),
            }))
        }
        _ => Err(strange()),
    }
}

/// Reads the answer of the history script.
pub(super) fn page(stream: &StreamName, answer: &Value) -> Result<Option<Page>, BrokerError> {
    match list(answer)? {
        [] => Ok(None),
        [epoch, offset, entries, removed] => Ok(Some(Page {
            epoch: Epoch::new(text(epoch)?),
            last: number(offset)?,
            entries: entries_of(stream, entries)?,
            removed: number(removed)?,
        })),
        _ => Err(strange()),
    }
}

/// Reads the answer of the publish script: a position, or none for a transient
/// publication.
pub(super) fn position(answer: &Value) -> Result<Option<Position>, BrokerError> {
    let [epoch, offset, _time] = list(answer)? else {
        return Err(strange());
    };
    let offset = number(offset)?;
    Ok((offset > 0).then_some(Position {
        epoch: Epoch::new(text(epoch)?),
        offset: Offset::new(offset),
    }))
}

/// Reads the answer of the take script: what was taken, and how many
/// publications were passed over.
pub(super) fn taken(stream: &StreamName, answer: &Value) -> Result<Taken, BrokerError> {
    let [epoch, dropped, entries] = list(answer)? else {
        return Err(strange());
    };
    let epoch = Epoch::new(text(epoch)?);
    let entries = entries_of(stream, entries)?.into_iter();
    // What is no publication was put there by hand; it is taken, and that is it.
    let entries = entries.filter_map(|entry| {
        Some(Taking {
            position: Position {
                epoch: epoch.clone(),
                offset: Offset::new(entry.offset),
            },
            time: entry.time,
            publication: entry.publication?,
        })
    });
    Ok(Taken {
        entries: entries.collect(),
        dropped: number(dropped)?,
    })
}

fn entries_of(stream: &StreamName, entries: &Value) -> Result<Vec<Entry>, BrokerError> {
    let read = |entry: &Value| {
        let [id, fields] = list(entry)? else {
            return Err(strange());
        };
        let offset = text(id)?.split('-').next().and_then(|id| id.parse().ok());
        let (mut time, mut data, mut is_json, mut meta) = (0, None, false, None);
        let mut source = None;
        for pair in list(fields)?.chunks_exact(2) {
            let [name, value] = pair else { continue };
            match text(name)? {
                "time" => time = number(value)?,
                "data" => data = text(value).ok(),
                "json" => (data, is_json) = (text(value).ok(), true),
                "meta" => meta = text(value).ok(),
                "source" => source = text(value).ok().and_then(Source::parse),
                _ => {}
            }
        }
        let publication =
            data.and_then(|data| Publication::from_parts(stream.clone(), data, is_json, meta).ok());
        Ok(Entry {
            offset: offset.ok_or_else(strange)?,
            time,
            publication: publication.map(Arc::new),
            source,
        })
    };
    list(entries)?.iter().map(read).collect()
}

pub(super) fn list(value: &Value) -> Result<&[Value], BrokerError> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(&[]),
        _ => Err(strange()),
    }
}

pub(super) fn text(value: &Value) -> Result<&str, BrokerError> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).map_err(|_| strange()),
        Value::SimpleString(text) => Ok(text),
        _ => Err(strange()),
    }
}

pub(super) fn number(value: &Value) -> Result<u64, BrokerError> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| strange()),
        value => text(value)?.parse().map_err(|_| strange()),
    }
}

fn strange() -> BrokerError {
    BrokerError::Unavailable("a script's answer is not understood".to_owned())
}
