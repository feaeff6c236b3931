//! What follows from several options at once.

use std::net::IpAddr;

use secrecy::ExposeSecret;

use super::{
    settings::{Broker, Category, Config, Console, LogLevel, Secret},
    value,
};

/// Where publishing without a key goes when it may not share the main port.
pub const OPEN_BROADCAST_PORT: u16 = 8090;

/// The phrase from which the key of the REST API is derived.
const API_KEY_PHRASE: &str = "api-cable";

/// The phrase from which the key of calls to a backend is derived.
const RPC_KEY_PHRASE: &str = "rpc-cable";

/// How a list of gRPC addresses begins that is one backend.
const GRPC_LIST: &str = "grpc-list://";

/// The phrase from which the broadcast key is derived, so that it differs from other keys of
/// the same secret. Publishers derive it too.
const BROADCAST_KEY_PHRASE: &str = "broadcast-cable";

/// How open the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing was configured, and only this machine can connect: everything is allowed.
    Development,
    /// The operator said that everyone may connect, subscribe and publish.
    Public,
    /// Only what was configured is allowed.
    Secured,
}

impl Config {
    /// How open the server is.
    pub fn mode(&self) -> Mode {
        let is_protected = self.noauth || self.has_secret() || self.asks_backend();
        if self.public {
            Mode::Public
        } else if !is_protected && self.is_local() {
            Mode::Development
        } else {
            Mode::Secured
        }
    }

    /// Whether clients may connect that prove nothing.
    pub fn accepts_connections(&self) -> bool {
        !self.enforce_jwt && (self.noauth || self.mode() != Mode::Secured)
    }

    /// Whether a backend is asked.
    pub fn asks_backend(&self) -> bool {
        !self.norpc && !self.backends().is_empty()
    }

    /// The backends that calls go to.
    pub fn backends(&self) -> Vec<String> {
        // The commas of a list of gRPC's own are not between backends.
        let mut hosts: Vec<String> = Vec::new();
        for host in self.rpc_host.iter().flat_map(|hosts| hosts.split(',')) {
            let (host, is_bare) = (host.trim(), !host.contains("://"));
            match hosts.last_mut() {
                Some(list) if is_bare && list.starts_with(GRPC_LIST) => {
                    list.push(',');
                    list.push_str(host);
                }
                _ if host.is_empty() => {}
                _ => hosts.push(host.to_owned()),
            }
        }
        hosts
    }

    /// The key that calls to a backend by HTTP carry, given or derived.
    pub fn rpc_key(&self) -> Option<String> {
        match &self.http_rpc_secret {
            Secret::Absent => self
                .secret
                .expose()
                .map(|secret| pollux_protocol::derived_key(secret.as_bytes(), RPC_KEY_PHRASE)),
            Secret::Cleared => None,
            Secret::Set(key) => Some(key.expose_secret().to_owned()),
        }
    }

    /// Whether clients may subscribe to streams by their plain names.
    pub fn public_streams(&self) -> bool {
        self.public_streams || self.mode() != Mode::Secured
    }

    /// Whether categories can be polled.
    pub fn category_enabled(&self) -> bool {
        match self.category {
            Category::Auto => self.public_streams() || self.category_user.is_some(),
            Category::On => true,
            Category::Off => false,
        }
    }

    /// The secrets that stream names may be signed with, the preferred one first; none means
    /// that signed names are refused.
    pub fn streams_secrets(&self) -> Vec<Vec<u8>> {
        several(&self.streams_secret, || self.own_secret())
    }

    /// The secrets that tokens may be signed with, the preferred one first; none means that
    /// nobody can prove anything with a token.
    pub fn token_secrets(&self) -> Vec<Vec<u8>> {
        several(&self.jwt_secret, || self.own_secret())
    }

    /// The secrets of Turbo's streams; none means that they are refused.
    pub fn turbo_secrets(&self) -> Vec<Vec<u8>> {
        match self.turbo_streams {
            true => several(&self.turbo_streams_secret, || self.streams_secrets()),
            false => Vec::new(),
        }
    }

    /// The secrets of CableReady's streams; none means that they are refused.
    pub fn cable_ready_secrets(&self) -> Vec<Vec<u8>> {
        match self.cable_ready {
            true => several(&self.cable_ready_secret, || self.streams_secrets()),
            false => Vec::new(),
        }
    }

