//! The worlds that nodes live in.
//!
//! Cases that break nothing share one set of servers. Each has a prefix of its own, so they don't
//! hear of each other. The servers end with the last case that holds them: a static that owned
//! them would leave them behind.

use crate::node::Node;
use anyhow::{Context, Result};
use pollux_broker::{MemoryBroker, MemoryConfig, RedisBroker, RedisConfig};
use pollux_testkit as testkit;
use pollux_testkit::{ClusterClient, RedisCluster, Reply, Sentinels};
use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::Mutex;

/// How long servers may take to be one world again after an outage.
const AGREEMENT: Duration = Duration::from_secs(60);

/// What brokers are started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) history_limit: usize,
    pub(crate) history_ttl: Duration,
    pub(crate) linger: Duration,
    pub(crate) check_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history_limit: 1_000,
            history_ttl: Duration::from_secs(300),
            linger: Duration::from_secs(10),
            check_interval: Duration::from_secs(10),
        }
    }
}

/// Where brokers are made.
pub(crate) trait World: Sized {
    /// A world that other cases may use at the same time.
    async fn begin(limits: Limits) -> Result<Self>;

    /// The same world with other limits for the nodes to come.
    fn limited(&mut self, limits: Limits);

    /// One more node, which works.
    async fn node(&self) -> Result<Node>;

    /// As many nodes as make a difference; one where a node is the whole world.
    async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(vec![self.node().await?, self.node().await?])
    }

    /// Whether there can be a stream of this name.
    fn holds(&self, _stream: &str) -> bool {
        true
    }
}

/// A world of several nodes, of which a case may have one for itself.
pub(crate) trait Alone: World {
    /// A world that may be broken.
    async fn alone(limits: Limits) -> Result<Self>;

    /// The servers that have `key` go away, all at once and without a word. What was
    /// acknowledged is kept.
    async fn leave(&mut self, key: &str) -> Result<()>;

    /// They, or others instead of them, are there.
    async fn come_back(&mut self) -> Result<()>;

    /// A command about `key`, as any client sends it.
    async fn command(&self, key: &str, command: &[&str]) -> Result<Reply>;

    /// The configuration that nodes get.
    fn config(&self) -> &RedisConfig;
}

/// One node with everything in the process.
#[derive(Debug)]
pub(crate) struct Memory(Limits);

impl World for Memory {
    async fn begin(limits: Limits) -> Result<Self> {
        Ok(Self(limits))
    }

    fn limited(&mut self, limits: Limits) {
        self.0 = limits;
    }

    async fn node(&self) -> Result<Node> {
        let (broker, events) = MemoryBroker::start(MemoryConfig {
            history_limit: self.0.history_limit,
            history_ttl: self.0.history_ttl,
            ..MemoryConfig::default()
        })?;
        Ok(Node::new(broker, events).await)
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(vec![self.node().await?])
    }
}

/// Nodes at one Redis.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) server: Arc<testkit::Redis>,
    config: RedisConfig,
}

/// Nodes at a Redis Cluster of three masters.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Arc<RedisCluster>,
    config: RedisConfig,
    /// Who was killed.
    dead: Option<usize>,
}

/// Nodes at a master and its replicas.
#[derive(Debug)]
pub(crate) struct Sentinel {
    servers: Arc<Sentinels>,
    config: RedisConfig,
    /// Who was killed.
    dead: Option<std::net::SocketAddr>,
}

impl Redis {
    /// At a server that is there, as somebody whom it lets in.
    pub(crate) fn at(server: &Arc<testkit::Redis>, url: String) -> Self {
        Self {
            server: Arc::clone(server),
            config: config(url, Limits::default()),
        }
    }
}

static REDIS: Mutex<Weak<testkit::Redis>> = Mutex::const_new(Weak::new());
static CLUSTER: Mutex<Weak<RedisCluster>> = Mutex::const_new(Weak::new());
static SENTINEL: Mutex<Weak<Sentinels>> = Mutex::const_new(Weak::new());

/// What somebody holds, or a new one.
async fn shared<T>(
    place: &Mutex<Weak<T>>,
    make: Pin<Box<dyn Future<Output = Result<T>>>>,
) -> Result<Arc<T>> {
    let mut place = place.lock().await;
    if let Some(there) = place.upgrade() {
        return Ok(there);
    }
    let made = Arc::new(make.await?);
    *place = Arc::downgrade(&made);
    Ok(made)
}

impl World for Redis {
    async fn begin(limits: Limits) -> Result<Self> {
        let server = shared(&REDIS, Box::pin(testkit::Redis::spawn())).await?;
        let config = apart(config(server.url(), limits));
        Ok(Self { server, config })
    }

    fn limited(&mut self, limits: Limits) {
        limit(&mut self.config, limits);
    }

    async fn node(&self) -> Result<Node> {
        start(&self.config).await
    }
}

impl Alone for Redis {
    async fn alone(limits: Limits) -> Result<Self> {
        let server = testkit::Redis::builder().append_only().spawn().await?;
        Ok(Self {
            config: config(server.url(), limits),
            server: Arc::new(server),
        })
    }

    async fn leave(&mut self, _key: &str) -> Result<()> {
        own(&mut self.server)?.stop();
        Ok(())
    }

