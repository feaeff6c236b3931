//! Reads as long as the test lasts, and writes down what comes.

mod events;
mod socket;

use super::books::Books;
use crate::{Poller, frames};
use anyhow::{Context, Result, bail};
use events::Events;
use parking_lot::Mutex;
use serde_json::Value;
use socket::Socket;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(50);

/// What a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A poller that says what it has.
    CursorPoller,
    /// A poller that does not.
    PlainPoller,
    /// A WebSocket of the extended protocol, that comes back for what it missed.
    Socket,
    /// An event stream that comes back with its last event's id.
    EventStream,
}

#[derive(Debug)]
pub(super) struct Reader {
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Poller(Poller),
    Socket(Box<Socket>),
    Events(Box<Events>),
}

/// The books, opened at one reader's page.
#[derive(Debug, Clone)]
struct Page {
    name: String,
    books: Arc<Mutex<Books>>,
}

impl Reader {
    pub(super) async fn join(
        name: &str,
        client: Client,
        address: SocketAddr,
        streams: &[String],
    ) -> Result<Self> {
        let kind = match client {
            Client::CursorPoller => Kind::Poller(poller(address, streams).await?.with_cursor()),
            Client::PlainPoller => Kind::Poller(poller(address, streams).await?),
            Client::Socket => Kind::Socket(Box::new(Socket::join(address, streams).await?)),
            Client::EventStream => Kind::Events(Box::new(Events::join(address, streams).await?)),
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
        })
    }

    /// Ends only with an error: a client has to live through everything.
    pub(super) async fn run(self, books: Arc<Mutex<Books>>) -> Result<()> {
        let page = Page {
            name: self.name,
            books,
        };
        match self.kind {
            Kind::Poller(poller) => poll(poller, page).await,
            Kind::Socket(socket) => Box::pin(socket.run(page)).await,
            Kind::Events(events) => events.run(page).await,
        }
    }
}

impl Page {
    /// A message that came.
    fn saw(&self, message: &Value) -> Result<()> {
        let text = |key: &str| message[key].as_str().with_context(|| format!("no {key}"));
        let number = message["n"].as_u64().context("no number")?;
        let mut books = self.books.lock();
        books.saw(&self.name, text("s")?, text("p")?, number);
        Ok(())
    }

    /// A sign of life without a message.
    fn saw_nothing(&self) {
        self.books.lock().saw_nothing(&self.name);
    }

    /// The client was told that something is lost.
    fn saw_gap(&self) {
        self.books.lock().saw_gap();
    }
}

async fn poller(address: SocketAddr, streams: &[String]) -> Result<Poller> {
    let mut poller = Poller::open_at(address).await?;
    for stream in streams {
        poller.subscribe(&frames::public(stream)).await?;
    }
    Ok(poller)
}

/// A session has to live through everything.
async fn poll(mut poller: Poller, page: Page) -> Result<()> {
    loop {
        let answer = poller.poll().await?;
        if answer.gap() {
            page.saw_gap();
        }
        if answer.frames.is_empty() {
            page.saw_nothing();
        }
        for frame in &answer.frames {
            if frames::kind(frame) != "message" {
                bail!("it was told {frame}");
            }
            page.saw(&frame["message"])?;
        }
    }
}
