//! How a node reaches Redis, and what it keeps there.

use std::{fmt, path::PathBuf, time::Duration};

/// See the module's head.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/db]`, or `rediss://` for TLS.
    /// Several, separated by commas, are nodes of a Redis Cluster. With
    /// sentinels the host is the name of the master.
    pub url: String,
    /// Sentinels, each `[:password@]host:port` or a URL. Empty: none.
    pub sentinels: Vec<String>,
    /// Certificates for `rediss://`.
    pub tls: RedisTls,
    /// What keys and channels begin with. No braces.
    pub prefix: String,
    /// The channel of `PUBLISH`, at most once.
    pub channel: String,
    /// The stream of `XADD`. Empty: none is read.
    pub intake: String,
    /// The consumer group that reads it.
    pub intake_group: String,
    /// What this node is called: part of the names of its connections and of
    /// its consumer.
    pub node: String,
    /// TCP keep-alive of connections.
    pub keepalive_interval: Duration,
    /// Publications kept per stream.
    pub history_limit: usize,
    /// How long after the last publication they are kept.
    pub history_ttl: Duration,
    /// How long a stream is listened to after its last subscriber left.
    pub linger: Duration,
    /// How often a silent stream is compared with its history.
    pub check_interval: Duration,
    /// How often the sentinels are asked who the master is.
    pub discovery_interval: Duration,
    /// Bytes of one publication's data; larger ones of the intake are set
    /// aside.
    pub max_publication_size: usize,
}

/// See [`RedisConfig::tls`].
#[derive(Clone, Debug)]
pub struct RedisTls {
    /// Whether the server's certificate must be valid.
    pub verify: bool,
    /// Who signs servers' certificates, instead of whom the system trusts.
    pub ca: Option<PathBuf>,
    /// This node's own certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Default for RedisTls {
    fn default() -> Self {
        Self {
            verify: true,
            ca: None,
            client: None,
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            sentinels: Vec::new(),
            tls: RedisTls::default(),
            prefix: "pollux".to_owned(),
            channel: "__anycable__".to_owned(),
            intake: "__anycable__".to_owned(),
            intake_group: "bx".to_owned(),
            node: "node".to_owned(),
            keepalive_interval: Duration::from_secs(30),
            history_limit: 100,
            history_ttl: Duration::from_secs(300),
            linger: Duration::from_secs(10),
            check_interval: Duration::from_secs(10),
            discovery_interval: Duration::from_secs(10),
            max_publication_size: 1 << 20,
        }
    }
}

impl fmt::Debug for RedisConfig {
    /// Without the URLs: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("prefix", &self.prefix)
            .field("channel", &self.channel)
            .field("intake", &self.intake)
            .finish_non_exhaustive()
    }
}
