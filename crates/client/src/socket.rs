//! WebSocket: a session as long as its connection.

use crate::{Trouble, Wire, http::trouble, subscriber::Batch, wire::Duplex};
use ::http::{HeaderName, HeaderValue, header};
use futures_util::{SinkExt as _, StreamExt as _};
use std::{fmt, time::Duration};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

const PROTOCOL: HeaderValue = HeaderValue::from_static("actioncable-v1-ext-json");

/// A node answers a handshake at once, or when its backend has.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// See the module's head.
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Duplex>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket {
    pub(crate) async fn open(
        wire: &Wire,
        path: &str,
        more: &[(HeaderName, HeaderValue)],
        commands: &[String],
    ) -> Result<Self, Trouble> {
        let scheme = if wire.address().tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{path}", wire.address().authority());
        let mut request = url.into_client_request().map_err(of_socket)?;
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        for (name, value) in more {
            headers.insert(name, value.clone());
        }
        for (name, value) in wire.headers() {
            headers.insert(name, value.clone());
        }
        let shake = async {
            let stream = wire.connect().await?;
            // The library's future is several kilobytes.
            Box::pin(client_async(request, stream))
                .await
                .map_err(of_socket)
        };
        let shaken = timeout(OPEN_TIMEOUT, shake).await;
        let (mut stream, _) = shaken
            .unwrap_or_else(|_| Err(Trouble::Away("the handshake took too long".to_owned())))?;
        for command in commands {
            let command = Message::text(command.as_str());
            stream.feed(command).await.map_err(of_socket)?;
        }
        stream.flush().await.map_err(of_socket)?;
        Ok(Self { stream })
    }

    pub(crate) async fn frames(&mut self) -> Result<Batch, Trouble> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(Batch {
                        lines: vec![text.as_str().to_owned()],
                        gap: false,
                    });
                }
                // Pings are answered by the library when it is read again.
                Some(Ok(Message::Close(_))) | None => {
                    return Err(Trouble::Away("the node closed the connection".to_owned()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(of_socket(error)),
            }
        }
    }
}

fn of_socket(error: Error) -> Trouble {
    match error {
        Error::Http(answer) => {
            let body = answer.body().as_deref().unwrap_or_default();
            trouble(answer.status(), answer.headers(), body)
        }
        Error::Io(error) => Trouble::from(error),
        error => Trouble::away(&error),
    }
}
