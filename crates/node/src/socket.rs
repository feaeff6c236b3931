//! A session's outbox, out through a WebSocket.
//!
//! To the session a socket is a client that always has a poll waiting. What
//! differs is only that nobody has to ask again, and that a broken socket ends
//! the session at once.

mod pace;

pub(crate) use pace::{Pace, Pings, Precision, SocketConfig};

use crate::{
    runtime::{Rejected, Runtime, resume::Restorable},
    telemetry::traces::Way,
};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::SinkExt as _;
use pollux_protocol::{DisconnectReason, Frame, action_cable::reply};
use pollux_session::{Answer, Session, Time};
use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;
use tungstenite::error::ProtocolError;

/// Normal end.
const NORMAL: u16 = 1000;
/// The server goes away.
const GOING_AWAY: u16 = 1001;
/// Something is wrong here.
const INTERNAL_ERROR: u16 = 1011;
/// What came is no WebSocket.
const PROTOCOL_ERROR: u16 = 1002;
/// What came is larger than it may be.
const TOO_BIG: u16 = 1009;
/// What came is not what was agreed on.
const INVALID: u16 = 1007;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) session: Arc<Session>,
    /// What the client had before, if it came back for it.
    pub(crate) earlier: Option<Restorable>,
    pub(crate) pace: Pace,
}

/// Why a socket ends.
#[derive(Debug)]
enum End {
    /// The client took leave.
    Left,
    /// The connection broke.
    Gone,
    /// Say this, and close.
    Close(u16, &'static str),
}

/// Says why a client may not connect, and closes.
pub(crate) async fn refuse(mut stream: WebSocket, rejected: Rejected, within: Duration) {
    let say = async {
        let Rejected::Dismissed { farewell, .. } = rejected else {
            return close(&mut stream, INTERNAL_ERROR, "Auth Error").await;
        };
        let Some(text) = text_of(&farewell) else {
            return;
        };
        if stream.send(Message::Text(text)).await.is_ok() {
            close(&mut stream, NORMAL, "Auth Failed").await;
        }
    };
    if timeout(within, say).await.is_err() {
        debug!("A refused client did not read why");
    }
}

impl Socket {
    /// Serves the client until it leaves or is sent away.
    pub(crate) async fn run(mut self, mut stream: WebSocket) {
        let earlier = self.earlier.take();
        self.runtime.welcome(&self.session, earlier).await;
        let sockets = &self.runtime.sockets;
        sockets.fetch_add(1, Ordering::Relaxed);
        let end = self.serve(&mut stream).await;
        let subscriptions = self.session.abandon(self.runtime.clock.now());
        self.runtime.detach(&self.session, subscriptions);
        self.runtime.registry.remove(self.session.secret());
        sockets.fetch_sub(1, Ordering::Relaxed);
        let goodbye = async {
            match end {
                // Reading on sends the answer to the client's close.
                End::Left => while let Some(Ok(_)) = stream.recv().await {},
                End::Close(code, reason) => close(&mut stream, code, reason).await,
                End::Gone => {}
            }
        };
        if timeout(self.pace.write_timeout, goodbye).await.is_err() {
            debug!("A client did not take leave");
        }
    }

