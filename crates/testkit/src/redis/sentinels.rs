//! A master, its replicas, and the sentinels that watch them.

use super::{Redis, RedisClient, Reply};
use crate::{Deadline, PATIENCE};
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;

/// The master's name among the sentinels, which is the host in [`Sentinels::url`].
const MASTER: &str = "mymaster";

/// Milliseconds after which a silent server counts as dead. With less than a ping's period, which
/// is a second, sentinels take a server for dead that only broke connections, as each new master
/// does, and one failover sets off the next.
const DOWN_AFTER: &str = "1500";

const REPLICAS: usize = 2;
const SENTINELS: usize = 3;

/// One master and two replicas under three sentinels that are quick to act. Whatever was
/// acknowledged is on the disk of who acknowledged it. Dropping it ends all of them.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts all of them and waits until they know each other.
    ///
    /// # Errors
    /// One does not start, or they don't find each other.
    pub async fn spawn() -> Result<Self> {
        // Without the delay a replica waits five seconds for others that want the same copy.
        let data = || {
            Redis::builder()
                .append_only()
                .setting("repl-diskless-sync-delay", "0")
        };
        let master = data().spawn().await?;
        let at = format!("{} {}", master.address().ip(), master.address().port());
        let mut trio = Self {
            servers: vec![master],
            sentinels: Vec::new(),
        };
        for _ in 0..REPLICAS {
            let replica = data().setting("replicaof", &at).spawn().await?;
            trio.servers.push(replica);
        }
        // A sentinel looks for replicas when it starts, and then only every ten seconds.
        trio.replicated_from(&trio.servers[0]).await?;
        for _ in 0..SENTINELS {
            let sentinel = Redis::builder()
                .setting("sentinel", &format!("monitor {MASTER} {at} 2"))
                .setting(
                    "sentinel",
                    &format!("down-after-milliseconds {MASTER} {DOWN_AFTER}"),
                )
                .setting("sentinel", &format!("failover-timeout {MASTER} 2000"))
                .sentinel();
            trio.sentinels.push(sentinel.spawn().await?);
        }
        trio.acquainted().await?;
        Ok(trio)
    }

    /// The URL a node gets: its host is the master's name.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{MASTER}/0")
    }

    /// Where the sentinels are, separated by commas.
    #[must_use]
    pub fn addresses(&self) -> String {
        let addresses = self.sentinel_addresses().into_iter();
        let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
        addresses.join(",")
    }

    /// A sentinel, to stop, pause or ask it.
    pub fn sentinel(&mut self, index: usize) -> &mut Redis {
        &mut self.sentinels[index]
    }

    /// Where most sentinels see the master at this moment.
    ///
    /// # Errors
    /// They don't answer or don't agree.
    pub async fn master_address(&self) -> Result<SocketAddr> {
        master_by_majority(&self.sentinel_addresses()).await
    }

    /// Where the sentinels are.
    #[must_use]
    pub fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Redis::address).collect()
    }

    /// The server that is the master at this moment.
    ///
    /// # Errors
    /// The sentinels don't answer or don't agree.
    pub async fn master(&mut self) -> Result<&mut Redis> {
        let address = self.master_address().await?;
        let mut servers = self.servers.iter_mut();
        let master = servers.find(|server| server.address() == address);
        master.context("the master is none of ours")
    }

    /// A connection to the master.
    ///
    /// # Errors
    /// The sentinels don't agree who it is, or it can't be reached.
    pub async fn client(&self) -> Result<RedisClient> {
        RedisClient::open(self.master_address().await?).await
    }

    /// Kills the master and does not wait for its successor. Returns its address.
    ///
    /// # Errors
    /// The sentinels don't agree who it is.
    pub async fn kill_master(&mut self) -> Result<SocketAddr> {
        let master = self.master().await?;
        master.stop();
        Ok(master.address())
    }

    /// Makes a replica the master while the master lives, and waits until it is.
    ///
    /// # Errors
    /// The sentinels won't, or don't in time.
    pub async fn failover(&self) -> Result<()> {
        let before = self.master_address().await?;
        let mut client = RedisClient::connect(&self.sentinels[0]).await?;
        let deadline = Deadline::within(PATIENCE);
        let mut refusal = None;
        while !self.has_succeeded(before).await {
            ensure!(!deadline.is_over(), "no failover: {refusal:?}");
            // It is refused while one is under way, and one that was given up is tried again.
            let answer = client.command(&["SENTINEL", "FAILOVER", MASTER]).await;
            refusal = answer.err().or(refusal);
            deadline.pause().await;
        }
        Ok(())
    }

    /// Waits until there is another master than `before`, and returns its address.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn succeeded(&self, before: SocketAddr) -> Result<SocketAddr> {
        let deadline = Deadline::within(PATIENCE);
        while !self.has_succeeded(before).await {
            ensure!(!deadline.is_over(), "{before} has no successor");
            deadline.pause().await;
        }
        self.master_address().await
    }

    /// Starts the servers that were killed.
    ///
    /// # Errors
    /// One does not start.
    pub async fn restart_killed(&mut self) -> Result<()> {
        for server in &mut self.servers {
            if server.process.is_none() {
                server.start().await?;
            }
        }
        Ok(())
    }

    /// Waits until every replica has what the master has now.
    ///
    /// # Errors
    /// They don't in time.
    pub async fn replicated(&self) -> Result<()> {
        let master = self.master_address().await?;
        let server = self
            .servers
            .iter()
            .find(|server| server.address() == master);
        self.replicated_from(server.context("the master is none of ours")?)
            .await
    }

    /// Whether there is another master than `before`, and it knows that it is.
    async fn has_succeeded(&self, before: SocketAddr) -> bool {
        match self.master_address().await {
            Ok(address) => address != before && is_master(address).await,
            Err(_) => false,
        }
    }

    async fn replicated_from(&self, master: &Redis) -> Result<()> {
        let mut client = RedisClient::connect(master).await?;
        let running = self.servers.iter();
        let replicas = running.filter(|server| server.process.is_some()).count() - 1;
        // `WAIT` is about the connection's own writes.
        client.command(&["SET", "testkit:replicated", "1"]).await?;
        let deadline = Deadline::within(PATIENCE);
        loop {
            let wait = ["WAIT", &replicas.to_string(), "1000"];
            let have = client.command(&wait).await?.integer().unwrap_or(0);
            if usize::try_from(have)? >= replicas {
                return Ok(());
            }
            ensure!(
                !deadline.is_over(),
                "{have} of {replicas} replicas are in time"
            );
        }
    }

    /// Waits until each sentinel knows the other ones and the replicas.
    async fn acquainted(&self) -> Result<()> {
        let deadline = Deadline::within(PATIENCE);
        for sentinel in &self.sentinels {
            let mut client = RedisClient::connect(sentinel).await?;
            loop {
                let about = client.command(&["SENTINEL", "MASTER", MASTER]).await?;
                let sees = |name, count| field(&about, name) == Some(count);
                if sees("num-slaves", REPLICAS as i64)
                    && sees("num-other-sentinels", SENTINELS as i64 - 1)
                {
                    break;
                }
                ensure!(!deadline.is_over(), "the sentinels are strangers");
                deadline.pause().await;
            }
        }
        Ok(())
    }
}

