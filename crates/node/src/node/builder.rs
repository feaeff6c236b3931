//! Puts a node together, as its options say.

use super::{
    Node, NodeError,
    heart::Heart,
    setup::{poll_config, random_node_id, start_application, start_broker},
};
use crate::{
    application::Application,
    archive::Archive,
    auth::{Authenticator, Everybody, Gate, StreamPolicy, Tokens},
    config::Config,
    limits::{PublishLimit, Strangers},
    proxies::TrustedProxies,
    rooms::{Resolver, Rooms, RoomsConfig},
    runtime::{Parts, Runtime},
    telemetry::{Metrics, Traces},
    tls::Tls,
};
use pollux_broker::{Broker, Events, Keep};
use pollux_protocol::{StreamVerifier, TokenVerifier};
use std::{path::Path, sync::Arc};
use tracing::warn;

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
