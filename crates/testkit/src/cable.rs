//! A WebSocket client.

use crate::{Node, PATIENCE, frames};
use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        http::{HeaderName, HeaderValue, Response},
    },
};

/// The extended protocol and the base one, as AnyCable's client offers them.
pub const PROTOCOLS: &str = "actioncable-v1-ext-json, actioncable-v1-json";

/// An open socket.
#[derive(Debug)]
pub struct Cable {
    stream: WebSocketStream<TcpStream>,
    /// The protocol the server chose.
    protocol: Option<String>,
    sid: String,
    welcome: Value,
}

/// What a server says on a socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A frame.
    Frame(Value),
    /// A ping of WebSocket's own.
    Ping,
    /// The end, with its code and reason.
    Close(u16, String),
}

impl Cable {
    /// Connects as AnyCable's client does, and waits for the welcome.
    ///
    /// # Errors
    /// There is none.
    pub async fn open(node: &Node) -> Result<Self> {
        Self::open_at(node.address(), "/cable", PROTOCOLS).await
    }

    /// Connects to a path with these protocols, and waits for the welcome.
    ///
    /// # Errors
    /// There is none.
    pub async fn open_at(address: SocketAddr, path: &str, protocols: &str) -> Result<Self> {
        let headers = [("Sec-WebSocket-Protocol", protocols)];
        let headers = if protocols.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        let mut cable = Self::connect(address, path, headers).await?;
        let welcome = cable.frame().await?;
        ensure!(frames::kind(&welcome) == "welcome", "no welcome: {welcome}");
        cable.sid = welcome["sid"].as_str().context("no sid")?.to_owned();
        cable.welcome = welcome;
        Ok(cable)
    }

    /// Connects, and waits for nothing.
    ///
    /// # Errors
    /// The server did not upgrade; the message has its answer's status.
    pub async fn connect(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value)?);
        }
        let tcp = TcpStream::connect(address).await?;
        let (stream, response) = match Box::pin(client_async(request, tcp)).await {
            Ok(opened) => opened,
            Err(tungstenite::Error::Http(response)) => bail!("{}", refusal(&response)),
            Err(error) => return Err(error.into()),
        };
        let protocol = response.headers().get("sec-websocket-protocol");
        Ok(Self {
            protocol: protocol.and_then(|value| Some(value.to_str().ok()?.to_owned())),
            stream,
            sid: String::new(),
            welcome: Value::Null,
        })
    }

    /// The protocol the server chose.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The first frame, if it was waited for.
    #[must_use]
    pub const fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// The session's public id.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Says something.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn say(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.send(Message::text(text.trim_end())).await?)
    }

    /// Says something in binary.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn say_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.send(Message::binary(bytes.to_vec())).await?)
    }

    /// Subscribes, and waits for the confirmation. Returns the other frames that came.
    ///
    /// # Errors
    /// It was rejected, or nothing came.
    pub async fn subscribe(&mut self, identifier: &str) -> Result<Vec<Value>> {
        self.say(&frames::subscribe(identifier)).await?;
        let mut others = Vec::new();
        loop {
            let frame = self.frame().await?;
            match frames::kind(&frame) {
                "confirm_subscription" => return Ok(others),
                "reject_subscription" => bail!("{identifier} was rejected"),
                _ => others.push(frame),
            }
        }
    }

    /// What comes next, whatever it is.
    ///
    /// # Errors
    /// Nothing came in time, or the connection broke without a word.
    pub async fn next(&mut self) -> Result<Said> {
        let next = timeout(PATIENCE, self.stream.next());
        let message = next.await.context("nothing was said")?;
        Ok(
            match message.context("the connection ended without a word")?? {
                Message::Text(text) => Said::Frame(serde_json::from_str(&text)?),
                Message::Ping(_) => Said::Ping,
                Message::Close(Some(close)) => {
                    Said::Close(close.code.into(), close.reason.to_string())
                }
                Message::Close(None) => Said::Close(1005, String::new()),
                other => bail!("unexpected: {other:?}"),
            },
        )
    }

    /// The next frame that is no ping.
    ///
    /// # Errors
    /// None came.
    pub async fn frame(&mut self) -> Result<Value> {
        let frame = async {
            loop {
                match self.next().await? {
                    Said::Frame(frame) if frames::kind(&frame) == "ping" => {}
                    Said::Frame(frame) => return Ok(frame),
                    Said::Ping => {}
                    said @ Said::Close(..) => bail!("closed: {said:?}"),
                }
            }
        };
        // Pings may come for ever.
        timeout(PATIENCE, frame)
            .await
            .context("nothing but pings")?
    }

    /// So many messages.
    ///
    /// # Errors
    /// They did not come.
    pub async fn messages(&mut self, count: usize) -> Result<Vec<Value>> {
        let mut messages = Vec::new();
        while messages.len() < count {
            let frame = self.frame().await?;
            messages.extend(frames::messages(&[frame]));
        }
        Ok(messages)
    }

    /// All frames until the end, pings left out, and the end.
    ///
    /// # Errors
    /// It did not end.
    pub async fn ending(&mut self) -> Result<(Vec<Value>, u16, String)> {
        let mut seen = Vec::new();
        loop {
            match self.next().await? {
                Said::Frame(frame) if frames::kind(&frame) == "ping" => {}
                Said::Frame(frame) => seen.push(frame),
                Said::Ping => {}
                Said::Close(code, reason) => return Ok((seen, code, reason)),
            }
        }
    }

    /// Whether nothing but pings comes for a while.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn is_quiet(&mut self, within: Duration) -> Result<bool> {
        Ok(timeout(within, self.frame()).await.is_err())
    }

    /// Takes leave.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.stream.close(None).await?)
    }
}

fn refusal(response: &Response<Option<Vec<u8>>>) -> String {
    format!("HTTP {}", response.status().as_u16())
}
