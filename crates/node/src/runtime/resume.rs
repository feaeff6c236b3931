//! Sessions whose clients come back.
//!
//! What a session listens to is kept in the broker under its `sid`. A client
//! that lost its connection says that `sid` when it opens another one, on
//! whichever node, and gets a new session with the same subscriptions: nobody
//! asks again who it is, so the `sid` is a secret of the client's.

use super::Runtime;
use crate::{
    application::{Attended, Kept},
    auth::Client,
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use pollux_protocol::{Identifier, StreamName, action_cable::reply};
use pollux_session::{Begin, Replay, Session, Streams, Subscription};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, UNIX_EPOCH},
};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tracing::debug;

/// Says which session is to be restored.
const RESTORE: HeaderName = HeaderName::from_static("x-anycable-restore-sid");

/// Several subscriptions made one after the other are written once.
const WRITE_EVERY: Duration = Duration::from_millis(250);

/// Snapshots written side by side.
const WRITERS: usize = 32;

/// Ended sessions that wait to be written: a broker that is away would let them
/// pile up, and their clients recover all the same, only with more to ask.
const MAX_ENDED: usize = 100_000;

/// A client that comes back is not kept waiting longer than this by a broker
/// that does not answer.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// A restored client asks for what it missed within this time; until then what
/// comes live is held back, so that it comes in order.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// How long the old `sid` still works after it was used: the answer may have
/// been lost.
const USED_TTL: Duration = Duration::from_secs(30);

/// Texts that are no `sid` of ours are not asked for.
const SID_LENGTH: std::ops::RangeInclusive<usize> = 16..=64;

/// A session as the broker keeps it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Snapshot {
    /// Connection identifiers; none where the session is only its `sid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identifiers: Option<Box<str>>,
    /// Seconds since 1970 when what the client proved counts no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    /// Of each subscription the identifier and then its streams.
    subscriptions: Vec<Vec<String>>,
    /// What the backend wants kept with the connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    connection: BTreeMap<String, String>,
    /// What it wants kept with each channel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether it has heard of the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_known: bool,
}

/// Sessions that are to be written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    changed: HashMap<u64, Weak<Session>>,
    /// What was written, and when it is to be written again.
    written: VecDeque<(Instant, u64, Weak<Session>)>,
    /// Whose turn that is: each once.
    waiting: HashSet<u64>,
    /// Ended before they were written: what they listened to, by their `sid`.
    ended: HashMap<String, Snapshot>,
    /// Sent away: these are deleted, after whatever is being written now.
    gone: HashMap<String, Tomb>,
}

/// Of a session whose client must not come back.
#[derive(Clone, Copy, Debug)]
struct Tomb {
    since: Instant,
    /// Nothing is kept of it any more, for all that is known.
    deleted: bool,
}

/// What was kept of a session.
#[derive(Debug)]
pub(crate) struct Restorable {
    sid: String,
    snapshot: Snapshot,
}

/// The session a client wants back, if it names one.
pub(crate) fn wanted(headers: &HeaderMap, query: &str) -> Option<String> {
    let header = headers.get(RESTORE).and_then(|value| value.to_str().ok());
    let named = header.filter(|sid| !sid.is_empty()).map(str::to_owned);
    named
        .or_else(|| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let (_, sid) = pairs.find(|(name, _)| name == "sid")?;
            Some(sid.into_owned())
        })
        .filter(|sid| SID_LENGTH.contains(&sid.len()))
}

/// Whether a poll says with its query that its client can come back by `sid`.
pub(crate) fn can_come_back(query: &str) -> bool {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("sid="))
        .any(|sid| !sid.is_empty())
}

impl Unwritten {
    /// Notes of a session that was sent away, if it was, whether something of
    /// it may be kept somewhere.
    fn mark_gone(&self, sid: &str, deleted: bool) {
        if let Some(tomb) = self.state.lock().gone.get_mut(sid) {
            tomb.deleted = deleted;
        }
    }

