//! Messages of streams, over any transport, in spite of connections that break.
//!
//! The rule that nothing is lost or told twice has two halves. While a session lives, polls say
//! with their cursor what has arrived, so that lost answers come again. When it is gone, another
//! one is opened with the `sid` of the last and asks for what came behind the positions that were
//! had; `Progress` knows them.

use crate::{
    Message, Trouble, Wire,
    backoff::Backoff,
    polls::Polls,
    progress::{Progress, Taken},
    socket::Socket,
    sse::Events,
};
use ::http::{HeaderName, HeaderValue};
use std::{collections::VecDeque, time::Duration};
use tokio::time::{sleep, timeout};

/// Says which session is to be restored.
const RESTORE: HeaderName = HeaderName::from_static("x-anycable-restore-sid");

/// A node that pings and then is silent for so long is away: some proxies keep a connection open
/// whose other end is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// By what way messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `POST /lp`.
    LongPoll,
    /// `GET /cable`.
    WebSocket,
    /// `POST /events`.
    Events,
}

/// What to subscribe to.
#[derive(Clone, Debug)]
pub struct Wish {
    /// By what way.
    pub transport: Transport,
    /// The door's path.
    pub path: String,
    /// The subscriptions' identifiers, each with its stream where that is known.
    pub subscriptions: Vec<(String, Option<String>)>,
}

/// What a subscriber has to say.
#[derive(Debug)]
pub enum Said {
    /// A message came.
    Message(Box<Message>),
    /// All subscriptions are confirmed, for the first time or again.
    Ready,
    /// The node is away. It is tried again until it is back.
    Away(String),
    /// Messages may have been lost: the node does not keep as much.
    Gap,
}

/// Frames that came together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) lines: Vec<String>,
    /// Frames were lost before these.
    pub(crate) gap: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Subscriber {
    wire: Wire,
    wish: Wish,
    progress: Progress,
    link: Option<Link>,
    backoff: Backoff,
    /// What is yet to be said.
    queue: VecDeque<Said>,
    /// What ends it all, after that.
    refusal: Option<Trouble>,
    /// How long to wait before the next try.
    wait: Option<Duration>,
    /// Whether it was said that the node is away.
    is_away: bool,
    /// Whether the node pings, so that its silence means something.
    pings: bool,
}

#[derive(Debug)]
enum Link {
    Polls(Box<Polls>),
    Socket(Box<Socket>),
    Events(Box<Events>),
}

impl Subscriber {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(wire: Wire, mut wish: Wish) -> Self {
        let subscriptions = std::mem::take(&mut wish.subscriptions);
        Self {
            wire,
            wish,
            progress: Progress::new(subscriptions),
            link: None,
            backoff: Backoff::default(),
            queue: VecDeque::new(),
            refusal: None,
            wait: None,
            is_away: false,
            pings: false,
        }
    }

    /// What there is to say next. Waits for it without end.
    ///
    /// # Errors
    /// The node refuses: [`Trouble::Refused`].
    pub async fn next(&mut self) -> Result<Said, Trouble> {
        loop {
            if let Some(said) = self.queue.pop_front() {
                return Ok(said);
            }
            if let Some(refusal) = self.refusal.take() {
                return Err(refusal);
            }
            if let Some(wait) = self.wait.take() {
                sleep(wait).await;
            }
            let arrived = match self.link {
                Some(_) => self.receive().await,
                None => self.open().await,
            };
            let ended = match arrived {
                Ok(batch) => self.digest(batch),
                Err(trouble) => Err(trouble),
            };
            if let Err(trouble) = ended {
                self.note(trouble);
            }
        }
    }

    async fn open(&mut self) -> Result<Batch, Trouble> {
        let commands = self.progress.commands();
        let sid = self.progress.sid.as_deref();
        let sid = sid.and_then(|sid| HeaderValue::from_str(sid).ok());
        let more: Vec<_> = sid.map(|sid| (RESTORE, sid)).into_iter().collect();
        let (wire, path) = (&self.wire, self.wish.path.as_str());
        self.pings = false;
        let (link, batch) = match self.wish.transport {
            Transport::LongPoll => {
                let (polls, batch) = Polls::open(wire, path, &more, &commands).await?;
                (Link::Polls(Box::new(polls)), batch)
            }
            Transport::WebSocket => {
                let socket = Socket::open(wire, path, &more, &commands).await?;
                (Link::Socket(Box::new(socket)), Batch::default())
            }
            Transport::Events => {
                let events = Events::open(wire, path, &commands).await?;
                (Link::Events(Box::new(events)), Batch::default())
            }
        };
        self.link = Some(link);
        Ok(batch)
    }

    async fn receive(&mut self) -> Result<Batch, Trouble> {
        let frames = async {
            match &mut self.link {
                Some(Link::Polls(polls)) => polls.frames().await,
                Some(Link::Socket(socket)) => socket.frames().await,
                Some(Link::Events(events)) => events.frames().await,
                None => Ok(Batch::default()),
            }
        };
        if !self.pings {
            return frames.await;
        }
        timeout(SILENCE_MAX, frames)
            .await
            .unwrap_or_else(|_| Err(Trouble::Away("the node has fallen silent".to_owned())))
    }

    fn digest(&mut self, batch: Batch) -> Result<(), Trouble> {
        if batch.gap {
            self.queue.push_back(Said::Gap);
        }
        for line in &batch.lines {
            match self.progress.take(line)? {
                Taken::Message(message) => self.queue.push_back(Said::Message(message)),
                Taken::Ready => self.queue.push_back(Said::Ready),
                Taken::Gap => self.queue.push_back(Said::Gap),
                Taken::Ping => self.pings = true,
                Taken::Nothing => {}
            }
        }
        if !batch.lines.is_empty() || matches!(self.link, Some(Link::Polls(_))) {
            self.backoff.reset();
            self.is_away = false;
        }
        Ok(())
    }

    fn note(&mut self, trouble: Trouble) {
        let (why, after) = match trouble {
            Trouble::Refused { .. } => {
                self.refusal = Some(trouble);
                return;
            }
            Trouble::Over => {
                self.link = None;
                (None, None)
            }
            Trouble::Away(why) => (Some(why), None),
            Trouble::Busy { why, after } => (Some(why), after),
        };
        // A polled session outlives its connections; the others don't.
        if !matches!(self.link, Some(Link::Polls(_))) {
            self.link = None;
        }
        self.wait = Some(self.backoff.next(after));
        if let Some(why) = why.filter(|_| !self.is_away) {
            self.is_away = true;
            self.queue.push_back(Said::Away(why));
        }
    }
}
