//! Builds a node and runs it: the library's front door.

use crate::{
    archive::{self, Archive},
    auth::{Authenticator, BearerKey, Everybody, StreamPolicy},
    config::{Config, Mode, PollOverflow},
    http::{
        self, ApiDoor, BasicUser, BroadcastDoor, CableDoor, Category, CategoryDoor, Doors,
        EventDoor, FOREVER, Heads, MailboxConfig, MailboxDoor, Origins, PollDoor, Publishers,
        RoomDoor, RoomRoutes, RoomSocketConfig,
    },
    proxies::{NotANetwork, TrustedProxies},
    rooms::{Resolver, Rooms, RoomsConfig},
    runtime::{Parts, Runtime, voice},
    server::{Server, ServerConfig, Service},
    socket::{Precision, SocketConfig},
    telemetry::{Metrics, Throttle},
};
use ::http::StatusCode;
use axum::Router;
use base64::Engine as _;
use pollux_broker::{
    Broker, BrokerError, Events, Keep, MemoryBroker, MemoryConfig, RedisBroker, RedisConfig,
    RedisTls,
};
use pollux_protocol::{Meta, Payload, Publication, RoomMessage, StreamName, StreamVerifier};
use pollux_session::{Overflow, PollConfig};
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// Why a node can't be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The broker can't be set up, or refused a publication.
    #[error("failed to {0}")]
    Broker(#[from] BrokerError),
    /// The metrics' prefix is not one.
    #[error("failed to name the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A trusted proxy has no such address.
    #[error("failed to read the trusted proxies: {0}")]
    Proxies(#[from] NotANetwork),
    /// A template of `room_resolver` names no field.
    #[error("failed to read the room resolver: {0:?} names no field")]
    Resolver(String),
    /// The file of events can't be read or written.
    #[error("failed to open the file of events, category_file: {0}")]
    File(#[from] std::io::Error),
    /// Not a stream's name.
    #[error("failed to name the stream: {0}")]
    Stream(#[from] pollux_protocol::NameError),
}

/// Makes a [`Node`].
#[derive(Debug, Default)]
pub struct Builder {
    config: Config,
    broker: Option<(Arc<dyn Broker>, Events)>,
    authenticator: Option<Arc<dyn Authenticator>>,
}

impl Builder {
    /// Sets the options; the defaults are those of the program.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Uses a broker of the caller's own instead of the one the options name.
    #[must_use]
    pub fn broker(mut self, broker: Arc<dyn Broker>, events: Events) -> Self {
        self.broker = Some((broker, events));
        self
    }

    /// Decides who may connect, instead of what the options say.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// The node. Must be called within a tokio runtime: its tasks run from now
    /// on, until the node is dropped or its server has stopped.
    ///
    /// # Errors
    /// The broker or the metrics can't be set up as the options say.
    pub fn build(self) -> Result<Node, NodeError> {
        let Self {
            config,
            broker,
            authenticator,
        } = self;
        let node_id = config.node_id.clone().map_or_else(random_node_id, Ok)?;
        // A broker of the caller's own has its own way to survive.
        let file = config.category_file.clone().filter(|_| broker.is_none());
        let (broker, events) = match broker {
            Some(given) => given,
            None => start_broker(&config, &node_id)?,
        };
        let everybody = if config.accepts_connections() {
            Everybody::Accepted
        } else {
            Everybody::Refused
        };
        let runtime = Runtime::new(Parts {
            poll: poll_config(&config),
            max_pending: config.ws_max_pending_size,
            sessions_ttl: config.sessions_ttl,
            presence_ttl: config.presence_ttl,
            max_sessions: config.max_sessions,
            max_request_size: config.poll_max_request_size,
            max_publication_size: config.max_publication_size,
            read_timeout: config.header_read_timeout,
            broker,
            streams: StreamPolicy {
                public: config.public_streams(),
                verifier: StreamVerifier::new(config.streams_secrets()),
                signed_whisper: config.streams_whisper,
                signed_presence: config.streams_presence,
            },
            authenticator: authenticator.unwrap_or_else(|| Arc::new(everybody)),
            trusted_proxies: TrustedProxies::try_new(&config.trusted_proxies)?,
            metrics: Metrics::new(&config.metrics_prefix)?,
        });
        runtime.tasks.spawn({
            let (runtime, stop) = (Arc::clone(&runtime), runtime.stop.clone());
            async move {
                stop.run_until_cancelled_owned(runtime.run_events(events))
                    .await
            }
        });
        runtime.tasks.spawn(Arc::clone(&runtime).run_deadlines());
        runtime.tasks.spawn(Arc::clone(&runtime).run_presence());
        if runtime.keeps_sessions() {
            runtime.tasks.spawn(Arc::clone(&runtime).run_snapshots());
        }
        let resolver = Resolver::parse(&config.room_resolver)
            .map_err(|template| NodeError::Resolver(template.to_owned()))?;
        let rooms = Arc::new(Rooms::new(
            Arc::clone(&runtime),
            RoomsConfig {
                ttl: config.room_ttl,
                buffer: config.room_buffer_size,
                keep: Keep {
                    limit: config.history_limit.max(config.room_buffer_size),
                    ttl: config.history_ttl.max(config.room_ttl),
                },
            },
            resolver,
        ));
        let archive = file.map(|path| {
            let (archive, task) = Archive::start(Path::new(&path), runtime.stop.clone());
            runtime.tasks.spawn(task);
            archive
        });
        Ok(Node {
            config,
            node_id,
            archive,
            runtime,
            rooms,
        })
    }
}

/// A node: its sessions, its broker and its doors. Stops when dropped.
#[derive(Debug)]
pub struct Node {
    config: Config,
    node_id: String,
    /// Events of categories in a file, if the options name one.
    archive: Option<Archive>,
    runtime: Arc<Runtime>,
    rooms: Arc<Rooms>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.runtime.stop.cancel();
    }
}

/// Sockets for [`Node::serve`].
#[derive(Debug)]
pub struct Listeners {
    /// For clients, and whatever has no port of its own.
    pub main: TcpListener,
    /// For publishing, where that has a port of its own.
    pub broadcast: Option<TcpListener>,
}

impl Node {
    /// Starts to make a node.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The node's options.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the node is called in logs and at the broker.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.node_id
    }

    #[cfg(test)]
    pub(crate) const fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Sessions the node holds.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.runtime.registry.len()
    }

    /// Publishes to a stream. `data` that is JSON text reaches clients as JSON,
    /// anything else as a string.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = pollux_node::Node::builder().build()?;
    /// node.publish("chat/1", r#"{"text":"Hello"}"#).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream's name is not one, or the broker did not take it; then it may
    /// be published again.
    pub async fn publish(&self, stream: &str, data: &str) -> Result<(), NodeError> {
        let publication = Publication {
            stream: StreamName::try_new(stream)?,
            data: Payload::from_text(data),
            meta: Meta::default(),
        };
        Ok(self.runtime.publish(publication).await?)
    }

    /// Keeps a message for the polls of a room's session, as `POST /ws/send`
    /// with this `session_id` does; the oldest is dropped if too many wait.
    ///
    /// # Errors
    /// The session's name is not one, or the broker did not take it; then it
    /// may be pushed again.
    pub async fn push_to(&self, session_id: &str, message: &RoomMessage) -> Result<(), NodeError> {
        let session = StreamName::try_new(session_id)?;
        Ok(self.rooms.push(session, message).await?)
    }

    /// Takes at most `max` messages that wait for a room's session, oldest
    /// first. Nobody else gets them.
    ///
    /// # Errors
    /// The session's name is not one, or the broker can't be reached.
    pub async fn poll(&self, session_id: &str, max: usize) -> Result<Vec<RoomMessage>, NodeError> {
        let session = StreamName::try_new(session_id)?;
        let pull = self.rooms.pull(session, max);
        if pull.max == 0 {
            return Ok(Vec::new());
        }
        let loan = pull.now().await?;
        Ok(loan.map(|loan| self.rooms.keep(loan)).unwrap_or_default())
    }

    /// Messages that wait for the polls of a room's session.
    ///
    /// # Errors
    /// The session's name is not one, or the broker can't be reached.
    pub async fn buffer_size(&self, session_id: &str) -> Result<usize, NodeError> {
        let session = StreamName::try_new(session_id)?;
        Ok(self.rooms.waiting(&session).await?)
    }

    /// Forgets the rooms' polling sessions that nobody has polled or pushed to
    /// for `room_ttl`. Returns how many. What waits in them is dropped without
    /// it; this is for those who count.
    pub fn sweep(&self) -> usize {
        self.rooms.sweep()
    }

    /// The node's doors as a router, to merge into an application's own. A
    /// server that is not the node's can't tell it when an answer was lost on
    /// the way; clients that send their cursor lose nothing all the same.
    pub fn router(&self) -> Router {
        http::router(self.doors(true))
    }

    /// The category doors alone, for an application that puts them under paths
    /// and checks of its own:
    ///
    /// ```
    /// use axum::{Router, http::StatusCode, middleware, response::IntoResponse as _};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = pollux_node::Node::builder().build()?;
    /// let doors = node.category_router().layer(middleware::from_fn(
    ///     async |request: axum::extract::Request, next: middleware::Next| {
    ///         let query = request.uri().query().unwrap_or_default();
    ///         match query.contains("category=private") {
    ///             true => StatusCode::FORBIDDEN.into_response(),
    ///             false => next.run(request).await,
    ///         }
    ///     },
    /// ));
    /// let app: Router = Router::new().nest("/advanced", doors);
    /// # drop(app);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// They are there whether the option `category` is on or not.
    pub fn category_router(&self) -> Router {
        let (paths, door) = self.categories();
        http::category_router(&paths, door)
    }

    /// Serves `listeners` until `shutdown` is done, then takes leave of all
    /// clients and returns. Sets no signal handlers.
    pub async fn serve(&self, listeners: Listeners, shutdown: impl Future<Output = ()>) {
        let server = Arc::new(Server {
            config: ServerConfig {
                max_connections: self.config.max_connections,
                header_read_timeout: self.config.header_read_timeout,
                write_timeout: self.config.poll_write_timeout,
            },
            clock: self.runtime.clock,
            metrics: Arc::clone(&self.runtime.metrics),
            stop_accepting: CancellationToken::new(),
            stop_connections: CancellationToken::new(),
            tasks: TaskTracker::new(),
            connections: AtomicUsize::new(0),
            trouble: Throttle::default(),
        });
        let router = http::router(self.doors(self.config.own_broadcast_port().is_none()));
        let main = Service {
            in_lot: true,
            poll: self.poll_door(),
            router,
        };
        let mut accepting = vec![tokio::spawn({
            Arc::clone(&server).run(listeners.main, Arc::new(main))
        })];
        if let Some(listener) = listeners.broadcast {
            let (path, door) = self.broadcast_door();
            let router = http::broadcast_router(&path, door);
            let service = Service {
                in_lot: false,
                poll: None,
                router,
            };
            accepting.push(tokio::spawn(
                Arc::clone(&server).run(listener, Arc::new(service)),
            ));
        }
        shutdown.await;
        self.stop(&server).await;
        for loop_task in accepting {
            if let Err(error) = loop_task.await {
                warn!(%error, "An accept loop failed");
            }
        }
    }

    async fn stop(&self, server: &Server) {
        self.runtime.announce_drain();
        let delay = self.config.shutdown_delay;
        if delay > Duration::ZERO {
            info!(?delay, "Not ready any more; stopping after the delay");
            tokio::time::sleep(delay).await;
        }
        server.stop_accepting.cancel();
        let leave = async {
            self.runtime.drain().await;
            server.finish().await;
        };
        if tokio::time::timeout(self.config.shutdown_timeout, leave)
            .await
            .is_err()
        {
            let sessions = self.runtime.registry.len();
            warn!(
                sessions,
                "The shutdown timeout is over; some clients were not told"
            );
        }
        if let Some(archive) = &self.archive {
            archive.close().await;
        }
        self.runtime.broker.stop().await;
        self.runtime.stop.cancel();
        info!("Stopped");
    }

    pub(crate) fn poll_door(&self) -> Option<(String, PollDoor)> {
        let origins = Origins::new(&self.config.allowed_origins);
        let door = PollDoor::new(
            Arc::clone(&self.runtime),
            origins,
            self.config.poll_compress_min_size,
        );
        self.config
            .poll
            .then(|| (self.config.poll_path.clone(), door))
    }

    fn cable_door(&self) -> Option<(Vec<String>, CableDoor)> {
        let config = &self.config;
        let precision = Precision::parse(&config.ping_timestamp_precision);
        let door = CableDoor {
            runtime: Arc::clone(&self.runtime),
            origins: Origins::new(&config.allowed_origins),
            config: SocketConfig {
                ping_interval: config.ping_interval,
                precision: precision.unwrap_or(Precision::Seconds),
                pong_timeout: config.pong_timeout,
                native_pings: config.enable_native_pings,
                write_timeout: config.ws_write_timeout,
                max_message_size: config.max_message_size,
                max_pending: config.ws_max_pending_size,
            },
        };
        config.websocket.then(|| (config.path.clone(), door))
    }

    fn event_door(&self) -> Option<(String, EventDoor)> {
        let door = EventDoor {
            runtime: Arc::clone(&self.runtime),
            origins: Origins::new(&self.config.allowed_origins),
            ping_interval: self.config.ping_interval,
            compress: self.config.sse_compress,
        };
        self.config
            .sse
            .then(|| (self.config.sse_path.clone(), door))
    }

    fn api_door(&self) -> Option<ApiDoor> {
        let config = &self.config;
        let open = config.mode() != Mode::Secured && config.api_key().is_none();
        (open || config.api_key().is_some()).then(|| ApiDoor {
            publish: BroadcastDoor {
                runtime: Arc::clone(&self.runtime),
                key: config.api_key().map(BearerKey::new),
                local_only: config.mode() == Mode::Development,
                max_size: config.max_publication_size,
                cors: false,
            },
        })
    }

    fn category_door(&self) -> Option<([String; 2], CategoryDoor)> {
        let is_on = self.config.category_enabled();
        is_on.then(|| self.categories())
    }

    fn categories(&self) -> ([String; 2], CategoryDoor) {
        let config = &self.config;
        let paths = [&config.category_path, &config.category_publish_path];
        let password = config.category_password.expose();
        let user = config.category_user.as_deref().zip(password);
        let (_, publish) = self.broadcast_door();
        let door = Category {
            runtime: Arc::clone(&self.runtime),
            origins: config
                .category_cors
                .then(|| Origins::new(&config.allowed_origins)),
            user: user.map(|(user, password)| BasicUser::new(user, password)),
            publish,
            is_open: config.mode() != Mode::Secured && config.broadcast_key().is_none(),
            max_timeout: config.category_max_timeout.as_secs(),
            keep: category_keep(config),
            delete: config.category_delete_after_retrieval,
            archive: self.archive.clone(),
            heads: Heads::default(),
        };
        (paths.map(String::clone), CategoryDoor(Arc::new(door)))
    }

    /// Who may publish through a dialect's door.
    fn publishers(&self) -> Publishers {
        let (_, door) = self.broadcast_door();
        Publishers {
            door,
            origins: Origins::new(&self.config.allowed_origins),
            open: self.config.mode() != Mode::Secured,
        }
    }

    fn mailbox_door(&self) -> Option<([String; 2], MailboxDoor)> {
        let config = &self.config;
        let empty = StatusCode::from_u16(config.mailbox_timeout_status);
        let paths = [&config.mailbox_poll_path, &config.mailbox_push_path];
        let door = MailboxDoor {
            runtime: Arc::clone(&self.runtime),
            origins: Origins::new(&config.allowed_origins),
            publishers: self.publishers(),
            config: MailboxConfig {
                timeout: config.mailbox_timeout,
                timeout_status: empty.unwrap_or(StatusCode::OK),
                capacity: config.mailbox_capacity,
                history_limit: config.history_limit,
                ttl: config.mailbox_ttl,
            },
        };
        config.mailbox.then(|| (paths.map(Clone::clone), door))
    }

    fn room_routes(&self) -> Option<RoomRoutes> {
        let config = &self.config;
        config.room.then(|| RoomRoutes {
            door: RoomDoor {
                rooms: Arc::clone(&self.rooms),
                origins: Origins::new(&config.allowed_origins),
                publishers: self.publishers(),
                wait: config.room_wait,
                max_wait: config.room_max_wait,
                socket: RoomSocketConfig {
                    ping_interval: config.room_ping_interval,
                    idle_timeout: config.room_idle_timeout,
                    write_timeout: config.ws_write_timeout,
                    max_message_size: config.max_message_size,
                    max_pending: config.ws_max_pending_size,
                },
            },
            poll: config.room_poll_path.clone(),
            send: config.room_send_path.clone(),
            sockets: config.room_path.clone(),
            history: config.room_history,
        })
    }

    fn broadcast_door(&self) -> (String, BroadcastDoor) {
        let door = BroadcastDoor {
            runtime: Arc::clone(&self.runtime),
            key: self.config.broadcast_key().map(BearerKey::new),
            local_only: self.config.mode() == Mode::Development,
            max_size: self.config.max_publication_size,
            cors: self.config.http_broadcast_cors,
        };
        (self.config.http_broadcast_path.clone(), door)
    }

    pub(crate) fn doors(&self, with_broadcast: bool) -> Doors {
        Doors {
            poll: self.poll_door(),
            cable: self.cable_door(),
            events: self.event_door(),
            mailbox: self.mailbox_door(),
            room: self.room_routes(),
            api: self.api_door(),
            category: self.category_door(),
            broadcast: with_broadcast.then(|| self.broadcast_door()),
            runtime: Arc::clone(&self.runtime),
            health_path: self.config.health_path.clone(),
            ready_path: self.config.ready_path.clone(),
            metrics_path: self.config.metrics_http.clone(),
            console: self.config.console_enabled(),
        }
    }

    /// Says in the log what is open to whom.
    pub(crate) fn log_mode(&self) {
        let config = &self.config;
        match config.mode() {
            Mode::Development => {
                warn!(
                    "Development mode: anyone on this machine may connect, subscribe and publish"
                );
            }
            Mode::Public => warn!("Public mode: anyone may connect and subscribe"),
            Mode::Secured if !config.accepts_connections() => {
                warn!(
                    "Every connection will be refused: a secret is set, but this version can't \
                     authenticate clients; add --noauth and let signed streams decide"
                );
            }
            Mode::Secured => {}
        }
        info!(
            node = self.node_id,
            broker = self.runtime.broker.name(),
            public_streams = config.public_streams(),
            signed_streams = self.runtime.streams.verifier.is_some(),
            "Starting"
        );
    }
}