    /// A client may come back sooner than its session was written.
    fn find(&self, sid: &str) -> Option<Snapshot> {
        let state = self.state.lock();
        if let Some(ended) = state.ended.get(sid) {
            return Some(ended.clone());
        }
        let changed = state.changed.values().filter_map(Weak::upgrade);
        let changed: Vec<_> = changed.collect();
        drop(state);
        let session = changed
            .into_iter()
            .find(|session| session.sid().text() == sid)?;
        let subscriptions = session.subscriptions();
        let pairs = subscriptions
            .iter()
            .map(|(identifier, streams)| (identifier, streams));
        Some(Snapshot::of(&session, pairs))
    }
}

impl Snapshot {
    fn of<'a>(
        session: &Session,
        subscriptions: impl Iterator<Item = (&'a Identifier, &'a Streams)>,
    ) -> Self {
        let names = |(identifier, streams): (&Identifier, &Streams)| {
            let streams = streams.iter().map(StreamName::as_str);
            let names = std::iter::once(identifier.as_str()).chain(streams);
            names.map(str::to_owned).collect()
        };
        let kept = Attended::of(session).map(|attended| attended.kept());
        let kept = kept.unwrap_or_default();
        let channels = kept.channels.into_iter();
        Self {
            identifiers: session.named_identifiers().map(Into::into),
            expires: session.expires(),
            subscriptions: subscriptions.map(names).collect(),
            connection: kept.connection,
            channels: channels
                .map(|(identifier, state)| (identifier.as_str().to_owned(), state))
                .collect(),
            is_known: kept.is_known,
        }
    }
}

impl Restorable {
    /// Who the client is.
    pub(crate) fn client(&self) -> Client {
        let expires = self.snapshot.expires.map(Duration::from_secs);
        Client {
            identifiers: self.snapshot.identifiers.clone(),
            expires: expires.and_then(|since| UNIX_EPOCH.checked_add(since)),
            ..Client::default()
        }
    }

    /// What the backend wants kept with it.
    pub(crate) fn kept(&self) -> Kept {
        let channels = self.snapshot.channels.iter();
        let channels = channels.filter_map(|(identifier, state)| {
            let identifier = Identifier::try_new(identifier).ok()?;
            Some((identifier, state.clone()))
        });
        Kept {
            connection: self.snapshot.connection.clone(),
            channels: channels.collect(),
            is_known: self.snapshot.is_known,
        }
    }
}

impl Runtime {
    /// Whether sessions are kept for clients that come back.
    pub(crate) fn keeps_sessions(&self) -> bool {
        !self.sessions_ttl.is_zero()
    }

    /// The session's subscriptions have changed.
    pub(super) fn remember(&self, session: &Arc<Session>) {
        if self.keeps_sessions() && session.is_resumable() {
            let mut state = self.unwritten.state.lock();
            state
                .changed
                .insert(session.serial(), Arc::downgrade(session));
        }
    }

    /// The session has ended, and these were its subscriptions.
    pub(super) fn remember_ended(&self, session: &Session, subscriptions: &[Subscription]) {
        if !self.keeps_sessions() || !session.is_resumable() || !session.is_over() {
            return;
        }
        let mut state = self.unwritten.state.lock();
        let was_changed = state.changed.remove(&session.serial()).is_some();
        if was_changed && state.ended.len() < MAX_ENDED {
            let subscriptions = subscriptions.iter();
            let pairs = subscriptions.map(|known| (&known.identifier, &known.streams));
            let snapshot = Snapshot::of(session, pairs);
            state.ended.insert(session.sid().text(), snapshot);
        }
    }

    /// The client must not come back under this session.
    pub(super) fn forget(&self, session: &Session) {
        if !self.keeps_sessions() || !session.is_resumable() {
            return;
        }
        let mut state = self.unwritten.state.lock();
        state.changed.remove(&session.serial());
        if state.gone.len() < MAX_ENDED {
            let tomb = Tomb {
                since: Instant::now(),
                deleted: false,
            };
            state.gone.insert(session.sid().text(), tomb);
        }
    }