/// Where most of these sentinels see the master.
pub(crate) async fn master_by_majority(sentinels: &[SocketAddr]) -> Result<SocketAddr> {
    let mut votes = Vec::new();
    for sentinel in sentinels {
        if let Ok(vote) = master_by(*sentinel).await {
            votes.push(vote);
        }
    }
    let chosen = votes.iter().copied().find(|vote| {
        let same = votes.iter().filter(|other| *other == vote).count();
        same > sentinels.len() / 2
    });
    chosen.with_context(|| format!("the sentinels do not agree: {votes:?}"))
}

/// A number in the list of names and values that sentinels answer with.
fn field(reply: &Reply, name: &str) -> Option<i64> {
    let mut pairs = reply.items().chunks_exact(2);
    let pair = pairs.find(|pair| pair[0].text() == Some(name))?;
    pair[1].integer()
}

/// Where this sentinel sees the master.
async fn master_by(sentinel: SocketAddr) -> Result<SocketAddr> {
    let mut client = RedisClient::open(sentinel).await?;
    let reply = client
        .command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])
        .await?;
    match reply.items() {
        [host, port] => {
            let host = host.text().context("no host")?.parse()?;
            let port = u16::try_from(port.integer().context("no port")?)?;
            Ok(SocketAddr::new(host, port))
        }
        _ => bail!("the sentinel does not know {MASTER}"),
    }
}

async fn is_master(address: SocketAddr) -> bool {
    let Ok(mut client) = RedisClient::open(address).await else {
        return false;
    };
    let role = client.command(&["ROLE"]).await;
    role.is_ok_and(|role| role.items().first().and_then(Reply::text) == Some("master"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn value(address: SocketAddr) -> Reply {
        let mut client = RedisClient::open(address).await.unwrap();
        client.command(&["GET", "key"]).await.unwrap()
    }

    #[tokio::test]
    async fn a_replica_takes_over_and_the_dead_master_comes_back_under_it() {
        let mut trio = Sentinels::spawn().await.unwrap();
        assert_eq!(trio.url(), "redis://mymaster/0");
        assert_eq!(trio.addresses().split(',').count(), SENTINELS);
        let mut client = trio.client().await.unwrap();
        client.command(&["SET", "key", "kept"]).await.unwrap();
        trio.replicated().await.unwrap();

        let first = trio.kill_master().await.unwrap();
        let second = trio.succeeded(first).await.unwrap();
        assert_eq!(value(second).await.text(), Some("kept"));
        trio.restart_killed().await.unwrap();
        trio.replicated().await.unwrap();
        assert_eq!(value(first).await.text(), Some("kept"));
    }

    #[tokio::test]
    async fn a_master_can_be_replaced_while_it_lives() {
        let mut trio = Sentinels::spawn().await.unwrap();
        let first = trio.master().await.unwrap().address();
        trio.failover().await.unwrap();
        let second = trio.master().await.unwrap().address();
        assert_ne!(second, first);
        assert!(is_master(second).await);
    }
}
