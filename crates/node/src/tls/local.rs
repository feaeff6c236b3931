//! TLS to a node of this machine.

use pollux_client::any_certificate;
use rustls::pki_types::ServerName;
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Speaks TLS on a connection to this machine, `host` being how it was called. Any certificate
/// will do: it is that of the node's public name, and the name here is 127.0.0.1. Nobody is
/// between a machine and itself.
pub(crate) async fn connect_local(
    stream: TcpStream,
    host: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let config = any_certificate().map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}
