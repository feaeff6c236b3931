//! Builds a node and runs it: the library's front door.

mod builder;
mod doors;
mod heart;
mod serve;
mod setup;

pub use builder::Builder;
pub(crate) use heart::Report;
pub use serve::Listeners;
pub(crate) use setup::{random_node_id, redis_config_of};

use crate::{
    archive::Archive,
    config::{Config, Mode},
    http,
    proxies::NotANetwork,
    rooms::Rooms,
    runtime::Runtime,
    tls::{Tls, TlsError},
};
use axum::Router;
use heart::Heart;
use pollux_broker::BrokerError;
use pollux_protocol::{Meta, Payload, Publication, RoomMessage, StreamName};
use std::sync::Arc;
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

    /// Looks at the files of `ssl_cert` and `ssl_key` now rather than within
    /// ten seconds. What has changed in them is for new connections; what can't
    /// be used is logged, and the certificate before stays.
    pub fn reload_certificate(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
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
