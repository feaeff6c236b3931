//! What a value must be beyond its kind, and what options must be together.

use std::time::Duration;

use crate::{proxies::TrustedProxies, rooms::Resolver};

use super::{
    derived::{Mode, is_loopback},
    error::{ConfigError, Problem},
    settings::{Broker, Config},
};

/// Threads are memory, and the runtime reserves some for each.
const WORKERS_MAX: usize = 1024;

/// A node's name is part of the names of channels and of every log line.
const NODE_ID_MAX: usize = 64;

/// Category polls ask for whole seconds.
const CATEGORY_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// What a path may hold besides letters and digits. Braces, colons and asterisks mean
/// something to routers, and a question mark ends a path.
const PATH_PUNCTUATION: &[u8] = b"/-._~!$&'()+,;=@%";

impl Config {
    /// Whether the node can run with this. [`Config::load`] has asked already; a program that
    /// made the value itself should ask.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut broken = self.broken_values();
        broken.extend(self.broken_combinations());
        ConfigError::check(broken.into_iter().map(Rule::into_problem).collect())
    }

    /// What is wrong with single values.
    pub(super) fn broken_values(&self) -> Vec<Rule> {
        let mut broken = self.not_positive();
        broken.extend(self.broken_texts());
        if let Err(template) = Resolver::parse(&self.room_resolver) {
            let reason = "names no field: room, type, id, kind or payload.<name>, in braces";
            broken.push(Rule::new(
                "room_resolver",
                format!("holds {template:?}, which {reason}"),
            ));
        }
        if !matches!(self.mailbox_timeout_status, 200 | 204) {
            broken.push(Rule::new(
                "mailbox_timeout_status",
                "must be 200 or 204".to_owned(),
            ));
        }
        if self.workers > WORKERS_MAX {
            broken.push(Rule::new(
                "workers",
                format!("must be at most {WORKERS_MAX}"),
            ));
        }
        broken
    }

    /// What is wrong with values that are fine alone.
    pub(super) fn broken_combinations(&self) -> Vec<Rule> {
        let mut broken = self.paths_in_conflict();
        let is_protected = self.public || self.noauth || self.has_secret() || self.asks_backend();
        if !self.is_local() && !is_protected {
            broken.push(Rule::new(
                "host",
                format!(
                    "is {:?}, which other machines can reach, and nothing says who may connect: \
                     set secret or rpc_host, or public to let everyone in, or listen on 127.0.0.1",
                    self.host
                ),
            ));
        }
        if self.broker == Broker::Redis && self.redis_url.is_none() {
            broken.push(Rule::new(
                "broker",
                "is redis, which takes redis_url".to_owned(),
            ));
        }
        if self.redis_tls_client_cert_path.is_some() != self.redis_tls_client_key_path.is_some() {
            broken.push(Rule::new(
                "redis_tls_client_cert_path",
                "and redis_tls_client_key_path go together".to_owned(),
            ));
        }
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            broken.push(Rule::new("ssl_cert", "and ssl_key go together".to_owned()));
        }
        if self.rpc_tls_client_cert_path.is_some() != self.rpc_tls_client_key_path.is_some() {
            broken.push(Rule::new(
                "rpc_tls_client_cert_path",
                "and rpc_tls_client_key_path go together".to_owned(),
            ));
        }
        if self.redis_sentinels.is_some() && self.redis_url.is_none() {
            broken.push(Rule::new(
                "redis_sentinels",
                "takes redis_url, whose host is the name of the master".to_owned(),
            ));
        }
        if self.category_user.is_some() != self.category_password.is_set() {
            broken.push(Rule::new(
                "category_user",
                "and category_password go together".to_owned(),
            ));
        }
        if self.category_file.is_some() && self.uses_redis() {
            broken.push(Rule::new(
                "category_file",
                "is for the memory broker; with Redis events are kept there".to_owned(),
            ));
        }
        for (option, port) in [
            ("metrics_port", self.own_metrics_port()),
            ("console_port", self.own_console_port()),
        ] {
            if port.is_some() && port == self.own_broadcast_port() {
                let reason = "is the port that takes publications";
                broken.push(Rule::new(option, reason.to_owned()));
            }
        }
        if self.own_console_port().is_some() {
            broken.extend(self.broken_console_port());
        }
        let is_shut = self.mode() == Mode::Secured && self.broadcast_key().is_none();
        if is_shut && is_protected && self.own_broadcast_port().is_none() {
            broken.push(Rule::new(
                "http_broadcast_port",
                format!(
                    "comes to {}, the main port, which takes publications with a key only: set \
                     broadcast_key, or choose another port",
                    self.port
                ),
            ));
        }
        broken
    }

    /// What is wrong with where the console's own port is.
    fn broken_console_port(&self) -> Vec<Rule> {
        let mut broken = Vec::new();
        let (host, metrics_host) = (self.console_address(), self.metrics_address());
        if self.mode() == Mode::Development && !is_loopback(host) {
            let reason = "other machines can reach, and nothing says who may connect: set secret, \
                          or listen on 127.0.0.1";
            broken.push(Rule::new(
                "console_host",
                format!("is {host:?}, which {reason}"),
            ));
        }
        if self.own_console_port() == self.own_metrics_port() && host != metrics_host {
            broken.push(Rule::new(
                "console_host",
                format!(
                    "comes to {host:?}, but metrics_port is the same port, on {metrics_host:?}"
                ),
            ));
        }
        broken
    }

    fn not_positive(&self) -> Vec<Rule> {
        let counts = [
            ("poll_max_request_size", self.poll_max_request_size),
            ("poll_max_waiting", self.poll_max_waiting),
            ("poll_outbox_max_frames", self.poll_outbox_max_frames),
            ("poll_outbox_max_bytes", self.poll_outbox_max_bytes),
            ("memory_max_streams", self.memory_max_streams),
            (
                "max_subscriptions_per_session",
                self.max_subscriptions_per_session,
            ),
            ("max_publication_size", self.max_publication_size),
            ("ws_max_pending_size", self.ws_max_pending_size),
            ("max_message_size", self.max_message_size),
            ("category_buffer_size", self.category_buffer_size),
            ("rpc_concurrency", self.rpc_concurrency),
            ("rpc_max_call_recv_size", self.rpc_max_call_recv_size),
            ("disconnect_rate", self.disconnect_rate),
            ("disconnect_backlog_size", self.disconnect_backlog_size),
        ];
        let durations = [
            ("header_read_timeout", self.header_read_timeout),
            ("poll_interval", self.poll_interval),
            ("poll_keepalive_timeout", self.poll_keepalive_timeout),
            ("poll_write_timeout", self.poll_write_timeout),
            ("ws_write_timeout", self.ws_write_timeout),
            ("mailbox_timeout", self.mailbox_timeout),
            ("mailbox_ttl", self.mailbox_ttl),
            ("room_ttl", self.room_ttl),
            ("history_ttl", self.history_ttl),
            ("rpc_command_timeout", self.rpc_command_timeout),
            ("presence_ttl", self.presence_ttl),
            ("redis_keepalive_interval", self.redis_keepalive_interval),
            ("redis_check_interval", self.redis_check_interval),
            (
                "redis_sentinel_discovery_interval",
                self.redis_sentinel_discovery_interval,
            ),
        ];
        let counts = counts
            .into_iter()
            .filter(|(_, count)| *count == 0)
            .map(|(option, _)| Rule::new(option, "must be at least 1".to_owned()));
        let durations = durations
            .into_iter()
            .filter(|(_, duration)| duration.is_zero())
            .map(|(option, _)| Rule::new(option, "must be more than 0".to_owned()));
        counts.chain(durations).collect()
    }

    fn broken_texts(&self) -> Vec<Rule> {
        let mut broken: Vec<_> = self
            .all_paths()
            .filter(|(_, path)| !is_path(path))
            .map(|(option, path)| {
                let reason = "a path begins with / and holds letters, digits and punctuation";
                Rule::new(option, format!("is {path:?}, but {reason}"))
            })
            .collect();
        broken.extend(self.broken_otlp());
        if self.category_max_timeout < CATEGORY_TIMEOUT_MIN {
            broken.push(Rule::new(
                "category_max_timeout",
                "must be at least 1 second".to_owned(),
            ));
        }
        if self
            .category_user
            .as_deref()
            .is_some_and(|user| user.contains(':'))
        {
            let reason = "holds a colon, which ends a user's name in HTTP";
            broken.push(Rule::new("category_user", reason.to_owned()));
        }
        if !is_host(&self.host) {
            let reason = "an address or a name, without port and brackets";
            broken.push(Rule::new(
                "host",
                format!("is {:?}, expected {reason}", self.host),
            ));
        }
        for (option, host) in [
            ("metrics_host", &self.metrics_host),
            ("console_host", &self.console_host),
        ] {
            if !host.is_empty() && !is_host(host) {
                let reason = "an address or a name, without port and brackets";
                broken.push(Rule::new(option, format!("is {host:?}, expected {reason}")));
            }
        }
        if let Some(id) = self.node_id.as_deref().filter(|id| !is_node_id(id)) {
            let reason = format!("up to {NODE_ID_MAX} letters, digits, dots, dashes, underscores");
            broken.push(Rule::new(
                "node_id",
                format!("is {id:?}, expected {reason}"),
            ));
        }
        if let Err(error) = TrustedProxies::try_new(&self.trusted_proxies) {
            broken.push(Rule::new("trusted_proxies", format!("holds {error}")));
        }
        let in_header = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if self.jwt_param.is_empty() || !self.jwt_param.bytes().all(in_header) {
            let param = &self.jwt_param;
            let reason = "letters, digits, dashes and underscores";
            broken.push(Rule::new(
                "jwt_param",
                format!("is {param:?}, expected {reason}"),
            ));
        }
        for (option, text) in [
            ("redis_channel", &self.redis_channel),
            ("redisx_group", &self.redisx_group),
        ] {
            if text.is_empty() {
                broken.push(Rule::new(option, "must not be empty".to_owned()));
            }
        }
        if !is_redis_prefix(&self.redis_prefix) {
            let reason = "letters, digits, dots, dashes, underscores and colons";
            let prefix = &self.redis_prefix;
            broken.push(Rule::new(
                "redis_prefix",
                format!("is {prefix:?}, expected {reason}"),
            ));
        }
        if !is_metrics_prefix(&self.metrics_prefix) {
            let reason = "letters, digits, underscores and colons, and no digit first";
            let prefix = &self.metrics_prefix;
            broken.push(Rule::new(
                "metrics_prefix",
                format!("is {prefix:?}, expected {reason}"),
            ));
        }
        broken
    }

    /// Paths of the main port that two options claim.
    fn paths_in_conflict(&self) -> Vec<Rule> {
        let mut taken = Vec::new();
        if self.console_enabled() {
            taken.extend([("console", "/"), ("console", "/pollux.js")]);
        }
        let mut broken = Vec::new();
        let elsewhere = self.own_broadcast_port().is_some();
        let on_main_port = self.all_paths().filter(|(option, _)| match *option {
            "poll_path" => self.poll,
            "path" => self.websocket,
            "sse_path" => self.sse,
            "category_path" | "category_publish_path" => self.category_enabled(),
            "mailbox_poll_path" | "mailbox_push_path" => self.mailbox,
            "room_poll_path" | "room_send_path" | "room_path" => self.room,
            "http_broadcast_path" => !elsewhere,
            _ => true,
        });
        for (option, path) in on_main_port {
            match taken.iter().find(|(_, other)| *other == path) {
                Some((owner, _)) => {
                    broken.push(Rule::new(
                        option,
                        format!("is {path:?}, the path of {owner}"),
                    ));
                }
                None => taken.push((option, path)),
            }
        }
        broken
    }

    fn all_paths(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("poll_path", Some(self.poll_path.as_str())),
            ("sse_path", Some(&self.sse_path)),
            ("category_path", Some(&self.category_path)),
            ("category_publish_path", Some(&self.category_publish_path)),
            ("mailbox_poll_path", Some(&self.mailbox_poll_path)),
            ("mailbox_push_path", Some(&self.mailbox_push_path)),
            ("room_poll_path", Some(&self.room_poll_path)),
            ("room_send_path", Some(&self.room_send_path)),
            ("http_broadcast_path", Some(&self.http_broadcast_path)),
            ("health_path", Some(&self.health_path)),
            ("ready_path", Some(&self.ready_path)),
            ("metrics_http", self.metrics_http.as_deref()),
        ]
        .into_iter()
        .filter_map(|(option, path)| Some((option, path?)))
        .chain(self.path.iter().map(|path| ("path", path.as_str())))
        .chain(self.room_path.iter().map(|path| ("room_path", &**path)))
    }
}

