//! A client that is sent from master to master.

use super::redirection;
use crate::{CHECK_EVERY, CommandError, RedisClient, Reply};
use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
};

/// A command is redirected or put off no more often than this: a slot that moves puts commands
/// off until all of its keys are on one side.
const ATTEMPTS: usize = 2_000;

/// Connections to a cluster's masters, made when they are needed.
#[derive(Debug)]
pub struct ClusterClient {
    /// Masters to start from.
    seeds: Vec<SocketAddr>,
    connections: HashMap<SocketAddr, RedisClient>,
    /// Where each key was served the last time.
    known: HashMap<String, SocketAddr>,
}

impl ClusterClient {
    pub(crate) fn new(seeds: Vec<SocketAddr>) -> Self {
        Self {
            seeds,
            connections: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Sends a command about one key to the master that has it, and reads the answer.
    ///
    /// # Errors
    /// [`CommandError::Refused`] if it was certainly not executed, [`CommandError::Lost`] if
    /// nobody knows.
    pub async fn command(
        &mut self,
        key: &str,
        command: &[impl AsRef<[u8]>],
    ) -> Result<Reply, CommandError> {
        let mut address = self.start(key);
        let mut asking = false;
        for _ in 0..ATTEMPTS {
            let client = self.connection(address).await?;
            let answer = match asking {
                true => match client.command(&["ASKING"]).await {
                    Ok(_) => client.command(command).await,
                    Err(error) => Err(error),
                },
                false => client.command(command).await,
            };
            asking = false;
            match answer {
                Ok(reply) => return Ok(reply),
                Err(CommandError::Refused(words)) => {
                    let kind = words.split(' ').next().unwrap_or_default();
                    match (kind, redirection(&words)) {
                        ("MOVED", Some(to)) => {
                            self.known.insert(key.to_owned(), to);
                            address = to;
                        }
                        ("ASK", Some(to)) => {
                            asking = true;
                            address = to;
                        }
                        ("TRYAGAIN", _) => {
                            address = self.start(key);
                            tokio::time::sleep(CHECK_EVERY).await;
                        }
                        _ => return Err(CommandError::Refused(words)),
                    }
                }
                Err(lost) => {
                    self.connections.remove(&address);
                    self.known.remove(key);
                    return Err(lost);
                }
            }
        }
        Err(CommandError::Refused(format!(
            "nothing but redirections for {key}"
        )))
    }

    fn start(&self, key: &str) -> SocketAddr {
        match self.known.get(key) {
            Some(address) => *address,
            None => self.seeds[0],
        }
    }

    async fn connection(&mut self, address: SocketAddr) -> Result<&mut RedisClient, CommandError> {
        // A connection that can't be made has carried no command.
        match self.connections.entry(address) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                let client = RedisClient::open(address).await;
                let client =
                    client.map_err(|error| CommandError::Refused(format!("nothing: {error:#}")))?;
                Ok(place.insert(client))
            }
        }
    }
}
