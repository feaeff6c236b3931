//! Which streams this node is interested in, and what it knows of each.

use super::{link::LinkId, state::State};
use parking_lot::{Mutex, MutexGuard};
use pollux_protocol::{Position, StreamName};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// How far a stream's channel is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No link was asked.
    Unsent,
    /// A link was asked.
    Sent,
    /// Messages arrive.
    Listening,
}

/// A stream of interest.
#[derive(Debug)]
pub(super) struct Stream {
    subscribers: usize,
    /// Until when it is kept, if nobody is interested now.
    until: Option<Instant>,
    /// It is in the queue of idle ones.
    is_idle: bool,
    waiting: Vec<oneshot::Sender<()>>,
    pub(super) state: State,
    pub(super) phase: Phase,
    pub(super) link: Option<LinkId>,
    /// When something was last delivered.
    pub(super) heard: Instant,
    /// It is in the queue of readings, or being read.
    pub(super) queued: bool,
    /// It must be read again after that.
    pub(super) again: bool,
}

impl Stream {
    fn new() -> Self {
        Self {
            subscribers: 0,
            until: None,
            is_idle: false,
            waiting: Vec::new(),
            state: State::new(),
            phase: Phase::Unsent,
            link: None,
            heard: Instant::now(),
            queued: false,
            again: false,
        }
    }

    /// Tells those who wait that publications arrive from now on.
    pub(super) fn settle(&mut self) {
        for waiting in self.waiting.drain(..) {
            // Whoever waited may have left.
            waiting.send(()).ok();
        }
    }
}

/// What a subscriber gets.
#[derive(Debug)]
pub(super) enum Joined {
    /// Publications after this position arrive.
    Live(Option<Position>),
    /// They will, once this says so.
    Wait(oneshot::Receiver<()>),
}

/// All streams of interest.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) known: HashMap<StreamName, Stream>,
    /// Those that no link was asked for.
    pub(super) fresh: Vec<StreamName>,
    /// Those that lost their last subscriber, and when to look at them again;
    /// in that order, because all are kept equally long. Each at most once.
    idle: VecDeque<(Instant, StreamName)>,
}

impl Streams {
    /// Takes out what nobody has been interested in for long enough.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(StreamName, Stream)> {
        let mut gone = Vec::new();
        while let Some((until, _)) = self.idle.front() {
            if *until > now {
                break;
            }
            let Some((_, name)) = self.idle.pop_front() else {
                break;
            };
            let Some(stream) = self.known.get_mut(&name) else {
                continue;
            };
            match stream.until {
                Some(until) if until <= now => gone.extend(self.known.remove_entry(&name)),
                Some(until) => self.idle.push_back((until, name)),
                None => stream.is_idle = false,
            }
        }
        gone
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Table {
    streams: Mutex<Streams>,
    linger: Duration,
    /// There are fresh streams.
    pub(super) changed: Notify,
}

impl Table {
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            streams: Mutex::default(),
            linger,
            changed: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock()
    }

    /// One subscriber more.
    pub(super) fn join(&self, name: &StreamName) -> Joined {
        let mut streams = self.streams.lock();
        let Streams { known, fresh, .. } = &mut *streams;
        let stream = known.entry(name.clone()).or_insert_with(|| {
            fresh.push(name.clone());
            self.changed.notify_one();
            Stream::new()
        });
        stream.subscribers += 1;
        stream.until = None;
        if !stream.state.is_new() {
            return Joined::Live(stream.state.position());
        }
        let (sender, receiver) = oneshot::channel();
        stream.waiting.push(sender);
        Joined::Wait(receiver)
    }

    /// One subscriber less.
    pub(super) fn leave(&self, name: &StreamName) {
        let mut streams = self.streams.lock();
        let Streams { known, idle, .. } = &mut *streams;
        let Some(stream) = known.get_mut(name) else {
            return;
        };
        stream.subscribers = stream.subscribers.saturating_sub(1);
        if stream.subscribers == 0 && stream.until.is_none() {
            let until = Instant::now() + self.linger;
            stream.until = Some(until);
            if !std::mem::replace(&mut stream.is_idle, true) {
                idle.push_back((until, name.clone()));
            }
        }
    }

    /// Where the stream stands.
    pub(super) fn position(&self, name: &StreamName) -> Option<Position> {
        self.streams.lock().known.get(name)?.state.position()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.streams.lock().known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(10);

    fn name() -> StreamName {
        StreamName::try_new("s").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn interest_lingers_and_is_counted() {
        let table = Table::new(LINGER);
        assert!(matches!(table.join(&name()), Joined::Wait(_)));
        assert!(matches!(table.join(&name()), Joined::Wait(_)));
        assert_eq!(table.lock().fresh, [name()]);
        table.leave(&name());
        tokio::time::advance(LINGER * 2).await;
        assert!(table.lock().expire(Instant::now()).is_empty());
        table.leave(&name());
        assert!(table.lock().expire(Instant::now()).is_empty());
        tokio::time::advance(LINGER).await;
        assert_eq!(table.lock().expire(Instant::now()).len(), 1);
        assert_eq!(table.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_in_time_keeps_it() {
        let table = Table::new(LINGER);
        drop(table.join(&name()));
        table.leave(&name());
        tokio::time::advance(LINGER / 2).await;
        drop(table.join(&name()));
        tokio::time::advance(LINGER).await;
        assert!(table.lock().expire(Instant::now()).is_empty());
        table.leave(&name());
        tokio::time::advance(LINGER / 2).await;
        assert!(table.lock().expire(Instant::now()).is_empty());
        tokio::time::advance(LINGER / 2).await;
        assert_eq!(table.lock().expire(Instant::now()).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_told() {
        let table = Table::new(LINGER);
        let Joined::Wait(wait) = table.join(&name()) else {
            panic!("nothing is known yet");
        };
        if let Some(stream) = table.lock().known.get_mut(&name()) {
            stream.state.read(None);
            stream.settle();
        }
        wait.await.unwrap();
        assert!(matches!(table.join(&name()), Joined::Live(None)));
    }
}
