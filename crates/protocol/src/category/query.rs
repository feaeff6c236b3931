//! What a poll asks for, in its query string.

use super::{CATEGORY_MAX, EventId};
use crate::names::StreamName;
use std::borrow::Cow;

/// Categories that one poll may name. More than one is our extension.
pub const CATEGORIES_MAX: usize = 64;

/// A poll's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollQuery {
    /// How long to wait, in seconds.
    pub timeout: u64,
    /// The categories, at least one, each once.
    pub categories: Vec<StreamName>,
    /// Milliseconds since 1970, from which on the client has seen nothing; `None` for now.
    pub since: Option<i64>,
    /// The last event the client has seen.
    pub last: Option<EventId>,
}

/// Why a query is no poll. The texts are golongpoll's, its two spaces included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No timeout, or one out of bounds.
    #[error("Invalid or missing 'timeout' arg.  Must be 1-{max}.")]
    Timeout {
        /// The longest.
        max: u64,
    },
    /// No category, or one that is empty or too long.
    #[error("Invalid subscription category, must be 1-1024 characters long.")]
    Category,
    /// The time is not one.
    #[error("Invalid 'since_time' arg.")]
    SinceTime,
    /// An event without its time.
    #[error("Must provide 'since_time' arg when providing 'last_id'.")]
    LastIdAlone,
    /// The event's id is none.
    #[error("Param 'last_id' was not a valid UUID.")]
    LastId,
}

impl PollQuery {
    /// Reads a query string. Of several parameters of one name the first counts, but for
    /// `category`. `max` is the longest timeout in seconds.
    pub fn parse(query: &[u8], max: u64) -> Result<Self, QueryError> {
        let first = |name: &[u8]| pairs(query).find(|(key, _)| **key == *name);
        let first = |name| first(name).map(|(_, value)| value);
        let number = |text: &[u8]| str::from_utf8(text).ok()?.parse::<i64>().ok();

        let timeout = first(b"timeout").and_then(|text| u64::try_from(number(&text)?).ok());
        let timeout = timeout.filter(|timeout| (1..=max).contains(timeout));
        let timeout = timeout.ok_or(QueryError::Timeout { max })?;

        let mut categories = Vec::new();
        for (_, category) in pairs(query).filter(|(key, _)| **key == *b"category") {
            if category.is_empty() && !categories.is_empty() {
                // golongpoll does not look at it.
                continue;
            }
            if category.len() > CATEGORY_MAX {
                return Err(QueryError::Category);
            }
            let name = StreamName::try_new(&String::from_utf8_lossy(&category));
            let name = name.map_err(|_| QueryError::Category)?;
            if !categories.contains(&name) {
                categories.push(name);
            }
            if categories.len() > CATEGORIES_MAX {
                return Err(QueryError::Category);
            }
        }
        if categories.is_empty() {
            return Err(QueryError::Category);
        }

        let given = |name| first(name).filter(|value| !value.is_empty());
        let since = match given(b"since_time") {
            Some(text) => Some(number(&text).ok_or(QueryError::SinceTime)?),
            None => None,
        };
        let last = match (given(b"last_id"), since) {
            (Some(_), None) => return Err(QueryError::LastIdAlone),
            (Some(text), Some(_)) => Some(EventId::parse(&text).ok_or(QueryError::LastId)?),
            (None, _) => None,
        };
        Ok(Self {
            timeout,
            categories,
            since,
            last,
        })
    }
}

