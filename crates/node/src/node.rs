//! Builds a node and runs it: the library's front door.

mod doors;
mod heart;
mod setup;

pub(crate) use heart::Report;
pub(crate) use setup::redis_config_of;

use crate::{
    application::Application,
    archive::Archive,
    auth::{Authenticator, Everybody, Gate, StreamPolicy, Tokens},
    config::{Config, Mode},
    http,
    limits::{PublishLimit, Strangers},
    proxies::{NotANetwork, TrustedProxies},
    rooms::{Resolver, Rooms, RoomsConfig},
    runtime::{Parts, Runtime},
    server::{Server, ServerConfig, Service},
    telemetry::{Metrics, Throttle, Traces},
    tls::{Tls, TlsError},
};
use axum::Router;
use heart::Heart;
use pollux_broker::{Broker, BrokerError, Events, Keep};
use pollux_protocol::{
    Meta, Payload, Publication, RoomMessage, StreamName, StreamVerifier, TokenVerifier,
};
pub(crate) use setup::random_node_id;
use setup::{poll_config, start_application, start_broker};
use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
    /// The backend is not one that can be asked.
    #[error("failed to prepare calls to the backend: {0}")]
    Backend(#[from] pollux_rpc::OptionsError),
    /// A template of `room_resolver` names no field.
    #[error("failed to read the room resolver: {0:?} names no field")]
    Resolver(String),
    /// The file of events can't be read or written.
    #[error("failed to open the file of events, category_file: {0}")]
    File(#[from] std::io::Error),
    /// The certificate or its key can't be used.
    #[error("failed to {0}")]
    Tls(#[from] TlsError),
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
    traces: Option<Traces>,
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

    /// Notes the ways of publications there. Without it the options of traces
    /// have no effect.
    #[must_use]
    pub fn traces(mut self, traces: Option<Traces>) -> Self {
        self.traces = traces;
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
            traces,
        } = self;
        if traces.is_none() && config.otlp_endpoint.is_some() {
            warn!("No traces are sent: otlp_endpoint takes a node that is built with Traces");
        }
        let files = config.ssl_cert.as_ref().zip(config.ssl_key.as_ref());
        let tls = files.map(|(cert, key)| Tls::load(cert, key)).transpose()?;
        let node_id = config.node_id.clone().map_or_else(random_node_id, Ok)?;
        // A broker of the caller's own has its own way to survive.
        let file = config.category_file.clone().filter(|_| broker.is_none());
        let (broker, events) = match broker {
            Some(given) => given,
            None => start_broker(&config, &node_id)?,
        };
        let proxies = TrustedProxies::try_new(&config.trusted_proxies)?;
        let application = start_application(&config, &proxies)?;
        let others: Arc<dyn Authenticator> = match &application {
            _ if config.accepts_connections() => Arc::new(Everybody::Accepted),
            Some(application) if !config.enforce_jwt => Arc::<Application>::clone(application),
            _ => Arc::new(Everybody::Refused),
        };
        let gate = Gate {
            tokens: TokenVerifier::new(config.token_secrets()).map(|verifier| Tokens {
                verifier,
                param: config.jwt_param.clone(),
                enforced: config.enforce_jwt,
            }),
            others,
        };
        let runtime = Runtime::new(Parts {
            poll: poll_config(&config),
            max_pending: config.ws_max_pending_size,
            sessions_ttl: config.sessions_ttl,
            presence_ttl: config.presence_ttl,
            max_sessions: config.max_sessions,
            max_sessions_per_address: config.max_sessions_per_address,
            publish_limit: PublishLimit::new(config.max_publishes_per_second),
            strangers: Strangers::new(config.max_unknown_polls_per_minute),
            max_request_size: config.poll_max_request_size,
            max_publication_size: config.max_publication_size,
            read_timeout: config.header_read_timeout,
            broker,
            streams: StreamPolicy {
                public: config.public_streams(),
                verifier: StreamVerifier::new(config.streams_secrets()),
                turbo: StreamVerifier::new(config.turbo_secrets()),
                cable_ready: StreamVerifier::new(config.cable_ready_secrets()),
                signed_whisper: config.streams_whisper,
                signed_presence: config.streams_presence,
            },
            authenticator: authenticator.unwrap_or_else(|| Arc::new(gate)),
            application: application.clone(),
            trusted_proxies: proxies,
            metrics: Metrics::new(&config.metrics_prefix)?,
            traces,
        });
        runtime.tasks.spawn({
            let (runtime, stop) = (Arc::clone(&runtime), runtime.stop.clone());
            async move {
                stop.run_until_cancelled_owned(Box::pin(runtime.run_events(events)))
                    .await
            }
        });
        runtime.tasks.spawn(Arc::clone(&runtime).run_deadlines());
        runtime.tasks.spawn(Arc::clone(&runtime).run_presence());
        runtime.tasks.spawn(Arc::clone(&runtime).run_expiries());
        if let Some(application) = application {
            let stop = runtime.stop.clone();
            runtime
                .tasks
                .spawn(async move { stop.run_until_cancelled(application.run_farewells()).await });
        }
        if runtime.keeps_sessions() {
            runtime.tasks.spawn(Arc::clone(&runtime).run_snapshots());
        }
        if let Some(tls) = &tls {
            let (watch, stop) = (Arc::clone(tls).watch(), runtime.stop.clone());
            runtime
                .tasks
                .spawn(async move { stop.run_until_cancelled_owned(watch).await });
        }
        let heart = Heart::start(&runtime, &node_id);
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
            tls,
            archive,
            runtime,
            rooms,
            heart,
        })
    }
}

