//! Wires broker → hub → sessions, and holds what all parts of a node share.

mod admission;
mod backend;
mod commands;
mod drain;
mod events;
mod moving;
mod presence;
pub(crate) mod resume;
mod sweep;
pub(crate) mod voice;

pub(crate) use admission::{Admitted, Rejected};
pub(crate) use moving::Claimed;

use crate::{
    application::{Application, Attended},
    auth::{Authenticator, Client, ConnectRequest, StreamPolicy},
    clock::Clock,
    limits::{Entrance, PublishLimit, Strangers},
    proxies::TrustedProxies,
    route::Route,
    telemetry::{Metrics, Throttle, Traces},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use pollux_broker::Broker;
use pollux_protocol::{Identifier, Publication, RemoteDisconnect, StreamName};
use pollux_session::{
    Attachment, Hub, Overflow, Owner, PollConfig, Registry, Session, Shared, Source, Subscription,
    Token,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, Span};

/// Log lines that clients can cause.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    /// A `message` command that nobody will act on.
    pub(crate) ignored: Throttle,
    /// A command line that is not one.
    pub(crate) malformed: Throttle,
    /// A publication that is not one.
    pub(crate) publication: Throttle,
    /// An outbox over its bound.
    pub(crate) overflow: Throttle,
    /// Commands over the limit.
    pub(crate) commands: Throttle,
    /// Publications that are gone.
    pub(crate) gap: Throttle,
    /// A client's address with as many sessions as it may have.
    pub(crate) addresses: Throttle,
}

/// One running node. Held by every connection and task of it.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) clock: Clock,
    /// The rules of polled sessions, and the wheel.
    pub(crate) shared: Arc<Shared>,
    /// The rules of sessions behind sockets, and the same wheel.
    pub(crate) streaming: Arc<Shared>,
    /// The rules of sessions that end with their one request or stream.
    pub(crate) passing: Arc<Shared>,
    /// Sessions whose snapshots are to be written.
    unwritten: resume::Unwritten,
    /// How long a session is kept for a client that may come back; zero for
    /// not at all.
    pub(crate) sessions_ttl: Duration,
    /// Who of this node is present where.
    presence: presence::Presence,
    /// Sessions that are looked for elsewhere.
    claims: moving::Claims,
    /// Where sessions leave for other nodes.
    gate: moving::Gate,
    /// Sessions whose clients' proofs end.
    expiries: admission::Expiries,
    /// How long somebody is present who gives no sign of life.
    pub(crate) presence_ttl: Duration,
    /// Sockets that are open.
    pub(crate) sockets: AtomicUsize,
    /// Event streams that are open.
    pub(crate) event_streams: AtomicUsize,
    pub(crate) registry: Registry,
    pub(crate) hub: Hub,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) streams: StreamPolicy,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// The backend that channels are for, if there is one.
    pub(crate) application: Option<Arc<Application>>,
    /// Who may say what a client's route is.
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) throttles: Throttles,
    /// Where publications' ways are noted, if anywhere.
    pub(crate) traces: Option<Traces>,
    /// Sessions the node may hold; zero for as many as come.
    pub(crate) max_sessions: usize,
    /// Those of one client's address; zero for as many as come.
    max_sessions_per_address: usize,
    /// Publications by HTTP.
    publish_limit: PublishLimit,
    /// Who polls with ids of no session.
    strangers: Strangers,
    /// Bytes of a request body on the poll route.
    pub(crate) max_request_size: usize,
    /// Bytes of one publication's data.
    pub(crate) max_publication_size: usize,
    /// For a request's body to arrive.
    pub(crate) read_timeout: Duration,
    /// Tasks of this node, and commands that outlive their request.
    pub(crate) tasks: TaskTracker,
    /// Ends those tasks.
    pub(crate) stop: CancellationToken,
    /// The node will stop: it should get no new clients.
    leaving: AtomicBool,
    /// The node is stopping: it takes no new clients.
    draining: AtomicBool,
    next_serial: AtomicU64,
}

/// What [`Runtime::new`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) poll: PollConfig,
    /// Bytes that may wait for a socket.
    pub(crate) max_pending: usize,
    pub(crate) sessions_ttl: Duration,
    pub(crate) presence_ttl: Duration,
    pub(crate) max_sessions: usize,
    pub(crate) max_sessions_per_address: usize,
    pub(crate) publish_limit: PublishLimit,
    pub(crate) strangers: Strangers,
    pub(crate) max_request_size: usize,
    pub(crate) max_publication_size: usize,
    pub(crate) read_timeout: Duration,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) streams: StreamPolicy,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) application: Option<Arc<Application>>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Option<Traces>,
}

/// A session that was just opened, and the secret its client needs to poll it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: Arc<Session>,
    pub(crate) poll_id: String,
}

