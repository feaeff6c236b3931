//! Polls as long as the test lasts, and writes down what comes.

use super::books::Books;
use crate::{Answer, Poller, frames};
use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc};

#[derive(Debug)]
pub(super) struct Reader {
    name: String,
    poller: Poller,
}

impl Reader {
    pub(super) async fn join(name: &str, address: SocketAddr, streams: &[String]) -> Result<Self> {
        let mut poller = Poller::open_at(address).await?;
        for stream in streams {
            poller.subscribe(&frames::public(stream)).await?;
        }
        Ok(Self {
            name: name.to_owned(),
            poller: poller.with_cursor(),
        })
    }

    /// Ends only with an error: a session has to live through everything.
    pub(super) async fn run(mut self, books: Arc<Mutex<Books>>) -> Result<()> {
        loop {
            let answer = self.poller.poll().await?;
            self.note(&answer, &mut books.lock())?;
        }
    }

    fn note(&self, answer: &Answer, books: &mut Books) -> Result<()> {
        if answer.gap() {
            books.saw_gap();
        }
        if answer.frames.is_empty() {
            books.saw_nothing(&self.name);
        }
        for frame in &answer.frames {
            if frames::kind(frame) != "message" {
                bail!("it was told {frame}");
            }
            let message = &frame["message"];
            let text = |key: &str| message[key].as_str().with_context(|| format!("no {key}"));
            let number = message["n"].as_u64().context("no number")?;
            books.saw(&self.name, text("s")?, text("p")?, number);
        }
        Ok(())
    }
}
