//! A poll that waits.

use crate::{Connection, Request, Response};
use anyhow::Result;
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// A poll whose answer is still to come.
#[derive(Debug)]
pub struct Parked {
    connection: Connection,
    since: Instant,
}

impl Parked {
    pub(super) async fn start(address: SocketAddr, request: &Request) -> Result<Self> {
        let mut connection = Connection::open(address).await?;
        connection.send(request).await?;
        Ok(Self {
            connection,
            since: Instant::now(),
        })
    }

    /// The answer.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn answer(&mut self) -> Result<Response> {
        self.connection.response().await
    }

    /// The answer, if it comes in time.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn answer_within(&mut self, within: Duration) -> Result<Option<Response>> {
        self.connection.response_within(within).await
    }

    /// Polls again on the same connection, after the answer.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn again(&mut self, request: &Request) -> Result<()> {
        self.since = Instant::now();
        self.connection.send(request).await
    }

    /// How long ago the poll was sent.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Its connection, to break it.
    #[must_use]
    pub fn into_connection(self) -> Connection {
        self.connection
    }
}