impl Runtime {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let watcher = parts.traces.as_ref().map(Traces::watcher);
        let shared = Arc::new(Shared {
            config: parts.poll,
            resumable: true,
            watcher: watcher.clone(),
            ..Shared::default()
        });
        let streaming = Arc::new(Shared {
            config: PollConfig {
                // Who need not ask again need not be made to wait.
                flush_interval: Duration::ZERO,
                // A socket that ends says so; this is for none but a bug.
                keepalive_timeout: Duration::from_secs(60),
                max_bytes: parts.max_pending,
                overflow: Overflow::Expire,
                ..parts.poll
            },
            deadlines: Arc::clone(&shared.deadlines),
            resumable: true,
            watcher: watcher.clone(),
        });
        let passing = Arc::new(Shared {
            config: streaming.config,
            deadlines: Arc::clone(&shared.deadlines),
            resumable: false,
            watcher,
        });
        Arc::new(Self {
            clock: Clock::start(),
            shared,
            streaming,
            passing,
            unwritten: resume::Unwritten::default(),
            sessions_ttl: parts.sessions_ttl,
            presence: presence::Presence::default(),
            claims: moving::Claims::default(),
            gate: moving::Gate::default(),
            expiries: admission::Expiries::default(),
            presence_ttl: parts.presence_ttl,
            sockets: AtomicUsize::new(0),
            event_streams: AtomicUsize::new(0),
            registry: Registry::default(),
            hub: Hub::default(),
            broker: parts.broker,
            streams: parts.streams,
            authenticator: parts.authenticator,
            application: parts.application,
            trusted_proxies: parts.trusted_proxies,
            metrics: Arc::new(parts.metrics),
            throttles: Throttles::default(),
            traces: parts.traces,
            max_sessions: parts.max_sessions,
            max_sessions_per_address: parts.max_sessions_per_address,
            publish_limit: parts.publish_limit,
            strangers: parts.strangers,
            max_request_size: parts.max_request_size,
            max_publication_size: parts.max_publication_size,
            read_timeout: parts.read_timeout,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            next_serial: AtomicU64::new(1),
        })
    }

    /// Whether the node will stop soon or is stopping.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether the node is taking leave of its clients.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Opens a session. `None`: the node holds as many as it may, in all or
    /// from `source`, or is draining, or the system has no randomness to give.
    /// Without a route the poll id gets a random one.
    pub(crate) fn open(
        &self,
        client: Client,
        source: Option<Source>,
        route: Option<Route<'_>>,
    ) -> Option<Opened> {
        let (session, random_route) = self.admit(client, source, &self.shared)?;
        let secret = session.secret().text();
        let poll_id = match route {
            Some(route) => format!("{}.{secret}", route.as_str()),
            None => format!("{}.{secret}", URL_SAFE_NO_PAD.encode(random_route)),
        };
        Some(Opened { session, poll_id })
    }

    /// Opens a session whose outbox leaves by a socket. `None` as above.
    pub(crate) fn open_socket(
        &self,
        client: Client,
        source: Option<Source>,
    ) -> Option<Arc<Session>> {
        let (session, _) = self.admit(client, source, &self.streaming)?;
        Some(session)
    }

    /// Opens a session that ends with its request or stream. `None` as above.
    pub(crate) fn open_passing(
        &self,
        client: Client,
        source: Option<Source>,
    ) -> Option<Arc<Session>> {
        let (session, _) = self.admit(client, source, &self.passing)?;
        Some(session)
    }

    /// A new session, and a few random bytes more.
    fn admit(
        &self,
        client: Client,
        source: Option<Source>,
        rules: &Arc<Shared>,
    ) -> Option<(Arc<Session>, [u8; 8])> {
        let full = self.max_sessions > 0 && self.registry.len() >= self.max_sessions;
        if full || self.is_draining() {
            self.metrics.refused_sessions.inc();
            return None;
        }
        let mut random = [0; 40];
        if let Err(error) = getrandom::fill(&mut random) {
            tracing::error!(%error, "The system gives no random bytes; sessions can't be opened");
            return None;
        }
        let (secret, rest) = random.split_first_chunk::<16>()?;
        let (sid, rest) = rest.split_first_chunk::<16>()?;
        let Client {
            identifiers,
            expires,
            introduction,
        } = client;
        let (attended, known_sid) = introduction.into_parts();
        let owner = Owner {
            identifiers,
            attached: attended.map(|attended| -> Attachment { attended }),
        };
        let sid = known_sid.unwrap_or_else(|| Token::from_random(u128::from_be_bytes(*sid)));
        let make = || {
            Session::new(
                self.next_serial(),
                Token::from_random(u128::from_be_bytes(*secret)),
                sid,
                owner,
                Arc::clone(rules),
                self.clock.now(),
            )
        };
        let max = self.max_sessions_per_address;
        let session = match source.filter(|_| max > 0) {
            Some(source) => {
                let session = self.registry.insert_from(source, max, make);
                if session.is_none() {
                    self.refuse_address();
                }
                session?
            }
            None => {
                let session = make();
                self.registry.insert(Arc::clone(&session));
                session
            }
        };
        self.limit(&session, expires);
        self.metrics.opened_sessions.inc();
        Some((session, *rest.first_chunk::<8>()?))
    }

    /// A number that no other session of this node has.
    fn next_serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    /// A session that comes from another node is let in whatever the limits:
    /// there it was within them.
    fn admit_moved(&self, session: &Arc<Session>, source: Option<Source>) {
        let is_counted = self.max_sessions_per_address > 0;
        match source.filter(|_| is_counted) {
            Some(source) => {
                let make = || Arc::clone(session);
                let inserted = self.registry.insert_from(source, usize::MAX, make);
                debug_assert!(inserted.is_some(), "there is no bound");
            }
            None => self.registry.insert(Arc::clone(session)),
        }
    }

    fn refuse_address(&self) {
        self.metrics.refused_sessions.inc();
        self.metrics.refused_addresses.inc();
        if let Some(left_out) = self.throttles.addresses.pass() {
            tracing::warn!(
                max = self.max_sessions_per_address,
                left_out,
                "A client's address has as many sessions as it may; if a proxy stands there, name \
                 it in trusted_proxies"
            );
        }
    }

    /// Whom a request is counted for; `None` if nobody knows whom it is from.
    pub(crate) fn source(&self, request: &ConnectRequest<'_>) -> Option<Source> {
        self.trusted_proxies.source(request.peer, request.headers)
    }

    /// The session a poll id names, if this node holds it.
    pub(crate) fn session(&self, poll_id: &str) -> Option<Arc<Session>> {
        let (_route, secret) = poll_id.rsplit_once('.')?;
        self.registry.get(Token::parse(secret)?)
    }

    /// Takes note of a poll with an id of no session.
    ///
    /// # Errors
    /// Its source makes up too many, until this time is over.
    pub(crate) fn note_stranger(&self, source: Option<Source>) -> Result<(), Duration> {
        let Some(source) = source else {
            return Ok(());
        };
        let noted = self.strangers.note(source, self.clock.now());
        noted.inspect_err(|_| self.metrics.limited_polls.inc())
    }

    /// Takes note of publications by HTTP before they are published.
    ///
    /// # Errors
    /// They are too many, until this time is over.
    pub(crate) fn note_publications(
        &self,
        entrance: Entrance,
        number: usize,
    ) -> Result<(), Duration> {
        let noted = self.publish_limit.take(entrance, number, self.clock.now());
        noted.inspect_err(|_| {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            self.metrics.limited_publications.inc_by(number);
        })
    }

    /// Publishes through the broker.
    pub(crate) async fn publish(
        &self,
        mut publication: Publication,
    ) -> Result<(), pollux_broker::BrokerError> {
        let span = self.trace(&mut publication);
        let published = self.broker.publish(publication).instrument(span.clone());
        if let Err(error) = published.await {
            span.record("otel.status_code", "error");
            return Err(error);
        }
        self.metrics.publications.inc();
        Ok(())
    }

    /// The span of a publication's way to the broker, which it takes with it;
    /// disabled if it is not traced.
    pub(crate) fn trace(&self, publication: &mut Publication) -> Span {
        match &self.traces {
            Some(traces) => traces.publish(publication),
            None => Span::none(),
        }
    }

    /// Sends a remote command through the broker.
    pub(crate) async fn disconnect(
        &self,
        command: RemoteDisconnect,
    ) -> Result<(), pollux_broker::BrokerError> {
        self.broker.disconnect(command).await
    }

    /// Takes a finished session's subscriptions out of the hub.
    pub(crate) fn detach(&self, session: &Session, subscriptions: Vec<Subscription>) {
        self.remember_ended(session, &subscriptions);
        if let Some(application) = &self.application
            && session.is_over()
        {
            let is_said = application.dismiss(session, &subscriptions);
            self.metrics.disconnects_dropped.inc_by(u64::from(!is_said));
        }
        self.abandon(session, subscriptions);
    }

    /// The same for a session that is not over, but goes on elsewhere.
    fn abandon(&self, session: &Session, subscriptions: Vec<Subscription>) {
        let attended = Attended::of(session);
        for Subscription {
            identifier,
            streams,
            ..
        } in subscriptions
        {
            let present_in = attended.as_ref();
            let present_in = present_in.and_then(|attended| attended.presence_stream(&identifier));
            for stream in streams.iter().chain(&present_in) {
                self.presence.left_behind(stream, session.serial());
            }
            for stream in &streams {
                self.unhook(session, &identifier, stream);
            }
        }
    }

    /// Takes a subscription out of the hub. Whoever does undoes the broker's.
    pub(crate) fn unhook(&self, session: &Session, identifier: &Identifier, stream: &StreamName) {
        if self.hub.unsubscribe(stream, identifier, session.serial()) {
            self.broker.unsubscribe(stream);
        }
    }
}
