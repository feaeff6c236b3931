//! Who got what: publishers number their messages, readers tell what they saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The books of one test. Every stream's messages are numbered 1, 2, 3…; a reader owes all that
/// were published after it joined.
#[derive(Debug, Default)]
pub struct Continuity {
    /// The last number published, by stream.
    published: BTreeMap<String, u64>,
    /// Numbers that may or may not have been published, by stream.
    uncertain: BTreeMap<String, BTreeSet<u64>>,
    /// What each reader saw, by its name and the stream.
    readers: BTreeMap<(String, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The first number the reader owes.
    from: u64,
    /// The highest number it has seen.
    highest: u64,
    numbers: BTreeSet<u64>,
    doubled: Vec<u64>,
    out_of_order: Vec<u64>,
}

/// What is wrong for one reader of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which reader.
    pub reader: String,
    /// Which stream.
    pub stream: String,
    /// The numbers of the messages.
    pub numbers: Vec<u64>,
}

/// What is wrong at all.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Published, but not seen.
    pub lost: Vec<Finding>,
    /// Seen more than once; a number stands once for every time too many.
    pub doubled: Vec<Finding>,
    /// Seen for the first time after a higher number.
    pub out_of_order: Vec<Finding>,
    /// Seen, but never published, or published before the reader joined.
    pub unexpected: Vec<Finding>,
}

impl Continuity {
    /// The number for the next message of a stream. Take one only for a message that will
    /// certainly be accepted, or the readers will owe a message that never was.
    pub fn next(&mut self, stream: &str) -> u64 {
        let last = self.published.entry(stream.to_owned()).or_default();
        *last += 1;
        *last
    }

    /// Nobody knows whether message `number` of `stream` was accepted: readers may see it, once
    /// and in its place, and don't owe it.
    pub fn maybe(&mut self, stream: &str, number: u64) {
        let uncertain = self.uncertain.entry(stream.to_owned()).or_default();
        uncertain.insert(number);
    }

    /// From now on `reader` owes the messages of `stream`.
    pub fn join(&mut self, reader: &str, stream: &str) {
        let from = self.published.get(stream).copied().unwrap_or(0) + 1;
        let seen = Seen {
            from,
            highest: 0,
            numbers: BTreeSet::new(),
            doubled: Vec::new(),
            out_of_order: Vec::new(),
        };
        self.readers
            .insert((reader.to_owned(), stream.to_owned()), seen);
    }

    /// `reader` owes nothing any more, and what it saw is forgotten.
    pub fn leave(&mut self, reader: &str) {
        self.readers.retain(|(name, _), _| name != reader);
    }

    /// `reader` saw message `number` of `stream`. Messages for a reader that did not join are
    /// not counted.
    pub fn saw(&mut self, reader: &str, stream: &str, number: u64) {
        let key = (reader.to_owned(), stream.to_owned());
        let Some(seen) = self.readers.get_mut(&key) else {
            return;
        };
        if !seen.numbers.insert(number) {
            seen.doubled.push(number);
        } else if number < seen.highest {
            seen.out_of_order.push(number);
        }
        seen.highest = seen.highest.max(number);
    }

    /// How many messages the readers still owe.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.report()
            .lost
            .iter()
            .map(|finding| finding.numbers.len())
            .sum()
    }

    /// The state of the books.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        let none = BTreeSet::new();
        for ((reader, stream), seen) in &self.readers {
            let last = self.published.get(stream).copied().unwrap_or(0);
            let owed = seen.from..=last;
            let uncertain = self.uncertain.get(stream).unwrap_or(&none);
            let finding = |numbers: Vec<u64>| {
                (!numbers.is_empty()).then(|| Finding {
                    reader: reader.clone(),
                    stream: stream.clone(),
                    numbers,
                })
            };
            let lost = owed
                .clone()
                .filter(|number| !seen.numbers.contains(number) && !uncertain.contains(number))
                .collect();
            let alien = seen
                .numbers
                .iter()
                .copied()
                .filter(|number| !owed.contains(number));
            report.lost.extend(finding(lost));
            report.unexpected.extend(finding(alien.collect()));
            report.doubled.extend(finding(seen.doubled.clone()));
            report
                .out_of_order
                .extend(finding(seen.out_of_order.clone()));
        }
        report
    }
}

impl Report {
    /// Whether everything came, once and in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("nothing lost, doubled or out of order");
        }
        let kinds = [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("out of order", &self.out_of_order),
            ("unexpected", &self.unexpected),
        ];
        for (kind, findings) in kinds {
            for finding in findings {
                writeln!(f, "{kind}: {finding}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    /// The numbers as ranges: a lost batch is a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}:", self.reader, self.stream)?;
        for range in self.numbers.chunk_by(|one, next| one + 1 == *next) {
            match range {
                [first, .., last] => write!(f, " {first}-{last}")?,
                _ => write!(f, " {}", range[0])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[u64]) -> Report {
        let mut books = Continuity::default();
        books.next("s");
        books.join("r", "s");
        for _ in 2..=5 {
            books.next("s");
        }
        for &number in numbers {
            books.saw("r", "s", number);
        }
        books.report()
    }

    fn numbers(findings: &[Finding]) -> Vec<u64> {
        findings
            .iter()
            .flat_map(|finding| finding.numbers.clone())
            .collect()
    }

    #[test]
    fn all_in_order_is_clean() {
        let report = seen(&[2, 3, 4, 5]);
        assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn every_kind_of_mistake_is_told_apart() {
        let report = seen(&[2, 4, 3, 4, 4]);
        assert_eq!(numbers(&report.lost), [5]);
        assert_eq!(numbers(&report.out_of_order), [3]);
        assert_eq!(numbers(&report.doubled), [4, 4]);
        assert!(report.unexpected.is_empty());
    }

    #[test]
    fn what_was_before_or_never_is_unexpected() {
        let report = seen(&[1, 2, 3, 4, 5, 9]);
        assert_eq!(numbers(&report.unexpected), [1, 9]);
        assert!(report.lost.is_empty());
    }

    #[test]
    fn what_is_uncertain_may_come_once() {
        let mut books = Continuity::default();
        books.join("r", "s");
        for _ in 1..=3 {
            let number = books.next("s");
            books.maybe("s", number);
        }
        books.saw("r", "s", 2);
        assert!(books.report().is_clean());
        books.saw("r", "s", 2);
        books.saw("r", "s", 1);
        let report = books.report();
        assert_eq!(numbers(&report.doubled), [2]);
        assert_eq!(numbers(&report.out_of_order), [1]);
    }

    #[test]
    fn reports_are_short() {
        let report = seen(&[3]).to_string();
        assert_eq!(report, "lost: r on s: 2 4-5\n");
    }

    #[test]
    fn strangers_are_not_counted() {
        let mut books = Continuity::default();
        books.next("s");
        books.saw("nobody", "s", 1);
        assert!(books.report().is_clean());
    }
}
