//! What a server is started with.

use super::{Login, Redis};
use crate::Certificates;
use crate::free_port;
use anyhow::{Context, Result};
use std::{fmt::Write as _, fs};
use tempfile::TempDir;

/// A free port may be taken by somebody else before the server binds it.
const PORTS_TO_TRY: usize = 5;

/// What a server is started with. By default it keeps nothing on disk and lets everybody in.
#[derive(Debug, Default, Clone)]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    login: Option<Login>,
    tls: Tls,
    role: Role,
}

/// Which kind of server it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Data,
    Sentinel,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Tls {
    #[default]
    Off,
    On,
    WithClientCertificates,
}

impl RedisBuilder {
    /// Adds a line to its configuration file.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What it has acknowledged survives its death.
    #[must_use]
    pub fn append_only(self) -> Self {
        self.setting("appendonly", "yes")
            .setting("appendfsync", "always")
    }

    /// It lets in who knows the password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.login = Some(Login {
            user: None,
            password: password.to_owned(),
        });
        self.setting("requirepass", password)
    }

    /// It lets in this user only, who may do everything.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.login = Some(Login {
            user: Some(name.to_owned()),
            password: password.to_owned(),
        });
        self.setting("user", "default off").setting(
            "user",
            &format!("{name} on >{password} allkeys allchannels allcommands"),
        )
    }

    /// It speaks TLS and nothing else.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = Tls::On;
        self
    }

    /// It speaks TLS and nothing else, and wants to see a client's certificate.
    #[must_use]
    pub fn tls_with_client_certificates(mut self) -> Self {
        self.tls = Tls::WithClientCertificates;
        self
    }

    /// It watches other servers.
    pub(super) fn sentinel(mut self) -> Self {
        self.role = Role::Sentinel;
        self
    }

    /// Starts it on a free port and waits until it answers.
    ///
    /// # Errors
    /// There is no `redis-server` (or `openssl`, for TLS), or it does not start.
    pub async fn spawn(self) -> Result<Redis> {
        let mut last = None;
        for _ in 0..PORTS_TO_TRY {
            let mut redis = self.prepare()?;
            match redis.start().await {
                Ok(()) => return Ok(redis),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no port was tried")?)
    }

    /// A server that is not started yet, with its configuration on disk: in a file, because
    /// Sentinel makes servers rewrite theirs, and that must outlive a restart.
    fn prepare(&self) -> Result<Redis> {
        let folder = TempDir::new()?;
        let port = free_port()?;
        let certificates = match self.tls {
            Tls::Off => None,
            Tls::On | Tls::WithClientCertificates => Some(Certificates::make(folder.path())?),
        };
        let mut config = format!("dir {}\nbind 127.0.0.1 -::1\n", folder.path().display());
        match &certificates {
            None => writeln!(config, "port {port}")?,
            Some(certificates) => {
                let demand = match self.tls {
                    Tls::WithClientCertificates => "yes",
                    Tls::Off | Tls::On => "no",
                };
                writeln!(config, "port 0\ntls-port {port}\ntls-auth-clients {demand}")?;
                let ca = certificates.ca();
                let certificate = certificates.server_certificate();
                writeln!(config, "tls-ca-cert-file {}", ca.display())?;
                writeln!(config, "tls-cert-file {}", certificate.display())?;
                let key = certificates.server_key();
                writeln!(config, "tls-key-file {}", key.display())?;
            }
        }
        if self.role == Role::Data {
            config.push_str("save \"\"\n");
        }
        for (name, value) in &self.settings {
            writeln!(config, "{name} {value}")?;
        }
        fs::write(folder.path().join("redis.conf"), config)?;
        Ok(Redis {
            port,
            folder,
            login: self.login.clone(),
            certificates,
            role: self.role,
            process: None,
        })
    }
}