/// A node: its sessions, its broker and its doors. Stops when dropped.
#[derive(Debug)]
pub struct Node {
    config: Config,
    node_id: String,
    /// What listeners speak, if the options say so.
    tls: Option<Arc<Tls>>,
    /// Events of categories in a file, if the options name one.
    archive: Option<Archive>,
    runtime: Arc<Runtime>,
    rooms: Arc<Rooms>,
    /// Tells the cluster that it lives.
    heart: Heart,
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
    /// For metrics, where they have a port of their own.
    pub metrics: Option<TcpListener>,
    /// For the console page, where it has a port of its own. The metrics, which
    /// it shows, are there too.
    pub console: Option<TcpListener>,
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
        http::router(self.all_doors())
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
            tls: self.tls.clone(),
            clock: self.runtime.clock,
            metrics: Arc::clone(&self.runtime.metrics),
            stop_accepting: CancellationToken::new(),
            stop_connections: CancellationToken::new(),
            tasks: TaskTracker::new(),
            connections: AtomicUsize::new(0),
            trouble: Throttle::default(),
        });
        if let Ok(address) = listeners.main.local_addr() {
            self.heart.listens(address);
        }
        let main = Service {
            in_lot: true,
            poll: self.poll_door(),
            ..Service::new(http::router(self.doors()))
        };
        let spare = http::spare_router(self.main_ops());
        let mut ports = vec![(listeners.main, main.with_spare(spare))];
        if let Some(listener) = listeners.broadcast {
            let (path, door) = self.broadcast_door();
            let router = http::broadcast_router(&path, door);
            ports.push((listener, Service::new(router)));
        }
        // A full node can be looked at.
        let spare = || http::spare_router(self.all_ops());
        if let Some(listener) = listeners.metrics {
            let router = http::router(self.metrics_doors());
            ports.push((listener, Service::new(router).with_spare(spare())));
        }
        if let Some(listener) = listeners.console {
            let console = Service {
                poll: self.poll_door(),
                ..Service::new(http::router(self.console_doors()))
            };
            ports.push((listener, console.with_spare(spare())));
        }
        let accepting: Vec<_> = ports
            .into_iter()
            .map(|(listener, service)| {
                tokio::spawn(Arc::clone(&server).run(listener, Arc::new(service)))
            })
            .collect();
        shutdown.await;
        self.stop(&server).await;
        for loop_task in accepting {
            if let Err(error) = loop_task.await {
                warn!(%error, "An accept loop failed");
            }
        }
    }

    /// Looks at the files of `ssl_cert` and `ssl_key` now rather than within
    /// ten seconds. What has changed in them is for new connections; what can't
    /// be used is logged, and the certificate before stays.
    pub fn reload_certificate(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
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
            self.runtime.drain(self.config.shutdown_timeout).await;
            let connections = || server.connections.load(Ordering::Relaxed);
            self.runtime.serve_stragglers(connections).await;
            tokio::select! {
                () = server.finish() => {}
                () = self.runtime.keep_leaving() => {}
            }
            // Of what the last polls have brought back.
            self.runtime.drain(Duration::ZERO).await;
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
        self.heart.stop().await;
        self.runtime.broker.stop().await;
        self.runtime.stop.cancel();
        info!("Stopped");
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
            Mode::Secured => {}
        }
        let takes_tokens = !config.token_secrets().is_empty();
        let asks = self.runtime.application.is_some() && !config.enforce_jwt;
        match (config.accepts_connections(), takes_tokens) {
            (true, _) => {}
            (false, _) if asks => info!("The backend says who may connect"),
            (false, true) => info!("Only clients with a token may connect"),
            (false, false) => warn!(
                "Every connection will be refused: nobody can have a token without jwt_secret or \
                 secret; set one, or rpc_host, or add --noauth and let signed streams decide"
            ),
        }
        info!(
            node = self.node_id,
            broker = self.runtime.broker.name(),
            public_streams = config.public_streams(),
            signed_streams = self.runtime.streams.verifier.is_some(),
            tokens = takes_tokens,
            backend = self.runtime.application.is_some(),
            "Starting"
        );
    }
}
