//! A client of event streams that comes back as a browser does.

use super::{AGAIN, Page};
use crate::{Deadline, EventStream, PATIENCE, events::Event};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use tokio::time::sleep;

#[derive(Debug)]
pub(super) struct Events {
    address: SocketAddr,
    target: String,
    stream: EventStream,
    last_id: Option<String>,
}

impl Events {
    /// A stream has one subscription, so the reader has one.
    pub(super) async fn join(address: SocketAddr, streams: &[String]) -> Result<Self> {
        let [stream] = streams else {
            anyhow::bail!("an event stream reads one stream");
        };
        let target = format!("/events?stream={stream}");
        let mut stream = EventStream::open_at(address, &target, &[]).await?;
        stream.named("confirm_subscription").await?;
        Ok(Self {
            address,
            target,
            stream,
            last_id: None,
        })
    }

    pub(super) async fn run(mut self, page: Page) -> Result<()> {
        loop {
            match self.stream.next().await {
                Ok(Some(event)) => self.note(event, &page)?,
                Ok(None) | Err(_) => self.come_back().await?,
            }
        }
    }

    fn note(&mut self, event: Event, page: &Page) -> Result<()> {
        match event.name.as_str() {
            "" if !event.data.is_empty() => {
                self.last_id = Some(event.id.context("no id")?);
                page.saw(&serde_json::from_str(&event.data)?)?;
            }
            "reject_history" => page.saw_gap(),
            "disconnect" => ensure!(event.data.contains("true"), "sent away: {event:?}"),
            "ping" => page.saw_nothing(),
            _ => {}
        }
        Ok(())
    }

    async fn come_back(&mut self) -> Result<()> {
        let last = self.last_id.clone();
        let headers: Vec<_> = last
            .iter()
            .map(|id| ("Last-Event-ID", id.as_str()))
            .collect();
        let deadline = Deadline::within(PATIENCE);
        self.stream = loop {
            match EventStream::open_at(self.address, &self.target, &headers).await {
                Ok(stream) => break stream,
                Err(error) if deadline.is_over() => return Err(error),
                Err(_) => sleep(AGAIN).await,
            }
        };
        Ok(())
    }
}
