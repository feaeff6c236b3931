//! One poll, from its request to its answer.
//!
//! It listens first and reads the past then, so that nothing falls between the
//! two; what was read is not heard again. What happens while it waits is its
//! answer, one event, whatever its cursor says.

use super::{Category, Refusal, history::now, json, look::Found, refusal, with_headers};
use crate::{
    http::{
        body::{AnswerBody, InFlight},
        lent::Lent,
        listener::{Heard, Listener},
        visitor,
    },
    runtime::voice,
};
use axum::extract::Request;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use pollux_broker::BrokerError;
use pollux_protocol::{
    Identifier, NameError, StreamName,
    category::{self, Cursor, Event, PollQuery, QueryError},
};
use pollux_session::Frames;
use prometheus::IntGauge;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// A poll that heard nothing is told a time from which on it may ask again. It
/// lies a little back, because another server's clock may be late, and its
/// announcements be on their way.
const BEHIND: Duration = Duration::from_millis(250);

/// The same where clock and publications are this process's own: the present
/// millisecond is not over.
const BEHIND_AT_HOME: Duration = Duration::from_millis(1);

/// A poll that waits, or will.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) door: Arc<Category>,
    listener: Listener,
    pub(super) streams: Vec<StreamName>,
    pub(super) cursor: Cursor,
    pub(super) deadline: Instant,
}

/// What a poll is told.
#[derive(Debug)]
enum Outcome {
    /// Events, and what of them was lent to its client.
    Events(Vec<Bytes>, Option<Lent>),
    /// Nothing happened until this time, in milliseconds since 1970.
    Nothing(i64),
    /// There is no such category.
    Refused,
}

impl Category {
    /// Looks whether a request is a poll of somebody who may poll.
    pub(super) async fn begin(self: &Arc<Self>, request: Request) -> Result<Poll, Refusal> {
        let (head, body) = request.into_parts();
        self.admit_user(&head.headers)?;
        let query = head.uri.query().unwrap_or_default();
        let query = PollQuery::parse(query.as_bytes(), self.max_timeout)
            .map_err(|error| Box::new(refusal(StatusCode::OK, &error.to_string())))?;
        let client = self.admit_client(&head).await?;
        if !body.is_end_stream() {
            // It says nothing, but a connection with an unread body can't be
            // watched for its end.
            let read = Limited::new(body, self.publish.max_size).collect();
            drop(timeout(self.runtime.read_timeout, read).await);
        }
        let mut streams = query.categories;
        if self.delete {
            // What is read is gone, so each category needs a cursor of its own.
            streams.truncate(1);
        }
        let source = visitor::source(&self.runtime, &head);
        let listener = Listener::open(&self.runtime, client, source).ok_or_else(|| {
            let reason = "This node takes no more polls now.";
            Box::new(refusal(StatusCode::SERVICE_UNAVAILABLE, reason))
        })?;
        self.runtime.metrics.category_polls.inc();
        Ok(Poll {
            door: Arc::clone(self),
            listener,
            streams,
            cursor: Cursor {
                since: query.since.unwrap_or_else(now),
                last: query.last,
            },
            deadline: Instant::now() + Duration::from_secs(query.timeout),
        })
    }
}

impl Poll {
    /// Waits for the answer. `connection` is told what it carries.
    pub(super) async fn answer(
        mut self,
        connection: Option<Arc<InFlight>>,
    ) -> Response<AnswerBody> {
        let outcome = self.wait().await;
        match outcome {
            Outcome::Events(events, lent) => {
                let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
                self.door.runtime.metrics.category_events.inc_by(count);
                let body = category::events(&events);
                let body = match lent {
                    Some(lent) => AnswerBody::lent(body, lent, connection),
                    None => AnswerBody::Plain(body),
                };
                with_headers(StatusCode::OK, body)
            }
            Outcome::Nothing(timestamp) => json(StatusCode::OK, category::timeout(timestamp)),
            Outcome::Refused => refusal(StatusCode::OK, &QueryError::Category.to_string()),
        }
    }

    async fn wait(&mut self) -> Outcome {
        let mut heads = Vec::with_capacity(self.streams.len());
        for (number, stream) in self.streams.iter().enumerate() {
            let Ok(identifier) = identifier(number) else {
                return Outcome::Refused;
            };
            let listen = self.listener.listen_held(&identifier, stream);
            match timeout_at(self.deadline, listen).await {
                Ok(Ok(head)) => heads.push(head),
                Ok(Err(BrokerError::Stream(_))) => return Outcome::Refused,
                // The node stops, or the broker is away.
                Ok(Err(_)) | Err(_) => return Outcome::Nothing(self.last_known()),
            }
        }
        let Some(found) = self.look(&heads).await else {
            return Outcome::Nothing(self.last_known());
        };
        if !found.events.is_empty() {
            return Outcome::from(found);
        }
        for (number, covered) in found.covered.into_iter().enumerate() {
            if let Ok(identifier) = identifier(number) {
                self.listener.release(&identifier, covered);
            }
        }
        self.park().await
    }

