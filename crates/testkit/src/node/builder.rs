//! Finding the binary, starting it, and learning where it listens.

use super::Node;
use crate::{Redis, process::Process};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    env,
    net::{SocketAddr, TcpListener},
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
}

impl NodeBuilder {
    /// Adds `--name=value`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push(format!("--{name}={value}"));
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
        self.flag("redis_url", &redis.url())
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

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It ended, or did not listen in time; the message has its log.
    pub async fn spawn(self) -> Result<Node> {
        let mut command = command();
        command.args(["--port=0", "--log_format=json", "--ignore_config_path"]);
        command
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

/// A port that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn command() -> Command {
    let mut command = Command::new(binary());
    command.env_clear();
    command
}

/// `POLLUX_BIN`, or the binary that was built together with the running test.
fn binary() -> PathBuf {
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
