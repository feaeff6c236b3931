//! Connections to a node.

use crate::{Address, Trouble};
use ::http::HeaderMap;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// A node that takes longer to be connected to counts as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// How a node is connected to, and what every request says.
#[derive(Clone)]
pub struct Wire {
    address: Address,
    /// TLS, and whose certificate is expected.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    headers: HeaderMap,
}

impl fmt::Debug for Wire {
    /// Without the headers: they say who it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// Connections without TLS. `headers` go with every request.
    #[must_use]
    pub const fn plain(address: Address, headers: HeaderMap) -> Self {
        Self {
            address,
            tls: None,
            headers,
        }
    }

    /// Connections with TLS. `None` if nobody can have a certificate for such a host.
    #[must_use]
    pub fn secure(address: Address, headers: HeaderMap, config: Arc<ClientConfig>) -> Option<Self> {
        let name = ServerName::try_from(address.host.clone()).ok()?;
        Some(Self {
            address,
            tls: Some((TlsConnector::from(config), name)),
            headers,
        })
    }

    /// Where it leads.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Duplex>, Trouble> {
        match timeout(CONNECT_TIMEOUT, self.dial()).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Trouble::Away("connecting took too long".to_owned())),
        }
    }

    async fn dial(&self) -> io::Result<Box<dyn Duplex>> {
        let address = (self.address.host.as_str(), self.address.port);
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => {
                let connect = connector.connect(name.clone(), stream);
                // A connection in TLS is large, and there is one.
                Box::new(Box::pin(connect).await?)
            }
        })
    }
}
