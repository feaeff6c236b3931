//! A client of server-sent events, as a browser's `EventSource` would read them.

use crate::{Node, PATIENCE};
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    stream: BufReader<TcpStream>,
    /// The answer's head, in lower case.
    head: String,
    /// What was read and is no whole event yet.
    pending: String,
}

/// One block of the stream: what a browser would dispatch or remember.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty for a plain message.
    pub name: String,
    /// Its data lines, joined.
    pub data: String,
    /// Its id.
    pub id: Option<String>,
    /// How long to wait before coming back, in milliseconds.
    pub retry: Option<u64>,
}

impl EventStream {
    /// Opens a stream.
    ///
    /// # Errors
    /// The answer is not 200.
    pub async fn open(node: &Node, target: &str) -> Result<Self> {
        Self::open_at(node.address(), target, &[]).await
    }

    /// Opens a stream with these headers.
    ///
    /// # Errors
    /// The answer is not 200.
    pub async fn open_at(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self> {
        Self::send(address, "GET", target, headers, "").await
    }

    /// Opens a stream with commands.
    ///
    /// # Errors
    /// The answer is not 200.
    pub async fn post(address: SocketAddr, target: &str, body: &str) -> Result<Self> {
        Self::send(address, "POST", target, &[], body).await
    }

    async fn send(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Self> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        stream.write_all(request.as_bytes()).await?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(PATIENCE, stream.read_line(&mut head)).await;
            ensure!(
                read.context("no answer")?? > 0,
                "the answer broke off: {head}"
            );
        }
        ensure!(
            head.starts_with("HTTP/1.1 200 "),
            "{}",
            head.lines().next().unwrap_or_default()
        );
        Ok(Self {
            stream,
            head: head.to_ascii_lowercase(),
            pending: String::new(),
        })
    }

    /// Whether the answer's head has this line.
    #[must_use]
    pub fn has_header(&self, line: &str) -> bool {
        self.head
            .lines()
            .any(|known| known == line.to_ascii_lowercase())
    }

    /// The next event; comments are left out. `None` at a clean end.
    ///
    /// # Errors
    /// Nothing came in time, or the connection broke.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some((block, rest)) = self.pending.split_once("\n\n") {
                let event = Event::parse(block)?;
                self.pending = rest.to_owned();
                match event {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            let chunk = timeout(PATIENCE, self.chunk()).await;
            match chunk.context("nothing came")?? {
                Some(text) => self.pending.push_str(&text),
                None => return Ok(None),
            }
        }
    }

    /// The next event of this name.
    ///
    /// # Errors
    /// None came.
    pub async fn named(&mut self, name: &str) -> Result<Event> {
        loop {
            let event = self.next().await?.context("the stream ended")?;
            if event.name == name && (!name.is_empty() || !event.data.is_empty()) {
                return Ok(event);
            }
        }
    }

    /// So many messages: their data and ids.
    ///
    /// # Errors
    /// They did not come.
    pub async fn messages(&mut self, count: usize) -> Result<Vec<Event>> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.named("").await?);
        }
        Ok(messages)
    }

    async fn chunk(&mut self) -> Result<Option<String>> {
        let mut size = String::new();
        if self.stream.read_line(&mut size).await? == 0 {
            bail!("the connection broke");
        }
        let size = usize::from_str_radix(size.trim(), 16).context("no chunk")?;
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await?;
        chunk.truncate(size);
        Ok((size > 0).then_some(String::from_utf8(chunk)?))
    }
}

impl Event {
    fn parse(block: &str) -> Result<Option<Self>> {
        let mut event = Self::default();
        let (mut data, mut is_comment) = (Vec::new(), true);
        for line in block.split('\n') {
            if line.starts_with(':') {
                continue;
            }
            is_comment = false;
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", line)) => data.push(line),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("retry", retry)) => event.retry = Some(retry.parse()?),
                _ => bail!("a line that is none: {line:?}"),
            }
        }
        event.data = data.join("\n");
        Ok((!is_comment).then_some(event))
    }
}
