//! Real Redis servers that can go away and come back.

mod builder;
mod client;
mod cluster;
mod reply;
mod sentinels;

pub use builder::RedisBuilder;
pub use client::{CommandError, RedisClient};
pub use cluster::{ClusterClient, RedisCluster};
pub use reply::Reply;
pub use sentinels::Sentinels;
pub(crate) use sentinels::master_by_majority;

use crate::{Certificates, Log, process::Process};
use anyhow::{Context, Result, bail, ensure};
use builder::Role;
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to answer its first ping, or to end in good order.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    folder: TempDir,
    /// What a client must say to be let in.
    login: Option<Login>,
    /// What a client must trust and show, if the server speaks TLS.
    certificates: Option<Certificates>,
    role: Role,
    /// `None` while it is stopped.
    process: Option<Process>,
}

#[derive(Debug, Clone)]
struct Login {
    /// `None` for the user that every server has.
    user: Option<String>,
    password: String,
}

impl Redis {
    /// A server with other settings.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Starts a server that keeps nothing on disk.
    ///
    /// # Errors
    /// There is no `redis-server`, or it does not start.
    pub async fn spawn() -> Result<Self> {
        Self::builder().spawn().await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its URL, with user and password. With TLS the host is `localhost`, as in its certificate.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, host) = match self.certificates {
            Some(_) => ("rediss", "localhost"),
            None => ("redis", "127.0.0.1"),
        };
        let login = match &self.login {
            Some(Login { user, password }) => {
                format!("{}:{password}@", user.as_deref().unwrap_or_default())
            }
            None => String::new(),
        };
        format!("{scheme}://{login}{host}:{}/0", self.port)
    }

    /// The certificates, if it speaks TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// What it has logged since it was started; empty while it is stopped.
    #[must_use]
    pub fn log(&self) -> Log {
        let process = self.process.as_ref();
        process.map_or_else(Log::default, |process| process.log().clone())
    }

    /// Starts it again, on the same port, and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command.arg(self.folder.path().join("redis.conf"));
        if self.role == Role::Sentinel {
            command.arg("--sentinel");
        }
        let mut process = Process::spawn(command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.answers().await {
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

    /// Ends it in good order (`SIGTERM`) and waits for that.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub async fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().context("Redis is stopped")?;
        process.signal("TERM")?;
        let status = process.wait(START_TIMEOUT).await?;
        ensure!(status.success(), "{status}\n{}", process.log().text());
        Ok(())
    }

    /// Makes it silent; its connections stay.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.signal("STOP")
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.signal("CONT")
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
        command.args(["-e", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(login) = &self.login {
            // Not as an argument, which makes redis-cli warn.
            command.env("REDISCLI_AUTH", &login.password);
            if let Some(user) = &login.user {
                command.args(["--user", user]);
            }
        }
        if let Some(certificates) = &self.certificates {
            command.arg("--tls").arg("--cacert").arg(certificates.ca());
            command
                .arg("--cert")
                .arg(certificates.client_certificate())
                .arg("--key")
                .arg(certificates.client_key());
        }
        command.args(arguments).stdin(Stdio::null());
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

    fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    fn signal(&mut self, name: &str) -> Result<()> {
        let process = self.process.as_mut();
        process.context("Redis is stopped")?.signal(name)
    }

    /// Whether it answers, and has read what it keeps on disk.
    async fn answers(&self) -> bool {
        if self.certificates.is_some() {
            return self.cli(&["PING"]).await.is_ok();
        }
        match RedisClient::connect(self).await {
            Ok(mut client) => client.command(&["PING"]).await.is_ok(),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
