//! What was published and what came.

use crate::{Continuity, Report};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A publisher's message: who and which number.
type Message = (String, u64);

/// What publishers and readers of one test write down.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// By publisher of a stream, since only a publisher's numbers have an order.
    continuity: Continuity,
    /// The names of the publishers of each stream.
    publishers: BTreeMap<String, Vec<String>>,
    /// What each reader saw of each stream, in that order.
    sequences: BTreeMap<String, BTreeMap<String, Vec<Message>>>,
    accepted: BTreeMap<String, u64>,
    uncertain: BTreeSet<Message>,
    last_refusal: String,
    /// Answers without a message, by reader.
    quiet: BTreeMap<String, u64>,
    /// Answers that told of a loss.
    gaps: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was lost, doubled or out of order.
    pub report: Report,
    /// Streams that did not come to all readers in one order, with the first difference.
    /// Messages that may not have been accepted don't count.
    pub orders_differ: Vec<String>,
    /// Messages that may not have been accepted, and came to some readers only.
    pub seen_by_some: Vec<String>,
    /// How many messages were accepted.
    pub accepted: u64,
    /// How many may have been.
    pub uncertain: usize,
    /// How many answers told readers of a loss.
    pub gaps: u64,
}

impl Books {
    pub(super) fn publish(&mut self, stream: &str, publisher: &str) {
        let publishers = self.publishers.entry(stream.to_owned()).or_default();
        publishers.push(publisher.to_owned());
        self.accepted.insert(publisher.to_owned(), 0);
        let readers = self.sequences.iter();
        let readers = readers.filter(|(_, streams)| streams.contains_key(stream));
        for (reader, _) in readers {
            self.continuity.join(reader, publisher);
        }
    }

    pub(super) fn join(&mut self, reader: &str, streams: &[String]) {
        let streams = streams.iter().map(|stream| (stream.clone(), Vec::new()));
        self.sequences.insert(reader.to_owned(), streams.collect());
        self.quiet.insert(reader.to_owned(), 0);
    }

    pub(super) fn forget(&mut self, reader: &str) {
        self.continuity.leave(reader);
        self.sequences.remove(reader);
        self.quiet.remove(reader);
    }

    pub(super) fn next(&mut self, publisher: &str) -> u64 {
        self.continuity.next(publisher)
    }

    pub(super) fn accept(&mut self, publisher: &str) {
        *self.accepted.entry(publisher.to_owned()).or_default() += 1;
    }

    pub(super) fn maybe(&mut self, publisher: &str, number: u64) {
        self.continuity.maybe(publisher, number);
        self.uncertain.insert((publisher.to_owned(), number));
    }

    pub(super) fn refuse(&mut self, words: String) {
        self.last_refusal = words;
    }

    pub(super) fn last_refusal(&self) -> String {
        self.last_refusal.clone()
    }

    pub(super) fn saw(&mut self, reader: &str, stream: &str, publisher: &str, number: u64) {
        self.continuity.saw(reader, publisher, number);
        if let Some(streams) = self.sequences.get_mut(reader) {
            let sequence = streams.entry(stream.to_owned()).or_default();
            sequence.push((publisher.to_owned(), number));
        }
    }

    pub(super) fn saw_gap(&mut self) {
        self.gaps += 1;
    }

    pub(super) fn saw_nothing(&mut self, reader: &str) {
        if let Some(count) = self.quiet.get_mut(reader) {
            *count += 1;
        }
    }

    pub(super) fn accepted_each(&self, more: u64) -> BTreeMap<String, u64> {
        let accepted = self.accepted.iter();
        accepted
            .map(|(publisher, count)| (publisher.clone(), count + more))
            .collect()
    }

    pub(super) fn has_accepted(&self, goal: &BTreeMap<String, u64>) -> bool {
        let mut goal = goal.iter();
        goal.all(|(publisher, count)| self.accepted.get(publisher) >= Some(count))
    }

    pub(super) fn quiet_each(&self, more: u64) -> BTreeMap<String, u64> {
        let quiet = self.quiet.iter();
        quiet
            .map(|(reader, count)| (reader.clone(), count + more))
            .collect()
    }

    pub(super) fn has_been_quiet(&self, goal: &BTreeMap<String, u64>) -> bool {
        let mut quiet = self.quiet.iter();
        quiet.all(|(reader, count)| Some(count) >= goal.get(reader))
    }

