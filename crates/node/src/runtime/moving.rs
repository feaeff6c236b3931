//! Poll sessions that move from node to node.
//!
//! A node that stops, or that is asked because a session's poll has come to
//! another node, takes the session out of its hub, keeps in the broker what it
//! leaves behind, and answers its polls with nothing. Whoever gets the next
//! poll takes that out of the broker, in one step, so that one node has the
//! session at any time, and reads from history what was published meanwhile.

mod luggage;

use super::Runtime;
use crate::{
    application::{Attended, Told},
    auth::ConnectRequest,
};
use bytes::Bytes;
use luggage::Luggage;
use parking_lot::Mutex;
use pollux_broker::{Member, Word};
use pollux_protocol::{HistoryRequest, Identifier, StreamName};
use pollux_session::{Attachment, Begin, Owner, Replay, Session, Source, Stays, Token};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tracing::debug;

/// What comes before the secret of a poll id in the broker.
const PREFIX: &str = "poll-";

/// When whoever asked looks whether a session has been kept, unless it is told,
/// and asks again: the node that has it may have been about to keep it, or have
/// been fetching it itself for another poll of the same client.
const LOOK_AFTER: [Duration; 7] = [
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(200),
];

/// Others may be faster as often as this.
const TRIES: usize = 10;

/// How long that node waits until the session can leave.
const LET_GO_WITHIN: Duration = Duration::from_millis(900);

/// What a session leaves behind is kept for so long, or for the keepalive
/// timeout if that is longer: its client may have to wait for a node to start.
const KEEP_FOR: Duration = Duration::from_secs(60);

/// How long a poll waits for a broker that is away, as it is when a node starts.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks whether it can.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Sessions that are looked for at one time: ids that somebody makes up must
/// not take more than this of Redis and of memory.
const MAX_CLAIMS: usize = 4_096;

/// Sessions that wait to leave.
const DEPARTURES: usize = 256;

/// What came of looking for a session.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// It is here now.
    Here(Arc<Session>),
    /// There is none, for all that anybody knows.
    Nowhere,
    /// There may be: nobody can be asked now.
    NobodyKnows,
}

impl From<Option<Arc<Session>>> for Claimed {
    fn from(session: Option<Arc<Session>>) -> Self {
        session.map_or(Self::Nowhere, Self::Here)
    }
}

/// Sessions that are looked for, by their secrets.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashMap<Token, Claim>>);

/// What those wait for who want one session.
#[derive(Debug)]
struct Claim {
    /// Another node has kept it.
    kept: Arc<Notify>,
    /// Changes when the search is over: whether it was found.
    over: watch::Receiver<bool>,
}

/// A session that is to leave, and who wants to know what it leaves behind.
#[derive(Debug)]
pub(super) struct Leaver {
    session: Arc<Session>,
    answer: oneshot::Sender<Result<Luggage, Stays>>,
}

/// The queue of those: they leave between two publications, when all sessions
/// have been given the same.
#[derive(Debug)]
pub(super) struct Gate {
    queue: mpsc::Sender<Leaver>,
    exit: Mutex<Option<mpsc::Receiver<Leaver>>>,
}

impl Default for Gate {
    fn default() -> Self {
        let (queue, exit) = mpsc::channel(DEPARTURES);
        Self {
            queue,
            exit: Mutex::new(Some(exit)),
        }
    }
}

impl Gate {
    /// The end at which they leave. There is one.
    pub(super) fn exit(&self) -> Option<mpsc::Receiver<Leaver>> {
        self.exit.lock().take()
    }
}

fn id_of(secret: Token) -> String {
    format!("{PREFIX}{}", secret.text())
}

impl Runtime {
    /// Whether sessions can go on at another node.
    pub(crate) fn can_move_sessions(&self) -> bool {
        self.broker.has_others() && self.broker.is_ready()
    }

