//! A poll's look at the past.

use super::{
    history::{millis, place},
    poll::Poll,
};
use crate::http::lent::{LEASE, Lent};
use pollux_broker::{Entry, Group};
use pollux_protocol::{
    Position, StreamName,
    category::{Event, Place},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tracing::debug;

/// How often history is tried again while the broker is away.
const RETRY: Duration = Duration::from_millis(200);

/// What a poll has not seen, and how far each of its streams was looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) events: Vec<Event>,
    pub(super) lent: Option<Lent>,
    pub(super) covered: Vec<Option<Position>>,
}

impl Poll {
    /// Takes an event that came here out of the way of later polls. All that
    /// wait get it, whoever may take it.
    pub(super) async fn claim_heard(&self, event: Place) -> Option<Lent> {
        let stream = self.streams.first()?;
        let position = self.door.position_of(stream, event).await;
        let position = position.ok().flatten()?;
        let granted = self.claim(stream, vec![position]).await?;
        (!granted.is_empty()).then(|| self.lent(stream, granted))
    }

    /// What the past has for this poll. `None`: the broker could not say in
    /// time.
    pub(super) async fn look(&self, heads: &[Option<Position>]) -> Option<Found> {
        let mut found = Found::default();
        let mut unseen = Vec::new();
        for (number, stream) in self.streams.iter().enumerate() {
            let head = heads.get(number).cloned().flatten();
            let past = loop {
                match self.door.past(stream, head.clone(), self.cursor).await {
                    Ok(past) => break past,
                    Err(error) => debug!(%error, "A poll waits for history"),
                }
                if self.door.runtime.is_draining() || Instant::now() + RETRY >= self.deadline {
                    return None;
                }
                sleep(RETRY).await;
            };
            found.covered.push(past.covered);
            unseen.extend(past.unseen.into_iter().map(|entry| (stream, entry)));
        }
        if self.streams.len() > 1 {
            self.merge(&mut unseen);
        }
        if let (true, Some(stream)) = (self.door.delete, self.streams.first())
            && !unseen.is_empty()
        {
            let positions = unseen.iter().map(|(_, entry)| entry.position.clone());
            if let Some(granted) = self.claim(stream, positions.collect()).await {
                let lent = self.lent(stream, granted.clone());
                unseen.retain(|(_, entry)| granted.contains(&entry.position));
                found.lent = (!unseen.is_empty()).then_some(lent);
            }
        }
        let events = unseen.into_iter().map(|(stream, entry)| {
            let data = &entry.publication.data;
            Event::of(stream, data, entry.time)
        });
        found.events = events.collect();
        Some(found)
    }

    /// Puts events of several streams into one order, in which the last one
    /// that the client has seen has its place too.
    fn merge(&self, unseen: &mut Vec<(&StreamName, Entry)>) {
        let last = self.cursor.last.filter(|last| {
            let mut streams = self.streams.iter();
            streams.any(|stream| last.time_in(stream).is_some())
        });
        if let Some(last) = last {
            let since = self.cursor.since;
            unseen.retain(|(stream, entry)| {
                millis(entry.time) != since || place(stream, entry).id > last
            });
        }
        unseen.sort_by_key(|(stream, entry)| place(stream, entry).id);
    }

    async fn claim(&self, stream: &StreamName, positions: Vec<Position>) -> Option<Vec<Position>> {
        let broker = &self.door.runtime.broker;
        match broker.claim(stream, positions, LEASE).await {
            Ok(granted) => Some(granted),
            Err(error) => {
                // Twice is better than never.
                debug!(%error, "Events were answered that could not be claimed");
                None
            }
        }
    }

    fn lent(&self, stream: &StreamName, positions: Vec<Position>) -> Lent {
        let runtime = Arc::clone(&self.door.runtime);
        Lent::new(runtime, stream.clone(), Group::Once, positions)
    }
}
