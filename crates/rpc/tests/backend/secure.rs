//! TLS, over either transport.

use std::sync::Arc;

use pollux_rpc::{CallError, Options, Tls};
use pollux_testkit::Certificates;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::app::{App, Grpc, Http, Server, Transport, backend, call, free_address};

/// A server on this machine, with a certificate of `certificates`' authority.
async fn server(transport: Transport, certificates: &Certificates, mutual: bool) -> Server {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = if mutual {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(certificates.ca()).unwrap())
            .unwrap();
        config.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap(),
        )
    } else {
        config.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_file(certificates.server_certificate()).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.server_key()).unwrap();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = match transport {
        Http => vec![b"http/1.1".to_vec()],
        Grpc => vec![b"h2".to_vec()],
    };
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start_at(transport, &App::new([]), free_address(), Some(acceptor)).await
}

fn options(transport: Transport, host: &str, server: &Server, tls: Tls) -> Options {
    let port = server.address.port();
    let host = match transport {
        Http => format!("https://{host}:{port}/_anycable"),
        Grpc => format!("{host}:{port}"),
    };
    Options {
        hosts: vec![host],
        tls: Some(tls),
        command_timeout: std::time::Duration::from_secs(10),
        ..Options::default()
    }
}

#[tokio::test]
async fn an_own_authority_is_trusted_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path()).unwrap();
    let strangers = tempfile::tempdir().unwrap();
    let stranger = Certificates::make(strangers.path()).unwrap();
    for transport in [Http, Grpc] {
        let server = server(transport, &certificates, false).await;
        let root = |certificates: &Certificates| Tls {
            root_ca: Some(certificates.ca()),
            ..Tls::default()
        };
        for host in ["localhost", "127.0.0.1"] {
            let good = backend(options(transport, host, &server, root(&certificates)));
            call(&good).await.unwrap();
        }

        let mut wrong = options(transport, "localhost", &server, root(&stranger));
        wrong.command_timeout = std::time::Duration::from_secs(1);
        let error = call(&backend(wrong)).await.unwrap_err();
        assert!(matches!(error, CallError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");

        let unchecked = Tls {
            verify: false,
            ..Tls::default()
        };
        let unchecked = backend(options(transport, "localhost", &server, unchecked));
        call(&unchecked).await.unwrap();
        assert_eq!(server.app.runs(), 3);
    }
}

#[tokio::test]
async fn a_server_may_ask_for_our_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path()).unwrap();
    for transport in [Http, Grpc] {
        let server = server(transport, &certificates, true).await;
        let bare = Tls {
            root_ca: Some(certificates.ca()),
            ..Tls::default()
        };
        let ours = Tls {
            client_cert: Some(certificates.client_certificate()),
            client_key: Some(certificates.client_key()),
            ..bare.clone()
        };
        let ours = backend(options(transport, "localhost", &server, ours));
        call(&ours).await.unwrap();

        let mut bare = options(transport, "localhost", &server, bare);
        bare.command_timeout = std::time::Duration::from_secs(1);
        let error = call(&backend(bare)).await.unwrap_err();
        assert!(matches!(error, CallError::Unavailable(_)), "{error}");
        assert_eq!(server.app.runs(), 1);
    }
}
