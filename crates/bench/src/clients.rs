//! `clients`: hold WebSocket and event-stream clients and weigh the server.
//!
//! Polls have `idle`. These clients ask once, and then only listen, so each is a connection, a
//! request to write once it is there, and words to wait for.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use mio::{Events, Poll, Token};
use serde::Serialize;

use crate::cli::ClientsArgs;
use crate::conn::{Broken, Conn, Readiness};
use crate::driver::Context;
use crate::limits::{self, Sources};
use crate::report::Report;
use crate::server::Processes;
use crate::swarm::{EVENTS_PER_TURN, INPUT_SIZE};
use crate::table::{Table, grouped, size};
use crate::target::Target;
use crate::weigh::{MemoryReport, Moment, Weights};

/// Clients that are connecting at the same time.
const OPENING: usize = 128;
/// How long one turn waits.
const TURN: Duration = Duration::from_millis(20);
/// What a subscription's confirmation has in it.
const CONFIRMED: &[u8] = b"confirm_subscription";
/// What is published once to all, and waited for.
const WORD: &[u8] = b"weighed-and-found-wanting";
/// The end of what was received is kept, because a word may come in pieces.
const TAIL: usize = 64;
/// A key as the handshake asks for; nothing depends on it.
const KEY: &str = "cG9sbHV4LWJlbmNoLWNsaWVudA==";

/// How clients are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// Action Cable over WebSocket.
    Cable,
    /// Server-sent events.
    Events,
}

impl Transport {
    const fn path(self) -> &'static str {
        match self {
            Self::Cable => "/cable",
            Self::Events => "/events",
        }
    }

    /// What a client says when it is connected. A WebSocket client does not wait for the end of
    /// the handshake: what follows it is read after it.
    fn hello(self, target: &Target, stream: &str) -> Vec<u8> {
        let Target {
            authority, path, ..
        } = target;
        match self {
            Self::Events => format!(
                "GET {path}?stream={stream} HTTP/1.1\r\nHost: {authority}\r\n\
                 Accept: text/event-stream\r\n\r\n"
            )
            .into_bytes(),
            Self::Cable => {
                let mut hello = format!(
                    "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: {KEY}\r\n\
                     Sec-WebSocket-Protocol: actioncable-v1-json\r\n\r\n"
                )
                .into_bytes();
                let identifier = format!(r#"{{"channel":"$pubsub","stream_name":"{stream}"}}"#);
                let command = serde_json::json!({"command": "subscribe", "identifier": identifier});
                push_frame(&mut hello, command.to_string().as_bytes());
                hello
            }
        }
    }
}

