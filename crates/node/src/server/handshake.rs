//! Connections that begin with TLS.

use super::{
    accept::{Counted, Server},
    connection::Service,
    socket::Socket,
};
use crate::tls::{HTTP2, SEND_BUFFER, Tls};
use bytes::Bytes;
use http::Version;
use std::{io, sync::Arc};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// Bytes of a request without TLS that are read before it is answered. A
/// socket that is closed with more in it takes the answer back.
const PLAIN_REQUEST: usize = 4 * 1024;

const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 23\r\nConnection: close\r\n\r\nthis port speaks HTTPS\n";

impl Server {
    /// Serves one connection, from the first byte of its handshake.
    pub(super) async fn serve_tls(
        &self,
        stream: TcpStream,
        tls: Arc<Tls>,
        service: Arc<Service>,
        counted: Option<Arc<Counted>>,
    ) {
        // Boxed, so that its room is given back when it is over.
        let handshake = Box::pin(timeout(
            self.head_timeout(&service),
            self.shake_hands(stream, &tls),
        ));
        let outcome = match self.stop_connections.run_until_cancelled(handshake).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(late)) => Err(late.into()),
            None => return,
        };
        let (socket, version) = match outcome {
            Ok(Some(agreed)) => agreed,
            // It was a look whether the port is open.
            Ok(None) => return,
            Err(error) => {
                self.metrics.failed_handshakes.inc();
                debug!(%error, "A client did not come to speak TLS");
                return;
            }
        };
        match version {
            // Its streams could stay for as long as they like.
            Version::HTTP_2 if service.hurries => {}
            Version::HTTP_2 => {
                Box::pin(self.serve_http2(socket, Bytes::new(), service)).await;
            }
            _ => Box::pin(self.serve_http1(socket, Bytes::new(), service, counted)).await,
        }
    }

    /// The socket and the version of HTTP that was agreed upon; `None` if the
    /// client went away without a word.
    async fn shake_hands(
        &self,
        mut stream: TcpStream,
        tls: &Tls,
    ) -> io::Result<Option<(Socket, Version)>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        // No handshake begins like a method.
        if first[0].is_ascii_uppercase() {
            refuse(&mut stream).await?;
            let kind = io::ErrorKind::InvalidData;
            return Err(io::Error::new(kind, "it spoke HTTP without TLS"));
        }
        // The certificate of now, not of when the connection was made.
        let acceptor = TlsAcceptor::from(tls.current());
        let accept = acceptor.accept_with(stream, |connection| {
            connection.set_buffer_limit(Some(SEND_BUFFER));
        });
        let stream = accept.await?;
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(HTTP2) => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        let socket = Socket::secured(stream, self.tasks.clone());
        Ok(Some((socket, version)))
    }
}

/// Says to a client without TLS what is wrong.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    // There is something: it was looked at.
    stream.try_read(&mut [0; PLAIN_REQUEST])?;
    stream.write_all(PLAIN_ANSWER).await?;
    stream.shutdown().await
}
