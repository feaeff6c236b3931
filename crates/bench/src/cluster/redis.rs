//! Publishes over one pipelined connection to Redis.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use mio::{Registry, Token};
use serde_json::json;

use super::resp::{self, Parsed, Reply};
use crate::conn::{Broken, Conn, Readiness};
use crate::failure::{Failure, RedisRefusal};
use crate::publisher::Outcome;
use crate::target::Target;

const REDIS_PORT: u16 = 6379;
const INPUT_SIZE: usize = 64 << 10;
/// Where nodes listen for PUBLISH, and what they read of XADD, unless told otherwise.
const INTAKE: &[u8] = b"__anycable__";

/// The command that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Fcall,
    Xadd,
    Publish,
}

/// A server, and what has to be said before it listens.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) target: Target,
    greeting: Vec<u8>,
    /// Replies the greeting gets.
    greeting_replies: usize,
    /// Keys and channels of nodes begin with this.
    prefix: String,
}

/// The connection.
#[derive(Debug)]
pub(super) struct RedisPublisher {
    server: Server,
    token: Token,
    conn: Option<Conn>,
    /// Commands that were not handed to the connection yet.
    queued: Vec<u8>,
    /// Replies to the greeting that have not come yet.
    greetings_left: usize,
    /// Publications whose reply has not come yet, oldest first.
    in_flight: VecDeque<usize>,
    /// The most of them.
    limit: usize,
    /// Replies that are not whole yet.
    replies: Vec<u8>,
    input: Box<[u8]>,
    /// What the server said when it first refused something.
    refusal: Option<String>,
}

impl Server {
    /// Reads `redis://[user:password@]host[:port][/db]`.
    pub(super) fn parse(url: &str, prefix: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("redis://") else {
            bail!("`{url}` is not a redis:// URL (TLS is not measured)");
        };
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let mut server = Self {
            target: Target::parse(&format!("http://{}", with_port(host)))?,
            greeting: Vec::new(),
            greeting_replies: 0,
            prefix: prefix.to_owned(),
        };
        if let Some(login) = login {
            match login.split_once(':') {
                Some(("", password)) => server.greet(&["AUTH", password]),
                Some((user, password)) => server.greet(&["AUTH", user, password]),
                None => bail!("write the login as user:password@ or :password@"),
            }
        }
        match database {
            "" | "0" => {}
            number if number.parse::<u32>().is_ok() => server.greet(&["SELECT", number]),
            other => bail!("`{other}` is no number of a database"),
        }
        Ok(server)
    }

    fn greet(&mut self, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        resp::write_command(&words, &mut self.greeting);
        self.greeting_replies += 1;
    }
}

fn with_port(host: &str) -> String {
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port {
        host.to_owned()
    } else {
        format!("{host}:{REDIS_PORT}")
    }
}

