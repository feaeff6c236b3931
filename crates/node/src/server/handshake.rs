//! Connections that begin with TLS.

use super::{
    accept::{Counted, Server},
    connection::Service,
    socket::Socket,
};
use crate::tls::{SEND_BUFFER, Tls};
use bytes::Bytes;
use std::{io, sync::Arc};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
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
            self.config.header_read_timeout,
            shake_hands(stream, &tls),
        ));
        let outcome = match self.stop_connections.run_until_cancelled(handshake).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(late)) => Err(late.into()),
            None => return,
        };
        let stream = match outcome {
            Ok(Some(stream)) => stream,
            // It was a look whether the port is open.
            Ok(None) => return,
            Err(error) => {
                self.metrics.failed_handshakes.inc();
                debug!(%error, "A client did not come to speak TLS");
                return;
            }
        };
        let chosen = stream.get_ref().1.alpn_protocol();
        let speaks_http2 = chosen == Some(b"h2");
        let socket = Socket::secured(stream, self.tasks.clone());
        if speaks_http2 {
            Box::pin(self.serve_http2(socket, Bytes::new(), service)).await;
        } else {
            Box::pin(self.serve_http1(socket, Bytes::new(), service, counted)).await;
        }
    }
}

/// `None` if the client went away without a word.
async fn shake_hands(mut stream: TcpStream, tls: &Tls) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    // No handshake begins like a method.
    if first[0].is_ascii_uppercase() {
        refuse(&mut stream).await?;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it spoke HTTP without TLS",
        ));
    }
    // The certificate of now, not of when the connection was made.
    let acceptor = TlsAcceptor::from(tls.current());
    let accept = acceptor.accept_with(stream, |connection| {
        connection.set_buffer_limit(Some(SEND_BUFFER));
    });
    accept.await.map(Some)
}

/// Says to a client without TLS what is wrong.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    // There is something: it was looked at.
    stream.try_read(&mut [0; PLAIN_REQUEST])?;
    stream.write_all(PLAIN_ANSWER).await?;
    stream.shutdown().await
}
