//! Numbered messages to some streams by several doors, and readers that must get all of them.
//!
//! One publisher feeds each stream through each door, so that its numbers come in their order;
//! messages of different publishers of a stream may come in any order, but in the same one to
//! everybody.

mod books;
mod publisher;
mod reader;

pub use books::Outcome;
pub use publisher::{Door, Server};
pub use reader::Client;

use crate::{Deadline, Nginx, Node};
use anyhow::{Context, Result, bail, ensure};
use books::Books;
use parking_lot::Mutex;
use publisher::Publisher;
use reader::Reader;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// After the last message and the last fault, everything must have come within this time.
const SETTLING: Duration = Duration::from_secs(30);

/// How long publishers may need to go on after a fault.
const RECOVERY: Duration = Duration::from_secs(60);

/// Answers without a message, after everything has come: what comes twice may come late.
const QUIET_ANSWERS: u64 = 2;

/// How often the books are looked at, which takes a while when they are full.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Publishers and readers of a test, and their common books.
#[derive(Debug)]
pub struct Traffic {
    streams: Vec<String>,
    books: Arc<Mutex<Books>>,
    stop: watch::Sender<bool>,
    publishers: Vec<JoinHandle<()>>,
    readers: BTreeMap<String, JoinHandle<Result<()>>>,
}

impl Traffic {
    /// Nobody publishes and nobody reads yet.
    #[must_use]
    pub fn on(streams: &[&str]) -> Self {
        Self {
            streams: streams.iter().map(|&stream| stream.to_owned()).collect(),
            books: Arc::default(),
            stop: watch::Sender::new(false),
            publishers: Vec::new(),
            readers: BTreeMap::new(),
        }
    }

    /// One more reader, with a session of its own that is subscribed to all streams. Readers come
    /// before publishers.
    ///
    /// # Errors
    /// The node says no, or somebody publishes already.
    pub async fn read(&mut self, name: &str, node: &Node) -> Result<()> {
        let streams = self.streams.clone();
        let client = Client::CursorPoller;
        self.read_at(name, client, node.address(), &streams).await
    }

    /// So many readers that come through nginx, on whichever nodes it puts them.
    ///
    /// # Errors
    /// As with [`Traffic::read`].
    pub async fn read_through(&mut self, nginx: &Nginx, readers: usize) -> Result<()> {
        self.read_as(Client::CursorPoller, nginx, readers).await
    }

    /// So many readers of a kind that come through nginx. Of event streams each has one of the
    /// test's streams, by turns.
    ///
    /// # Errors
    /// As with [`Traffic::read`].
    pub async fn read_as(&mut self, client: Client, nginx: &Nginx, readers: usize) -> Result<()> {
        for number in 0..readers {
            let name = format!("{client:?} {number} through nginx");
            let streams = match client {
                Client::EventStream => {
                    let one = self.streams.iter().cycle().nth(number);
                    one.cloned().into_iter().collect()
                }
                _ => self.streams.clone(),
            };
            let address = nginx.address();
            self.read_at(&name, client, address, &streams).await?;
        }
        Ok(())
    }

    async fn read_at(
        &mut self,
        name: &str,
        client: Client,
        address: SocketAddr,
        streams: &[String],
    ) -> Result<()> {
        ensure!(self.publishers.is_empty(), "{name} comes late");
        let reader = Reader::join(name, client, address, streams).await?;
        self.books.lock().join(name, streams);
        let task = tokio::spawn(reader.run(Arc::clone(&self.books)));
        self.readers.insert(name.to_owned(), task);
        Ok(())
    }

    /// From now on a message enters each stream through `door` every so often.
    pub fn publish(&mut self, door: Door, server: &Server, every: Duration) {
        for stream in &self.streams {
            let publisher = Publisher::new(stream, door, server.clone(), every);
            self.books.lock().publish(stream, publisher.name());
            let run = publisher.run(Arc::clone(&self.books), self.stop.subscribe());
            self.publishers.push(tokio::spawn(run));
        }
    }

    /// Waits until each publisher has had this many more messages accepted.
    ///
    /// # Errors
    /// They were not in time, or a reader gave up.
    pub async fn accepted(&mut self, more: u64) -> Result<()> {
        let goal = self.books.lock().accepted_each(more);
        let deadline = Deadline::within(RECOVERY);
        while !self.books.lock().has_accepted(&goal) {
            self.check_readers().await?;
            ensure!(
                !deadline.is_over(),
                "no publisher goes on: {:?}",
                self.books.lock().last_refusal()
            );
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// A reader whose node is dead owes nothing any more.
    pub fn forget(&mut self, name: &str) {
        if let Some(reader) = self.readers.remove(name) {
            reader.abort();
        }
        self.books.lock().forget(name);
    }

    /// Ends the publishers, waits until everything has come and no more comes, and opens the
    /// books.
    ///
    /// # Errors
    /// A reader or a publisher gave up.
    pub async fn finish(mut self) -> Result<Outcome> {
        self.stop.send_replace(true);
        for publisher in std::mem::take(&mut self.publishers) {
            publisher.await?;
        }
        let deadline = Deadline::within(SETTLING);
        while self.books.lock().missing() > 0 && !deadline.is_over() {
            self.check_readers().await?;
            sleep(LOOK_EVERY).await;
        }
        let goal = self.books.lock().quiet_each(QUIET_ANSWERS);
        while !self.books.lock().has_been_quiet(&goal) && !deadline.is_over() {
            self.check_readers().await?;
            sleep(LOOK_EVERY).await;
        }
        Ok(self.books.lock().outcome())
    }

    /// A reader only ends when something is wrong.
    async fn check_readers(&mut self) -> Result<()> {
        let ended = self.readers.iter().find(|(_, task)| task.is_finished());
        let Some(name) = ended.map(|(name, _)| name.clone()) else {
            return Ok(());
        };
        let task = self.readers.remove(&name).context("no such reader")?;
        match task.await? {
            Ok(()) => bail!("{name} ended"),
            Err(error) => Err(error.context(format!("{name} gave up"))),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let tasks = self.publishers.iter();
        tasks.for_each(JoinHandle::abort);
        self.readers.values().for_each(JoinHandle::abort);
    }
}
