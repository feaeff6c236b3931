//! Publications to a category.

use super::{Category, Refusal, refusal};
use crate::limits::Entrance;
use axum::extract::Request;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use pollux_broker::{BrokerError, Offer, Offered, Since};
use pollux_protocol::{
    Meta, Offset, Payload, Position, Publication, StreamName,
    category::{Event, PublishRequest},
};
use tokio::time::timeout;
use tracing::{Instrument as _, warn};

impl Category {
    /// Publishes what a request asks for.
    pub(super) async fn accept(&self, request: Request) -> Result<(), Refusal> {
        let (head, body) = request.into_parts();
        // As with a handler that is wrapped: who may not come in learns nothing.
        if self.user.is_some() {
            self.admit_publisher(&head.headers)?;
        }
        if head.method != Method::POST {
            let reason = "Invalid HTTP Method. Only POST allowed.";
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, reason));
        }
        if self.user.is_none() {
            self.admit_publisher(&head.headers)?;
        }
        let body = self.read(body).await?;
        let PublishRequest { stream, data } = PublishRequest::parse(&body)
            .map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
        if self.runtime.is_draining() {
            let reason = "This node is stopping; publish again.";
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, reason));
        }
        let noted = self.runtime.note_publications(Entrance::Category, 1);
        noted.map_err(|_| {
            let reason = "Too many publications; publish again.";
            refuse(StatusCode::TOO_MANY_REQUESTS, reason)
        })?;
        let position = self.offer(stream.clone(), data.clone()).await;
        let position = position.map_err(|error| self.refused(&error))?;
        self.runtime.metrics.publications.inc();
        self.runtime.metrics.category_publications.inc();
        if let Some(position) = position {
            self.archive(&stream, data, &position).await;
        }
        Ok(())
    }

    async fn read(&self, body: axum::body::Body) -> Result<Bytes, Refusal> {
        let max_size = self.publish.max_size;
        let read = Limited::new(body, max_size).collect();
        match timeout(self.runtime.read_timeout, read).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                let reason = format!("A body holds at most {max_size} bytes.");
                Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, &reason))
            }
            Ok(Err(_)) => {
                let reason = "The body ended too early.";
                Err(refuse(StatusCode::BAD_REQUEST, reason))
            }
            Err(_) => {
                let reason = "The body took too long.";
                Err(refuse(StatusCode::REQUEST_TIMEOUT, reason))
            }
        }
    }

    async fn offer(
        &self,
        stream: StreamName,
        data: Payload,
    ) -> Result<Option<Position>, BrokerError> {
        let mut publication = Publication {
            stream,
            data,
            meta: Meta::default(),
        };
        let offer = Offer {
            keep: Some(self.keep),
            capacity: None,
        };
        let span = self.runtime.trace(&mut publication);
        let broker = &self.runtime.broker;
        let offer = async {
            match broker.offer(publication.clone(), offer).await {
                Ok(Offered::Accepted(position)) => Ok(position),
                Ok(Offered::Full) => Ok(None),
                // A broker that keeps as much of every stream.
                Err(BrokerError::Unsupported) => broker.publish(publication).await,
                Err(error) => Err(error),
            }
        };
        offer.instrument(span).await
    }

    fn refused(&self, error: &BrokerError) -> Refusal {
        if let Some(left_out) = self.runtime.throttles.publication.pass() {
            warn!(%error, left_out, "A publication to a category was refused");
        }
        match error {
            BrokerError::Stream(reason) => refuse(StatusCode::BAD_REQUEST, reason),
            _ => {
                let reason = "The broker can't be reached; publish again.";
                refuse(StatusCode::SERVICE_UNAVAILABLE, reason)
            }
        }
    }

    /// Has the event written to the file, with the time that the broker gave it.
    async fn archive(&self, stream: &StreamName, data: Payload, position: &Position) {
        let Some(archive) = &self.archive else {
            return;
        };
        let before = Since::Position(Position {
            epoch: position.epoch.clone(),
            offset: Offset::new(position.offset.get().saturating_sub(1)),
        });
        let history = self.runtime.broker.history(stream, before).await;
        let entry = history.ok().and_then(|history| {
            let mut entries = history.entries.into_iter();
            entries.find(|entry| entry.position == *position)
        });
        // What has left history already need not survive a restart.
        if let Some(entry) = entry {
            archive
                .record(Event::of(stream, &data, entry.time).json)
                .await;
        }
    }
}

fn refuse(status: StatusCode, text: &str) -> Refusal {
    Box::new(refusal(status, text))
}
