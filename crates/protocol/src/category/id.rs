//! Ids of events.

use crate::names::StreamName;
use sha2::{Digest, Sha256};
use std::fmt;

/// A UUID. Those of our events are made from stream and time, which no two publications of a
/// stream share, so that every node gives an event the same id and nobody has to store it. They
/// begin with the time, so they are in the order of their events.
///
/// Layout, from the front: 48 bits milliseconds, 4 bits version, 10 bits microseconds, 1 bit that is
/// set where the event has no place in its stream, 1 bit zero, 2 bits variant, 62 bits hash. The
/// version says 4 because clients of golongpoll have never seen another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

const VERSION: u128 = 0x4 << 76;
const VARIANT: u128 = 0b10 << 62;
const MILLIS_SHIFT: u32 = 80;
const MICROS_SHIFT: u32 = 66;
const LIVE: u128 = 1 << 65;
const HASH_MASK: u128 = (1 << 62) - 1;
const MILLIS_MASK: u128 = (1 << 48) - 1;
const MICROS_MASK: u128 = (1 << 10) - 1;

/// Where the dashes are.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// What may stand before a UUID.
const URN: &[u8] = b"urn:uuid:";

impl EventId {
    /// The id of a stream's publication. `time` is its time in microseconds since 1970.
    pub fn of(stream: &StreamName, time: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(time.to_be_bytes());
        hash.update(stream.as_str().as_bytes());
        let hash = hash.finalize();
        let hash = hash
            .iter()
            .take(8)
            .fold(0, |number, byte| (number << 8) | u128::from(*byte));
        Self(stamp(time) | (hash & HASH_MASK))
    }

    /// The id of an event that has no place in its stream.
    pub fn live(time: u64, random: u64) -> Self {
        Self(stamp(time) | LIVE | (u128::from(random) & HASH_MASK))
    }

    /// Whether it was made by [`EventId::live`], if it is one of ours.
    pub const fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    /// The time it was made from, if it was made for this stream by [`EventId::of`].
    pub fn time_in(self, stream: &StreamName) -> Option<u64> {
        let millis = u64::try_from((self.0 >> MILLIS_SHIFT) & MILLIS_MASK).ok()?;
        let micros = u64::try_from((self.0 >> MICROS_SHIFT) & MICROS_MASK).ok()?;
        let time = millis.checked_mul(1_000)?.checked_add(micros)?;
        (Self::of(stream, time) == self).then_some(time)
    }

    /// Reads any UUID: canonical, without dashes, in braces, or as a URN.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let plain = match text {
            [b'{', plain @ .., b'}'] => plain,
            _ => text.strip_prefix(URN).unwrap_or(text),
        };
        let has_dashes = match plain.len() {
            32 => false,
            36 => true,
            _ => return None,
        };
        let mut number = 0;
        for (at, &byte) in plain.iter().enumerate() {
            if has_dashes && DASHES.contains(&at) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16)?;
            number = (number << 4) | u128::from(digit);
        }
        Some(Self(number))
    }
}

fn stamp(time: u64) -> u128 {
    let millis = (u128::from(time / 1_000) & MILLIS_MASK) << MILLIS_SHIFT;
    let micros = u128::from(time % 1_000) << MICROS_SHIFT;
    millis | micros | VERSION | VARIANT
}

/// The canonical form, in lower case.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, bits: u32| (self.0 >> shift) & ((1 << bits) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 32),
            part(80, 16),
            part(64, 16),
            part(48, 16),
            part(0, 48)
        )
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str) -> StreamName {
        StreamName::try_new(name).unwrap()
    }

    #[test]
    fn an_id_looks_like_any_other_and_tells_its_time() {
        let (a, b) = (stream("a"), stream("b"));
        let time = 1_616_040_198_889_123;
        let id = EventId::of(&a, time);
        let text = id.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
        assert_eq!(EventId::parse(text.as_bytes()), Some(id));
        assert_eq!(id.time_in(&a), Some(time));
        assert_eq!(id.time_in(&b), None);
        assert_ne!(EventId::of(&b, time), id);
        assert!(!id.is_live() && EventId::live(time, 7).is_live());
        assert_eq!(EventId::live(time, u64::MAX).time_in(&a), None);
        // It must not change: files and clients keep ids.
        assert_eq!(text, "01784380-82e9-41ec-aebf-74701f638416");
    }

    #[test]
    fn ids_are_in_the_order_of_their_events() {
        let name = stream("a");
        let times = [1_999, 2_000, 2_001, 2_999, 3_000, 1_616_040_198_889_123];
        let ids: Vec<_> = times.iter().map(|time| EventId::of(&name, *time)).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn every_spelling_of_a_uuid_is_read() {
        let id = EventId::parse(b"7c17587a-3437-4861-bef7-8f29905589e4");
        assert!(id.is_some());
        for same in [
            "7C17587A-3437-4861-BEF7-8F29905589E4",
            "7c17587a34374861bef78f29905589e4",
            "{7c17587a-3437-4861-bef7-8f29905589e4}",
            "{7c17587a34374861bef78f29905589e4}",
            "urn:uuid:7c17587a-3437-4861-bef7-8f29905589e4",
            "urn:uuid:7c17587a34374861bef78f29905589e4",
        ] {
            assert_eq!(EventId::parse(same.as_bytes()), id, "{same}");
        }
        assert!(EventId::parse(b"00000000-0000-0000-0000-000000000000").is_some());
        for bad in [
            "",
            "x",
            "7c17587a-3437-4861-bef7-8f29905589e",
            "7c17587a-3437-4861-bef7-8f29905589e44",
            "7c17587a3437-4861-bef7-8f29905589e4-",
            "7c17587a-3437-4861-bef7-8f29905589eg",
            "{7c17587a-3437-4861-bef7-8f29905589e4",
            "urn:uuid:{7c17587a-3437-4861-bef7-8f29905589e4}",
            "{}",
            "URN:UUID:7c17587a-3437-4861-bef7-8f29905589e4",
            "+c17587a34374861bef78f29905589e4",
        ] {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
