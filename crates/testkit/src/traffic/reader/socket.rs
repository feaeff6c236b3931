//! A WebSocket client that comes back as `AnyCable`'s does.

use super::{AGAIN, Page};
use crate::{Cable, Deadline, PATIENCE, frames};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::SocketAddr};
use tokio::time::sleep;

#[derive(Debug)]
pub(super) struct Socket {
    address: SocketAddr,
    cable: Cable,
    /// The last position of each stream.
    places: BTreeMap<String, Value>,
}

impl Socket {
    pub(super) async fn join(address: SocketAddr, streams: &[String]) -> Result<Self> {
        let mut cable = Cable::open_at(address, "/cable", crate::PROTOCOLS).await?;
        for stream in streams {
            cable.subscribe(&frames::public(stream)).await?;
        }
        let places = streams.iter().map(|stream| (stream.clone(), Value::Null));
        Ok(Self {
            address,
            cable,
            places: places.collect(),
        })
    }

    pub(super) async fn run(mut self, page: Page) -> Result<()> {
        loop {
            match self.cable.next().await {
                Ok(crate::Said::Frame(frame)) => match frames::kind(&frame) {
                    "message" => self.note(&frame, &page)?,
                    "ping" => page.saw_nothing(),
                    "disconnect" => {
                        ensure!(frame["reconnect"] == true, "it was sent away: {frame}");
                    }
                    "reject_history" => page.saw_gap(),
                    "confirm_history" => {}
                    _ => bail!("it was told {frame}"),
                },
                Ok(crate::Said::Ping) => {}
                Ok(crate::Said::Close(..)) | Err(_) => self.come_back().await?,
            }
        }
    }

    fn note(&mut self, frame: &Value, page: &Page) -> Result<()> {
        let stream = frame["stream_id"].as_str().context("no position")?;
        let place = json!({"offset": frame["offset"], "epoch": frame["epoch"]});
        self.places.insert(stream.to_owned(), place);
        page.saw(&frame["message"])
    }

    /// A new connection, with the subscriptions of the one before, and what was
    /// missed in each.
    async fn come_back(&mut self) -> Result<()> {
        let path = format!("/cable?sid={}", self.cable.sid());
        let deadline = Deadline::within(PATIENCE);
        self.cable = loop {
            match Cable::open_at(self.address, &path, crate::PROTOCOLS).await {
                Ok(cable) => break cable,
                Err(error) if deadline.is_over() => return Err(error),
                Err(_) => sleep(AGAIN).await,
            }
        };
        let is_restored = self.cable.welcome()["restored"] == true;
        ensure!(is_restored, "nobody knows it: {}", self.cable.welcome());
        for (stream, place) in &self.places {
            let mut streams = Map::new();
            if !place.is_null() {
                streams.insert(stream.clone(), place.clone());
            }
            let command = json!({
                "command": "history",
                "identifier": frames::public(stream),
                "history": {"streams": streams},
            });
            self.cable.say(&command.to_string()).await?;
        }
        Ok(())
    }
}