fn start_broker(config: &Config, node_id: &str) -> Result<(Arc<dyn Broker>, Events), NodeError> {
    if let Some(url) = config.redis_url.as_ref().filter(|_| config.uses_redis()) {
        let (broker, events) = RedisBroker::start(redis_config(config, node_id, url))?;
        return Ok((broker, events));
    }
    let (broker, events) = MemoryBroker::start(MemoryConfig {
        history_limit: config.history_limit,
        history_ttl: config.history_ttl,
        max_streams: config.memory_max_streams,
        max_bytes: config.memory_max_bytes,
    })?;
    if let Some(path) = &config.category_file {
        let keep = category_keep(config);
        for event in archive::load(Path::new(path), keep, voice::micros())? {
            let publication = Publication {
                stream: event.stream,
                data: event.data,
                meta: Meta::default(),
            };
            broker.restore(publication, event.time, keep);
        }
    }
    Ok((broker, events))
}

/// How much of a category is kept.
fn category_keep(config: &Config) -> Keep {
    let ttl = match config.category_ttl {
        Duration::ZERO => FOREVER,
        ttl => ttl,
    };
    Keep {
        limit: config.category_buffer_size,
        ttl,
    }
}

fn redis_config(config: &Config, node_id: &str, url: &SecretString) -> RedisConfig {
    let sentinels = config.redis_sentinels.as_ref();
    let sentinels = sentinels.map_or("", |sentinels| sentinels.expose_secret());
    let client = config.redis_tls_client_cert_path.as_ref();
    RedisConfig {
        url: url.expose_secret().to_owned(),
        sentinels: sentinels
            .split(',')
            .map(str::trim)
            .filter(|sentinel| !sentinel.is_empty())
            .map(str::to_owned)
            .collect(),
        tls: RedisTls {
            verify: config.redis_tls_verify,
            ca: config.redis_tls_ca_cert_path.as_ref().map(PathBuf::from),
            client: client
                .zip(config.redis_tls_client_key_path.as_ref())
                .map(|(certificate, key)| (PathBuf::from(certificate), PathBuf::from(key))),
        },
        prefix: config.redis_prefix.clone(),
        channel: config.redis_channel.clone(),
        intake: config.redisx_stream.clone(),
        intake_group: config.redisx_group.clone(),
        node: node_id.to_owned(),
        keepalive_interval: config.redis_keepalive_interval,
        history_limit: config.history_limit,
        history_ttl: config.history_ttl,
        linger: config.redis_linger,
        check_interval: config.redis_check_interval,
        discovery_interval: config.redis_sentinel_discovery_interval,
        max_publication_size: config.max_publication_size,
    }
}

fn poll_config(config: &Config) -> PollConfig {
    PollConfig {
        interval: config.poll_interval,
        flush_interval: config.poll_flush_interval,
        keepalive_timeout: config.poll_keepalive_timeout,
        max_waiting: config.poll_max_waiting,
        max_frames: config.poll_outbox_max_frames,
        max_bytes: config.poll_outbox_max_bytes,
        overflow: match config.poll_overflow {
            PollOverflow::Expire => Overflow::Expire,
            PollOverflow::DropOldest => Overflow::DropOldest,
        },
        max_subscriptions: config.max_subscriptions_per_session,
    }
}

fn random_node_id() -> Result<String, BrokerError> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| BrokerError::Unavailable(error.to_string()))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random))
}
