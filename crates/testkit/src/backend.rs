//! An application behind the server: a small chat that serves the calls over HTTP or gRPC.
//!
//! Both faces are made by hand from the documented wire format, so that they agree with a node
//! only if it is right. [`Call`] says what was asked, `app` what the chat decides.

mod app;
mod call;
mod grpc;
mod http;
mod json;
mod protobuf;
mod record;
mod server;
#[cfg(test)]
mod tests;

pub use call::{Call, Kind};
pub use record::Trouble;

use crate::{Certificates, Deadline, PATIENCE, free_port};
use anyhow::{Context, Result, bail};
use record::Record;
use server::Server;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// A free port may be taken by somebody else before it is bound.
const PORTS_TO_TRY: usize = 5;

/// What the application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// JSON over HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

/// Whom an application with TLS lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Whoever comes.
    Anybody,
    /// Those with a certificate of its authority.
    Certified,
}

/// A running application. It runs in the test's runtime, and dropping it ends it.
#[derive(Debug)]
pub struct Backend {
    face: Face,
    port: u16,
    /// Its own certificate's files, and whom it lets in.
    tls: Option<(Certificates, Callers)>,
    record: Arc<Record>,
    /// None while it is down.
    server: Option<Server>,
}

/// What an application is started with.
#[derive(Debug, Clone)]
pub struct BackendBuilder {
    face: Face,
    key: Option<String>,
    tls: Option<(Certificates, Callers)>,
}

impl BackendBuilder {
    /// Who calls over HTTP must bear this key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// It speaks TLS, with the server's certificate among these.
    #[must_use]
    pub fn tls(mut self, certificates: &Certificates, callers: Callers) -> Self {
        self.tls = Some((certificates.clone(), callers));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// There is no free port, or the certificates can't be read.
    pub async fn start(self) -> Result<Backend> {
        let mut last = None;
        for _ in 0..PORTS_TO_TRY {
            let mut backend = Backend {
                face: self.face,
                port: free_port()?,
                tls: self.tls.clone(),
                record: Arc::new(Record::new(self.key.clone())),
                server: None,
            };
            match backend.start().await {
                Ok(()) => return Ok(backend),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no port was tried")?)
    }
}

impl Backend {
    /// An application with this face.
    #[must_use]
    pub fn builder(face: Face) -> BackendBuilder {
        BackendBuilder {
            face,
            key: None,
            tls: None,
        }
    }

    /// An application that speaks HTTP and lets every caller in.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn http() -> Result<Self> {
        Self::builder(Face::Http).start().await
    }

    /// An application that speaks gRPC and lets every caller in.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn grpc() -> Result<Self> {
        Self::builder(Face::Grpc).start().await
    }

    /// What a node's `--rpc_host` takes.
    #[must_use]
    pub fn url(&self) -> String {
        let port = self.port;
        match (self.face, &self.tls) {
            (Face::Grpc, _) => format!("127.0.0.1:{port}"),
            (Face::Http, None) => format!("http://127.0.0.1:{port}/_anycable"),
            (Face::Http, Some(_)) => format!("https://127.0.0.1:{port}/_anycable"),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority of its certificate.
    #[must_use]
    pub fn authority(&self) -> Option<PathBuf> {
        self.tls.as_ref().map(|(certificates, _)| certificates.ca())
    }

    // === its health ===

    /// Closes the listener and breaks all connections. The port stays its own.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Listens, again.
    ///
    /// # Errors
    /// Somebody took the port.
    pub async fn start(&mut self) -> Result<()> {
        if self.server.is_none() {
            let record = Arc::clone(&self.record);
            let tls = self.tls.as_ref();
            self.server = Some(Server::start(self.port, self.face, tls, record).await?);
        }
        Ok(())
    }

    /// From now on each answer takes this long.
    pub fn slow(&self, delay: Duration) {
        self.record.set_delay(delay);
    }

    /// The next calls, so many, meet this.
    pub fn trouble(&self, trouble: Trouble, calls: usize) {
        self.record.set_trouble(trouble, calls);
    }

    /// Ends all troubles and delays.
    pub fn recover(&self) {
        self.record.set_delay(Duration::ZERO);
        self.record.set_trouble(Trouble::Failing, 0);
    }

    // === what it saw ===

    /// All calls that came, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.record.calls()
    }

    /// All calls of one kind, in order.
    #[must_use]
    pub fn calls_of(&self, kind: Kind) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| call.kind == kind);
        calls
    }

    /// Waits for the call of this kind that has this many before it, since the last
    /// [`Backend::forget`].
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn call(&self, kind: Kind, before: usize) -> Result<Call> {
        let deadline = Deadline::within(PATIENCE);
        loop {
            if let Some(call) = self.calls_of(kind).into_iter().nth(before) {
                return Ok(call);
            }
            if deadline.is_over() {
                bail!("no {kind:?} after {before} among {:?}", self.calls());
            }
            deadline.pause().await;
        }
    }

    /// Forgets the calls that came.
    pub fn forget(&self) {
        self.record.forget();
    }

    /// What callers did that the protocol does not allow.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.record.complaints()
    }

    /// Calls that are being answered, and how many were at most.
    #[must_use]
    pub fn running(&self) -> (usize, usize) {
        self.record.running()
    }

    /// Calls that were taken back, or broken off, before they were answered.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.record.abandoned()
    }

    /// Connections that were accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.record.connections()
    }
}
