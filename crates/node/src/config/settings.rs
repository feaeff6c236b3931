//! The configuration as the program uses it.

use std::time::Duration;

use figment::Figment;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::layer::Layer;

/// The configuration of a node: one field for each option of the table, which says what each
/// means, its unit, and what zero and absent mean.
///
/// The default is the table's: development mode on the loopback interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on, without the port.
    pub host: String,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Everyone may connect, subscribe by plain names, and publish.
    pub public: bool,
    /// Everyone may connect.
    pub noauth: bool,
    /// The application's secret, from which others are derived.
    pub secret: Secret,
    /// Origins whose pages may connect; empty means any.
    pub allowed_origins: Vec<String>,
    /// Addresses and networks of the proxies in front.
    pub trusted_proxies: Vec<String>,
    /// Name of this node; absent means a random one.
    #[serde(deserialize_with = "text_or_absent")]
    pub node_id: Option<String>,
    /// Connections open at once; 0 means no limit.
    pub max_connections: usize,
    /// How long a client may take to send the head of a request.
    #[serde(deserialize_with = "millis")]
    pub header_read_timeout: Duration,
    /// How long open polls and requests get to end; 0 ends them at once.
    #[serde(deserialize_with = "millis")]
    pub shutdown_timeout: Duration,
    /// How long to go on accepting after becoming not ready.
    #[serde(deserialize_with = "millis")]
    pub shutdown_delay: Duration,
    /// Threads that serve connections; 0 means one for each core.
    pub workers: usize,
    /// File of the certificate that clients see; absent means no TLS.
    #[serde(deserialize_with = "text_or_absent")]
    pub ssl_cert: Option<String>,
    /// File of that certificate's private key.
    #[serde(deserialize_with = "text_or_absent")]
    pub ssl_key: Option<String>,
    /// Whether the console page is served.
    pub console: Console,
    /// Port of the console; see [`Config::own_console_port`].
    pub console_port: u16,
    /// Address of that port; see [`Config::console_address`].
    pub console_host: String,

    /// Whether clients are served by long polling.
    pub poll: bool,
    /// Path of the long polls.
    pub poll_path: String,
    /// How long a poll is held when there is nothing to send.
    #[serde(deserialize_with = "millis")]
    pub poll_interval: Duration,
    /// Least time between two answers to a session; 0 means none.
    #[serde(deserialize_with = "millis")]
    pub poll_flush_interval: Duration,
    /// Largest body of a poll, in bytes.
    pub poll_max_request_size: usize,
    /// How long a session lives without a poll.
    #[serde(deserialize_with = "millis")]
    pub poll_keepalive_timeout: Duration,
    /// Polls of one session that may wait at the same time.
    pub poll_max_waiting: usize,
    /// What happens when a session's outbox is full.
    pub poll_overflow: PollOverflow,
    /// Frames that may wait for one session.
    pub poll_outbox_max_frames: usize,
    /// Bytes that may wait for one session.
    pub poll_outbox_max_bytes: usize,
    /// An answer of which no byte moves for this long is given up.
    #[serde(deserialize_with = "millis")]
    pub poll_write_timeout: Duration,
    /// Answers of at least this many bytes are compressed on request; 0 means none.
    pub poll_compress_min_size: usize,

    /// Whether clients are served by WebSocket.
    pub websocket: bool,
    /// Paths of the WebSocket.
    pub path: Vec<String>,
    /// Between two pings; 0 means none.
    #[serde(deserialize_with = "millis")]
    pub ping_interval: Duration,
    /// What the time in a ping is told in: `s`, `ms` or `ns`.
    pub ping_timestamp_precision: String,
    /// How long a client of the extended protocol may be silent; 0 means for ever.
    #[serde(deserialize_with = "millis")]
    pub pong_timeout: Duration,
    /// Whether pings are WebSocket's own frames.
    pub enable_native_pings: bool,
    /// A client that takes nothing for this long is given up.
    #[serde(deserialize_with = "millis")]
    pub ws_write_timeout: Duration,
    /// Bytes that may wait for one client of a socket.
    pub ws_max_pending_size: usize,
    /// Largest message of a client, in bytes.
    pub max_message_size: usize,

    /// Whether clients are served by server-sent events.
    pub sse: bool,
    /// Path of the event streams.
    pub sse_path: String,
    /// Whether event streams are compressed on request.
    pub sse_compress: bool,

    /// Whether categories can be polled; see [`Config::category_enabled`].
    pub category: Category,
    /// Path of category polls.
    pub category_path: String,
    /// Path that takes publications to a category.
    pub category_publish_path: String,
    /// The longest time a category poll may ask to wait.
    #[serde(deserialize_with = "millis")]
    pub category_max_timeout: Duration,
    /// Events kept for each category.
    pub category_buffer_size: usize,
    /// How long an event can be had; 0 means for ever.
    #[serde(deserialize_with = "millis")]
    pub category_ttl: Duration,
    /// Whether an event that was had is gone.
    pub category_delete_after_retrieval: bool,
    /// Whether pages of other origins may poll and publish.
    pub category_cors: bool,
    /// User of HTTP Basic authentication; absent means none.
    #[serde(deserialize_with = "text_or_absent")]
    pub category_user: Option<String>,
    /// That user's password.
    pub category_password: Secret,
    /// File that keeps the memory broker's events; absent means none.
    #[serde(deserialize_with = "text_or_absent")]
    pub category_file: Option<String>,

    /// Whether mailboxes are served.
    pub mailbox: bool,
    /// Path where recipients wait.
    pub mailbox_poll_path: String,
    /// Path that takes messages for recipients.
    pub mailbox_push_path: String,
    /// How long a recipient's poll is held.
    #[serde(deserialize_with = "millis")]
    pub mailbox_timeout: Duration,
    /// Status of the empty answer after that time: 200 or 204.
    pub mailbox_timeout_status: u16,
    /// Messages that may wait for a recipient who is away.
    pub mailbox_capacity: usize,
    /// How long a mailbox is kept after the last message.
    #[serde(deserialize_with = "millis")]
    pub mailbox_ttl: Duration,

    /// Whether rooms are served.
    pub room: bool,
    /// Path where messages of a room are fetched.
    pub room_poll_path: String,
    /// Path that takes messages for rooms.
    pub room_send_path: String,
    /// Paths of the rooms' WebSocket.
    pub room_path: Vec<String>,
    /// Which stream a message goes to.
    pub room_resolver: Vec<String>,
    /// How long messages wait for a room without life.
    #[serde(deserialize_with = "millis")]
    pub room_ttl: Duration,
    /// Messages that may wait for the polls of a room.
    pub room_buffer_size: usize,
    /// How long a poll is held that does not say.
    #[serde(deserialize_with = "millis")]
    pub room_wait: Duration,
    /// The longest a poll may ask to be held.
    #[serde(deserialize_with = "millis")]
    pub room_max_wait: Duration,
    /// Between two pings of a room's socket; 0 means none.
    #[serde(deserialize_with = "millis")]
    pub room_ping_interval: Duration,
    /// How long a room's socket may be silent; 0 means for ever.
    #[serde(deserialize_with = "millis")]
    pub room_idle_timeout: Duration,
    /// Whether clients may read a room's history.
    pub room_history: bool,

    /// Secrets that sign tokens, separated by commas; see [`Config::token_secrets`].
    pub jwt_secret: Secret,
    /// What a token is called in the query.
    pub jwt_param: String,
    /// Whether clients without a token are refused.
    pub enforce_jwt: bool,

    /// The backends that are asked, separated by commas; see [`Config::backends`].
    #[serde(deserialize_with = "text_or_absent")]
    pub rpc_host: Option<String>,
    /// Whether none is asked all the same.
    pub norpc: bool,
    /// Calls at one time.
    pub rpc_concurrency: usize,
    /// Calls that may wait for their turn.
    pub rpc_max_waiting: usize,
    /// How long a call may take.
    #[serde(deserialize_with = "millis")]
    pub rpc_command_timeout: Duration,
    /// How long one try may take; 0 is the transport's default.
    #[serde(deserialize_with = "millis")]
    pub rpc_request_timeout: Duration,
    /// Key of calls by HTTP; see [`Config::rpc_key`].
    pub http_rpc_secret: Secret,
    /// Whether gRPC is spoken through TLS.
    pub rpc_enable_tls: bool,
    /// Whether the backend's certificate must be valid.
    pub rpc_tls_verify: bool,
    /// Who signs it, if not whom the system trusts.
    #[serde(deserialize_with = "text_or_absent")]
    pub rpc_tls_root_ca: Option<String>,
    /// The certificate shown to the backend.
    #[serde(deserialize_with = "text_or_absent")]
    pub rpc_tls_client_cert_path: Option<String>,
    /// Its key.
    #[serde(deserialize_with = "text_or_absent")]
    pub rpc_tls_client_key_path: Option<String>,
    /// Bytes of the largest answer.
    pub rpc_max_call_recv_size: usize,
    /// Headers that the backend is told.
    pub headers: Vec<String>,
    /// Cookies that it is told; none named means all.
    pub proxy_cookies: Vec<String>,
    /// Of which ended sessions it is told.
    pub disconnect_mode: DisconnectMode,
    /// Ended sessions that it is told of, a second.
    pub disconnect_rate: usize,
    /// Those that may wait for it.
    pub disconnect_backlog_size: usize,

    /// Whether clients may subscribe by plain names in every mode; see
    /// [`Config::public_streams`] for whether they may in this one.
    pub public_streams: bool,
    /// Secrets that sign stream names, separated by commas; see [`Config::streams_secrets`].
    pub streams_secret: Secret,
    /// Whether Turbo's channel is known.
    pub turbo_streams: bool,
    /// Secrets of Turbo's streams; see [`Config::turbo_secrets`].
    pub turbo_streams_secret: Secret,
    /// Whether CableReady's channel is known.
    pub cable_ready: bool,
    /// Secrets of CableReady's streams; see [`Config::cable_ready_secrets`].
    pub cable_ready_secret: Secret,
    /// Whether clients may send to other subscribers.
    pub streams_whisper: bool,
    /// Whether subscribers of signed streams may be present.
    pub streams_presence: bool,

    /// Key that publishers send; see [`Config::broadcast_key`].
    pub broadcast_key: Secret,
    /// Key of the REST API; see [`Config::api_key`].
    pub api_secret: Secret,
    /// Path that takes publications.
    pub http_broadcast_path: String,
    /// Port that takes publications; see [`Config::own_broadcast_port`].
    pub http_broadcast_port: u16,
    /// Whether pages of other origins may publish.
    pub http_broadcast_cors: bool,

    /// What was asked for; see [`Config::uses_redis`] for what it comes to.
    pub broker: Broker,
    /// Publications kept for each stream; 0 means no history.
    pub history_limit: usize,
    /// How long history is kept after a stream's last publication.
    #[serde(deserialize_with = "millis")]
    pub history_ttl: Duration,
    /// How long a session is kept for its client to come back.
    #[serde(deserialize_with = "millis")]
    pub sessions_ttl: Duration,
    /// How long a client stays present without a sign of life.
    #[serde(deserialize_with = "millis")]
    pub presence_ttl: Duration,
    /// Streams the memory broker keeps history for.
    pub memory_max_streams: usize,
    /// Bytes of history the memory broker keeps.
    pub memory_max_bytes: usize,

    /// Address of Redis, secret because it may carry a password.
    #[serde(deserialize_with = "secret_or_absent")]
    pub redis_url: Option<SecretString>,
    /// Sentinels, separated by commas; they may hold passwords too.
    #[serde(deserialize_with = "secret_or_absent")]
    pub redis_sentinels: Option<SecretString>,
    /// How often the sentinels are asked who the master is.
    #[serde(deserialize_with = "millis")]
    pub redis_sentinel_discovery_interval: Duration,
    /// Whether Redis's certificate must be valid.
    pub redis_tls_verify: bool,
    /// File of those who sign Redis's certificates; absent means whom the system trusts.
    #[serde(deserialize_with = "text_or_absent")]
    pub redis_tls_ca_cert_path: Option<String>,
    /// File of the certificate that this node shows to Redis.
    #[serde(deserialize_with = "text_or_absent")]
    pub redis_tls_client_cert_path: Option<String>,
    /// File of that certificate's private key.
    #[serde(deserialize_with = "text_or_absent")]
    pub redis_tls_client_key_path: Option<String>,
    /// What the names of keys and channels begin with.
    pub redis_prefix: String,
    /// Channel on which applications publish with `PUBLISH`.
    pub redis_channel: String,
    /// Redis stream of `XADD`; empty means that none is read.
    pub redisx_stream: String,
    /// Consumer group that reads it.
    pub redisx_group: String,
    /// How long a stream is listened to after its last subscriber has left.
    #[serde(deserialize_with = "millis")]
    pub redis_linger: Duration,
    /// How often a silent stream is compared with its history.
    #[serde(deserialize_with = "millis")]
    pub redis_check_interval: Duration,
    /// How often an idle connection to Redis is checked.
    #[serde(deserialize_with = "millis")]
    pub redis_keepalive_interval: Duration,

    /// Path that answers while the process is alive.
    pub health_path: String,
    /// Path that says whether the node should get traffic.
    pub ready_path: String,
    /// Path of the metrics; absent means off.
    #[serde(deserialize_with = "text_or_absent")]
    pub metrics_http: Option<String>,
    /// Port of the metrics; see [`Config::own_metrics_port`].
    pub metrics_port: u16,
    /// Address of that port; see [`Config::metrics_address`].
    pub metrics_host: String,
    /// What the name of every metric begins with.
    pub metrics_prefix: String,
    /// What was asked for; see [`Config::effective_log_level`].
    pub log_level: LogLevel,
    /// Whether to log at level debug, whatever `log_level` says.
    pub debug: bool,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Where traces are sent; absent means that there are none.
    #[serde(deserialize_with = "secret_or_absent")]
    pub otlp_endpoint: Option<SecretString>,
    /// How they are sent.
    pub otlp_protocol: OtlpProtocol,
    /// Headers that go with them: `name=value`, separated by commas.
    pub otlp_headers: Secret,
    /// Share of the publications that are traced without being asked to.
    pub traces_sample_ratio: f64,
    /// Whether traces name streams.
    pub traces_stream_names: bool,
    /// What the nodes are called in traces.
    #[serde(deserialize_with = "text_or_absent")]
    pub service_name: Option<String>,

    /// Sessions held at once; 0 means no limit.
    pub max_sessions: usize,
    /// Sessions held at once for one client's address; 0 means no limit.
    pub max_sessions_per_address: usize,
    /// Subscriptions one session may have.
    pub max_subscriptions_per_session: usize,
    /// Commands one session may send in a second; 0 means no limit.
    pub max_commands_per_second: usize,
    /// Polls of no session that one client's address may send in a minute; 0 means no limit.
    pub max_unknown_polls_per_minute: usize,
    /// Publications that each door takes in a second; 0 means no limit.
    pub max_publishes_per_second: usize,
    /// Largest publication, in bytes.
    pub max_publication_size: usize,
}