    async fn come_back(&mut self) -> Result<()> {
        own(&mut self.server)?.start().await
    }

    async fn command(&self, _key: &str, command: &[&str]) -> Result<Reply> {
        let mut client = testkit::RedisClient::connect(&self.server).await?;
        Ok(client.command(command).await?)
    }

    fn config(&self) -> &RedisConfig {
        &self.config
    }
}

impl World for Cluster {
    async fn begin(limits: Limits) -> Result<Self> {
        let servers = shared(&CLUSTER, Box::pin(RedisCluster::spawn(3))).await?;
        let config = apart(config(servers.urls(), limits));
        Ok(Self {
            servers,
            config,
            dead: None,
        })
    }

    fn limited(&mut self, limits: Limits) {
        limit(&mut self.config, limits);
    }

    async fn node(&self) -> Result<Node> {
        start(&self.config).await
    }

    /// A hash tag that ends where it begins is none, and then nothing holds a stream's keys
    /// together.
    fn holds(&self, stream: &str) -> bool {
        !stream.starts_with('}')
    }
}

impl Alone for Cluster {
    async fn alone(limits: Limits) -> Result<Self> {
        let servers = RedisCluster::spawn(3).await?;
        Ok(Self {
            config: config(servers.urls(), limits),
            servers: Arc::new(servers),
            dead: None,
        })
    }

    async fn leave(&mut self, key: &str) -> Result<()> {
        let servers = own(&mut self.servers)?;
        let slot = servers.slot_of(key).await?;
        let owner = servers.owner(slot).await?;
        servers.server(owner).stop();
        self.dead = Some(owner);
        Ok(())
    }

    async fn come_back(&mut self) -> Result<()> {
        let dead = self.dead.take().context("nobody is dead")?;
        let restarted = own(&mut self.servers)?.restart(dead);
        tokio::time::timeout(AGREEMENT, restarted).await?
    }

    async fn command(&self, key: &str, command: &[&str]) -> Result<Reply> {
        let mut client: ClusterClient = self.servers.client();
        Ok(client.command(key, command).await?)
    }

    fn config(&self) -> &RedisConfig {
        &self.config
    }
}

impl World for Sentinel {
    async fn begin(limits: Limits) -> Result<Self> {
        let servers = shared(&SENTINEL, Box::pin(Sentinels::spawn())).await?;
        let config = apart(under(&servers, limits));
        Ok(Self {
            servers,
            config,
            dead: None,
        })
    }

    fn limited(&mut self, limits: Limits) {
        limit(&mut self.config, limits);
    }

    async fn node(&self) -> Result<Node> {
        start(&self.config).await
    }
}

impl Alone for Sentinel {
    async fn alone(limits: Limits) -> Result<Self> {
        let servers = Sentinels::spawn().await?;
        Ok(Self {
            config: under(&servers, limits),
            servers: Arc::new(servers),
            dead: None,
        })
    }

    async fn leave(&mut self, _key: &str) -> Result<()> {
        let servers = own(&mut self.servers)?;
        // Replication runs behind; what a dead master alone had is lost by design.
        servers.replicated().await?;
        self.dead = Some(servers.kill_master().await?);
        Ok(())
    }

    async fn come_back(&mut self) -> Result<()> {
        let dead = self.dead.take().context("nobody is dead")?;
        self.servers.succeeded(dead).await.map(drop)
    }

    async fn command(&self, _key: &str, command: &[&str]) -> Result<Reply> {
        Ok(self.servers.client().await?.command(command).await?)
    }

    fn config(&self) -> &RedisConfig {
        &self.config
    }
}

/// Starts a broker and waits until it works.
pub(crate) async fn start(config: &RedisConfig) -> Result<Node> {
    let (broker, events) = RedisBroker::start(named(config))?;
    Ok(Node::new(broker, events).await)
}

/// Gives a node a name that no other has.
pub(crate) fn named(config: &RedisConfig) -> RedisConfig {
    RedisConfig {
        node: format!("node{}", number()),
        ..config.clone()
    }
}

/// The configuration for a Redis.
pub(crate) fn config(url: String, limits: Limits) -> RedisConfig {
    let mut config = RedisConfig {
        url,
        ..RedisConfig::default()
    };
    limit(&mut config, limits);
    config
}

fn under(servers: &Sentinels, limits: Limits) -> RedisConfig {
    RedisConfig {
        sentinels: servers.addresses().split(',').map(str::to_owned).collect(),
        ..config(servers.url(), limits)
    }
}

fn limit(config: &mut RedisConfig, limits: Limits) {
    config.history_limit = limits.history_limit;
    config.history_ttl = limits.history_ttl;
    config.linger = limits.linger;
    config.check_interval = limits.check_interval;
}

/// With names that no other case uses.
fn apart(config: RedisConfig) -> RedisConfig {
    let number = number();
    RedisConfig {
        prefix: format!("case{number}"),
        channel: format!("case{number}:all"),
        intake: format!("case{number}:intake"),
        ..config
    }
}

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn own<T>(servers: &mut Arc<T>) -> Result<&mut T> {
    Arc::get_mut(servers).context("others use these servers")
}
