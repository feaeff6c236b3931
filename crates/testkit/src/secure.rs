//! HTTP/1.1 over TLS.

use crate::{Certificates, PATIENCE, Request, Response};
use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use socket2::SockRef;
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// One connection.
#[derive(Debug)]
pub struct Secure {
    /// Boxed: it is large, and part of every test's future.
    stream: Box<TlsStream<TcpStream>>,
    /// Bytes that were read and not yet returned.
    buffer: BytesMut,
}

/// How a client takes its leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// With TLS's farewell, then by closing the socket.
    Politely,
    /// By closing the socket.
    Silently,
    /// By a reset.
    Abruptly,
}

impl Secure {
    /// Connects to a server of this machine whose certificate is one of these.
    ///
    /// # Errors
    /// Nobody listens there, or somebody else.
    pub async fn open(address: SocketAddr, trusted: &[&Certificates]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificates in trusted {
            roots.add(CertificateDer::from_pem_file(certificates.ca())?)?;
        }
        // The crate was built with one provider, which is the default then.
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(address.ip().to_string())?;
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        let handshake = async { connector.connect(name, stream).await.map(Box::new) };
        let stream = timeout(PATIENCE, Box::pin(handshake)).await??;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
        })
    }

    /// Whether the server showed the certificate of these.
    ///
    /// # Errors
    /// It showed none.
    pub fn met(&self, certificates: &Certificates) -> Result<bool> {
        let shown = self.stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(<[_]>::first).context("no certificate")?;
        let pem = fs::read(certificates.server_certificate())?;
        Ok(*shown == CertificateDer::from_pem_slice(&pem)?)
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// The connection failed, or the answer is not HTTP.
    pub async fn ask(&mut self, request: &Request) -> Result<Response> {
        self.send(request).await?;
        self.response().await
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send(&mut self, request: &Request) -> Result<()> {
        self.stream.write_all(&request.to_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads one response.
    ///
    /// # Errors
    /// The connection ended, or nothing came in time, or what came is not HTTP.
    pub async fn response(&mut self) -> Result<Response> {
        timeout(PATIENCE, self.read_response())
            .await
            .context("no answer")?
    }

    async fn read_response(&mut self) -> Result<Response> {
        loop {
            if let Some(mut response) = Response::parse_head(&self.buffer)? {
                let (head, body) = (response.head.len(), response.body_length()?);
                if self.buffer.len() >= head + body {
                    self.buffer.advance(head);
                    response.body = self.buffer.split_to(body).freeze();
                    return Ok(response);
                }
            }
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(
                read > 0,
                "the connection ended within a response: {:?}",
                self.buffer
            );
        }
    }

    /// Waits until the server closes the connection.
    ///
    /// # Errors
    /// It does not, or says something.
    pub async fn ended(mut self) -> Result<()> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        match read.context("the connection is open")? {
            // With TLS's farewell, and without it.
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => anyhow::bail!("it says something: {:?}", self.buffer),
        }
    }

    /// Leaves.
    ///
    /// # Errors
    /// The system won't.
    pub async fn leave(mut self, how: Leave) -> Result<()> {
        match how {
            // The socket is closed at once, not when the farewell is answered.
            Leave::Politely => self.stream.shutdown().await?,
            Leave::Silently => {}
            Leave::Abruptly => {
                SockRef::from(self.stream.get_ref().0).set_linger(Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }

    /// The connection, for other protocols.
    #[must_use]
    pub fn into_inner(self) -> Box<TlsStream<TcpStream>> {
        self.stream
    }
}