    async fn serve(&self, stream: &mut WebSocket) -> End {
        let mut pings = self.pace.pings();
        let mut heard = Instant::now();
        let mut poll = self.session.park(Time::NEVER);
        // Said too much: what else it says stays in its socket until then.
        let mut deaf_until = None;
        loop {
            let answer =
                poll_fn(|context| poll.poll_answer(self.runtime.clock.now(), context.waker()));
            tokio::select! {
                biased;
                () = sleep_until(deaf_until.unwrap_or(heard)), if deaf_until.is_some() => {
                    deaf_until = None;
                    heard = Instant::now();
                }
                message = stream.recv(), if deaf_until.is_none() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => match self.obey(text.as_bytes()) {
                            Ok(until) => deaf_until = until,
                            Err(end) => return end,
                        },
                        Some(Ok(Message::Binary(bytes))) => match self.obey(&bytes) {
                            Ok(until) => deaf_until = until,
                            Err(end) => return end,
                        },
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Err(error)) => {
                            return match complaint(error) {
                                Some((code, reason)) => End::Close(code, reason),
                                None => End::Gone,
                            };
                        }
                        Some(Ok(Message::Close(_))) => return End::Left,
                        None => return End::Gone,
                    }
                }
                answer = answer => {
                    if let Err(end) = self.write(stream, answer).await {
                        return end;
                    }
                    poll = self.session.park(Time::NEVER);
                }
                () = pings.tick() => {
                    if deaf_until.is_none() && self.pace.is_overdue(heard) {
                        let farewell = reply::disconnect(DisconnectReason::NoPong, true);
                        return match self.send(stream, &[farewell]).await {
                            Ok(()) => End::Close(NORMAL, "No Pong"),
                            Err(end) => end,
                        };
                    }
                    let ping = match self.pace.native {
                        true => Message::Ping(bytes::Bytes::new()),
                        false => match text_of(&reply::ping(self.pace.timestamp())) {
                            Some(text) => Message::Text(text),
                            None => return End::Gone,
                        },
                    };
                    let sent = timeout(self.pace.write_timeout, stream.send(ping)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return End::Gone;
                    }
                }
            }
        }
    }

    /// Runs a message's commands. Returns until when no more are to be read.
    fn obey(&self, message: &[u8]) -> Result<Option<Instant>, End> {
        let commands = self.runtime.parse_commands(message);
        if commands.is_empty() && !is_json(message) {
            // Said by closing: the protocol has no word for it, and a socket
            // that stays open and does nothing would be worse.
            return Err(End::Close(INVALID, "Not a command"));
        }
        let lines = pollux_protocol::lines(message).count();
        let wait = self.runtime.overspend(&self.session, lines);
        if self.runtime.run_commands(&self.session, commands) {
            Ok((!wait.is_zero()).then(|| Instant::now() + wait))
        } else {
            Err(End::Close(NORMAL, "Too many commands"))
        }
    }

    async fn write(&self, stream: &mut WebSocket, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Frames {
                frames,
                waited,
                mut delivery,
                ..
            } => {
                let traces = self.runtime.traces.as_ref();
                let span =
                    traces.and_then(|traces| traces.answer(&frames, &mut delivery, Way::WebSocket));
                let metrics = &self.runtime.metrics;
                let length: usize = frames.iter().map(Frame::len).sum();
                metrics
                    .server_messages
                    .inc_by(u64::try_from(frames.len()).unwrap_or(u64::MAX));
                metrics
                    .data_sent
                    .inc_by(u64::try_from(length).unwrap_or(u64::MAX));
                if let Some(waited) = waited {
                    metrics.publish_to_answer.observe(waited, span);
                }
                self.send(stream, &frames).await?;
                delivery.flushed(self.runtime.clock.now());
                delivery.confirm();
                match frames.last().and_then(ending) {
                    Some((code, reason)) => Err(End::Close(code, reason)),
                    // A backend's last words may be any.
                    None if self.session.is_told() => Err(End::Close(NORMAL, "")),
                    None => Ok(()),
                }
            }
            Answer::Empty { .. } => Ok(()),
            Answer::Closed { .. } => {
                let farewell = reply::disconnect(DisconnectReason::TooSlow, true);
                self.send(stream, &[farewell]).await?;
                Err(End::Close(NORMAL, ""))
            }
        }
    }

    async fn send(&self, stream: &mut WebSocket, frames: &[Frame]) -> Result<(), End> {
        let send = async {
            for frame in frames {
                let text = text_of(frame).ok_or(End::Gone)?;
                let fed = stream.feed(Message::Text(text)).await;
                fed.map_err(|_| End::Gone)?;
            }
            stream.flush().await.map_err(|_| End::Gone)
        };
        match timeout(self.pace.write_timeout, send).await {
            Ok(sent) => sent,
            Err(_) => {
                self.runtime.metrics.timeout_server_messages.inc();
                Err(End::Gone)
            }
        }
    }
}

/// Says goodbye, and reads what the client still had to say.
pub(crate) async fn close(stream: &mut WebSocket, code: u16, reason: &'static str) {
    let goodbye = CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    };
    if stream.send(Message::Close(Some(goodbye))).await.is_ok() {
        while let Some(Ok(_)) = stream.recv().await {}
    }
}

/// How a socket closes whose client has broken the rules of WebSocket (RFC 6455,
/// section 7.4.1); `None` if the connection itself is broken.
pub(crate) fn complaint(error: axum::Error) -> Option<(u16, &'static str)> {
    use tungstenite::Error;

    Some(match *error.into_inner().downcast::<Error>().ok()? {
        Error::Capacity(_) => (TOO_BIG, "Message too big"),
        Error::Utf8(_) => (INVALID, "Not UTF-8"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        Error::Protocol(_) => (PROTOCOL_ERROR, "Not WebSocket"),
        _ => return None,
    })
}

/// A frame as a message. Shares the frame's bytes.
pub(crate) fn text_of(frame: &Frame) -> Option<Utf8Bytes> {
    Utf8Bytes::try_from(frame.json()).ok()
}

fn is_json(message: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(message).is_ok()
}

/// How the socket closes after a frame, if it is a last one.
fn ending(frame: &Frame) -> Option<(u16, &'static str)> {
    let json = frame.json();
    let rest = json.strip_prefix(br#"{"type":"disconnect","reason":""#)?;
    let end = rest.iter().position(|&byte| byte == b'"')?;
    Some(match rest.get(..end)? {
        b"server_restart" => (GOING_AWAY, "Server restart"),
        b"remote" => (NORMAL, "Closed remotely"),
        b"unauthorized" | b"token_expired" => (NORMAL, "Auth Failed"),
        b"no_pong" => (NORMAL, "No Pong"),
        _ => (NORMAL, ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_frames_are_told_from_others() {
        let last = |reason| ending(&reply::disconnect(reason, true));
        assert_eq!(
            last(DisconnectReason::ServerRestart),
            Some((1001, "Server restart"))
        );
        assert_eq!(
            last(DisconnectReason::Remote),
            Some((1000, "Closed remotely"))
        );
        assert_eq!(last(DisconnectReason::TooSlow), Some((1000, "")));
        assert_eq!(ending(&reply::pong()), None);
    }
}