    pub(super) fn missing(&self) -> usize {
        self.continuity.missing()
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            report: self.continuity.report(),
            orders_differ: self
                .publishers
                .keys()
                .filter_map(|s| self.differs(s))
                .collect(),
            seen_by_some: self.seen_by_some(),
            accepted: self.accepted.values().sum(),
            uncertain: self.uncertain.len(),
            gaps: self.gaps,
        }
    }

    /// Where two readers of a stream have seen different certain messages.
    fn differs(&self, stream: &str) -> Option<String> {
        let certain = |sequence: &Vec<Message>| -> Vec<Message> {
            let certain = sequence.iter();
            let certain = certain.filter(|message| !self.uncertain.contains(message));
            certain.cloned().collect()
        };
        let mut readers = self
            .sequences
            .iter()
            .filter_map(|(reader, streams)| Some((reader, certain(streams.get(stream)?))));
        let (one, first) = readers.next()?;
        let (other, place, second) = readers.find_map(|(reader, sequence)| {
            let same = sequence.iter().zip(&first).take_while(|(a, b)| a == b);
            let same = same.count();
            (sequence != first).then_some((reader, same, sequence))
        })?;
        Some(format!(
            "{stream} at {place}: {one} saw {:?}, {other} saw {:?}",
            first.get(place),
            second.get(place)
        ))
    }

    fn seen_by_some(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (stream, publishers) in &self.publishers {
            let of_stream = self.uncertain.iter();
            let of_stream = of_stream.filter(|(publisher, _)| publishers.contains(publisher));
            for message in of_stream {
                let sequences = self.sequences.iter();
                let sequences =
                    sequences.filter_map(|(reader, streams)| Some((reader, streams.get(stream)?)));
                let (seen, unseen): (Vec<_>, Vec<_>) =
                    sequences.partition(|(_, sequence)| sequence.contains(message));
                if !seen.is_empty() && !unseen.is_empty() {
                    let (publisher, number) = message;
                    let count = seen.len();
                    let all = count + unseen.len();
                    found.push(format!("{publisher} {number}: {count} of {all} readers"));
                }
            }
        }
        found
    }
}

impl Outcome {
    /// Whether all that was accepted came to everybody, once and in one order, and what may have
    /// been accepted came to everybody or nobody.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_continuous() && self.seen_by_some.is_empty()
    }

    /// The same without the last part, which nobody can promise when a server dies together with
    /// what it has not copied yet.
    #[must_use]
    pub fn is_continuous(&self) -> bool {
        self.report.is_clean() && self.orders_differ.is_empty() && self.gaps == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            uncertain,
            gaps,
            ..
        } = self;
        writeln!(
            f,
            "{accepted} accepted, {uncertain} uncertain, {gaps} gaps told"
        )?;
        for order in &self.orders_differ {
            writeln!(f, "two orders: {order}")?;
        }
        for message in &self.seen_by_some {
            writeln!(f, "not to everybody: {message}")?;
        }
        write!(f, "{}", self.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let mut books = Books::default();
        for reader in ["one", "two"] {
            books.join(reader, &["s".to_owned()]);
        }
        for publisher in ["p", "q"] {
            books.publish("s", publisher);
            books.next(publisher);
            books.accept(publisher);
        }
        books
    }

    #[test]
    fn everything_to_everybody_in_one_order_is_clean() {
        let mut books = books();
        for reader in ["one", "two"] {
            books.saw(reader, "s", "q", 1);
            books.saw(reader, "s", "p", 1);
        }
        let outcome = books.outcome();
        assert!(outcome.is_clean(), "{outcome}");
        assert_eq!(outcome.accepted, 2);
    }

    #[test]
    fn two_orders_are_told() {
        let mut books = books();
        for (reader, publisher) in [("one", "p"), ("one", "q"), ("two", "q"), ("two", "p")] {
            books.saw(reader, "s", publisher, 1);
        }
        let outcome = books.outcome();
        assert!(outcome.report.is_clean());
        let expected = r#"s at 0: one saw Some(("p", 1)), two saw Some(("q", 1))"#;
        assert_eq!(outcome.orders_differ, [expected]);
    }

    #[test]
    fn what_is_uncertain_must_come_to_all_or_nobody() {
        let mut books = books();
        for reader in ["one", "two"] {
            books.saw(reader, "s", "p", 1);
            books.saw(reader, "s", "q", 1);
        }
        let number = books.next("p");
        books.maybe("p", number);
        assert!(books.outcome().is_clean());
        books.saw("one", "s", "p", 2);
        let outcome = books.outcome();
        assert_eq!(outcome.seen_by_some, ["p 2: 1 of 2 readers"]);
        assert!(outcome.is_continuous() && !outcome.is_clean());
        books.saw("two", "s", "p", 2);
        assert!(books.outcome().is_clean());
    }

    #[test]
    fn who_was_forgotten_owes_nothing() {
        let mut books = books();
        books.saw("one", "s", "p", 1);
        books.saw("one", "s", "q", 1);
        assert_eq!(books.missing(), 2);
        books.forget("two");
        let outcome = books.outcome();
        assert!(outcome.is_clean(), "{outcome}");
    }
}
