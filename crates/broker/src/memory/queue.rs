//! The mark of one group of readers, and what they have borrowed.

use super::log::Kept;
use crate::queue::{Outcome, Take};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

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
    pub(super) fn take(
        &mut self,
        take: &Take,
        entries: &VecDeque<Kept>,
        last: u64,
        now: Instant,
    ) -> (Vec<u64>, u64) {
        let mut dropped = self.pass_over(take, entries, last, now);
        let mut offsets: Vec<u64> = self.back(now).take(take.max).collect();
        let fresh = after(entries, self.mark).take(take.max - offsets.len());
        offsets.extend(fresh.map(|entry| entry.offset));
        for offset in &offsets {
            self.mark = self.mark.max(*offset);
            self.lent.insert(*offset, now + take.lease);
        }
        // What was trimmed while it was lent out.
        let first = entries.front().map_or(last + 1, |entry| entry.offset);
        let gone = |offset: &u64| *offset < first;
        let lost: Vec<u64> = self.back(now).filter(gone).collect();
        for offset in lost {
            self.lent.remove(&offset);
            dropped += 1;
        }
        self.seen = Some(now);
        self.waiting.retain(|_, until| *until > now);
        match take.wait {
            Some(wait) if offsets.is_empty() => {
                self.waiting.insert(take.reader.clone(), now + wait);
            }
            _ => {
                self.waiting.remove(&take.reader);
            }
        }
        (offsets, dropped)
    }

    /// Moves the mark over what nobody will get: what history has forgotten,
    /// what is over the bound, and what an idle group has left behind.
    fn pass_over(&mut self, take: &Take, entries: &VecDeque<Kept>, last: u64, now: Instant) -> u64 {
        let before = self.mark.min(last);
        self.mark = before;
        if let Some(idle) = take.idle
            && let Some(offset) = self.left_behind(entries, idle, now)
        {
            self.mark = self.mark.max(offset);
            let lost = self
                .lent
                .range(..=offset)
                .filter(|(_, until)| **until <= now);
            let lost: Vec<u64> = lost.map(|(offset, _)| *offset).collect();
            for offset in lost {
                self.lent.remove(&offset);
            }
        }
        let waiting = after(entries, self.mark).count();
        if let Some(over) = waiting.checked_sub(take.bound).filter(|over| *over > 0)
            && let Some(newest) = after(entries, self.mark).nth(over - 1)
        {
            self.mark = newest.offset;
        }
        if self.seen.is_none() {
            return 0;
        }
        let first = after(entries, self.mark).next();
        first
            .map_or(last, |entry| entry.offset - 1)
            .saturating_sub(before)
    }

    /// The last offset before the group was idle for too long.
    fn left_behind(&self, entries: &VecDeque<Kept>, idle: Duration, now: Instant) -> Option<u64> {
        let lives = |from: Instant, to: Instant| match self.seen {
            _ if to.duration_since(from) <= idle => true,
            Some(seen) if seen > from && seen < to => {
                seen.duration_since(from) <= idle && to.duration_since(seen) <= idle
            }
            _ => false,
        };
        let mut next = now;
        for entry in entries.iter().rev() {
            if !lives(entry.at, next) {
                return Some(entry.offset);
            }
            next = entry.at;
        }
        None
    }

    /// What has come back and may be lent again.
    fn back(&self, now: Instant) -> impl Iterator<Item = u64> {
        let over = self.lent.iter().filter(move |(_, until)| **until <= now);
        over.map(|(offset, _)| *offset)
    }

    /// Lends one out, if it is not lent already.
    pub(super) fn lend(&mut self, offset: u64, until: Instant, now: Instant) -> bool {
        let is_free = self.lent.get(&offset).is_none_or(|until| *until <= now);
        if is_free {
            self.lent.insert(offset, until);
        }
        is_free
    }

    pub(super) fn settle(&mut self, offset: u64, outcome: Outcome, is_there: bool, now: Instant) {
        match outcome {
            Outcome::Back if is_there => {
                self.lent.insert(offset, now);
            }
            Outcome::Arrived | Outcome::Back => {
                self.lent.remove(&offset);
            }
        }
    }

    pub(super) fn leave(&mut self, reader: &str) {
        self.waiting.remove(reader);
    }

    pub(super) fn waiting(&self, now: Instant) -> usize {
        self.waiting.values().filter(|until| **until > now).count()
    }

    pub(super) fn backlog(&self, entries: &VecDeque<Kept>, last: u64, now: Instant) -> usize {
        after(entries, self.mark.min(last)).count() + self.back(now).count()
    }
}

fn after(entries: &VecDeque<Kept>, mark: u64) -> impl Iterator<Item = &Kept> {
    let skip = entries.partition_point(|entry| entry.offset <= mark);
    entries.iter().skip(skip)
}
