//! What was sent and what arrived: one entry per publication, counters for the rest.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::Nanos;
use crate::failure::{Failure, Failures};
use crate::ledger::{Ledger, Receipt};
use crate::mark::{Mark, RunId, Seq, StreamIndex};

/// Latencies above this are recorded as this.
const LONGEST: Duration = Duration::from_secs(600);
/// 0.1 % exact, in about 200 KB.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Everything a run counts.
#[derive(Debug)]
pub(crate) struct Tally {
    run: RunId,
    /// Pollers of each stream.
    pollers: Vec<u32>,
    publications: Vec<Publication>,
    /// How many of them the server has answered; it answers in order.
    answered: usize,
    /// Publications before this one are warm-up.
    measured_from: usize,
    /// Publish call to receipt, measured publications only, nanoseconds.
    latency: Histogram<u64>,
    pub(crate) counters: Counters,
    pub(crate) failures: Failures,
    pub(crate) publish_failures: Failures,
    /// The last time anything arrived.
    last_receipt: Nanos,
    /// First receipts, warm-up included.
    received: u64,
    /// Receipts there should be, whatever the server answered.
    owed: u64,
}

/// One message to one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Publication {
    pub(crate) sent: Nanos,
    /// When the server said 2xx; `None` if it never did.
    pub(crate) accepted: Option<Nanos>,
    /// Pollers that got it, each counted once.
    pub(crate) received: u32,
    /// When the last of them got it.
    pub(crate) last: Nanos,
}

/// Plain counts over the whole run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Measured answers with at least one message.
    pub(crate) answers: u64,
    pub(crate) idle_answers: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_order: u64,
    /// Messages of another run or stream.
    pub(crate) foreign: u64,
    /// Answers in which the server admits a loss.
    pub(crate) gaps: u64,
    pub(crate) reconnects: u64,
    pub(crate) reopens: u64,
}

