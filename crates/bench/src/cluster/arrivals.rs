//! What became of the publications through one door, over all nodes.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::args::DoorName;
use super::fleet::Fleet;
use super::leader::Ended;
use crate::clock::Nanos;
use crate::failure::Failures;
use crate::fanout::Spread;
use crate::table::{Table, grouped};

/// Counts, and whether they are as they should be. Its field names are keys of the JSON report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Arrivals {
    /// Everything that was to be published was, and it was waited for.
    pub(super) complete: bool,
    pub(super) notes: Vec<String>,
    /// Measured publications.
    pub(super) published: usize,
    pub(super) accepted: usize,
    pub(super) expected: u64,
    pub(super) deliveries: u64,
    pub(super) losses: u64,
    pub(super) warmup_losses: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
    pub(super) server_gaps: u64,
    /// Answers that carried these deliveries.
    pub(super) answers: u64,
    pub(super) reconnects: u64,
    pub(super) reopens: u64,
    pub(super) errors: Failures,
    pub(super) publish_errors: Failures,
    /// Publish call to receipt.
    pub(super) latency_us: Option<Spread>,
    /// Publish call to the answer to it.
    pub(super) publish_us: Option<Spread>,
}

impl Arrivals {
    pub(super) fn of(fleet: &Fleet, ended: Ended) -> Self {
        let mut errors = Failures::default();
        let mut latency: Option<Histogram<u64>> = None;
        for tally in fleet.tallies() {
            errors.add(&tally.failures);
            match &mut latency {
                // They have the same bounds.
                Some(all) => *all += tally.latency(),
                None => latency = Some(tally.latency().clone()),
            }
        }
        // Publications and their answers are the same in every tally.
        let first = fleet.tallies().next();
        let measured = first.map_or(&[][..], |tally| tally.measured());
        let answered = measured
            .iter()
            .filter_map(|one| Some(one.accepted?.since(one.sent)));
        let (complete, notes) = match ended {
            Ended::Complete => (true, Vec::new()),
            Ended::Early(note) => (false, vec![note]),
        };
        let tallies = || fleet.tallies();
        let counters = || fleet.tallies().map(|tally| tally.counters);
        Self {
            complete,
            notes,
            published: measured.len(),
            accepted: answered.clone().count(),
            expected: tallies().map(|tally| tally.expected_deliveries()).sum(),
            deliveries: tallies().map(|tally| tally.latency().len()).sum(),
            losses: tallies().map(|tally| tally.losses()).sum(),
            warmup_losses: tallies().map(|tally| tally.warmup_losses()).sum(),
            duplicates: counters().map(|counters| counters.duplicates).sum(),
            out_of_order: counters().map(|counters| counters.out_of_order).sum(),
            server_gaps: counters().map(|counters| counters.gaps).sum(),
            answers: counters().map(|counters| counters.answers).sum(),
            reconnects: counters().map(|counters| counters.reconnects).sum(),
            reopens: counters().map(|counters| counters.reopens).sum(),
            errors,
            publish_errors: first
                .map_or_else(Failures::default, |tally| tally.publish_failures.clone()),
            latency_us: latency.as_ref().and_then(Spread::of),
            publish_us: Spread::of_times(answered.map(|time| time.as_secs_f64() * 1e6)),
        }
    }

    /// Everything was accepted and arrived exactly once.
    pub(super) fn is_clean(&self) -> bool {
        self.complete
            && self.losses == 0
            && self.warmup_losses == 0
            && self.duplicates == 0
            && self.publish_errors.is_empty()
            && self.deliveries > 0
    }

    /// One row with the counts, and more only where something is wrong.
    pub(super) fn rows(&self, door: DoorName, table: &mut Table) {
        table.row(
            door.text(),
            format!(
                "{} of {} messages, {} lost, {} twice, {} out of order, in {} answers",
                grouped(self.deliveries),
                grouped(self.expected),
                grouped(self.losses + self.warmup_losses),
                grouped(self.duplicates),
                grouped(self.out_of_order),
                grouped(self.answers)
            ),
        );
        if !self.errors.is_empty() {
            table.row("  errors", &self.errors);
        }
        if !self.publish_errors.is_empty() {
            table.row("  publish errors", &self.publish_errors);
        }
        for note in &self.notes {
            table.row("  note", note);
        }
        if !self.is_clean() {
            table.row("  DOES NOT COUNT", "not every message arrived exactly once");
        }
    }
}

/// From the first measured publish call to the last receipt and to the last answer, in seconds.
pub(super) fn times(fleet: &Fleet) -> (f64, f64) {
    let measured = fleet
        .tallies()
        .next()
        .map_or(&[][..], |tally| tally.measured());
    let Some(first) = measured.first() else {
        return (0.0, 0.0);
    };
    let since =
        |moment: Option<Nanos>| moment.map_or(0.0, |moment| moment.since(first.sent).as_secs_f64());
    let last_receipt = fleet.tallies().map(|tally| tally.last_receipt()).max();
    let last_answer = measured.iter().filter_map(|one| one.accepted).max();
    (since(last_receipt), since(last_answer))
}
