//! A connection that can be reused, pipelined, starved and broken.

use super::{Request, Response};
use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use socket2::SockRef;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// No single answer of a test takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One TCP connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Bytes that were read and not yet returned.
    buffer: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
        })
    }

    /// Sends one request on a connection of its own and reads the answer.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn once(address: SocketAddr, request: &Request) -> Result<Response> {
        Self::open(address).await?.ask(request).await
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn ask(&mut self, request: &Request) -> Result<Response> {
        self.send(request).await?;
        self.response().await
    }

    /// Sends a request in one piece.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send(&mut self, request: &Request) -> Result<()> {
        self.send_bytes(&request.to_bytes()).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("sending")
    }

    /// Reads one response.
    ///
    /// # Errors
    /// The connection ended, a minute passed, or what came is not HTTP.
    pub async fn response(&mut self) -> Result<Response> {
        let response = self.response_within(ANSWER_TIMEOUT).await?;
        response.with_context(|| format!("no answer within {ANSWER_TIMEOUT:?}"))
    }

    /// Reads one response; `None` if it did not come in time, and then it may still come.
    ///
    /// # Errors
    /// The connection ended, or what came is not HTTP.
    pub async fn response_within(&mut self, within: Duration) -> Result<Option<Response>> {
        match timeout(within, self.read_response()).await {
            Ok(response) => response.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Reads exactly this many bytes and leaves the others unread, in the kernel.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        timeout(ANSWER_TIMEOUT, self.stream.read_exact(&mut bytes)).await??;
        Ok(bytes)
    }

    /// The first bytes of what comes next, which stays unread.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn peek(&mut self, count: usize) -> Result<Vec<u8>> {
        ensure!(self.buffer.is_empty(), "bytes were read already");
        let mut bytes = vec![0; count];
        let peek = async {
            loop {
                let seen = self.stream.peek(&mut bytes).await?;
                ensure!(seen > 0, "the connection ended");
                if seen == count {
                    return Ok(());
                }
                // A peek that sees some bytes does not wait for more.
                tokio::time::sleep(crate::CHECK_EVERY).await;
            }
        };
        timeout(ANSWER_TIMEOUT, peek).await??;
        Ok(bytes)
    }

    /// Whether bytes, or the connection's end, come in time. Reads nothing.
    ///
    /// # Errors
    /// The socket can't be asked.
    pub async fn readable_within(&self, within: Duration) -> Result<bool> {
        Ok(match timeout(within, self.stream.readable()).await {
            Ok(readable) => readable.map(|()| true)?,
            Err(_) => false,
        })
    }

    /// Waits until the other side has closed the connection, in whatever manner.
    ///
    /// # Errors
    /// It sent bytes, or did not close in time.
    pub async fn closed_within(&mut self, within: Duration) -> Result<()> {
        let read = timeout(within, self.stream.read_buf(&mut self.buffer)).await;
        let read = read.with_context(|| format!("still open after {within:?}"))?;
        ensure!(
            matches!(read, Ok(0) | Err(_)),
            "more bytes: {:?}",
            self.buffer
        );
        Ok(())
    }

    /// Breaks the connection with a reset, whatever is unread or unsent.
    ///
    /// # Errors
    /// The socket can't be told to.
    pub fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Closes the connection as a browser does: in good order, or, if bytes are unread or still
    /// on their way, with what the kernel makes of it.
    pub fn close(self) {}

    /// Reads only this many bytes at a time from here on, so that the other side's buffers fill.
    ///
    /// # Errors
    /// The socket can't be told to.
    pub fn shrink_receive_buffer(&self, bytes: usize) -> Result<()> {
        Ok(SockRef::from(&self.stream).set_recv_buffer_size(bytes)?)
    }

    /// Whatever was read stays in the buffer if this is cancelled.
    async fn read_response(&mut self) -> Result<Response> {
        loop {
            if let Some(mut response) = Response::parse_head(&self.buffer)? {
                let (head, body) = (response.head.len(), response.body_length()?);
                if self.buffer.len() >= head + body {
                    self.buffer.advance(head);
                    response.body = self.buffer.split_to(body).freeze();
                    return Ok(response);
                }
            }
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .context("receiving")?;
            ensure!(
                read > 0,
                "the connection ended within a response: {:?}",
                self.buffer
            );
        }
    }
}
