//! HTTP/2 without TLS: many requests on one connection, each of which can be taken back.

use crate::{PATIENCE, frames};
use anyhow::{Context, Result};
use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Http2 {
    address: SocketAddr,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request on it, and its answer.
#[derive(Debug)]
pub struct Http2Stream {
    sent: SendStream<Bytes>,
    answer: ResponseFuture,
    body: Option<RecvStream>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Http2 {
    /// Connects with prior knowledge.
    ///
    /// # Errors
    /// Nobody listens there, or speaks something else.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        Self::with_window(address, 1 << 20).await
    }

    /// Connects and lets this many bytes of each answer come before they are read.
    ///
    /// # Errors
    /// As [`Http2::open`].
    pub async fn with_window(address: SocketAddr, window: u32) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(1 << 24)
            .handshake(stream)
            .await?;
        Ok(Self {
            address,
            requests: requests.ready().await?,
            connection: tokio::spawn(connection),
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Http2Stream> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = self.requests.clone().ready().await?;
        let (answer, mut sent) = requests.send_request(request.body(())?, body.is_empty())?;
        if !body.is_empty() {
            sent.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        Ok(Http2Stream {
            sent,
            answer,
            body: None,
        })
    }

    /// Sends a poll; without an id it opens a session.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn poll(&mut self, poll_id: Option<&str>, body: &str) -> Result<Http2Stream> {
        let header = poll_id.map(|id| ("x-anycable-poll-id", id));
        self.send("POST", "/lp", header.as_slice(), body).await
    }

    /// Opens a session that is subscribed to public streams; its poll id.
    ///
    /// # Errors
    /// There is none.
    pub async fn subscribed(&mut self, streams: &[&str]) -> Result<String> {
        let subscribe = |stream: &&str| frames::subscribe(&frames::public(stream));
        let body: String = streams.iter().map(subscribe).collect();
        let (status, headers, _) = self.poll(None, &body).await?.answer().await?;
        anyhow::ensure!(
            status == StatusCode::OK,
            "an open is answered with {status}"
        );
        let id = headers.get("x-anycable-poll-id").context("no poll id")?;
        Ok(id.to_str()?.to_owned())
    }

    /// Waits for the connection's end.
    ///
    /// # Errors
    /// It did not end in time, or not in good order.
    pub async fn ended(&mut self) -> Result<()> {
        timeout(PATIENCE, &mut self.connection).await???;
        Ok(())
    }
}

impl Http2Stream {
    /// Takes the request back.
    pub fn abort(mut self) {
        self.sent.send_reset(Reason::CANCEL);
    }

    /// The answer's head.
    ///
    /// # Errors
    /// None came.
    pub async fn head(&mut self) -> Result<(StatusCode, HeaderMap)> {
        let answer = timeout(PATIENCE, &mut self.answer).await;
        let (head, body) = answer.context("no answer")??.into_parts();
        self.body = Some(body);
        Ok((head.status, head.headers))
    }

    /// The next bytes of the body, once there is a head; `None` at its end.
    ///
    /// # Errors
    /// None came.
    pub async fn bytes(&mut self) -> Result<Option<Bytes>> {
        let body = self.body.as_mut().context("no head was read")?;
        let bytes = timeout(PATIENCE, body.data()).await;
        let Some(bytes) = bytes.context("no bytes")?.transpose()? else {
            return Ok(None);
        };
        body.flow_control().release_capacity(bytes.len())?;
        Ok(Some(bytes))
    }

    /// The whole answer.
    ///
    /// # Errors
    /// It did not come, or broke off.
    pub async fn answer(mut self) -> Result<(StatusCode, HeaderMap, Vec<u8>)> {
        let (status, headers) = self.head().await?;
        let mut whole = Vec::new();
        while let Some(bytes) = self.bytes().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok((status, headers, whole))
    }

    /// The messages of a poll's answer.
    ///
    /// # Errors
    /// It is not 200, or its lines are not JSON.
    pub async fn messages(self) -> Result<Vec<Value>> {
        let (status, _, body) = self.answer().await?;
        anyhow::ensure!(status == StatusCode::OK, "a poll is answered with {status}");
        let lines = body.split_inclusive(|byte| *byte == b'\n');
        let all: Vec<Value> = lines
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()?;
        Ok(frames::messages(&all))
    }
}
