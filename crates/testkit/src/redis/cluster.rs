//! A Redis Cluster of masters.

mod client;

pub use client::ClusterClient;

use super::{Redis, RedisClient, Reply};
use crate::{Deadline, PATIENCE, free_port};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;

/// Slots of every cluster.
const SLOTS: usize = 16_384;

/// Keys that move in one step.
const KEYS_A_STEP: &str = "100";

/// Masters without replicas. Whatever was acknowledged is on their disks. Dropping it ends all
/// of them.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<Redis>,
}

impl RedisCluster {
    /// Starts this many masters, shares the slots out evenly and waits until all agree.
    ///
    /// # Errors
    /// One does not start, or they don't agree.
    pub async fn spawn(masters: usize) -> Result<Self> {
        let mut cluster = Self {
            servers: Vec::new(),
        };
        for index in 0..masters {
            let server = member().await?;
            // Masters of equal epochs would quarrel about it first.
            let epoch = (index + 1).to_string();
            server.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
            let first = (SLOTS * index / masters).to_string();
            let last = (SLOTS * (index + 1) / masters - 1).to_string();
            server
                .cli(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])
                .await?;
            cluster.admit(server).await?;
        }
        cluster.agreed().await?;
        Ok(cluster)
    }

    /// A URL for each master, separated by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.servers.iter().map(Redis::url).collect();
        urls.join(",")
    }

    /// How many masters there are.
    #[must_use]
    pub fn masters(&self) -> usize {
        self.servers.len()
    }

    /// A master, to kill, pause or ask it.
    pub fn server(&mut self, index: usize) -> &mut Redis {
        &mut self.servers[index]
    }

    /// A client that finds the right master and follows slots that move.
    #[must_use]
    pub fn client(&self) -> ClusterClient {
        ClusterClient::new(self.addresses())
    }

    /// Where the masters are.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Redis::address).collect()
    }

    /// Starts a master that was stopped and waits until the cluster is whole again.
    ///
    /// # Errors
    /// It does not start, or they don't agree.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.servers[index].start().await?;
        self.agreed().await
    }

    /// Adds a master without slots. Returns its index.
    ///
    /// # Errors
    /// It does not start, or they don't agree.
    pub async fn add_master(&mut self) -> Result<usize> {
        let server = member().await?;
        self.admit(server).await?;
        self.agreed().await?;
        Ok(self.servers.len() - 1)
    }

    /// The slot of a key or a channel.
    ///
    /// # Errors
    /// No master answers.
    pub async fn slot_of(&self, key: &str) -> Result<u16> {
        let mut client = self.any().await?;
        let slot = client.command(&["CLUSTER", "KEYSLOT", key]).await?;
        Ok(u16::try_from(slot.integer().context("no slot")?)?)
    }

    /// Which master has a slot.
    ///
    /// # Errors
    /// No master answers, or none has it.
    pub async fn owner(&self, slot: u16) -> Result<usize> {
        let slots = self.any().await?.command(&["CLUSTER", "SLOTS"]).await?;
        let range = slots.items().iter().find(|range| {
            let bound = |at: usize| range.items().get(at).and_then(Reply::integer);
            bound(0) <= Some(slot.into()) && Some(slot.into()) <= bound(1)
        });
        let owner = range.and_then(|range| range.items().get(2));
        let port = owner.and_then(|owner| owner.items().get(1)?.integer());
        let mut servers = self.servers.iter();
        let index = servers.position(|server| Some(server.address().port().into()) == port);
        index.with_context(|| format!("nobody has slot {slot}"))
    }

    /// Moves a slot and its keys to another master, as an operator's tool does it: step by step,
    /// while clients write.
    ///
    /// # Errors
    /// A master says no.
    pub async fn move_slot(&self, slot: u16, to: usize) -> Result<()> {
        let from = self.owner(slot).await?;
        ensure!(from != to, "master {to} has slot {slot} already");
        let mut source = RedisClient::connect(&self.servers[from])
            .await?
            .with_patience(PATIENCE);
        let mut target = RedisClient::connect(&self.servers[to]).await?;
        let source_id = id(&mut source).await?;
        let target_id = id(&mut target).await?;
        let slot = slot.to_string();
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id];
        target.command(&importing).await?;
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id];
        source.command(&migrating).await?;
        loop {
            let keys = ["CLUSTER", "GETKEYSINSLOT", &slot, KEYS_A_STEP];
            let keys = source.command(&keys).await?;
            let keys: Vec<_> = keys.items().iter().filter_map(bytes).collect();
            if keys.is_empty() {
                break;
            }
            let address = self.servers[to].address();
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            let migrate = ["MIGRATE", &host, &port, "", "0", "5000", "KEYS"];
            let migrate: Vec<&[u8]> = migrate.iter().map(|word| word.as_bytes()).collect();
            source.command(&[migrate, keys].concat()).await?;
        }
        // The target first: between the two steps the slot must not be nobody's.
        let node = ["CLUSTER", "SETSLOT", &slot, "NODE", &target_id];
        target.command(&node).await?;
        source.command(&node).await?;
        for server in &self.servers {
            let mut client = RedisClient::connect(server).await?;
            client.command(&node).await?;
        }
        Ok(())
    }

    /// Makes a server known to the ones that are there, and waits until they have met.
    async fn admit(&mut self, server: Redis) -> Result<()> {
        self.servers.push(server);
        let (Some(first), Some(last)) = (self.servers.first(), self.servers.last()) else {
            return Ok(());
        };
        if self.servers.len() > 1 {
            let address = last.address();
            let bus = last.cli(&["CONFIG", "GET", "cluster-port"]).await?;
            let bus = bus.lines().last().context("no port")?;
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            first.cli(&["CLUSTER", "MEET", &ip, &port, bus]).await?;
        }
        Ok(())
    }

    /// Waits until every master sees all others and a whole cluster.
    async fn agreed(&self) -> Result<()> {
        let deadline = Deadline::within(PATIENCE);
        let known = format!("cluster_known_nodes:{}\r\n", self.servers.len());
        for server in &self.servers {
            let mut client = RedisClient::connect(server).await?;
            loop {
                let info = client.command(&["CLUSTER", "INFO"]).await?;
                let info = info.text().unwrap_or_default();
                if info.contains("cluster_state:ok\r\n") && info.contains(&known) {
                    break;
                }
                ensure!(!deadline.is_over(), "the cluster is not whole: {info}");
                deadline.pause().await;
            }
        }
        Ok(())
    }

    /// A connection to some master that answers.
    async fn any(&self) -> Result<RedisClient> {
        for server in &self.servers {
            if let Ok(client) = RedisClient::connect(server).await {
                return Ok(client);
            }
        }
        anyhow::bail!("no master answers")
    }
}