/// A rule that a value breaks.
pub(super) struct Rule {
    /// The option that has the value.
    pub(super) option: &'static str,
    reason: String,
}

impl Rule {
    pub(super) const fn new(option: &'static str, reason: String) -> Self {
        Self { option, reason }
    }

    fn into_problem(self) -> Problem {
        self.found_at(None)
    }

    /// The problem, with the place the value came from.
    pub(super) fn found_at(self, place: Option<String>) -> Problem {
        Problem::Rule {
            option: self.option,
            reason: self.reason,
            place,
        }
    }
}

fn is_path(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || PATH_PUNCTUATION.contains(&byte);
    path.starts_with('/') && path.bytes().all(allowed)
}

fn is_host(host: &str) -> bool {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    host.parse::<std::net::IpAddr>().is_ok() || (!host.is_empty() && host.bytes().all(in_name))
}

fn is_node_id(id: &str) -> bool {
    id.len() <= NODE_ID_MAX
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Braces would move the keys of one stream into different slots of a cluster.
fn is_redis_prefix(prefix: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    !prefix.is_empty() && prefix.len() <= 64 && prefix.bytes().all(allowed)
}

fn is_metrics_prefix(prefix: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    prefix.bytes().all(allowed) && !prefix.starts_with(|first: char| first.is_ascii_digit())
}
