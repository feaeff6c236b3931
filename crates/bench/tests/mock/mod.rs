//! A small long-poll server with bad habits, one thread per connection.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

const HOLD: Duration = Duration::from_millis(150);
/// Between the two halves of an answer: long enough to arrive apart.
const PIECE_PAUSE: Duration = Duration::from_millis(1);
/// Every so many answers are followed by closing the connection.
const CLOSE_EVERY: u64 = 7;

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Nothing, but answers come in pieces and connections close now and then.
    Rough,
    /// One session misses every third message.
    Loses,
    /// Every message is sent twice.
    Repeats,
    /// Nobody is let in.
    Refuses,
    /// Nobody may subscribe.
    Rejects,
    /// Publishing fails.
    Unpublishable,
}

/// A running server. It ends with the test process.
#[derive(Debug)]
pub(crate) struct Mock {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    habit: Habit,
    state: Mutex<State>,
    frames: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    parked: u64,
    answers: u64,
    /// Polls that sent back a cursor.
    cursors: u64,
}

#[derive(Debug, Default)]
struct Session {
    identifier: String,
    stream: String,
    frames: VecDeque<String>,
    messages: u64,
}

#[derive(Debug, Default)]
struct Request {
    path: String,
    poll_id: Option<String>,
    has_cursor: bool,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    fields: String,
    body: String,
}

impl Mock {
    pub(crate) fn start(habit: Habit) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            habit,
            state: Mutex::default(),
            frames: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Ok(Self { addr, shared })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Polls that sent back a cursor.
    pub(crate) fn cursors(&self) -> u64 {
        self.shared.state.lock().cursors
    }
}

impl Shared {
    /// Answers until the client or a habit ends the connection.
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Ok(Some(request)) = read_request(&mut reader) {
            let answer = self.answer(&request);
            let closes = self.count_answer() && request.path == "/lp";
            if write_answer(stream, &answer, closes).is_err() || closes {
                return;
            }
        }
    }

    /// True if this answer is one after which to close.
    fn count_answer(&self) -> bool {
        let mut state = self.state.lock();
        state.answers += 1;
        state.answers.is_multiple_of(CLOSE_EVERY)
    }

    fn answer(&self, request: &Request) -> Answer {
        match (request.path.as_str(), self.habit) {
            ("/metrics", _) => {
                let parked = self.state.lock().parked;
                plain("200 OK", format!("pollux_parked_polls {parked}\n"))
            }
            ("/_broadcast", Habit::Unpublishable) => plain("501 No", String::new()),
            ("/_broadcast", _) => self.broadcast(&request.body),
            ("/lp", Habit::Refuses) => plain("401 Unauthorized", String::new()),
            ("/lp", _) => match &request.poll_id {
                None => self.open(&request.body),
                Some(id) => self.poll(id, request.has_cursor),
            },
            _ => plain("404 Not Found", String::new()),
        }
    }

    fn open(&self, body: &[u8]) -> Answer {
        let command: Value = serde_json::from_slice(body).unwrap_or_default();
        let identifier = command["identifier"].as_str().unwrap_or_default();
        let parsed: Value = serde_json::from_str(identifier).unwrap_or_default();
        let stream = parsed["stream_name"].as_str().unwrap_or_default();
        if command["command"] != "subscribe" || parsed["channel"] != "$pubsub" {
            return plain("400 Bad Request", String::new());
        }
        let kind = match self.habit {
            Habit::Rejects => "reject_subscription",
            _ => "confirm_subscription",
        };
        let confirm = format!("{}\n", json!({"type": kind, "identifier": identifier}));
        let mut body = "{\"type\":\"welcome\",\"sid\":\"s\"}\n".to_owned();
        let mut state = self.state.lock();
        let number = state.sessions.len();
        let mut session = Session {
            identifier: identifier.to_owned(),
            stream: stream.to_owned(),
            ..Session::default()
        };
        // Every other session hears of its subscription only by its first poll.
        if number.is_multiple_of(2) {
            body.push_str(&confirm);
        } else {
            session.frames.push_back(confirm);
        }
        let id = format!("route.{number}");
        state.sessions.insert(id.clone(), session);
        Answer {
            status: "200 OK",
            fields: format!("X-Anycable-Poll-ID: {id}\r\nPollux-Cursor: 1\r\n"),
            body,
        }
    }

    fn poll(&self, id: &str, has_cursor: bool) -> Answer {
        let mut state = self.state.lock();
        state.cursors += u64::from(has_cursor);
        state.parked += 1;
        let mut timed_out = false;
        loop {
            let Some(session) = state.sessions.get_mut(id) else {
                state.parked -= 1;
                return plain("401 Unauthorized", String::new());
            };
            if timed_out || !session.frames.is_empty() {
                let body: String = session.frames.drain(..).collect();
                state.parked -= 1;
                let status = if body.is_empty() {
                    "204 No Content"
                } else {
                    "200 OK"
                };
                return Answer {
                    status,
                    fields: "Pollux-Cursor: 2\r\n".to_owned(),
                    body,
                };
            }
            timed_out = self.frames.wait_for(&mut state, HOLD).timed_out();
        }
    }

    fn broadcast(&self, body: &[u8]) -> Answer {
        let publication: Value = serde_json::from_slice(body).unwrap_or_default();
        let data = publication["data"].as_str().unwrap_or_default();
        let message: Value = serde_json::from_str(data).unwrap_or_default();
        let mut state = self.state.lock();
        for (number, session) in state.sessions.values_mut().enumerate() {
            if publication["stream"] != session.stream.as_str() {
                continue;
            }
            session.messages += 1;
            if self.habit == Habit::Loses && number == 0 && session.messages % 3 == 0 {
                continue;
            }
            let frame = json!({"identifier": session.identifier, "message": message});
            session.frames.push_back(format!("{frame}\n"));
            if self.habit == Habit::Repeats {
                session.frames.push_back(format!("{frame}\n"));
            }
        }
        drop(state);
        self.frames.notify_all();
        plain("201 Created", String::new())
    }
}

fn plain(status: &'static str, body: String) -> Answer {
    Answer {
        status,
        fields: String::new(),
        body,
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut request = Request::default();
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1);
    request.path = path.unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name {
            "Content-Length" => length = value.parse().unwrap_or(0),
            "X-Anycable-Poll-ID" => request.poll_id = Some(value.to_owned()),
            "Pollux-Cursor" => request.has_cursor = true,
            _ => {}
        }
    }
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

fn write_answer(mut stream: &TcpStream, answer: &Answer, closes: bool) -> io::Result<()> {
    let connection = if closes { "Connection: close\r\n" } else { "" };
    let bytes = format!(
        "HTTP/1.1 {}\r\n{}{connection}Content-Length: {}\r\n\r\n{}",
        answer.status,
        answer.fields,
        answer.body.len(),
        answer.body
    );
    let (first, second) = bytes.as_bytes().split_at(bytes.len() / 2);
    stream.write_all(first)?;
    thread::sleep(PIECE_PAUSE);
    stream.write_all(second)
}