/// A server that may become a member.
async fn member() -> Result<Redis> {
    Redis::builder()
        .append_only()
        .setting("cluster-enabled", "yes")
        .setting("cluster-port", &free_port()?.to_string())
        .setting("cluster-node-timeout", "1500")
        // Else a master that gives its last slot away becomes a replica of who got it.
        .setting("cluster-allow-replica-migration", "no")
        .spawn()
        .await
}

async fn id(client: &mut RedisClient) -> Result<String> {
    let id = client.command(&["CLUSTER", "MYID"]).await?;
    Ok(id.text().context("no id")?.to_owned())
}

fn bytes(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// The address in a redirection such as `MOVED 3999 127.0.0.1:6381`.
fn redirection(words: &str) -> Option<SocketAddr> {
    words.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_moves_with_its_keys() {
        let mut cluster = RedisCluster::spawn(3).await.unwrap();
        assert_eq!(cluster.urls().split(',').count(), 3);
        let mut client = cluster.client();
        for number in 0..250 {
            let key = format!("{{tag}}:{number}");
            client.command(&key, &["SET", &key, "x"]).await.unwrap();
        }
        let slot = cluster.slot_of("{tag}").await.unwrap();
        let owner = cluster.owner(slot).await.unwrap();
        let to = (owner + 1) % cluster.masters();
        cluster.move_slot(slot, to).await.unwrap();
        assert_eq!(cluster.owner(slot).await.unwrap(), to);
        let get = ["GET", "{tag}:249"];
        let reply = client.command("{tag}:249", &get).await.unwrap();
        assert_eq!(reply.text(), Some("x"));

        cluster.server(to).stop();
        assert!(client.command("{tag}:249", &get).await.is_err());
        cluster.restart(to).await.unwrap();
        let reply = client.command("{tag}:249", &get).await.unwrap();
        assert_eq!(reply.text(), Some("x"));

        let added = cluster.add_master().await.unwrap();
        cluster.move_slot(slot, added).await.unwrap();
        let reply = client.command("{tag}:249", &get).await.unwrap();
        assert_eq!(reply.text(), Some("x"));
    }
}