/// A text frame, masked with zeros, which is allowed and costs nothing.
fn push_frame(out: &mut Vec<u8>, text: &[u8]) {
    const FINAL_TEXT: u8 = 0x81;
    const MASKED: u8 = 0x80;
    const SIXTEEN_BITS: u8 = 126;
    out.push(FINAL_TEXT);
    match u8::try_from(text.len()) {
        Ok(short) if short < SIXTEEN_BITS => out.push(MASKED | short),
        _ => {
            out.push(MASKED | SIXTEEN_BITS);
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(text);
}

/// The result. Its field names are the keys of the JSON report and stay as they are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClientsReport {
    command: &'static str,
    version: &'static str,
    url: String,
    transport: Transport,
    clients: usize,
    confirmed: usize,
    delivered: usize,
    broken: usize,
    hold_seconds: f64,
    memory_bytes: Option<MemoryReport>,
}

impl ClientsReport {
    pub(crate) const fn is_clean(&self) -> bool {
        self.confirmed == self.clients && self.delivered == self.clients && self.broken == 0
    }
}

impl Report for ClientsReport {
    fn table(&self) -> Table {
        let count = |number: usize| grouped(u64::try_from(number).unwrap_or(u64::MAX));
        let mut table = Table::default();
        let transport = format!("{:?}", self.transport).to_lowercase();
        table.row("server", format!("{} ({transport})", self.url));
        table.row("clients", count(self.clients));
        table.row("subscribed", count(self.confirmed));
        table.row("got the message", count(self.delivered));
        table.row("broken", count(self.broken));
        if let Some(memory) = &self.memory_bytes {
            table.gap();
            let each = |bytes: Option<i64>| {
                bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{bytes} bytes"))
            };
            table.row(
                "memory before",
                size(i64::try_from(memory.before).unwrap_or(i64::MAX)),
            );
            table.row("each client, waiting", each(memory.per_poll_parked));
            table.row(
                "each, after a message",
                each(memory.per_poll_after_delivery),
            );
            table.row("each, at the end", each(memory.per_poll_end));
        }
        table
    }
}

/// One client.
struct Client {
    conn: Option<Conn>,
    said: bool,
    tail: Vec<u8>,
    confirmed: bool,
    delivered: bool,
}

struct Crowd {
    poll: Poll,
    events: Events,
    target: Target,
    sources: Sources,
    hello: Vec<u8>,
    clients: Vec<Client>,
    input: Box<[u8]>,
    fresh: Vec<u8>,
    started: usize,
    confirmed: usize,
    delivered: usize,
    broken: usize,
}

impl Crowd {
    fn turn(&mut self) -> Result<()> {
        while self.started < self.clients.len()
            && self.started - self.confirmed - self.broken < OPENING
        {
            let index = self.started;
            self.started += 1;
            let source = self.sources.of(index);
            let opened = Conn::open(self.target.addr, source, self.poll.registry(), Token(index));
            match opened {
                Ok(conn) => self.clients[index].conn = Some(conn),
                Err(_) => self.broken += 1,
            }
        }
        match self.poll.poll(&mut self.events, Some(TURN)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("epoll failed")?,
        }
        let happened: Vec<_> = self
            .events
            .iter()
            .map(|event| (event.token().0, Readiness::from(event)))
            .collect();
        for (index, readiness) in happened {
            if self.serve(index, readiness).is_err() && self.clients[index].conn.take().is_some() {
                self.broken += 1;
            }
        }
        Ok(())
    }

    fn serve(&mut self, index: usize, readiness: Readiness) -> Result<(), Broken> {
        let client = &mut self.clients[index];
        let Some(conn) = &mut client.conn else {
            return Ok(());
        };
        if !conn.is_connected() && !conn.finish_connect()? {
            return Ok(());
        }
        if !client.said {
            client.said = true;
            conn.send(&self.hello)?;
        } else if !conn.is_flushed() {
            conn.flush()?;
        }
        self.fresh.clear();
        let ended = conn.receive_bytes(&mut self.input, readiness, &mut self.fresh)?;
        client.tail.extend_from_slice(&self.fresh);
        if !client.confirmed && contains(&client.tail, CONFIRMED) {
            client.confirmed = true;
            self.confirmed += 1;
        }
        if !client.delivered && contains(&client.tail, WORD) {
            client.delivered = true;
            self.delivered += 1;
        }
        let keep = client.tail.len().saturating_sub(TAIL);
        client.tail.drain(..keep);
        client.tail.shrink_to(TAIL);
        if ended { Err(Broken::Closed) } else { Ok(()) }
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

/// Runs to the end, or until Ctrl-C.
pub(crate) fn run(args: &ClientsArgs, context: &Context) -> Result<ClientsReport> {
    let base = Target::parse(&args.url)?;
    let path = args
        .path
        .as_deref()
        .unwrap_or_else(|| args.transport.path());
    let count = usize::try_from(args.clients)?;
    limits::make_room_for(count)?;
    let target = base.join(path);
    target.check_somebody_listens()?;
    let processes = Processes::find(&args.server_pids)?;
    let mut crowd = Crowd {
        poll: Poll::new()?,
        events: Events::with_capacity(EVENTS_PER_TURN),
        sources: Sources::plan(target.addr, count),
        hello: args.transport.hello(&target, &args.stream),
        clients: (0..count)
            .map(|_| Client {
                conn: None,
                said: false,
                tail: Vec::new(),
                confirmed: false,
                delivered: false,
            })
            .collect(),
        target,
        input: vec![0; INPUT_SIZE].into_boxed_slice(),
        fresh: Vec::new(),
        started: 0,
        confirmed: 0,
        delivered: 0,
        broken: 0,
    };
    let mut weights = Weights::default();
    weights.sample(Moment::Before, &processes);
    until(&mut crowd, context, args.timeout, |crowd| {
        crowd.confirmed + crowd.broken >= count
    })?;
    weights.sample(Moment::Parked, &processes);
    publish(&base.join("/_broadcast"), &args.stream)?;
    until(&mut crowd, context, args.timeout, |crowd| {
        crowd.delivered + crowd.broken >= count
    })?;
    weights.sample(Moment::AfterDelivery, &processes);
    let end = context.clock.now().plus(args.hold);
    while context.clock.now() < end && !context.stop.is_asked() {
        crowd.turn()?;
    }
    weights.sample(Moment::End, &processes);
    Ok(ClientsReport {
        command: "clients",
        version: env!("CARGO_PKG_VERSION"),
        url: args.url.clone(),
        transport: args.transport,
        clients: count,
        confirmed: crowd.confirmed,
        delivered: crowd.delivered,
        broken: crowd.broken,
        hold_seconds: args.hold.as_secs_f64(),
        memory_bytes: weights.report(count),
    })
}

fn until(
    crowd: &mut Crowd,
    context: &Context,
    timeout: Duration,
    is_done: impl Fn(&Crowd) -> bool,
) -> Result<()> {
    let mut give_up = context.clock.now().plus(timeout);
    let mut before = 0;
    while !is_done(crowd) {
        crowd.turn()?;
        let now = context.clock.now();
        let after = crowd.confirmed + crowd.delivered + crowd.broken;
        if after > before {
            (before, give_up) = (after, now.plus(timeout));
        }
        if now > give_up || context.stop.is_asked() {
            bail!(
                "given up: of {} clients {} are subscribed, {} have the message, {} are broken",
                crowd.clients.len(),
                crowd.confirmed,
                crowd.delivered,
                crowd.broken
            );
        }
    }
    Ok(())
}

/// Publishes the word, and waits for the answer.
fn publish(target: &Target, stream: &str) -> Result<()> {
    use std::io::{Read as _, Write as _};

    let word = String::from_utf8_lossy(WORD);
    let body = serde_json::json!({"stream": stream, "data": format!("\"{word}\"")}).to_string();
    let mut socket = std::net::TcpStream::connect(target.addr)?;
    write!(
        socket,
        "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        target.path,
        target.authority,
        body.len()
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or("no answer");
    if status != "201" {
        bail!("the publication was refused: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_masked_and_have_their_length() {
        let mut short = Vec::new();
        push_frame(&mut short, b"hi");
        assert_eq!(short, [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        let mut long = Vec::new();
        push_frame(&mut long, &[b'x'; 200]);
        assert_eq!(long[..8], [0x81, 0xFE, 0, 200, 0, 0, 0, 0]);
        assert_eq!(long.len(), 208);
    }

    #[test]
    fn words_are_found() {
        assert!(contains(b"xx{\"type\":\"confirm_subscription\"", CONFIRMED));
        assert!(!contains(b"confirm", CONFIRMED));
    }
}
