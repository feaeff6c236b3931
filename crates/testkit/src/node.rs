//! A real node, as an operator would start it.

mod builder;

pub(crate) use builder::command;
pub use builder::{NodeBuilder, binary, free_port, run};

use crate::{
    Connection, Deadline, Metrics, PATIENCE, Request, Response, frames, memory, process::Process,
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{net::SocketAddr, process::ExitStatus, time::Duration};

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    process: Process,
    address: SocketAddr,
    /// Where it takes publications, if on a port of its own.
    broadcasts: Option<SocketAddr>,
    /// What publishers must say, if anything.
    broadcast_key: Option<String>,
}

impl Node {
    /// A node with default options, on a free port, in development mode.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes publications: a port of its own, or the main one.
    #[must_use]
    pub fn broadcast_address(&self) -> SocketAddr {
        self.broadcasts.unwrap_or(self.address)
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> &crate::Log {
        self.process.log()
    }

    /// Sends a request on a connection of its own.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn ask(&self, request: &Request) -> Result<Response> {
        Connection::once(self.address, request).await
    }

    /// `GET`s a path.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.ask(&Request::get(path)).await
    }

    /// Posts to `/_broadcast`, with the key if there is one.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn broadcast(&self, body: &str) -> Result<Response> {
        Connection::once(self.broadcast_address(), &self.broadcast_request(body)).await
    }

    /// The request of [`Node::broadcast`], for connections that are kept.
    #[must_use]
    pub fn broadcast_request(&self, body: &str) -> Request {
        let request = Request::post("/_broadcast").body(body);
        match &self.broadcast_key {
            Some(key) => request.header("Authorization", &format!("Bearer {key}")),
            None => request,
        }
    }

    /// Publishes, and makes sure that it was accepted.
    ///
    /// # Errors
    /// The answer is not 201.
    pub async fn publish(&self, stream: &str, data: &Value) -> Result<()> {
        let response = self.broadcast(&frames::publication(stream, data)).await?;
        anyhow::ensure!(
            response.status == 201,
            "{} {:?}",
            response.status,
            response.body
        );
        Ok(())
    }

    /// Waits until this many publications were fanned out here, since its start. An accepted
    /// publication is on its way to the sessions, but need not have arrived.
    ///
    /// # Errors
    /// They were not in time.
    pub async fn fanned_out(&self, publications: u64) -> Result<()> {
        let deadline = Deadline::within(PATIENCE);
        loop {
            let count = self.metric("broadcast_msg_total").await?;
            if count >= publications as f64 {
                return Ok(());
            }
            anyhow::ensure!(!deadline.is_over(), "{count} of {publications} fanned out");
            deadline.pause().await;
        }
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It does not in time; the message has its log.
    pub async fn ready(&self) -> Result<()> {
        let deadline = Deadline::within(PATIENCE);
        while self.get("/ready").await?.status != 200 {
            anyhow::ensure!(!deadline.is_over(), "not ready\n{}", self.log().text());
            deadline.pause().await;
        }
        Ok(())
    }

    /// Scrapes the metrics.
    ///
    /// # Errors
    /// There are none.
    pub async fn metrics(&self) -> Result<Metrics> {
        let response = self.get("/metrics").await?;
        anyhow::ensure!(response.status == 200, "/metrics says {}", response.status);
        Ok(Metrics::new(response.text()?.to_owned(), "pollux_"))
    }

    /// The sum of a metric's samples; the name is given without `pollux_`.
    ///
    /// # Errors
    /// There is no such metric.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let sum = self.metrics().await?.sum(name);
        sum.with_context(|| format!("there is no metric {name}"))
    }

    /// Memory that only the node holds, plus its share of the shared one.
    ///
    /// # Errors
    /// It has ended.
    pub fn pss_bytes(&self) -> Result<u64> {
        memory::pss_bytes(self.pid())
    }

    /// Memory the node holds.
    ///
    /// # Errors
    /// It has ended.
    pub fn rss_bytes(&self) -> Result<u64> {
        memory::rss_bytes(self.pid())
    }

    /// Asks it to stop (`SIGTERM`) and does not wait.
    ///
    /// # Errors
    /// It has ended already.
    pub fn ask_to_stop(&mut self) -> Result<()> {
        self.process.signal("TERM")
    }

    /// Asks it to stop (`SIGTERM`) and waits for it.
    ///
    /// # Errors
    /// It has ended already, or did not end in time.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.ask_to_stop()?;
        self.wait(within).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.wait(within).await
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// The system won't say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    /// Sends it `SIGHUP`.
    ///
    /// # Errors
    /// It has ended.
    pub fn hang_up(&mut self) -> Result<()> {
        self.process.signal("HUP")
    }

    /// Makes it silent (`SIGSTOP`); its connections stay.
    ///
    /// # Errors
    /// It has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal("STOP")
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal("CONT")
    }

    /// Ends it as a crash would (`SIGKILL`).
    ///
    /// # Errors
    /// The system can't.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
}
