//! A room's WebSocket.

use super::{
    RoomDoor,
    chat::{Ask, Seat},
    error,
};
use crate::{
    http::{
        listener::{Heard, Listener},
        visitor::{self, Refusal},
    },
    rooms::{Rooms, stream_of_room},
    runtime::voice,
    server::Counted,
    socket::{Pings, close, complaint, text_of},
};
use axum::extract::{
    FromRequestParts as _, Request, WebSocketUpgrade,
    ws::{Message, Utf8Bytes, WebSocket},
};
use futures_util::SinkExt as _;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use pollux_broker::BrokerError;
use pollux_protocol::{
    Frame, Identifier, RoomMessage, StreamName,
    room::{BROADCAST, text_object},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// Messages over the limit are read up to so many times the limit, so that
/// their sender can be told.
const READ_FACTOR: usize = 16;

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;

/// The operator's rules for rooms' sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomSocketConfig {
    /// Between two pings; zero for none.
    pub(crate) ping_interval: Duration,
    /// How long a client may be silent; zero for ever.
    pub(crate) idle_timeout: Duration,
    /// For one write.
    pub(crate) write_timeout: Duration,
    /// Bytes of one message of a client.
    pub(crate) max_message_size: usize,
    /// Bytes that may wait for a client.
    pub(crate) max_pending: usize,
}

/// One client.
struct RoomSocket {
    rooms: Arc<Rooms>,
    listener: Listener,
    config: RoomSocketConfig,
    /// Whether it may publish, and not only listen.
    may_send: bool,
    /// Rooms it is in, the last one joined last.
    seats: Vec<Seat>,
}

/// Why a socket ends.
enum End {
    /// The client left in good order.
    Left,
    /// The connection broke, or takes nothing.
    Broken,
    /// Say this.
    Close(u16, &'static str),
}

impl RoomDoor {
    /// Serves the handshake of one socket.
    pub(crate) async fn connect(&self, request: Request) -> Response<axum::body::Body> {
        match self.upgrade(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.map(axum::body::Body::new),
        }
    }

