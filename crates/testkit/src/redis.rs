//! A real Redis server that can go away and come back.

use crate::{free_port, process::Process};
use anyhow::{Context, Result, bail};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to answer its first ping.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A free port may be taken by somebody else before the server binds it.
const PORTS_TO_TRY: usize = 5;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    folder: TempDir,
    /// `None` while it is stopped.
    process: Option<Process>,
}

impl Redis {
    /// Starts a server that keeps nothing on disk.
    ///
    /// # Errors
    /// There is no `redis-server`, or it does not start.
    pub async fn spawn() -> Result<Self> {
        let mut last = None;
        for _ in 0..PORTS_TO_TRY {
            let mut redis = Self {
                port: free_port()?,
                folder: TempDir::new()?,
                process: None,
            };
            match redis.start().await {
                Ok(()) => return Ok(redis),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no port was tried")?)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Starts it again, on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path());
        let mut process = Process::spawn(command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while self.cli(&["PING"]).await.ok().as_deref() != Some("PONG") {
            if process.ended()?.is_some() || Instant::now() >= deadline {
                bail!("Redis does not start\n{}", process.log().text());
            }
            tokio::time::sleep(crate::CHECK_EVERY).await;
        }
        // Another server on the same port would have answered the ping.
        if process.ended()?.is_some() {
            bail!("the port was taken\n{}", process.log().text());
        }
        self.process = Some(process);
        Ok(())
    }

    /// Kills it; its connections break.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Makes it silent; its connections stay.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .context("Redis is stopped")?
            .signal("STOP")
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .context("Redis is stopped")?
            .signal("CONT")
    }

    /// `redis-cli PUBLISH`. Returns how many connections heard it.
    ///
    /// # Errors
    /// It does not run.
    pub async fn publish(&self, channel: &str, message: &str) -> Result<u64> {
        let heard = self.cli(&["PUBLISH", channel, message]).await?;
        heard
            .parse()
            .with_context(|| format!("PUBLISH said {heard}"))
    }

    /// `redis-cli` with these arguments. Returns what it printed.
    ///
    /// # Errors
    /// It failed.
    pub async fn cli(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("redis-cli");
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(arguments);
        command.stdin(Stdio::null());
        // A paused server never answers, and that must not stop the test's other tasks.
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || text.starts_with("ERR") {
            bail!(
                "redis-cli {arguments:?}: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_stops_and_comes_back() {
        let mut redis = Redis::spawn().await.unwrap();
        assert_eq!(redis.publish("nobody", "hears").await.unwrap(), 0);
        redis.stop();
        assert!(redis.cli(&["PING"]).await.is_err());
        redis.start().await.unwrap();
        redis.pause().unwrap();
        redis.resume().unwrap();
        assert_eq!(redis.cli(&["PING"]).await.unwrap(), "PONG");
    }
}
