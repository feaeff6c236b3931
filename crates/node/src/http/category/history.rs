//! What a poller has not seen of a category's past.

use super::Category;
use crate::runtime::voice;
use parking_lot::Mutex;
use pollux_broker::{BrokerError, Entry, HistoryError, Since};
use pollux_protocol::{
    Offset, Position, StreamName,
    category::{Cursor, EventId, Place},
};
use std::{collections::HashMap, time::Duration};

/// Entries that are read first: a client that polls without a pause has missed
/// few, and reading all for each of ten thousand clients costs the broker as
/// much as everything else together.
const NEAR: u64 = 16;

/// A client whose cursor is older has probably missed more.
const RECENTLY: Duration = Duration::from_secs(60);

/// Categories whose last event is remembered.
const HEADS_MAX: usize = 10_000;

/// Where the last events of categories stand: who has just seen the last one
/// has nothing to read. After an event all of its pollers come back at once.
/// Who has seen later ones, from another node, must not hear those again when
/// they arrive here: what it has seen is in history.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<HashMap<StreamName, (Position, Place)>>);

impl Heads {
    fn at(&self, stream: &StreamName, head: &Position) -> Option<Place> {
        let heads = self.0.lock();
        let (position, place) = heads.get(stream)?;
        (position == head).then_some(*place)
    }

    fn note(&self, stream: &StreamName, entry: &Entry) {
        let mut heads = self.0.lock();
        if heads.len() >= HEADS_MAX && !heads.contains_key(stream) {
            heads.clear();
        }
        let known = (entry.position.clone(), place(stream, entry));
        heads.insert(stream.clone(), known);
    }
}

/// A piece of the past.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// What the poller has not seen, oldest first.
    pub(super) unseen: Vec<Entry>,
    /// Where the reading ended: what comes up to here was looked at.
    pub(super) covered: Option<Position>,
}

/// Where an entry of history stands.
pub(super) fn place(stream: &StreamName, entry: &Entry) -> Place {
    Place {
        timestamp: millis(entry.time),
        id: EventId::of(stream, entry.time),
    }
}

/// Microseconds as events tell the time.
pub(super) fn millis(micros: u64) -> i64 {
    i64::try_from(micros / 1_000).unwrap_or(i64::MAX)
}

/// The time now, as events tell it.
pub(super) fn now() -> i64 {
    millis(voice::micros())
}

impl Category {
    /// What is after `cursor` in the stream. `head` is its last publication, if
    /// that is known.
    pub(super) async fn past(
        &self,
        stream: &StreamName,
        head: Option<Position>,
        cursor: Cursor,
    ) -> Result<Past, BrokerError> {
        if let Some(head) = &head
            && let Some(last) = self.heads.at(stream, head)
            && cursor.last == Some(last.id)
            && cursor.since >= last.timestamp
        {
            return Ok(Past {
                unseen: Vec::new(),
                covered: Some(head.clone()),
            });
        }
        let mut entries = match self.near(stream, head.as_ref(), cursor).await? {
            Some(entries) => entries,
            None => {
                let since = Since::Time(cursor.since.div_euclid(1_000));
                self.entries(stream, since).await?.unwrap_or_default()
            }
        };
        let covered = match entries.last() {
            Some(last) => {
                // Where events go when they were had, the one before counts.
                if !self.delete {
                    self.heads.note(stream, last);
                }
                Some(last.position.clone())
            }
            None => head,
        };
        self.leave_out_old(&mut entries);
        let places = entries.iter().map(|entry| place(stream, entry));
        let seen = cursor.seen(places);
        Ok(Past {
            unseen: entries.split_off(seen),
            covered,
        })
    }

    /// The end of history, if the cursor is in it.
    async fn near(
        &self,
        stream: &StreamName,
        head: Option<&Position>,
        cursor: Cursor,
    ) -> Result<Option<Vec<Entry>>, BrokerError> {
        let recently = i64::try_from(RECENTLY.as_millis()).unwrap_or(i64::MAX);
        let near = u64::try_from(self.keep.limit).map_or(NEAR, |limit| limit.min(NEAR));
        let start = head.and_then(|head| head.offset.get().checked_sub(near));
        let (Some(head), Some(start)) = (head, start) else {
            return Ok(None);
        };
        if self.delete || cursor.since < now().saturating_sub(recently) {
            return Ok(None);
        }
        let since = Since::Position(Position {
            epoch: head.epoch.clone(),
            offset: Offset::new(start),
        });
        let entries = self.entries(stream, since).await?;
        Ok(entries.filter(|entries| {
            let first = entries.first().map(|entry| place(stream, entry));
            first.is_some_and(|first| !cursor.is_before(first))
        }))
    }

    /// Reads history; `None` if it does not reach back so far.
    async fn entries(
        &self,
        stream: &StreamName,
        since: Since,
    ) -> Result<Option<Vec<Entry>>, BrokerError> {
        match self.runtime.broker.history(stream, since).await {
            Ok(history) => Ok(Some(history.entries)),
            Err(HistoryError::Broker(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The stream may keep more, or longer, than its category shows.
    fn leave_out_old(&self, entries: &mut Vec<Entry>) {
        let keep = self.keep;
        let ttl = u64::try_from(keep.ttl.as_micros()).unwrap_or(u64::MAX);
        let oldest = voice::micros().saturating_sub(ttl) / 1_000;
        let expired = entries.partition_point(|entry| entry.time / 1_000 <= oldest);
        let over = entries.len().saturating_sub(keep.limit);
        entries.drain(..expired.max(over));
    }

    /// Where an event stands in its stream, if it is in history.
    pub(super) async fn position_of(
        &self,
        stream: &StreamName,
        event: Place,
    ) -> Result<Option<Position>, BrokerError> {
        let since = Since::Time(event.timestamp.div_euclid(1_000));
        let entries = self.entries(stream, since).await?.unwrap_or_default();
        let found = entries
            .into_iter()
            .find(|entry| place(stream, entry) == event);
        Ok(found.map(|entry| entry.position))
    }
}
