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

/// Events with their streams.
type Unseen<'a> = Vec<(&'a StreamName, Entry)>;

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
        let (mut unseen, covered) = self.read(heads).await?;
        if self.streams.len() > 1
            && let Some(last) = unseen.iter().map(|(_, entry)| entry.time).max()
        {
            // While the last stream was read, the first one went on: what came
            // there before the end of this answer must not be behind it.
            (unseen, _) = self.read(&[]).await?;
            unseen.retain(|(_, entry)| entry.time <= last);
            self.merge(&mut unseen);
        }
        let lent = match (self.door.delete, self.streams.first()) {
            (true, Some(stream)) if !unseen.is_empty() => self.lend(stream, &mut unseen).await,
            _ => None,
        };
        let events = unseen.into_iter().map(|(stream, entry)| {
            let data = &entry.publication.data;
            Event::of(stream, data, entry.time)
        });
        Some(Found {
            events: events.collect(),
            lent,
            covered,
        })
    }

    /// Reads one stream after the other. What of each was not seen, and how far
    /// it was looked at.
    async fn read(
        &self,
        heads: &[Option<Position>],
    ) -> Option<(Unseen<'_>, Vec<Option<Position>>)> {
        let (mut unseen, mut covered) = (Vec::new(), Vec::new());
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
            covered.push(past.covered);
            unseen.extend(past.unseen.into_iter().map(|entry| (stream, entry)));
        }
        Some((unseen, covered))
    }

    /// Takes events out of the way of other polls, and leaves only those that
    /// could be.
    async fn lend(&self, stream: &StreamName, unseen: &mut Unseen<'_>) -> Option<Lent> {
        let positions = unseen.iter().map(|(_, entry)| entry.position.clone());
        let granted = self.claim(stream, positions.collect()).await?;
        unseen.retain(|(_, entry)| granted.contains(&entry.position));
        // Nothing that was lent would come back at once, and wake all who wait.
        (!granted.is_empty()).then(|| self.lent(stream, granted))
    }

    /// Puts events of several streams into one order, in which the last one
    /// that the client has seen has its place too.
    fn merge(&self, unseen: &mut Unseen<'_>) {
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