    /// Waits for what happens.
    async fn park(&mut self) -> Outcome {
        let door = Arc::clone(&self.door);
        let _waiting = Waiting::new(&door.runtime.metrics.category_waiting);
        loop {
            match self.listener.next(self.deadline).await {
                Heard::Frames(frames) => {
                    if let Some(outcome) = self.hear(&frames).await {
                        return outcome;
                    }
                }
                Heard::Nothing => return self.nothing().await,
                // More came than an outbox holds, so there is something.
                Heard::Over if !door.runtime.is_draining() => return self.nothing_heard().await,
                Heard::Over => return Outcome::Nothing(self.quiet_until()),
            }
        }
    }

    /// The first event among frames.
    async fn hear(&mut self, frames: &Frames) -> Option<Outcome> {
        for frame in frames {
            if voice::is_nudge(frame) {
                // What was had by somebody who is gone has come back.
                let found = self.look(&[]).await.unwrap_or_default();
                if !found.events.is_empty() {
                    return Some(Outcome::from(found));
                }
            } else if let Some(event) = Event::decode(frame.json()) {
                return Some(self.heard(event).await);
            }
        }
        None
    }

    async fn heard(&mut self, event: Event) -> Outcome {
        let mut found = Found::default();
        if self.streams.len() > 1 {
            // Streams have no order between them: an older event of another
            // one, still on its way, would be behind the cursor.
            found = self.look(&[]).await.unwrap_or_default();
        }
        if event.place.id.is_live() {
            let last = found.events.last();
            let after = last.map_or(self.cursor.since, |last| last.place.timestamp);
            found.events.push(event.at(live_time(after)));
        } else if !found.events.iter().any(|known| known.place == event.place) {
            if self.door.delete {
                found.lent = self.claim_heard(event.place).await;
            }
            found.events.push(event);
            found.events.sort_by_key(|event| event.place.id);
        }
        Outcome::from(found)
    }

    /// The time is over.
    async fn nothing(&self) -> Outcome {
        if !self.door.runtime.broker.is_ready() {
            return Outcome::Nothing(self.last_known());
        }
        if self.is_at_home() {
            return self.nothing_heard().await;
        }
        Outcome::Nothing(self.quiet_until())
    }

    /// The same, with a last look at what may not have come here.
    async fn nothing_heard(&self) -> Outcome {
        let until = self.quiet_until();
        match self.look(&[]).await {
            Some(found) if found.events.is_empty() => Outcome::Nothing(until),
            Some(found) => Outcome::from(found),
            None => Outcome::Nothing(self.last_known()),
        }
    }

    /// Until when everything was heard.
    fn quiet_until(&self) -> i64 {
        let behind = if self.is_at_home() {
            BEHIND_AT_HOME
        } else {
            BEHIND
        };
        before(now(), behind)
    }

    /// As far as the client knew: nothing was heard since.
    fn last_known(&self) -> i64 {
        self.cursor.since.min(now())
    }

    fn is_at_home(&self) -> bool {
        self.door.runtime.broker.name() == "memory"
    }
}

impl From<Found> for Outcome {
    fn from(found: Found) -> Self {
        let events = found.events.into_iter().map(|event| event.json);
        Self::Events(events.collect(), found.lent)
    }
}

/// What a poll listens under to its stream of this number.
fn identifier(number: usize) -> Result<Identifier, NameError> {
    match number {
        0 => Identifier::try_new(voice::CATEGORY),
        _ => Identifier::try_new(&format!("{}{number}", voice::CATEGORY)),
    }
}

/// The time that is told of an event without a place: after what its reader has
/// seen, and before what can come next.
fn live_time(after: i64) -> i64 {
    let now = now();
    if after >= now {
        now
    } else {
        before(now, BEHIND).max(after + 1)
    }
}

fn before(time: i64, behind: Duration) -> i64 {
    time - i64::try_from(behind.as_millis()).unwrap_or(0)
}

/// Counts a poll while it waits.
struct Waiting<'a>(&'a IntGauge);

impl<'a> Waiting<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_a_place_comes_after_what_was_seen() {
        let time = live_time(0);
        assert!((now() - time - 250).abs() < 100);
        let seen = now() - 10;
        assert_eq!(live_time(seen), seen + 1);
        // A browser's clock may be ahead; ours is not.
        assert!(live_time(i64::MAX) <= now());
    }
}