    /// Deletes those that were sent away. What can't be deleted now is later.
    async fn delete_gone(&self) {
        let gone: Vec<_> = {
            let mut state = self.unwritten.state.lock();
            // By then every write that was under way has ended.
            let is_fresh = |tomb: &Tomb| !tomb.deleted || tomb.since.elapsed() < USED_TTL;
            state.gone.retain(|_, tomb| is_fresh(tomb));
            let left = state.gone.iter().filter(|(_, tomb)| !tomb.deleted);
            left.map(|(sid, _)| sid.clone()).collect()
        };
        let delete = |sid: String| async move {
            let none = bytes::Bytes::new();
            match self.broker.save_session(&sid, none, Duration::ZERO).await {
                Ok(()) => self.unwritten.mark_gone(&sid, true),
                Err(error) => debug!(%error, "A snapshot was not deleted"),
            }
        };
        stream::iter(gone)
            .for_each_concurrent(WRITERS, delete)
            .await;
    }

    /// Writes snapshots until the node stops.
    pub(crate) async fn run_snapshots(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let ended = std::mem::take(&mut self.unwritten.state.lock().ended);
            stream::iter(ended)
                .for_each_concurrent(WRITERS, |(sid, snapshot)| self.write(sid, snapshot))
                .await;
            stream::iter(self.unwritten_now())
                .for_each_concurrent(WRITERS, |session| self.write_snapshot(session))
                .await;
            self.delete_gone().await;
        }
    }

    fn unwritten_now(&self) -> Vec<Arc<Session>> {
        let now = Instant::now();
        let mut state = self.unwritten.state.lock();
        let mut due: Vec<_> = state.changed.drain().collect();
        while state
            .written
            .front()
            .is_some_and(|(again, ..)| *again <= now)
        {
            if let Some((_, serial, session)) = state.written.pop_front() {
                state.waiting.remove(&serial);
                due.push((serial, session));
            }
        }
        drop(state);
        due.sort_unstable_by_key(|(serial, _)| *serial);
        due.dedup_by_key(|(serial, _)| *serial);
        due.into_iter()
            .filter_map(|(_, session)| session.upgrade())
            .filter(|session| !session.is_over())
            .collect()
    }

    async fn write_snapshot(&self, session: Arc<Session>) {
        let subscriptions = session.subscriptions();
        let pairs = subscriptions
            .iter()
            .map(|(identifier, streams)| (identifier, streams));
        let snapshot = Snapshot::of(&session, pairs);
        self.write(session.sid().text(), snapshot).await;
        let ttl = self.sessions_ttl;
        let mut state = self.unwritten.state.lock();
        if state.waiting.insert(session.serial()) {
            // All wait equally long, so they stand in the order of their time.
            let again = Instant::now() + ttl / 2;
            let turn = (again, session.serial(), Arc::downgrade(&session));
            state.written.push_back(turn);
        }
    }

    async fn write(&self, sid: String, snapshot: Snapshot) {
        let Ok(content) = serde_json::to_vec(&snapshot) else {
            return;
        };
        // It is written again each half of this time, so that it outlives the
        // session by at least the whole of it.
        let ttl = self.sessions_ttl;
        let saved = self
            .broker
            .save_session(&sid, content.into(), ttl + ttl / 2)
            .await;
        if let Err(error) = saved {
            debug!(%error, "A snapshot was not written");
        }
    }

    /// What is kept of the session that a client wants back. `None`: it is to
    /// be treated like any other client.
    pub(crate) async fn restorable(&self, sid: Option<String>) -> Option<Restorable> {
        let sid = sid.filter(|_| self.keeps_sessions())?;
        if self.unwritten.state.lock().gone.contains_key(&sid) {
            return None;
        }
        if let Some(snapshot) = self.unwritten.find(&sid) {
            return Some(Restorable { sid, snapshot });
        }
        let load = timeout(LOAD_TIMEOUT, self.broker.load_session(&sid));
        let content = match load.await {
            Ok(Ok(content)) => content?,
            Ok(Err(error)) => {
                debug!(%error, "A session was not restored");
                return None;
            }
            Err(_) => return None,
        };
        let snapshot = serde_json::from_slice(&content);
        let snapshot = snapshot
            .inspect_err(|error| debug!(%error, "A snapshot is not understood"))
            .ok()?;
        Some(Restorable { sid, snapshot })
    }

    /// The first frame of a new session, after it got back what was kept of an
    /// earlier one, if there was one.
    pub(crate) async fn welcome(
        self: &Arc<Self>,
        session: &Arc<Session>,
        earlier: Option<Restorable>,
    ) {
        match earlier {
            Some(earlier) => self.restore(session, earlier).await,
            None => self.greet(session),
        }
    }

    /// The first frames of a session that is new to everybody: those of its
    /// backend, if that has any to say.
    pub(crate) fn greet(&self, session: &Arc<Session>) {
        let attended = Attended::of(session);
        let greeting = attended.map(|attended| attended.take_greeting());
        let now = self.clock.now();
        match greeting.filter(|greeting| !greeting.is_empty()) {
            Some(greeting) => greeting.into_iter().for_each(|frame| {
                session.reply(frame, now);
            }),
            None => {
                session.reply(reply::welcome(&session.sid().text()), now);
            }
        }
    }

    /// Gives `session`, which is new, the subscriptions of the earlier one, and
    /// welcomes its client back.
    async fn restore(self: &Arc<Self>, session: &Arc<Session>, earlier: Restorable) {
        let Restorable { sid, snapshot } = earlier;
        let mut restored = Vec::new();
        for names in &snapshot.subscriptions {
            let Some((identifier, streams)) = names.split_first() else {
                continue;
            };
            let Ok(identifier) = Identifier::try_new(identifier) else {
                continue;
            };
            let streams = streams.iter().map(|name| StreamName::try_new(name));
            let Ok(streams) = streams.collect::<Result<Vec<_>, _>>() else {
                continue;
            };
            if self.take_over(session, &identifier, &streams).await {
                restored.push(identifier);
            }
        }
        let now = self.clock.now();
        session.reply(
            reply::welcome_back(&session.sid().text(), restored.iter()),
            now,
        );
        self.metrics.restored_sessions.inc();
        self.remember(session);
        let runtime = Arc::clone(self);
        let session = Arc::downgrade(session);
        self.tasks.spawn(async move {
            if let Ok(content) = serde_json::to_vec(&snapshot) {
                let saved = runtime
                    .broker
                    .save_session(&sid, content.into(), USED_TTL)
                    .await;
                if let Err(error) = saved {
                    debug!(%error, "A used snapshot keeps its time");
                }
                runtime.unwritten.mark_gone(&sid, false);
            }
            drop(timeout(ASK_WITHIN, runtime.stop.cancelled()).await);
            if let Some(session) = session.upgrade() {
                let now = runtime.clock.now();
                for identifier in &restored {
                    session.release(identifier, Replay::default(), now);
                }
            }
        });
    }

    async fn take_over(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        streams: &[StreamName],
    ) -> bool {
        // The operator's rules may have changed meanwhile; a backend's are its
        // own.
        let is_allowed = match self.streams.resolve(identifier) {
            Some(permission) => *streams == [permission.stream],
            None => self.backend_of(session, identifier).is_some(),
        };
        let now = self.clock.now();
        if !is_allowed || session.restore_subscription(identifier, streams, now) != Begin::New {
            return false;
        }
        for stream in streams {
            if !self.attach(session, identifier, stream).await {
                drop(session.unsubscribe(identifier));
                self.unhook_all(session, identifier, streams);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_header_wins_and_nonsense_is_nobody() {
        let sid = "0123456789abcdef";
        let mut headers = HeaderMap::new();
        assert_eq!(wanted(&headers, ""), None);
        assert_eq!(wanted(&headers, "sid="), None);
        assert_eq!(wanted(&headers, "sid=short"), None);
        assert_eq!(wanted(&headers, &"x".repeat(70)), None);
        let query = format!("a=1&sid={sid}&sid=other");
        assert_eq!(wanted(&headers, &query).as_deref(), Some(sid));
        headers.insert(RESTORE, HeaderValue::from_static("fedcba9876543210"));
        assert_eq!(
            wanted(&headers, &query).as_deref(),
            Some("fedcba9876543210")
        );
        assert!(can_come_back(&query));
        assert!(!can_come_back("sid=&x=1"));
        assert!(!can_come_back(""));
    }
}