    /// The session of a poll id that this node does not hold, if it is anywhere
    /// else. It is here then.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        poll_id: &str,
        request: &ConnectRequest<'_>,
    ) -> Claimed {
        let source = self.source(request);
        let now = self.clock.now();
        if source.is_some_and(|source| self.strangers.is_over(source, now)) {
            // Nobody else is bothered with what it makes up.
            return Claimed::Nowhere;
        }
        let secret = poll_id.rsplit_once('.');
        let secret = secret.and_then(|(_route, secret)| Token::parse(secret));
        let Some(secret) = secret.filter(|_| self.broker.has_others()) else {
            return Claimed::Nowhere;
        };
        let until = Instant::now() + READY_WITHIN;
        while !self.broker.is_ready() {
            if Instant::now() >= until {
                return Claimed::NobodyKnows;
            }
            sleep(LOOK_EVERY).await;
        }
        let (kept, done) = match self.join_claim(secret) {
            Some(Ok(started)) => started,
            Some(Err(mut over)) => {
                // Another poll looks for it, and says whether it found it.
                drop(over.changed().await);
                let was_found = *over.borrow();
                return match self.registry.get(secret) {
                    // It was here, and is elsewhere already.
                    None if was_found => Claimed::NobodyKnows,
                    session => session.into(),
                };
            }
            None => return Claimed::NobodyKnows,
        };
        let runtime = Arc::clone(self);
        let attended = self.application.as_ref();
        let told = attended.map(|application| application.telling.of(request));
        // To its end, even if this poll goes away: what was taken from the
        // broker is nowhere else.
        let search = self.tasks.spawn(async move {
            let found = runtime.search(secret, &kept).await;
            let session = match found {
                Some(luggage) => runtime.adopt(secret, luggage, told, source).await,
                None => None,
            };
            done.send_replace(session.is_some());
            runtime.claims.0.lock().remove(&secret);
            session
        });
        search.await.ok().flatten().into()
    }

    /// Starts a search, or joins one. `None`: there are too many.
    #[expect(clippy::type_complexity, reason = "the two ways it can be, read once")]
    fn join_claim(
        &self,
        secret: Token,
    ) -> Option<Result<(Arc<Notify>, watch::Sender<bool>), watch::Receiver<bool>>> {
        let mut claims = self.claims.0.lock();
        let count = claims.len();
        match claims.entry(secret) {
            Entry::Occupied(known) => Some(Err(known.get().over.clone())),
            Entry::Vacant(_) if count >= MAX_CLAIMS => None,
            Entry::Vacant(free) => {
                let (done, over) = watch::channel(false);
                let kept = Arc::new(Notify::new());
                free.insert(Claim {
                    kept: Arc::clone(&kept),
                    over,
                });
                Some(Ok((kept, done)))
            }
        }
    }

    async fn search(&self, secret: Token, kept: &Notify) -> Option<Luggage> {
        if let Some(luggage) = self.take_luggage(secret).await {
            return Some(luggage);
        }
        let mut waits = LOOK_AFTER.into_iter();
        let mut tries = 0;
        while let Some(wait) = waits.next() {
            let word = Word::Want(secret.text());
            if let Err(error) = self.broker.tell_nodes(word).await {
                debug!(%error, "Nobody was asked for a session");
                return None;
            }
            let is_told = timeout(wait, kept.notified()).await.is_ok();
            if let Some(luggage) = self.take_luggage(secret).await {
                return Some(luggage);
            }
            if is_told && tries < TRIES {
                // It lives: another node that was told has it now.
                tries += 1;
                waits = LOOK_AFTER.into_iter();
            }
        }
        None
    }

    async fn take_luggage(&self, secret: Token) -> Option<Luggage> {
        let taken = self.broker.take_session(&id_of(secret)).await;
        let taken = taken.inspect_err(|error| debug!(%error, "A session was not taken over"));
        let luggage = serde_json::from_slice(&taken.ok()??);
        let luggage = luggage.inspect_err(|error| debug!(%error, "A session is not understood"));
        luggage.ok()
    }

    /// What nodes say to each other.
    pub(super) fn hear(self: &Arc<Self>, word: Word) {
        match word {
            Word::Want(secret) => {
                let session = Token::parse(&secret);
                let session = session.and_then(|secret| self.registry.get(secret));
                if let Some(session) = session.filter(|session| session.has_rules(&self.shared)) {
                    let runtime = Arc::clone(self);
                    self.tasks.spawn(async move {
                        if runtime.give_away(&session, LET_GO_WITHIN).await {
                            let word = Word::Kept(secret);
                            if let Err(error) = runtime.broker.tell_nodes(word).await {
                                debug!(%error, "Whoever asked for a session does not hear of it");
                            }
                        }
                    });
                }
            }
            Word::Kept(secret) => {
                let claims = self.claims.0.lock();
                let claim = Token::parse(&secret).and_then(|secret| claims.get(&secret));
                if let Some(claim) = claim {
                    claim.kept.notify_one();
                }
            }
        }
    }

    /// Lets a session go on at another node. False if it stays, or was over.
    pub(super) async fn give_away(
        self: &Arc<Self>,
        session: &Arc<Session>,
        within: Duration,
    ) -> bool {
        let until = Instant::now() + within;
        let luggage = loop {
            let (answer, wait) = oneshot::channel();
            let leaver = Leaver {
                session: Arc::clone(session),
                answer,
            };
            if self.gate.queue.send(leaver).await.is_err() {
                return false;
            }
            match wait.await {
                Ok(Ok(luggage)) => break luggage,
                Ok(Err(Stays::Busy)) if Instant::now() < until => sleep(LOOK_EVERY).await,
                _ => return false,
            }
        };
        let Ok(content) = serde_json::to_vec(&luggage) else {
            return false;
        };
        let ttl = self.shared.config.keepalive_timeout.max(KEEP_FOR);
        let id = id_of(session.secret());
        match self.broker.save_session(&id, content.into(), ttl).await {
            Ok(()) => {
                self.metrics.moved_sessions.inc();
                true
            }
            Err(error) => {
                debug!(%error, "A session comes back: nobody could take it over");
                // Perhaps it was kept all the same.
                let none = Bytes::new();
                drop(self.broker.save_session(&id, none, Duration::ZERO).await);
                let told = Attended::of(session).map(|attended| attended.told());
                self.adopt(session.secret(), luggage, told, None).await;
                false
            }
        }
    }

    /// One session leaves. Between two publications only.
    pub(super) fn let_go(&self, leaver: Leaver) {
        let Leaver { session, answer } = leaver;
        if answer.is_closed() {
            // Nobody would keep it.
            return;
        }
        let departed = session.depart(self.clock.now()).map(|departed| {
            let reached = |stream: &StreamName| self.hub.reached(stream);
            let present = self.presence.where_is(session.serial());
            let luggage = Luggage::pack(&session, &departed, present, reached);
            self.registry.remove(session.secret());
            self.abandon(&session, departed.subscriptions);
            luggage
        });
        if let Err(Ok(_)) = answer.send(departed) {
            debug!("A session left for nowhere");
        }
    }

    /// Goes on with what a session left behind. `None`: it makes no sense.
    async fn adopt(
        self: &Arc<Self>,
        secret: Token,
        luggage: Luggage,
        told: Option<Told>,
        source: Option<Source>,
    ) -> Option<Arc<Session>> {
        let sid = Token::parse(&luggage.sid)?;
        let attended = self.application.as_ref().map(|_| {
            let told = told.unwrap_or_default();
            luggage.attended(told)
        });
        let now = self.clock.now();
        let session = Session::new(
            self.next_serial(),
            secret,
            sid,
            Owner {
                identifiers: luggage.identifiers.clone(),
                attached: attended.map(|attended| -> Attachment { attended }),
            },
            Arc::clone(&self.shared),
            now,
        );
        session.unpack(luggage.remains());
        for (identifier, streams, places) in luggage.subscriptions() {
            self.adopt_subscription(&session, &identifier, &streams, &places)
                .await;
        }
        self.admit_moved(&session, source);
        for (stream, present) in luggage.present() {
            let member = Member {
                session: luggage.sid.clone(),
                present,
            };
            self.presence.entered(&stream, session.serial(), &member);
            let entered = self.broker.enter(&stream, member, self.presence_ttl).await;
            if let Err(error) = entered {
                debug!(%error, "A session that moved is present only here");
            }
        }
        self.limit_to(&session, luggage.expires);
        self.remember(&session);
        self.metrics.adopted_sessions.inc();
        Some(session)
    }

    /// Goes on with one subscription, and with what was published to it since.
    async fn adopt_subscription(
        &self,
        session: &Arc<Session>,
        identifier: &Identifier,
        streams: &[StreamName],
        places: &HistoryRequest,
    ) {
        let now = self.clock.now();
        if session.adopt_subscription(identifier, streams, now) != Begin::New {
            return;
        }
        for stream in streams {
            if !self.attach(session, identifier, stream).await {
                let _was_there = session.unfollow(identifier, stream);
                session.note_gap();
            }
        }
        let replay = self.missed(identifier, streams, places).await;
        let replay = replay.unwrap_or_else(|_| {
            session.note_gap();
            Replay::default()
        });
        session.release(identifier, replay, self.clock.now());
    }
}