impl RedisPublisher {
    pub(super) fn new(server: Server, limit: usize, token: Token) -> Self {
        Self {
            server,
            token,
            conn: None,
            queued: Vec::new(),
            greetings_left: 0,
            in_flight: VecDeque::new(),
            limit,
            replies: Vec::new(),
            input: vec![0; INPUT_SIZE].into_boxed_slice(),
            refusal: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < self.limit
    }

    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Connects ahead of time, so that the first publication does not pay for it.
    pub(super) fn connect(&mut self, registry: &Registry) -> Result<(), Failure> {
        if self.conn.is_none() {
            let conn = Conn::open(self.server.target.addr, None, registry, self.token)
                .map_err(|error| Failure::from_io(&error))?;
            self.conn = Some(conn);
            self.greetings_left = self.server.greeting_replies;
            let greeting = self.server.greeting.iter().copied();
            self.queued.splice(0..0, greeting);
        }
        Ok(())
    }

    /// Queues a publication; [`Self::send`] sends what is queued.
    pub(super) fn queue(&mut self, verb: Verb, index: usize, stream: &str, payload: &str) {
        let out = &mut self.queued;
        // What an application writes that knows nothing of positions.
        let envelope = || json!({"stream": stream, "data": payload}).to_string();
        match verb {
            Verb::Fcall => {
                let key = format!("{}:{{{stream}}}", self.server.prefix);
                let words: [&[u8]; 5] = [
                    b"FCALL",
                    b"pollux_publish",
                    b"1",
                    key.as_bytes(),
                    payload.as_bytes(),
                ];
                resp::write_command(&words, out);
            }
            Verb::Xadd => {
                let envelope = envelope();
                let words: [&[u8]; 5] = [b"XADD", INTAKE, b"*", b"payload", envelope.as_bytes()];
                resp::write_command(&words, out);
            }
            Verb::Publish => {
                resp::write_command(&[b"PUBLISH", INTAKE, envelope().as_bytes()], out);
            }
        }
        self.in_flight.push_back(index);
    }

    /// Hands everything queued to the connection, in one piece.
    pub(super) fn send(&mut self, registry: &Registry, outcomes: impl FnMut(usize, Outcome)) {
        let sent = self
            .connect(registry)
            .map_err(Broken::Failed)
            .and_then(|()| self.send_queued());
        if let Err(broken) = sent {
            self.fail(&broken, outcomes);
        }
    }

    /// Takes in an event; `outcomes` gets the replies it brought.
    pub(super) fn on_event(
        &mut self,
        readiness: Readiness,
        mut outcomes: impl FnMut(usize, Outcome),
    ) {
        if let Err(broken) = self.advance(readiness, &mut outcomes) {
            self.fail(&broken, outcomes);
        }
    }

    fn send_queued(&mut self) -> Result<(), Broken> {
        if let Some(conn) = &mut self.conn
            && conn.is_connected()
            && !self.queued.is_empty()
        {
            conn.send(&self.queued)?;
            self.queued.clear();
        }
        Ok(())
    }

    fn advance(
        &mut self,
        readiness: Readiness,
        outcomes: &mut impl FnMut(usize, Outcome),
    ) -> Result<(), Broken> {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        if !conn.is_connected() {
            return if conn.finish_connect()? {
                self.send_queued()
            } else {
                Ok(())
            };
        }
        if readiness.writable && !conn.is_flushed() {
            conn.flush()?;
        }
        if !readiness.readable {
            return Ok(());
        }
        let ended = conn.receive_bytes(&mut self.input, readiness, &mut self.replies)?;
        self.take_replies(outcomes)?;
        if ended { Err(Broken::Closed) } else { Ok(()) }
    }

    fn take_replies(&mut self, outcomes: &mut impl FnMut(usize, Outcome)) -> Result<(), Broken> {
        let mut taken = 0;
        loop {
            let outcome = match resp::parse(&self.replies[taken..]) {
                Parsed::Partial => break,
                Parsed::Bad(reason) => return Err(Broken::Failed(Failure::BadAnswer(reason))),
                Parsed::Whole(Reply::Done, size) => {
                    taken += size;
                    Ok(())
                }
                Parsed::Whole(Reply::Error(text), size) => {
                    taken += size;
                    let text = String::from_utf8_lossy(text);
                    let refusal = RedisRefusal::of(&text);
                    self.refusal.get_or_insert_with(|| text.into_owned());
                    Err(Failure::Redis(refusal))
                }
            };
            if self.greetings_left > 0 {
                self.greetings_left -= 1;
                outcome.map_err(Broken::Failed)?;
                continue;
            }
            let Some(index) = self.in_flight.pop_front() else {
                return Err(Broken::Failed(Failure::BadAnswer("nobody asked")));
            };
            outcomes(index, outcome);
        }
        self.replies.drain(..taken);
        Ok(())
    }

    /// What is in flight will not be answered. The next publication dials again.
    fn fail(&mut self, broken: &Broken, mut outcomes: impl FnMut(usize, Outcome)) {
        self.conn = None;
        self.queued.clear();
        self.replies.clear();
        let failure = match broken {
            Broken::Closed => Failure::NoAnswer,
            Broken::Failed(failure) => *failure,
        };
        for index in self.in_flight.drain(..) {
            outcomes(index, Err(failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(url: &str) -> Result<String> {
        let server = Server::parse(url, "pollux")?;
        Ok(String::from_utf8(server.greeting)?.replace("\r\n", " "))
    }

    #[test]
    fn reads_a_url_and_says_what_it_asks_for() {
        let server = Server::parse("redis://127.0.0.1", "pollux").unwrap();
        assert_eq!(server.target.addr, "127.0.0.1:6379".parse().unwrap());
        assert_eq!(greeting("redis://127.0.0.1:7000/0").unwrap(), "");
        assert_eq!(
            greeting("redis://:p@ss@127.0.0.1/3").unwrap(),
            "*2 $4 AUTH $4 p@ss *2 $6 SELECT $1 3 "
        );
        assert_eq!(
            greeting("redis://u:p@127.0.0.1/").unwrap(),
            "*3 $4 AUTH $1 u $1 p "
        );
        for bad in [
            "rediss://127.0.0.1",
            "redis://",
            "redis://user@127.0.0.1",
            "redis://127.0.0.1/x",
        ] {
            assert!(Server::parse(bad, "pollux").is_err(), "{bad}");
        }
    }
}