impl Tally {
    pub(crate) fn new(run: RunId, pollers: Vec<u32>, measured_from: usize) -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        #[expect(clippy::expect_used, reason = "the bounds are constants")]
        let latency = Histogram::new_with_bounds(1, longest, SIGNIFICANT_DIGITS)
            .expect("the histogram's bounds are valid");
        Self {
            run,
            pollers,
            publications: Vec::new(),
            answered: 0,
            measured_from,
            latency,
            counters: Counters::default(),
            failures: Failures::default(),
            publish_failures: Failures::default(),
            last_receipt: Nanos::default(),
            received: 0,
            owed: 0,
        }
    }

    /// Enters the next publication and says what to write into it.
    pub(crate) fn publish(&mut self, now: Nanos) -> Mark {
        let streams = self.pollers.len().max(1);
        let index = self.publications.len();
        self.owed += u64::from(self.pollers[index % streams]);
        self.publications.push(Publication {
            sent: now,
            ..Publication::default()
        });
        Mark {
            run: self.run,
            stream: StreamIndex(u32::try_from(index % streams).unwrap_or(0)),
            seq: Seq(u32::try_from(index / streams).map_or(u32::MAX, |seq| seq + 1)),
            sent: now,
        }
    }

    /// The server has answered the next publication, or never will.
    pub(crate) fn answer(&mut self, outcome: Result<(), Failure>, now: Nanos) {
        self.answer_to(self.answered, outcome, now);
        self.answered += 1;
    }

    /// The publication with this index has been answered, or never will be. For publishers whose
    /// answers come in any order.
    pub(crate) fn answer_to(&mut self, index: usize, outcome: Result<(), Failure>, now: Nanos) {
        match (outcome, self.publications.get_mut(index)) {
            (Ok(()), Some(publication)) => publication.accepted = Some(now),
            (Ok(()), None) => {}
            (Err(failure), _) => self.publish_failures.count(failure),
        }
    }

    /// A poller of `stream` has received a message.
    pub(crate) fn deliver(
        &mut self,
        ledger: &mut Ledger,
        stream: StreamIndex,
        mark: Mark,
        now: Nanos,
    ) {
        let Some(index) = self.index_of(stream, mark) else {
            self.counters.foreign += 1;
            return;
        };
        match ledger.enter(mark.seq) {
            Receipt::Duplicate => {
                self.counters.duplicates += 1;
                return;
            }
            Receipt::Late => self.counters.out_of_order += 1,
            Receipt::InOrder => {}
        }
        let publication = &mut self.publications[index];
        publication.received += 1;
        publication.last = now;
        self.last_receipt = now;
        self.received += 1;
        if index >= self.measured_from {
            let latency = now.since(mark.sent).min(LONGEST);
            self.latency
                .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn index_of(&self, stream: StreamIndex, mark: Mark) -> Option<usize> {
        if mark.run != self.run || mark.stream != stream {
            return None;
        }
        let round = usize::try_from(mark.seq.0.checked_sub(1)?).ok()?;
        let within = usize::try_from(stream.0).ok()?;
        let index = round.checked_mul(self.pollers.len())?.checked_add(within)?;
        (index < self.publications.len()).then_some(index)
    }

    /// An answer with at least one message came in.
    pub(crate) fn answer_with_messages(&mut self) {
        if self.publications.len() > self.measured_from {
            self.counters.answers += 1;
        }
    }

    /// How many pollers should get the publication with this index.
    fn expected(&self, index: usize) -> u64 {
        u64::from(self.pollers[index % self.pollers.len()])
    }

    /// Whether everyone has the latest publication, given that the server has answered it.
    /// Nobody will get a refused one.
    pub(crate) fn latest_is_settled(&self) -> bool {
        let Some(latest) = self.publications.last() else {
            return true;
        };
        latest.accepted.is_none()
            || u64::from(latest.received) >= self.expected(self.publications.len() - 1)
    }

    /// Whether everyone has everything the server accepted.
    pub(crate) fn all_settled(&self) -> bool {
        self.missing(0..self.publications.len()) == 0
    }

    /// Whether everything published has reached everyone. Cheap enough to ask all the time.
    pub(crate) const fn has_all(&self) -> bool {
        self.outstanding() == 0
    }

    /// Receipts that have not come yet.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.owed.saturating_sub(self.received)
    }

    fn missing(&self, range: std::ops::Range<usize>) -> u64 {
        range
            .filter(|&index| self.publications[index].accepted.is_some())
            .map(|index| {
                let received = u64::from(self.publications[index].received);
                self.expected(index).saturating_sub(received)
            })
            .sum()
    }

    pub(crate) const fn last_receipt(&self) -> Nanos {
        self.last_receipt
    }

    pub(crate) const fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    pub(crate) fn published(&self) -> usize {
        self.publications.len()
    }

    pub(crate) fn measured(&self) -> &[Publication] {
        self.publications.get(self.measured_from..).unwrap_or(&[])
    }

    pub(crate) fn ever_accepted(&self) -> bool {
        self.publications.iter().any(|one| one.accepted.is_some())
    }

    /// Messages that should have arrived of what was measured.
    pub(crate) fn expected_deliveries(&self) -> u64 {
        (self.measured_from..self.publications.len())
            .filter(|&index| self.publications[index].accepted.is_some())
            .map(|index| self.expected(index))
            .sum()
    }

    /// Messages that did arrive, warm-up included.
    pub(crate) const fn all_deliveries(&self) -> u64 {
        self.received
    }

    pub(crate) fn losses(&self) -> u64 {
        self.missing(self.measured_from.min(self.publications.len())..self.publications.len())
    }

    pub(crate) fn warmup_losses(&self) -> u64 {
        self.missing(0..self.measured_from.min(self.publications.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanoseconds: u64) -> Nanos {
        Nanos::from_raw(nanoseconds)
    }

    #[test]
    fn counts_losses_by_stream_and_leaves_warm_up_out() {
        // Two streams with two and one pollers, one warm-up publication on each.
        let mut tally = Tally::new(RunId(1), vec![2, 1], 2);
        let mut ledgers = [Ledger::default(), Ledger::default(), Ledger::default()];
        let streams = [StreamIndex(0), StreamIndex(0), StreamIndex(1)];
        for round in 0..4 {
            let mark = tally.publish(at(round));
            tally.answer(Ok(()), at(round));
            for (ledger, stream) in ledgers.iter_mut().zip(streams) {
                // Stream 0's measured publication reaches nobody.
                if stream == mark.stream && round != 2 {
                    tally.deliver(ledger, stream, mark, at(round + 5));
                }
            }
        }
        assert_eq!(tally.expected_deliveries(), 3);
        assert_eq!(tally.latency().len(), 1);
        assert_eq!(tally.losses(), 2);
        assert_eq!(tally.warmup_losses(), 0);
        assert_eq!(tally.measured().len(), 2);
        assert!(!tally.all_settled());
        assert!(tally.latest_is_settled());
    }

    #[test]
    fn what_is_not_of_this_run_is_foreign() {
        let mut tally = Tally::new(RunId(1), vec![1], 0);
        let mut ledger = Ledger::default();
        let mark = tally.publish(at(1));
        let stream = StreamIndex(0);
        for foreign in [
            Mark {
                run: RunId(2),
                ..mark
            },
            Mark {
                stream: StreamIndex(1),
                ..mark
            },
            Mark {
                seq: Seq(0),
                ..mark
            },
            Mark {
                seq: Seq(2),
                ..mark
            },
        ] {
            tally.deliver(&mut ledger, stream, foreign, at(2));
        }
        assert_eq!(tally.counters.foreign, 4);
        tally.deliver(&mut ledger, stream, mark, at(2));
        tally.deliver(&mut ledger, stream, mark, at(3));
        assert_eq!(tally.counters.duplicates, 1);
        assert_eq!(tally.all_deliveries(), 1);
    }

    #[test]
    fn a_refused_publication_is_no_loss() {
        let mut tally = Tally::new(RunId(1), vec![5], 0);
        tally.publish(at(1));
        tally.answer(Err(Failure::Status(503)), at(2));
        assert_eq!(tally.losses(), 0);
        assert!(tally.all_settled());
        assert!(!tally.ever_accepted());
        assert!(!tally.has_all(), "it was owed all the same");
    }
}
