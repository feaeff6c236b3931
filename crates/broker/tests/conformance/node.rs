//! A broker, and everything it has told so far.

use anyhow::{Context, Result};
use parking_lot::Mutex;
use pollux_broker::{Broker, Entry, Event, Events, History, HistoryError, Since, Word};
use pollux_protocol::{Meta, Offset, Payload, Position, Publication, RemoteDisconnect, StreamName};
use pollux_testkit::{PATIENCE, assert_eventually};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// One node's broker. Events are taken off its queue as they come, so that it is never full.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) broker: Arc<dyn Broker>,
    told: Arc<Mutex<Vec<Event>>>,
    listener: JoinHandle<()>,
}

/// A publication as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) publication: Arc<Publication>,
    pub(crate) position: Option<Position>,
}

impl Node {
    /// Waits until the broker works.
    pub(crate) async fn new(broker: Arc<dyn Broker>, events: Events) -> Self {
        let node = Self::waiting(broker, events);
        node.ready().await;
        node
    }

    /// Does not wait.
    pub(crate) fn waiting(broker: Arc<dyn Broker>, mut events: Events) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::spawn({
            let told = Arc::clone(&told);
            async move {
                while let Some(event) = events.recv().await {
                    told.lock().push(event);
                }
            }
        });
        Self {
            broker,
            told,
            listener,
        }
    }

    pub(crate) async fn ready(&self) {
        assert_eventually!(self.broker.is_ready(), PATIENCE);
    }

    pub(crate) async fn subscribe(&self, stream: &str) -> Result<Option<Position>> {
        let stream = name(stream)?;
        let subscribed = tokio::time::timeout(PATIENCE, self.broker.subscribe(&stream)).await;
        Ok(
            subscribed
                .with_context(|| format!("no answer to the subscription of {stream:?}"))??,
        )
    }

    pub(crate) fn unsubscribe(&self, stream: &str) -> Result<()> {
        self.broker.unsubscribe(&name(stream)?);
        Ok(())
    }

    /// Publishes JSON, and expects a position.
    pub(crate) async fn publish(&self, stream: &str, json: &str) -> Result<Position> {
        let position = self.broker.publish(publication(stream, json)?).await?;
        position.context("no position")
    }

    /// Publishes the numbers from `first` to `last`, one after the other.
    pub(crate) async fn count(&self, stream: &str, first: u64, last: u64) -> Result<Position> {
        let mut position = None;
        for number in first..=last {
            position = Some(self.publish(stream, &number.to_string()).await?);
        }
        position.context("nothing to publish")
    }

    pub(crate) async fn history(
        &self,
        stream: &str,
        since: Since,
    ) -> Result<History, HistoryError> {
        let stream = name(stream).map_err(|_| HistoryError::Unknown)?;
        self.broker.history(&stream, since).await
    }

    /// The history's publications and their positions.
    pub(crate) async fn entries(&self, stream: &str, since: Since) -> Result<Vec<Delivery>> {
        let entries = self.history(stream, since).await?.entries.into_iter();
        let entries = entries.map(
            |Entry {
                 position,
                 publication,
                 ..
             }| Delivery {
                publication,
                position: Some(position),
            },
        );
        Ok(entries.collect())
    }

    /// What nodes have said to each other so far.
    pub(crate) fn words(&self) -> Vec<Word> {
        let word = |event: &Event| match event {
            Event::Word(word) => Some(word.clone()),
            _ => None,
        };
        self.told.lock().iter().filter_map(word).collect()
    }

    /// What came of a stream so far.
    pub(crate) fn deliveries(&self, stream: &str) -> Vec<Delivery> {
        let delivery = |event: &Event| match event {
            Event::Delivery {
                publication,
                position,
                ..
            } if publication.stream.as_str() == stream => Some(Delivery {
                publication: Arc::clone(publication),
                position: position.clone(),
            }),
            _ => None,
        };
        self.told.lock().iter().filter_map(delivery).collect()
    }

    /// Waits until this many publications of a stream came, and returns all that came.
    pub(crate) async fn hears(&self, stream: &str, count: usize) -> Vec<Delivery> {
        assert_eventually!(
            self.deliveries(stream).len() >= count,
            PATIENCE,
            "{count} of {stream:?}, but {:?}",
            offsets(&self.deliveries(stream))
        );
        self.deliveries(stream)
    }

    /// Waits until the publication at this position came, and returns all that came.
    pub(crate) async fn hears_of(&self, stream: &str, position: &Position) -> Vec<Delivery> {
        let is_it = |delivery: &Delivery| delivery.position.as_ref() == Some(position);
        assert_eventually!(
            self.deliveries(stream).iter().any(is_it),
            PATIENCE,
            "{position:?} of {stream:?}, but {:?}",
            offsets(&self.deliveries(stream))
        );
        self.deliveries(stream)
    }

    /// The disconnect commands so far.
    pub(crate) fn disconnects(&self) -> Vec<RemoteDisconnect> {
        let command = |event: &Event| match event {
            Event::Disconnect(command) => Some(command.clone()),
            _ => None,
        };
        self.told.lock().iter().filter_map(command).collect()
    }

    /// The gaps so far: stream and how many were missed.
    pub(crate) fn gaps(&self) -> Vec<(Option<String>, u64)> {
        let gap = |event: &Event| match event {
            Event::Gap { stream, missed } => {
                let stream = stream.as_ref().map(|stream| stream.as_str().to_owned());
                Some((stream, *missed))
            }
            _ => None,
        };
        self.told.lock().iter().filter_map(gap).collect()
    }

    /// How many times something came that is not a publication.
    pub(crate) fn malformed(&self) -> usize {
        let told = self.told.lock();
        let malformed = told.iter();
        malformed
            .filter(|event| matches!(event, Event::Malformed(_)))
            .count()
    }

    /// How often something that was lent came back to a stream.
    pub(crate) fn backs(&self, stream: &str) -> usize {
        let told = self.told.lock();
        let backs = told.iter();
        backs
            .filter(|event| matches!(event, Event::Back(back) if back.as_str() == stream))
            .count()
    }

    /// The times of what came of a stream so far.
    pub(crate) fn times(&self, stream: &str) -> Vec<u64> {
        let time = |event: &Event| match event {
            Event::Delivery {
                publication, time, ..
            } if publication.stream.as_str() == stream => Some(*time),
            _ => None,
        };
        self.told.lock().iter().filter_map(time).collect()
    }

    /// Whether the broker came up and went down as often as this, and in turns.
    pub(crate) fn has_been(&self, ups: usize, downs: usize) -> bool {
        let told = self.told.lock();
        let turns = told.iter().filter_map(|event| match event {
            Event::Up => Some(true),
            Event::Down => Some(false),
            _ => None,
        });
        let turns: Vec<_> = turns.collect();
        let are_turns = turns.windows(2).all(|two| two[0] != two[1]);
        let up = turns.iter().filter(|up| **up).count();
        are_turns && (up, turns.len() - up) == (ups, downs)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

pub(crate) fn name(stream: &str) -> Result<StreamName> {
    Ok(StreamName::try_new(stream)?)
}

/// A publication of JSON, or of text if it is none.
pub(crate) fn publication(stream: &str, json: &str) -> Result<Publication> {
    Ok(Publication {
        stream: name(stream)?,
        data: Payload::from_text(json),
        meta: Meta::default(),
    })
}

/// Right after this offset of the position's epoch.
pub(crate) fn after(position: &Position, offset: u64) -> Since {
    Since::Position(Position {
        epoch: position.epoch.clone(),
        offset: Offset::new(offset),
    })
}

/// The offsets, in order; 0 for none.
pub(crate) fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    let offset = |delivery: &Delivery| {
        let position = delivery.position.as_ref();
        position.map_or(0, |position| position.offset.get())
    };
    deliveries.iter().map(offset).collect()
}

/// The payloads, in order.
pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    let text = |delivery| -> &str {
        let delivery: &Delivery = delivery;
        delivery.publication.data.as_str()
    };
    deliveries.iter().map(text).collect()
}

/// The numbers from `first` to `last` as texts.
pub(crate) fn numbers(first: u64, last: u64) -> Vec<String> {
    (first..=last).map(|number| number.to_string()).collect()
}
