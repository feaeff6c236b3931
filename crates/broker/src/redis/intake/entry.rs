//! Entries of the intake, and the consumers of its group, as Redis tells them.

use super::super::reading::{list, number, text};
use crate::broker::BrokerError;
use ::redis::Value;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As Redis writes it.
    pub(super) id: String,
    /// What the publisher wrote; `None` if there is no such field.
    pub(super) payload: Option<Vec<u8>>,
}

/// One consumer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) pending: u64,
}

/// The answer of `XREADGROUP` of one stream: `RESP3` has a map.
pub(super) fn of_read(answer: &Value) -> Result<Vec<Entry>, BrokerError> {
    match answer {
        Value::Map(streams) => match streams.first() {
            Some((_, entries)) => of_entries(entries),
            None => Ok(Vec::new()),
        },
        answer => match list(answer)?.first() {
            Some(stream) => match list(stream)? {
                [_, entries] => of_entries(entries),
                _ => Ok(Vec::new()),
            },
            None => Ok(Vec::new()),
        },
    }
}

/// A list of entries. Those that were deleted meanwhile are left out.
pub(super) fn of_entries(entries: &Value) -> Result<Vec<Entry>, BrokerError> {
    let mut read = Vec::new();
    for entry in list(entries)? {
        let [id, fields] = list(entry)? else { continue };
        let id = text(id)?;
        let Value::Array(fields) = fields else {
            continue;
        };
        let payload = fields.chunks_exact(2).find_map(|pair| match pair {
            [Value::BulkString(name), Value::BulkString(value)] if name == b"payload" => {
                Some(value.clone())
            }
            _ => None,
        });
        read.push(Entry {
            id: id.to_owned(),
            payload,
        });
    }
    Ok(read)
}

/// The answer of `XINFO CONSUMERS`.
pub(super) fn consumers(answer: &Value) -> Vec<Consumer> {
    let read = |consumer: &Value| {
        let (mut name, mut pending) = (None, None);
        let mut note = |key: &Value, value: &Value| match text(key) {
            Ok("name") => name = text(value).ok().map(str::to_owned),
            Ok("pending") => pending = number(value).ok(),
            _ => {}
        };
        match consumer {
            Value::Map(fields) => fields.iter().for_each(|(key, value)| note(key, value)),
            fields => {
                for pair in list(fields).ok()?.chunks_exact(2) {
                    if let [key, value] = pair {
                        note(key, value);
                    }
                }
            }
        }
        Some(Consumer {
            name: name?,
            pending: pending?,
        })
    };
    list(answer).map_or_else(
        |_| Vec::new(),
        |consumers| consumers.iter().filter_map(read).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        let fields = fields.iter().map(|text| bulk(text)).collect();
        Value::Array(vec![bulk(id), Value::Array(fields)])
    }

    #[test]
    fn entries_are_read_from_both_protocols() {
        let entries = Value::Array(vec![
            entry("5-1", &["other", "x", "payload", "{}"]),
            entry("6-0", &["other", "x"]),
            Value::Array(vec![bulk("7-0"), Value::Nil]),
        ]);
        let expected = [
            Entry {
                id: "5-1".to_owned(),
                payload: Some(b"{}".to_vec()),
            },
            Entry {
                id: "6-0".to_owned(),
                payload: None,
            },
        ];
        let old = Value::Array(vec![Value::Array(vec![bulk("s"), entries.clone()])]);
        let new = Value::Map(vec![(bulk("s"), entries)]);
        assert_eq!(of_read(&old).unwrap(), expected);
        assert_eq!(of_read(&new).unwrap(), expected);
        assert_eq!(of_read(&Value::Nil).unwrap(), []);
    }

    #[test]
    fn consumers_are_read_from_both_protocols() {
        let expected = [Consumer {
            name: "n".to_owned(),
            pending: 3,
        }];
        let fields = [
            (bulk("name"), bulk("n")),
            (bulk("pending"), Value::Int(3)),
            (bulk("idle"), Value::Int(1)),
        ];
        let new = Value::Array(vec![Value::Map(fields.to_vec())]);
        let flat = fields.into_iter().flat_map(|(key, value)| [key, value]);
        let old = Value::Array(vec![Value::Array(flat.collect())]);
        assert_eq!(consumers(&new), expected);
        assert_eq!(consumers(&old), expected);
    }
}