type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The pairs as Go reads them: one with a semicolon or a broken escape is not there.
fn pairs(query: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let pairs = query.split(|byte| *byte == b'&');
    pairs
        .filter(|pair| !pair.is_empty() && !pair.contains(&b';'))
        .filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (key, value) = match at.and_then(|at| pair.split_at_checked(at)) {
                Some((key, value)) => (key, value.get(1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
            Some((unescape(key)?, unescape(value)?))
        })
}

fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high << 4 | low).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "7c17587a-3437-4861-bef7-8f29905589e4";

    fn parse(query: &str) -> Result<PollQuery, String> {
        PollQuery::parse(query.as_bytes(), 110).map_err(|error| error.to_string())
    }

    #[test]
    fn mistakes_are_told_in_order_and_in_golongpolls_words() {
        let timeout = "Invalid or missing 'timeout' arg.  Must be 1-110.";
        let category = "Invalid subscription category, must be 1-1024 characters long.";
        let since = "Invalid 'since_time' arg.";
        let alone = "Must provide 'since_time' arg when providing 'last_id'.";
        let id = "Param 'last_id' was not a valid UUID.";
        let long = format!("timeout=1&category={}", "x".repeat(1_025));
        let wide = format!("timeout=1&category={}", "%C3%A9".repeat(513));
        for (query, expected) in [
            ("", timeout),
            ("timeout=0&category=", timeout),
            ("timeout=111&category=a", timeout),
            ("timeout=-1&category=a", timeout),
            ("timeout=1.5&category=a", timeout),
            ("timeout=abc&category=a", timeout),
            ("timeout=+1&category=a", timeout),
            ("timeout=&timeout=1&category=a", timeout),
            ("timeout=1;&category=a", timeout),
            ("timeout=%zz&category=a", timeout),
            ("timeout=99999999999999999999&category=a", timeout),
            ("timeout=1", category),
            ("timeout=1&category=&since_time=x", category),
            ("timeout=1&category=a;b", category),
            ("timeout=1&category=%e", category),
            (long.as_str(), category),
            (wide.as_str(), category),
            ("timeout=1&category=a&since_time=x&last_id=x", since),
            ("timeout=1&category=a&since_time=1e3", since),
            ("timeout=1&category=a&since_time=1.0", since),
            ("timeout=1&category=a&since_time=9223372036854775808", since),
            ("timeout=1&category=a&since_time=&last_id=x", alone),
            ("timeout=1&category=a&last_id=x", alone),
            ("timeout=1&category=a&since_time=1&last_id=x", id),
        ] {
            assert_eq!(parse(query), Err(expected.to_owned()), "{query}");
        }
    }

    #[test]
    fn what_go_takes_is_taken() {
        let longest = format!("timeout=110&category={}", "x".repeat(1_024));
        let widest = format!("timeout=01&category={}", "%C3%A9".repeat(512));
        for query in [
            longest.as_str(),
            &widest,
            "timeout=%2B1&category=a&last_id=&since_time=",
        ] {
            let query = parse(query).unwrap();
            assert_eq!((query.since, query.last), (None, None));
        }
        for (since, expected) in [
            ("0", 0),
            ("-5", -5),
            ("%2B7", 7),
            ("007", 7),
            ("9223372036854775807", i64::MAX),
        ] {
            let query = format!("category=a%20b+c&timeout=2&since_time={since}&last_id={UUID}");
            let query = parse(&query).unwrap();
            assert_eq!(query.since, Some(expected));
            assert_eq!(query.categories[0].as_str(), "a b c");
            assert_eq!(query.last, EventId::parse(UUID.as_bytes()));
        }
        let query = parse("timeout=3&timeout=4&since_time=1&since_time=2&category=a").unwrap();
        assert_eq!((query.timeout, query.since), (3, Some(1)));
        let query = parse("timeout=1&category=x;y&category=%zz&category=a&x").unwrap();
        assert_eq!(query.categories.len(), 1);
    }

    #[test]
    fn several_categories_are_one_poll() {
        let query = parse("category=a&timeout=1&category=b&category=a").unwrap();
        let names: Vec<_> = query.categories.iter().map(StreamName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            parse("category=a&timeout=1&category=")
                .unwrap()
                .categories
                .len(),
            1
        );
        assert!(parse("category=&timeout=1&category=a").is_err());
        let many: String = (0..65)
            .map(|number| format!("&category={number}"))
            .collect();
        assert!(parse(&format!("timeout=1{many}")).is_err());
    }
}
