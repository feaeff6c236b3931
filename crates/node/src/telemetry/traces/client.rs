//! Requests to a collector over HTTP/1.1: one every few seconds, each on a
//! connection of its own.

use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use std::{fmt, future::Future, io, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// A collector says little.
const ANSWER_MAX: usize = 64 * 1024;

/// Batches are sent by a thread without a reactor, so the work is done on a
/// runtime and only awaited there.
#[derive(Clone)]
pub(super) struct Client {
    runtime: Handle,
    tls: Option<TlsConnector>,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("tls", &self.tls.is_some())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Must be called within a runtime.
    pub(super) fn new(is_secure: bool, timeout: Duration) -> Result<Self, rustls::Error> {
        Ok(Self {
            runtime: Handle::current(),
            tls: is_secure.then(connector).transpose()?,
            timeout,
        })
    }
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    // One that is broken is not worth a refusal to start.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let (limit, tls) = (self.timeout, self.tls.clone());
        // The timer, too, is the runtime's.
        let sending = async move { timeout(limit, Box::pin(send(request, tls))).await };
        let sending = self.runtime.spawn(sending);
        Box::pin(async move { sending.await?? })
    }
}

async fn send(
    mut request: Request<Bytes>,
    tls: Option<TlsConnector>,
) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or_else(|| io::Error::other("no host"))?;
    let port = uri
        .port_u16()
        .unwrap_or_else(|| if tls.is_some() { 443 } else { 80 });
    prepare(&mut request, &uri)?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, port)).await?;
    match tls {
        None => Box::pin(exchange(stream, request)).await,
        Some(connector) => {
            let name = ServerName::try_from(name.to_owned())?;
            let stream = connector.connect(name, stream).await?;
            Box::pin(exchange(stream, request)).await
        }
    }
}

/// Brings an absolute request into the form that servers take.
fn prepare(request: &mut Request<Bytes>, uri: &Uri) -> Result<(), HttpError> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // Without a user and a password, which are not for there.
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let value = HeaderValue::try_from(authority)?;
    request.headers_mut().insert(header::HOST, value);
    let path = uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(())
}

async fn exchange<S>(stream: S, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = requests.send_request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // It moves the bytes, and ends after the answer or with the client.
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}