impl Default for Config {
    #[expect(
        clippy::expect_used,
        reason = "the defaults are constants, and the tests load them"
    )]
    fn default() -> Self {
        Figment::from(Layer::defaults())
            .extract()
            .expect("the table has a valid default for every field")
    }
}

/// A secret as it was configured.
#[derive(Debug, Clone, Default)]
pub enum Secret {
    /// Not given, so that another secret may stand in for it.
    #[default]
    Absent,
    /// Given as `none`: no secret, and no other stands in.
    Cleared,
    /// Given.
    Set(SecretString),
}

impl Secret {
    /// The secret that a text stands for: empty is absent, and `none` clears it.
    pub fn new(text: &str) -> Self {
        match text {
            "" => Self::Absent,
            "none" => Self::Cleared,
            _ => Self::Set(text.into()),
        }
    }

    /// The secret itself, if there is one.
    pub fn expose(&self) -> Option<&str> {
        match self {
            Self::Set(secret) => Some(secret.expose_secret()),
            Self::Absent | Self::Cleared => None,
        }
    }

    /// Whether there is one.
    pub const fn is_set(&self) -> bool {
        matches!(self, Self::Set(_))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

/// Of which ended sessions a backend is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectMode {
    /// Of those it has heard of before.
    Auto,
    /// Of all.
    Always,
    /// Of none.
    Never,
}

/// Whether the console page is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Console {
    /// In development mode only.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Whether categories can be polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Where clients may subscribe by plain names, or there is a user.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What happens when a session's outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollOverflow {
    /// The session ends.
    Expire,
    /// The oldest frames are dropped, and the client is told.
    DropOldest,
}

/// What orders publications, keeps history and connects nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broker {
    /// Redis if there is an address, else memory.
    Auto,
    /// This node alone.
    Memory,
    /// All nodes that share one Redis.
    Redis,
}

/// The least severe messages that are logged, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What needs an operator.
    Error,
    /// What may need one.
    Warn,
    /// What a day of the server looks like.
    Info,
    /// What a developer asks.
    Debug,
}

impl LogLevel {
    /// The word for it, as filters of logs understand it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How traces are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum OtlpProtocol {
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protocol buffers over HTTP/1.1.
    #[serde(rename = "http/protobuf")]
    Http,
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn text_or_absent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then_some(text))
}

fn secret_or_absent<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    Ok(text_or_absent(deserializer)?.map(SecretString::from))
}