    async fn upgrade(&self, request: Request) -> Result<Response<axum::body::Body>, Refusal> {
        let (mut head, _body) = request.into_parts();
        visitor::check_origin(&self.origins, &head.headers)?;
        let upgrade = handshake(&mut head).await?;
        let client = visitor::admit(&self.rooms.runtime, &head).await?;
        let may_send = self.publishers.admit(&head.headers).is_ok();
        let source = visitor::source(&self.rooms.runtime, &head);
        let listener = Listener::open(&self.rooms.runtime, client, source)
            .ok_or_else(|| Box::new(visitor::busy()))?;
        let config = self.socket;
        let largest = config.max_message_size.saturating_mul(READ_FACTOR);
        let socket = RoomSocket {
            rooms: Arc::clone(&self.rooms),
            listener,
            config,
            may_send,
            seats: Vec::new(),
        };
        // It counts as a connection for as long as it lives.
        let counted = head.extensions.remove::<Arc<Counted>>();
        let tasks = self.rooms.runtime.tasks.clone();
        let upgrade = upgrade
            .read_buffer_size(4_096)
            .write_buffer_size(0)
            .max_write_buffer_size(config.max_pending)
            .max_message_size(largest)
            .max_frame_size(largest);
        Ok(upgrade.on_upgrade(move |stream| {
            tasks.track_future(async move {
                Box::pin(socket.run(stream)).await;
                drop(counted);
            })
        }))
    }
}

/// Reads a handshake. Any subprotocol may be offered; none is chosen.
async fn handshake(head: &mut Parts) -> Result<WebSocketUpgrade, Refusal> {
    let asks = head.headers.contains_key(header::UPGRADE);
    if head.method != Method::GET || !asks {
        let reason = "this path speaks WebSocket";
        let mut refusal = error(StatusCode::UPGRADE_REQUIRED, reason);
        let headers = refusal.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return Err(refusal);
    }
    let key = head.headers.get(header::SEC_WEBSOCKET_KEY);
    if key.is_none_or(HeaderValue::is_empty) {
        return Err(error(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key"));
    }
    // Only if it is there must it be this one.
    let version = head.headers.entry(header::SEC_WEBSOCKET_VERSION);
    version.or_insert(HeaderValue::from_static("13"));
    let upgrade = WebSocketUpgrade::from_request_parts(head, &()).await;
    upgrade.map_err(|_| error(StatusCode::BAD_REQUEST, "not a WebSocket handshake"))
}

/// The name under which a stream is listened to.
fn voice_of(stream: &StreamName) -> Option<Identifier> {
    Identifier::try_new(&format!("{}{stream}", voice::ROOM)).ok()
}

impl RoomSocket {
    async fn run(mut self, mut stream: WebSocket) {
        let rooms = Arc::clone(&self.rooms);
        let (counts, sockets) = (&rooms.counts, &rooms.runtime.sockets);
        counts.connections.fetch_add(1, Ordering::Relaxed);
        counts.active.fetch_add(1, Ordering::Relaxed);
        sockets.fetch_add(1, Ordering::Relaxed);
        let end = match self.listen(BROADCAST).await {
            Ok(()) => self.serve(&mut stream).await,
            Err(error) => {
                debug!(%error, "A socket heard nothing");
                End::Close(GOING_AWAY, "Try again")
            }
        };
        // Leaves all rooms.
        drop(self.listener);
        counts.active.fetch_sub(1, Ordering::Relaxed);
        sockets.fetch_sub(1, Ordering::Relaxed);
        let goodbye = async {
            match end {
                End::Close(code, reason) => close(&mut stream, code, reason).await,
                // The echo of its farewell leaves while more is read.
                End::Left => while let Some(Ok(_)) = stream.recv().await {},
                End::Broken => {
                    counts.errors.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        if timeout(self.config.write_timeout, goodbye).await.is_err() {
            debug!("A client did not take leave");
        }
    }

    async fn serve(&mut self, stream: &mut WebSocket) -> End {
        let RoomSocketConfig {
            ping_interval,
            idle_timeout,
            ..
        } = self.config;
        let or_never = |time: Duration| if time.is_zero() { NEVER } else { time };
        let mut pings = Pings::every(or_never(ping_interval));
        let mut heard = Instant::now();
        // Said too much: what else it says stays in its socket until then.
        let mut deaf_until = None;
        loop {
            let silent = sleep_until(heard + or_never(idle_timeout));
            tokio::select! {
                biased;
                () = sleep_until(deaf_until.unwrap_or(heard)), if deaf_until.is_some() => {
                    deaf_until = None;
                    heard = Instant::now();
                }
                message = stream.recv(), if deaf_until.is_none() => {
                    heard = Instant::now();
                    if let Some(Ok(Message::Text(_) | Message::Binary(_))) = &message {
                        let wait = self.listener.overspend();
                        deaf_until = (!wait.is_zero()).then(|| heard + wait);
                    }
                    let said = match message {
                        Some(Ok(Message::Text(text))) => self.hear(stream, text.as_bytes()).await,
                        Some(Ok(Message::Binary(bytes))) => self.hear(stream, &bytes).await,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        Some(Ok(Message::Close(_))) => Err(End::Left),
                        Some(Err(error)) => Err(match complaint(error) {
                            Some((code, reason)) => End::Close(code, reason),
                            None => End::Broken,
                        }),
                        None => Err(End::Broken),
                    };
                    if let Err(end) = said {
                        return end;
                    }
                }
                frames = self.listener.next(Instant::now() + NEVER) => match frames {
                    Heard::Frames(frames) => {
                        let frames = frames.iter().filter_map(text_of);
                        if let Err(end) = self.write(stream, frames.collect()).await {
                            return end;
                        }
                    }
                    Heard::Nothing => {}
                    Heard::Over if self.rooms.runtime.is_draining() => {
                        return End::Close(GOING_AWAY, "Server restart");
                    }
                    Heard::Over => {
                        self.rooms.counts.errors.fetch_add(1, Ordering::Relaxed);
                        return End::Close(POLICY, "Too slow, or closed remotely");
                    }
                },
                () = pings.tick() => {
                    let ping = stream.send(Message::Ping(bytes::Bytes::new()));
                    if !matches!(timeout(self.config.write_timeout, ping).await, Ok(Ok(()))) {
                        return End::Broken;
                    }
                }
                () = silent, if deaf_until.is_none() => return End::Close(NORMAL, "Idle"),
            }
        }
    }

    async fn write(&self, stream: &mut WebSocket, texts: Vec<Utf8Bytes>) -> Result<(), End> {
        let count = u64::try_from(texts.len()).unwrap_or(u64::MAX);
        let send = async {
            for text in texts {
                stream.feed(Message::Text(text)).await?;
            }
            stream.flush().await
        };
        match timeout(self.config.write_timeout, send).await {
            Ok(Ok(())) => {
                self.rooms.counts.sent.fetch_add(count, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(_)) => Err(End::Broken),
            Err(_) => {
                self.rooms.runtime.metrics.timeout_server_messages.inc();
                Err(End::Broken)
            }
        }
    }

    /// Does what a message asks for. One that is not typed asks for nothing.
    async fn hear(&mut self, stream: &mut WebSocket, text: &[u8]) -> Result<(), End> {
        if text.len() > self.config.max_message_size {
            return Err(End::Close(TOO_BIG, "Message too big"));
        }
        self.rooms.counts.received.fetch_add(1, Ordering::Relaxed);
        let Some(message) = RoomMessage::parse(text) else {
            return Ok(());
        };
        let done = match Ask::of(message, &self.seats) {
            Ask::Send(_) | Ask::Tell(_) if !self.may_send => {
                let reason = text_object(&[("error", "this client may not publish")]);
                return self
                    .reply(stream, &RoomMessage::new("chat.error", reason))
                    .await;
            }
            Ask::Send(message) => self.send(message).await,
            Ask::Join(seat) => self.join(seat).await,
            Ask::Leave(room) => return self.leave(stream, room).await,
            Ask::Tell(message) => {
                self.rooms.forward(&message).await;
                Ok(())
            }
            Ask::Answer(text) => {
                return self.write(stream, vec![Utf8Bytes::from_static(text)]).await;
            }
            Ask::Numbers => {
                let numbers = self.rooms.counts.snapshot();
                let text =
                    format!("{{\"payload\":{numbers},\"type\":\"system.metrics.snapshot\"}}");
                return self.write(stream, vec![text.into()]).await;
            }
            Ask::Nothing => Ok(()),
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => {
                // The sender can try again, so it should know.
                let payload = text_object(&[("error", &error.to_string())]);
                self.reply(stream, &RoomMessage::new("chat.error", payload))
                    .await
            }
        }
    }

    async fn reply(&self, stream: &mut WebSocket, message: &RoomMessage) -> Result<(), End> {
        let text = text_of(&Frame::from_json(message.to_frame()));
        self.write(stream, text.into_iter().collect()).await
    }

    async fn send(&self, message: RoomMessage) -> Result<(), BrokerError> {
        let session = self.rooms.resolver.resolve(&message);
        let session = session.map_err(|_| BrokerError::Stream("its name is too long"))?;
        if message.to_json().len() > self.rooms.runtime.max_publication_size {
            return Err(BrokerError::Stream("the message is too large"));
        }
        self.rooms.send(session, &message).await
    }

    async fn listen(&mut self, stream: &str) -> Result<(), BrokerError> {
        let wrong = || BrokerError::Stream("its name is too long");
        let stream = StreamName::try_new(stream).map_err(|_| wrong())?;
        let voice = voice_of(&stream).ok_or_else(wrong)?;
        self.listener.listen(&voice, &stream).await
    }

    async fn join(&mut self, seat: Seat) -> Result<(), BrokerError> {
        let wrong = |_| BrokerError::Stream("its name is too long");
        let stream = stream_of_room(&seat.room).map_err(wrong)?;
        self.listen(stream.as_str()).await?;
        self.seats.retain(|known| known.room != seat.room);
        for message in seat.joined().iter().filter(|_| self.may_send) {
            self.rooms.forward(message).await;
        }
        self.seats.push(seat);
        Ok(())
    }

    async fn leave(&mut self, stream: &mut WebSocket, room: Option<String>) -> Result<(), End> {
        let at = match room {
            Some(room) => self.seats.iter().position(|seat| seat.room == room),
            None => self.seats.len().checked_sub(1),
        };
        let Some(at) = at else {
            return Ok(());
        };
        let seat = self.seats.remove(at);
        if let Some(voice) = stream_of_room(&seat.room).ok().as_ref().and_then(voice_of) {
            self.listener.unlisten(&voice);
        }
        for message in seat.left() {
            if self.may_send {
                self.rooms.forward(&message).await;
            }
            // Whoever left is told, but not by the room.
            self.reply(stream, &message).await?;
        }
        Ok(())
    }
}
