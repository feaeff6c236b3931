//! Connections to the application, with or without TLS.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinHandle,
    time,
};
use tokio_rustls::TlsConnector;

use crate::host::Target;

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection as hyper takes one.
pub(crate) type Connection = TokioIo<Box<dyn Duplex>>;

/// How a host is connected to.
#[derive(Clone)]
pub(crate) struct Dialer {
    /// TLS, and whose certificate is expected.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// A host that takes longer is not there. An attempt that got nowhere is
    /// made again, so this can be short.
    pub(crate) timeout: Duration,
}

impl Dialer {
    pub(crate) const fn plain(timeout: Duration) -> Self {
        Self { tls: None, timeout }
    }

    /// None if nobody can have a certificate for such a host.
    pub(crate) fn tls(
        config: &Arc<ClientConfig>,
        target: &Target,
        timeout: Duration,
    ) -> Option<Self> {
        let name = ServerName::try_from(target.host.to_string()).ok()?;
        Some(Self {
            tls: Some((TlsConnector::from(Arc::clone(config)), name)),
            timeout,
        })
    }

    /// Connects to whichever address of a name takes it.
    pub(crate) async fn dial(&self, target: &Target) -> io::Result<Connection> {
        let stream = TcpStream::connect((&*target.host, target.port)).await?;
        self.greet(stream).await
    }

    /// Connects to this address.
    pub(crate) async fn dial_address(&self, address: SocketAddr) -> io::Result<Connection> {
        self.greet(TcpStream::connect(address).await?).await
    }

    async fn greet(&self, stream: TcpStream) -> io::Result<Connection> {
        // Calls are small and somebody waits for each.
        stream.set_nodelay(true)?;
        let stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
        };
        Ok(TokioIo::new(stream))
    }

    /// Bounds what it takes to have a connection.
    pub(crate) async fn in_time<T>(
        &self,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        match time::timeout(self.timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "connecting took too long",
            )),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("tls", &self.tls.is_some())
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// All addresses of a target.
pub(crate) async fn addresses(target: Target) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((&*target.host, target.port)).await?.collect())
}

/// A task that ends with what it works for.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
