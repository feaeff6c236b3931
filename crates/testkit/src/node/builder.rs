//! Finding the binary, starting it, and learning where it listens.

use super::Node;
use crate::{Redis, process::Process};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    env,
    hash::{BuildHasher, RandomState},
    net::{SocketAddr, TcpListener},
    ops::Range,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};
use tokio::time::Instant;

/// A debug binary on a busy machine needs its time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What a node is started with.
#[derive(Debug, Default, Clone)]
pub struct NodeBuilder {
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    broadcast_key: Option<String>,
    own_broadcast_port: bool,
    /// Zero for any.
    port: u16,
}

impl NodeBuilder {
    /// Adds `--name=value`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push(format!("--{name}={value}"));
        self
    }

    /// Adds a word without dashes, behind what is there already.
    #[must_use]
    pub fn command(mut self, name: &str) -> Self {
        self.flags.push(name.to_owned());
        self
    }

    /// Adds `--name`.
    #[must_use]
    pub fn switch(mut self, name: &str) -> Self {
        self.flags.push(format!("--{name}"));
        self
    }

    /// Sets an environment variable. The test's own environment is not passed on.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Connects it to a Redis.
    #[must_use]
    pub fn redis(self, redis: &Redis) -> Self {
        self.redis_url(&redis.url())
    }

    /// Connects it to what this URL, or several separated by commas, stands for.
    #[must_use]
    pub fn redis_url(self, url: &str) -> Self {
        self.flag("redis_url", url)
    }

    /// Listens on this port: that of a node which has ended, or a [`free_port`].
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// What [`Node::broadcast`] says to be let in. The node is told nothing: add the flag from
    /// which it gets the key.
    #[must_use]
    pub fn publish_with_key(mut self, key: &str) -> Self {
        self.broadcast_key = Some(key.to_owned());
        self
    }

    /// Takes publications on a free port of their own.
    #[must_use]
    pub fn own_broadcast_port(mut self) -> Self {
        self.own_broadcast_port = true;
        self
    }

    /// Starts it and waits until it is ready, which takes a Redis if it has one.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the message has its log.
    pub async fn spawn_ready(self) -> Result<Node> {
        let node = self.spawn().await?;
        node.ready().await?;
        Ok(node)
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It ended, or did not listen in time; the message has its log.
    pub async fn spawn(self) -> Result<Node> {
        let mut command = command();
        command
            .arg(format!("--port={}", self.port))
            .args(["--log_format=json", "--ignore_config_path"])
            .args(&self.flags)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        if self.own_broadcast_port {
            // Zero means "choose for me", so the port is chosen here.
            command.arg(format!("--http_broadcast_port={}", free_port()?));
        }
        let mut process = Process::spawn(command)?;
        let address = listening(&mut process, "Listening").await?;
        let broadcasts = match self.own_broadcast_port {
            true => Some(listening(&mut process, "Listening for broadcasts").await?),
            false => None,
        };
        Ok(Node {
            process,
            address,
            broadcasts,
            broadcast_key: self.broadcast_key,
        })
    }
}

/// Runs the binary to its end, with nothing but these arguments and variables.
///
/// # Errors
/// It can't be started.
pub fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = command();
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
        .output()
        .with_context(|| format!("running {command:?}"))
}

/// Ports below those which systems give to outgoing connections: a server that is stopped must
/// find its port free when it comes back, and a client that tries it meanwhile must not happen to
/// connect to itself.
const SERVER_PORTS: Range<u16> = 10_000..32_000;

/// A port that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    // Tests run in parallel, so they must not all try the same ports first.
    let chance = RandomState::new().hash_one(0);
    let count = usize::from(SERVER_PORTS.end - SERVER_PORTS.start);
    let start = usize::try_from(chance % count as u64)?;
    let mut ports = SERVER_PORTS.cycle().skip(start).take(count);
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.context("no port is free")
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(binary());
    command.env_clear();
    command
}

/// `POLLUX_BIN`, or the binary that was built together with the running test.
#[must_use]
pub fn binary() -> PathBuf {
    // Tests have no configuration of their own to read it from.
    if let Some(path) = env::var_os("POLLUX_BIN") {
        return path.into();
    }
    // A test is at target/<profile>/deps/<test>, the binary at target/<profile>/pollux.
    let own = env::current_exe().unwrap_or_default();
    let near = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("pollux"));
    near.into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| "pollux".into())
}

/// The address in the log line that says `message`.
async fn listening(process: &mut Process, message: &str) -> Result<SocketAddr> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let lines = process.log().lines();
        if let Some(address) = lines.iter().find_map(|line| address_in(line, message)) {
            return Ok(address);
        }
        if let Some(status) = process.ended()? {
            bail!("the node ended with {status}\n{}", process.log().text());
        }
        if Instant::now() >= deadline {
            bail!("the node does not listen\n{}", process.log().text());
        }
        tokio::time::sleep(crate::CHECK_EVERY).await;
    }
}

fn address_in(line: &str, message: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields.get("message")?.as_str()? != message {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_both_shapes_of_lines() {
        let address = Some("127.0.0.1:99".parse().unwrap());
        let flat = r#"{"level":"INFO","message":"Listening","address":"127.0.0.1:99"}"#;
        let nested = r#"{"fields":{"message":"Listening","address":"127.0.0.1:99"}}"#;
        assert_eq!(address_in(flat, "Listening"), address);
        assert_eq!(address_in(nested, "Listening"), address);
        assert_eq!(address_in(flat, "Listening for broadcasts"), None);
        assert_eq!(address_in("not JSON", "Listening"), None);
    }
}
