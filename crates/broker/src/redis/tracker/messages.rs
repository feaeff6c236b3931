//! What links hear, turned into events.

use super::{
    super::{
        link::Message,
        state::{Placed, Todo},
    },
    Tracker,
};
use crate::event::Event;
use pollux_protocol::{Announcement, Inbound, PublicationError, StreamName};
use std::sync::{Arc, atomic::Ordering};
use tokio::time::Instant;

/// What the settle script says when something lent has come back.
const BACK: &[u8] = b"{\"back\":true}";

impl Tracker {
    pub(super) async fn on_message(&mut self, message: Message) {
        self.health.messages.fetch_add(1, Ordering::Relaxed);
        let received = Instant::now();
        if message.channel == self.config.channel.as_bytes() {
            return self.on_firehose(&message.body, received).await;
        }
        let Some(name) = self.names.stream(&message.channel) else {
            if message.channel == self.names.nodes().as_bytes()
                && let Ok(word) = serde_json::from_slice(&message.body)
            {
                self.send(Event::Word(word)).await;
            }
            return;
        };
        if !self.table.lock().known.contains_key(&name) {
            return;
        }
        if *message.body == *BACK {
            return self.send(Event::Back(name)).await;
        }
        match Announcement::parse(name.clone(), &message.body) {
            Ok(announcement) => {
                let publication = Arc::new(announcement.publication);
                match announcement.stamp {
                    None => {
                        self.send(Event::Delivery {
                            publication,
                            position: None,
                            time: 0,
                            received,
                            late: false,
                        })
                        .await;
                    }
                    Some(stamp) => {
                        let placed = Placed {
                            stamp,
                            publication: Some(publication),
                            source: announcement.source,
                            received,
                        };
                        self.on_placed(name, placed).await;
                    }
                }
            }
            // The log has the same; whoever reads it steps over it.
            Err(error) => self.send(Event::Malformed(error)).await,
        }
    }

    pub(super) async fn on_placed(&mut self, name: StreamName, placed: Placed) {
        let received = placed.received;
        let todo = {
            let mut streams = self.table.lock();
            let Some(stream) = streams.known.get_mut(&name) else {
                return;
            };
            let todo = stream.state.hear(placed);
            if !todo.deliver.is_empty() {
                stream.heard = received;
            }
            if todo.read {
                self.readings.queue(name.clone(), stream);
            }
            todo
        };
        let reads = todo.read;
        self.carry_out(&name, todo).await;
        if reads {
            self.read_some();
        }
    }

    pub(super) async fn on_firehose(&self, body: &[u8], received: Instant) {
        match Inbound::parse(body) {
            Ok(Inbound::Publications(publications)) => {
                for publication in publications {
                    self.send(Event::Delivery {
                        publication: Arc::new(publication),
                        position: None,
                        time: 0,
                        received,
                        late: false,
                    })
                    .await;
                }
            }
            Ok(Inbound::Disconnect(command)) => self.send(Event::Disconnect(command)).await,
            Err(error) => self.send(Event::Malformed(error)).await,
        }
    }

    /// Tells the node what is to be delivered, and what is lost.
    pub(super) async fn carry_out(&self, name: &StreamName, todo: Todo) {
        if let Some(missed) = todo.missed {
            self.health
                .missed
                .fetch_add(missed.max(1), Ordering::Relaxed);
            self.send(Event::Gap {
                stream: Some(name.clone()),
                missed,
            })
            .await;
        }
        if todo.repaired > 0 {
            let repaired = u64::try_from(todo.repaired).unwrap_or(u64::MAX);
            self.health.repaired.fetch_add(repaired, Ordering::Relaxed);
        }
        let late = todo.repaired > 0;
        for placed in todo.deliver {
            let Some(publication) = placed.publication else {
                self.send(Event::Malformed(PublicationError::unreadable()))
                    .await;
                continue;
            };
            self.send(Event::Delivery {
                publication,
                position: Some(placed.stamp.position),
                time: placed.stamp.time,
                received: placed.received,
                late,
            })
            .await;
        }
    }
}
