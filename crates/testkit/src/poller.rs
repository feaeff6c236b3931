//! A long-poll client, faithful or faulty.

mod fault;
mod parked;

pub use fault::Fault;
pub use parked::Parked;

use crate::{Connection, Node, Request, Response, frames};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// How long a test waits for something that should come at once: long, because the machine may
/// be busy, and short of a minute, because the test should end.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One session's client, which polls on one connection as long as that lives.
#[derive(Debug)]
pub struct Poller {
    address: SocketAddr,
    poll_id: String,
    sid: String,
    /// The last frame it knows to have.
    cursor: u64,
    /// Whether it says so with every poll.
    sends_cursor: bool,
    /// Whether its bodies come in chunks.
    chunked: bool,
    connection: Option<Connection>,
}

/// An answer, as the client understands it.
#[derive(Debug)]
pub struct Answer {
    /// As it came.
    pub response: Response,
    /// The frames; a client with a cursor leaves out those it had already.
    pub frames: Vec<Value>,
    /// How many were left out.
    pub repeated: usize,
}

impl Answer {
    /// The messages among the frames.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        frames::messages(&self.frames)
    }

    /// Whether it tells of a loss.
    #[must_use]
    pub fn gap(&self) -> bool {
        self.response.header("pollux-gap").is_some()
    }
}

impl Poller {
    /// Opens a session.
    ///
    /// # Errors
    /// The answer is not a welcome.
    pub async fn open(node: &Node) -> Result<Self> {
        Self::open_at(node.address()).await
    }

    /// Opens a session at an address.
    ///
    /// # Errors
    /// The answer is not a welcome.
    pub async fn open_at(address: SocketAddr) -> Result<Self> {
        let mut connection = Connection::open(address).await?;
        let response = connection.ask(&Request::post("/lp")).await?;
        let mut poller = Self::from_open(address, &response)?;
        poller.connection = Some(connection);
        Ok(poller)
    }

    /// The client of a session that was opened by hand.
    ///
    /// # Errors
    /// The answer is not a welcome.
    pub fn from_open(address: SocketAddr, response: &Response) -> Result<Self> {
        ensure!(
            response.status == 200,
            "open: {} {:?}",
            response.status,
            response.body
        );
        let poll_id = response
            .header("x-anycable-poll-id")
            .context("no poll id")?
            .to_owned();
        let frames = response.frames()?;
        let welcome = frames.first().context("no frame")?;
        ensure!(frames::kind(welcome) == "welcome", "no welcome: {welcome}");
        let sid = welcome["sid"].as_str().context("no sid")?.to_owned();
        let cursor = response
            .cursor()?
            .context("an answer without Pollux-Cursor")?;
        Ok(Self {
            address,
            poll_id,
            sid,
            cursor,
            sends_cursor: false,
            chunked: false,
            connection: None,
        })
    }

    /// Opens a session and subscribes it to public streams.
    ///
    /// # Errors
    /// The node said no.
    pub async fn subscribed(node: &Node, streams: &[&str]) -> Result<Self> {
        let mut poller = Self::open(node).await?;
        for stream in streams {
            poller.subscribe(&frames::public(stream)).await?;
        }
        Ok(poller)
    }

    /// From now on it says what it has got, and leaves out what it gets again.
    #[must_use]
    pub fn with_cursor(mut self) -> Self {
        self.sends_cursor = true;
        self
    }

