//! Publishes to one stream through one door, whatever happens.

use super::books::Books;
use crate::{ClusterClient, CommandError, Redis, RedisClient, RedisCluster, Sentinels};
use anyhow::Result;
use parking_lot::Mutex;
use serde_json::json;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The stream of `XADD`.
const INTAKE: &str = "__anycable__";

/// After a refusal the next attempt comes after this.
const PAUSE: Duration = Duration::from_millis(50);

/// How a message enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `FCALL pollux_publish`.
    Fcall,
    /// `XADD __anycable__`.
    Xadd,
}

/// Where it enters.
#[derive(Debug, Clone)]
pub enum Server {
    /// One Redis.
    Redis(SocketAddr),
    /// The master that these sentinels name. A message counts as accepted when so many replicas
    /// have it.
    Sentinels(Vec<SocketAddr>, usize),
    /// The masters of a cluster.
    Cluster(Vec<SocketAddr>),
}

#[derive(Debug)]
pub(super) struct Publisher {
    stream: String,
    name: String,
    door: Door,
    server: Server,
    every: Duration,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    One(RedisClient),
    /// To a master, and how many of its replicas must have what is accepted.
    Copied(RedisClient, String),
    Cluster(ClusterClient),
}

/// What is known of a message.
enum Fate {
    Accepted,
    /// Certainly not accepted, for this reason.
    Refused(String),
    Uncertain(String),
}

impl From<&Redis> for Server {
    fn from(redis: &Redis) -> Self {
        Self::Redis(redis.address())
    }
}

impl From<&RedisCluster> for Server {
    fn from(cluster: &RedisCluster) -> Self {
        Self::Cluster(cluster.addresses())
    }
}

impl Publisher {
    pub(super) fn new(stream: &str, door: Door, server: Server, every: Duration) -> Self {
        Self {
            stream: stream.to_owned(),
            name: format!("{stream} by {door:?}"),
            door,
            server,
            every,
            connection: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Until it is told to stop. Each number is tried until its fate is known, or uncertain.
    pub(super) async fn run(mut self, books: Arc<Mutex<Books>>, mut stop: watch::Receiver<bool>) {
        let mut pace = tokio::time::interval(self.every);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*stop.borrow() {
            tokio::select! {
                _ = pace.tick() => {}
                _ = stop.changed() => return,
            }
            let number = books.lock().next(&self.name);
            loop {
                match self.try_publish(number).await {
                    Fate::Accepted => {
                        books.lock().accept(&self.name);
                        break;
                    }
                    Fate::Refused(words) if !*stop.borrow() => {
                        books.lock().refuse(words);
                        tokio::time::sleep(PAUSE).await;
                    }
                    Fate::Refused(words) | Fate::Uncertain(words) => {
                        self.connection = None;
                        let mut books = books.lock();
                        books.refuse(words);
                        books.maybe(&self.name, number);
                        break;
                    }
                }
            }
        }
    }

    async fn try_publish(&mut self, number: u64) -> Fate {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match self.server.connect().await {
                Ok(connection) => connection,
                Err(error) => return Fate::Refused(format!("{error:#}")),
            },
        };
        let data = json!({"s": self.stream, "p": self.name, "n": number}).to_string();
        let base = format!("pollux:{{{}}}", self.stream);
        let message = json!({"stream": self.stream, "data": data}).to_string();
        let (key, command) = match self.door {
            Door::Fcall => (
                base.as_str(),
                ["FCALL", "pollux_publish", "1", &base, &data],
            ),
            Door::Xadd => (INTAKE, ["XADD", INTAKE, "*", "payload", &message]),
        };
        let connection = self.connection.insert(connection);
        match connection.command(key, &command).await {
            Ok(()) => Fate::Accepted,
            Err(CommandError::Refused(words)) => {
                // It may have been told so by somebody who is not the master any more.
                self.connection = None;
                Fate::Refused(words)
            }
            Err(lost) => Fate::Uncertain(lost.to_string()),
        }
    }
}

impl Server {
    /// The master that these sentinels name. A message counts as accepted when so many replicas
    /// have it.
    #[must_use]
    pub fn copied(sentinels: &Sentinels, replicas: usize) -> Self {
        Self::Sentinels(sentinels.sentinel_addresses(), replicas)
    }

    async fn connect(&self) -> Result<Connection> {
        Ok(match self {
            Self::Redis(address) => Connection::One(RedisClient::open(*address).await?),
            Self::Sentinels(sentinels, replicas) => {
                let master = crate::redis::master_by_majority(sentinels).await?;
                Connection::Copied(RedisClient::open(master).await?, replicas.to_string())
            }
            Self::Cluster(masters) => Connection::Cluster(ClusterClient::new(masters.clone())),
        })
    }
}

impl Connection {
    async fn command(&mut self, key: &str, command: &[&str]) -> Result<(), CommandError> {
        match self {
            Self::One(client) => client.command(command).await.map(drop),
            Self::Cluster(client) => client.command(key, command).await.map(drop),
            Self::Copied(client, replicas) => {
                client.command(command).await?;
                // A refusal to wait, as of a master that just became a replica, says nothing
                // about the message.
                match client.command(&["WAIT", replicas, "1000"]).await {
                    Ok(have) if have.integer() >= replicas.parse().ok() => Ok(()),
                    answer => {
                        let words = format!("too few replicas have it: {answer:?}");
                        Err(CommandError::Lost(io::Error::other(words)))
                    }
                }
            }
        }
    }
}
