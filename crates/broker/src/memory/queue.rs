//! The mark of one group of readers, and what they have borrowed.

use super::log::{Kept, find};
use crate::queue::{Outcome, Take, countable};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// What a stream's history has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) entries: &'a VecDeque<Kept>,
    /// The last offset that was given.
    pub(super) last: u64,
    /// Up to here entries may be missing because they were read once.
    pub(super) removed: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The last offset that was ever taken.
    mark: u64,
    /// When somebody last read.
    seen: Option<Instant>,
    /// Until when what was taken is lent; what is over has come back.
    lent: BTreeMap<u64, Instant>,
    /// Readers that wait, and until when.
    waiting: HashMap<String, Instant>,
}

impl Queue {
    /// The offsets a reader gets, and how many it and all others never will.
    pub(super) fn take(&mut self, take: &Take, kept: Content<'_>, now: Instant) -> (Vec<u64>, u64) {
        let mut dropped = self.pass_over(take, kept, now);
        // What was trimmed while it was lent out.
        let gone = |offset: &u64| find(kept.entries, *offset).is_none();
        let lost: Vec<u64> = self.back(now).filter(gone).collect();
        for offset in lost {
            self.lent.remove(&offset);
            dropped += 1;
        }
        let mut offsets: Vec<u64> = self.back(now).take(take.max).collect();
        let fresh = self.fresh(kept.entries, now);
        let fresh: Vec<u64> = fresh.take(take.max - offsets.len()).collect();
        offsets.extend(fresh);
        for offset in &offsets {
            self.mark = self.mark.max(*offset);
            self.lent.insert(*offset, now + countable(take.lease));
        }
        self.seen = Some(now);
        self.waiting.retain(|_, until| *until > now);
        match take.wait {
            Some(wait) if offsets.is_empty() => {
                self.waiting
                    .insert(take.reader.clone(), now + countable(wait));
            }
            _ => {
                self.waiting.remove(&take.reader);
            }
        }
        (offsets, dropped)
    }

    /// Moves the mark over what nobody will get: what history has forgotten,
    /// what is over the bound, and what an idle group has left behind.
    fn pass_over(&mut self, take: &Take, kept: Content<'_>, now: Instant) -> u64 {
        let Content {
            entries,
            last,
            removed,
        } = kept;
        let before = self.mark.min(last);
        self.mark = before;
        let left = take
            .idle
            .and_then(|idle| self.left_behind(entries, idle, now));
        if let Some(left) = left {
            self.lent
                .retain(|offset, until| *offset > left || *until > now);
        }
        let waiting: Vec<u64> = self.fresh(entries, now).collect();
        let over = waiting.len().saturating_sub(take.bound);
        let behind = waiting.partition_point(|offset| Some(*offset) <= left);
        let passed = over.max(behind);
        self.mark = waiting
            .get(..passed)
            .unwrap_or_default()
            .last()
            .map_or(before, |last| *last);
        if self.seen.is_none() {
            return 0;
        }
        // Those that are missing were trimmed, unless they were read once.
        let first = after(entries, before).next();
        let reached = first.map_or(last, |entry| entry.offset - 1);
        let trimmed = reached.saturating_sub(before.max(removed));
        trimmed + u64::try_from(passed).unwrap_or(u64::MAX)
    }

    /// The last offset before the group was idle for too long. What is there
    /// after somebody read was not left behind until then.
    fn left_behind(&self, entries: &VecDeque<Kept>, idle: Duration, now: Instant) -> Option<u64> {
        let mut next = now;
        for entry in entries.iter().rev() {
            if let Some(seen) = self.seen.filter(|seen| *seen >= entry.at) {
                return (next.duration_since(seen) > idle).then_some(entry.offset);
            }
            if next.duration_since(entry.at) > idle {
                return Some(entry.offset);
            }
            next = entry.at;
        }
        None
    }

    /// What has come back and may be lent again.
    fn back(&self, now: Instant) -> impl Iterator<Item = u64> {
        let taken = self.lent.range(..=self.mark);
        let over = taken.filter(move |(_, until)| **until <= now);
        over.map(|(offset, _)| *offset)
    }

    /// What nobody has taken yet, or claimed.
    fn fresh(&self, entries: &VecDeque<Kept>, now: Instant) -> impl Iterator<Item = u64> {
        let offsets = after(entries, self.mark).map(|entry| entry.offset);
        offsets.filter(move |offset| self.lent.get(offset).is_none_or(|until| *until <= now))
    }

    /// Lends one out, if it is not lent already.
    pub(super) fn lend(&mut self, offset: u64, until: Instant, now: Instant) -> bool {
        let is_free = self.lent.get(&offset).is_none_or(|until| *until <= now);
        if is_free {
            self.lent.insert(offset, until);
        }
        is_free
    }

    /// What is not lent any more has arrived, and does not come back.
    pub(super) fn settle(&mut self, offset: u64, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Arrived => {
                self.lent.remove(&offset);
            }
            Outcome::Back => {
                if let Some(until) = self.lent.get_mut(&offset) {
                    *until = now;
                }
            }
        }
    }

    pub(super) fn leave(&mut self, reader: &str) {
        self.waiting.remove(reader);
    }

    pub(super) fn waiting(&self, now: Instant) -> usize {
        self.waiting.values().filter(|until| **until > now).count()
    }

    pub(super) fn backlog(&self, entries: &VecDeque<Kept>, now: Instant) -> usize {
        let back = self.back(now);
        let back = back.filter(|offset| find(entries, *offset).is_some());
        self.fresh(entries, now).count() + back.count()
    }
}

fn after(entries: &VecDeque<Kept>, mark: u64) -> impl Iterator<Item = &Kept> {
    let skip = entries.partition_point(|entry| entry.offset <= mark);
    entries.iter().skip(skip)
}
