//! The listener, and TLS.

use super::{Callers, Face, grpc, http, record::Record};
use crate::Certificates;
use anyhow::{Context, Result};
use std::{net::Ipv4Addr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

/// Connections that nobody has accepted yet: a test opens thousands at once.
const BACKLOG: i32 = 4_096;

/// A listener and its connections.
#[derive(Debug)]
pub(super) struct Server {
    accepting: JoinHandle<()>,
    stop: watch::Sender<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The connections are the task's.
        self.accepting.abort();
    }
}

impl Server {
    pub(super) async fn start(
        port: u16,
        face: Face,
        tls: Option<&(Certificates, Callers)>,
        record: Arc<Record>,
    ) -> Result<Self> {
        let acceptor = tls
            .map(|(certificates, callers)| acceptor(certificates, *callers, face))
            .transpose()?;
        let listener = listen(port).with_context(|| format!("listening at port {port}"))?;
        let (stop, stopped) = watch::channel(());
        let accepting = tokio::spawn(accept(listener, face, acceptor, record, stopped));
        Ok(Self { accepting, stop })
    }

    /// Ends the listener and the connections, and returns when they are gone.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(());
        if let Err(error) = (&mut self.accepting).await {
            eprintln!("the application broke: {error}");
        }
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    // Connections that were broken off must not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

async fn accept(
    listener: TcpListener,
    face: Face,
    acceptor: Option<TlsAcceptor>,
    record: Arc<Record>,
    mut stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        // A connection can be gone before it is accepted.
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, record) = (acceptor.clone(), Arc::clone(&record));
        record.count_connection();
        // How they end is of no interest: callers that break off are what tests do.
        connections.spawn(Box::pin(connection(stream, face, acceptor, record)));
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    face: Face,
    acceptor: Option<TlsAcceptor>,
    record: Arc<Record>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    match acceptor {
        None => serve(stream, face, record).await,
        Some(acceptor) => {
            let stream = Box::pin(acceptor.accept(stream)).await?;
            serve(Box::new(stream), face, record).await
        }
    }
}

async fn serve<S>(stream: S, face: Face, record: Arc<Record>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match face {
        Face::Http => http::serve(stream, record).await,
        Face::Grpc => Box::pin(grpc::serve(stream, record)).await,
    }
}

fn acceptor(certificates: &Certificates, callers: Callers, face: Face) -> Result<TlsAcceptor> {
    let chain = vec![CertificateDer::from_pem_file(
        certificates.server_certificate(),
    )?];
    let key = PrivateKeyDer::from_pem_file(certificates.server_key())?;
    let config = match callers {
        Callers::Anybody => ServerConfig::builder().with_no_client_auth(),
        Callers::Certified => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(certificates.ca())?)?;
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_single_cert(chain, key)?;
    let protocol: &[u8] = match face {
        Face::Http => b"http/1.1",
        Face::Grpc => b"h2",
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