    /// From now on its bodies come in chunks, as some proxies make them, which is another way
    /// through the server.
    #[must_use]
    pub fn in_chunks(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// The session's secret.
    #[must_use]
    pub fn poll_id(&self) -> &str {
        &self.poll_id
    }

    /// The session's public id.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The number of the last frame it has.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// A poll's request, with commands.
    #[must_use]
    pub fn request(&self, commands: &str) -> Request {
        let request = Request::post("/lp").header("X-Anycable-Poll-ID", &self.poll_id);
        let request = match self.sends_cursor {
            true => request.header("Pollux-Cursor", &self.cursor.to_string()),
            false => request,
        };
        let request = match commands {
            "" => request,
            _ => request.header("Content-Type", "text/plain;charset=UTF-8"),
        };
        match (self.chunked, commands) {
            (true, _) => request.in_one_chunk(commands),
            (false, "") => request,
            (false, _) => request.body(commands),
        }
    }

    /// Subscribes, and polls until the confirmation comes. Returns the other frames that came.
    ///
    /// # Errors
    /// It was rejected, or no confirmation came.
    pub async fn subscribe(&mut self, identifier: &str) -> Result<Vec<Value>> {
        let (verdict, others) = self.try_subscribe(identifier).await?;
        ensure!(verdict == "confirm_subscription", "{identifier}: {verdict}");
        Ok(others)
    }

    /// Subscribes, and polls until a verdict comes: its type and the other frames that came.
    ///
    /// # Errors
    /// None came.
    pub async fn try_subscribe(&mut self, identifier: &str) -> Result<(String, Vec<Value>)> {
        let deadline = Instant::now() + PATIENCE;
        let mut frames = self.poll_with(&frames::subscribe(identifier)).await?.frames;
        loop {
            let verdict = frames.iter().position(|frame| {
                frame["identifier"] == identifier && frames::kind(frame).ends_with("_subscription")
            });
            if let Some(at) = verdict {
                let verdict = frames::kind(&frames.remove(at)).to_owned();
                return Ok((verdict, frames));
            }
            ensure!(
                Instant::now() < deadline,
                "no verdict about {identifier}: {frames:?}"
            );
            frames.extend(self.poll().await?.frames);
        }
    }

    /// One poll.
    ///
    /// # Errors
    /// The answer is neither 200 nor 204.
    pub async fn poll(&mut self) -> Result<Answer> {
        self.poll_with("").await
    }

    /// One poll with commands.
    ///
    /// # Errors
    /// The answer is neither 200 nor 204.
    pub async fn poll_with(&mut self, commands: &str) -> Result<Answer> {
        let response = self.exchange(commands).await?;
        self.understand(response)
    }

    /// One poll with commands, whatever the answer is.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn exchange(&mut self, commands: &str) -> Result<Response> {
        let mut connection = self.take_connection().await?;
        let response = connection.ask(&self.request(commands)).await?;
        self.connection = Some(connection);
        Ok(response)
    }

    /// Polls until this many messages came. Returns them.
    ///
    /// # Errors
    /// They did not come in time.
    pub async fn messages(&mut self, count: usize) -> Result<Vec<Value>> {
        let deadline = Instant::now() + PATIENCE;
        let mut messages = Vec::new();
        while messages.len() < count {
            if Instant::now() >= deadline {
                bail!("{} messages of {count}: {messages:?}", messages.len());
            }
            messages.extend(self.poll().await?.messages());
        }
        Ok(messages)
    }

    /// Closes the connection it keeps; the next poll makes another.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Polls another server from now on.
    pub fn turn_to(&mut self, address: SocketAddr) {
        self.address = address;
        self.hang_up();
    }

    /// Starts a poll on a connection of its own and leaves it waiting.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn park(&self) -> Result<Parked> {
        self.park_with("").await
    }

    /// Starts a poll with commands on a connection of its own and leaves it waiting.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn park_with(&self, commands: &str) -> Result<Parked> {
        Parked::start(self.address, &self.request(commands)).await
    }

    /// What the client makes of an answer: it notes the cursor and leaves out what it had.
    ///
    /// # Errors
    /// The answer is neither 200 nor 204, or not what the protocol promises.
    pub fn understand(&mut self, response: Response) -> Result<Answer> {
        ensure!(
            matches!(response.status, 200 | 204),
            "poll: {} {:?}",
            response.status,
            response.body
        );
        let mut frames = response.frames()?;
        let last = response
            .cursor()?
            .context("an answer without Pollux-Cursor")?;
        let mut repeated = 0;
        if self.sends_cursor {
            // An answer's frames are numbered up to `last`, without a hole.
            let count = frames.len() as u64;
            let first = (last + 1)
                .checked_sub(count)
                .context("more frames than their number")?;
            repeated = usize::try_from((self.cursor + 1).saturating_sub(first).min(count))?;
            frames.drain(..repeated);
        }
        self.cursor = self.cursor.max(last);
        Ok(Answer {
            response,
            frames,
            repeated,
        })
    }

    async fn take_connection(&mut self) -> Result<Connection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(self.address).await,
        }
    }
}