    fn own_secret(&self) -> Vec<Vec<u8>> {
        self.secret.expose().map(Into::into).into_iter().collect()
    }

    /// The key that publishers send, given or derived. In public mode only one that was given.
    pub fn broadcast_key(&self) -> Option<String> {
        match &self.broadcast_key {
            Secret::Absent if self.public => None,
            Secret::Absent => self.secret.expose().map(|secret| {
                pollux_protocol::derived_key(secret.as_bytes(), BROADCAST_KEY_PHRASE)
            }),
            Secret::Cleared => None,
            Secret::Set(key) => Some(key.expose_secret().to_owned()),
        }
    }

    /// The key of the REST API, if it asks for one.
    pub fn api_key(&self) -> Option<String> {
        match &self.api_secret {
            Secret::Absent if self.public => None,
            Secret::Absent => self
                .secret
                .expose()
                .map(|secret| pollux_protocol::derived_key(secret.as_bytes(), API_KEY_PHRASE)),
            Secret::Cleared => None,
            Secret::Set(key) => Some(key.expose_secret().to_owned()),
        }
    }

    /// Whether publications are taken without a key. A key that was given is asked for even in
    /// public mode. In secured mode without a key it takes a port of its own.
    pub fn open_broadcast(&self) -> bool {
        match self.mode() {
            Mode::Development => true,
            Mode::Public => !self.broadcast_key.is_set(),
            Mode::Secured => self.broadcast_key().is_none() && self.own_broadcast_port().is_some(),
        }
    }

    /// The port that takes publications, or `None` if the main one does.
    pub fn own_broadcast_port(&self) -> Option<u16> {
        let port = match self.http_broadcast_port {
            0 if self.mode() == Mode::Secured && self.broadcast_key().is_none() => {
                OPEN_BROADCAST_PORT
            }
            0 => return None,
            port => port,
        };
        (port != self.port).then_some(port)
    }

    /// Whether the node's ports speak TLS.
    pub const fn uses_tls(&self) -> bool {
        self.ssl_cert.is_some()
    }

    /// The port that serves metrics, or `None` if the main one does or there are none.
    pub fn own_metrics_port(&self) -> Option<u16> {
        let port = self.metrics_port;
        (port != 0 && port != self.port && self.metrics_http.is_some()).then_some(port)
    }

    /// The address that port listens on.
    pub fn metrics_address(&self) -> &str {
        match self.metrics_host.as_str() {
            "" => &self.host,
            host => host,
        }
    }

    /// The port that serves the console page, or `None` if the main one does or there is none.
    pub fn own_console_port(&self) -> Option<u16> {
        let port = self.console_port;
        (port != 0 && port != self.port && self.console_enabled()).then_some(port)
    }

    /// The address that port listens on.
    pub fn console_address(&self) -> &str {
        match self.console_host.as_str() {
            "" => &self.host,
            host => host,
        }
    }

    /// Whether the Redis broker is used.
    pub const fn uses_redis(&self) -> bool {
        match self.broker {
            Broker::Auto => self.redis_url.is_some(),
            Broker::Memory => false,
            Broker::Redis => true,
        }
    }

    /// The address of Redis without user, password and query, for logs.
    pub fn redis_address(&self) -> Option<String> {
        self.redis_url
            .as_ref()
            .map(|url| value::mask(url.expose_secret()))
    }

    /// Whether the console page is served.
    pub fn console_enabled(&self) -> bool {
        match self.console {
            Console::Auto => self.mode() == Mode::Development,
            Console::On => true,
            Console::Off => false,
        }
    }

    /// The level to log at.
    pub fn effective_log_level(&self) -> LogLevel {
        if self.debug {
            LogLevel::Debug
        } else {
            self.log_level
        }
    }

    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Whether there is a secret of any kind.
    pub(super) const fn has_secret(&self) -> bool {
        self.secret.is_set()
            || self.broadcast_key.is_set()
            || self.streams_secret.is_set()
            || self.jwt_secret.is_set()
    }
}

/// Whether only this machine can connect to what listens on an address.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Secrets separated by commas, and what stands in for them.
fn several(secret: &Secret, otherwise: impl FnOnce() -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    match secret {
        Secret::Absent => otherwise(),
        Secret::Cleared => Vec::new(),
        Secret::Set(secrets) => secrets
            .expose_secret()
            .split(',')
            .map(str::trim)
            .filter(|secret| !secret.is_empty())
            .map(Into::into)
            .collect(),
    }
}
