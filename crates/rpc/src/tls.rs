//! TLS to the application, over either transport.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject},
};

use crate::options::{OptionsError, PemPart, Tls};

/// Reads the files that `tls` names. `protocol` is what the connections speak.
pub(crate) fn config(tls: &Tls, protocol: &[u8]) -> Result<Arc<ClientConfig>, OptionsError> {
    // Named, so that none has to be installed for the whole process.
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(OptionsError::Tls)?;
    let verified = if tls.verify {
        versions.with_root_certificates(authorities(tls.root_ca.as_deref())?)
    } else {
        versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    };
    let mut config = identity(tls, verified)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

type Verified = rustls::ConfigBuilder<ClientConfig, WantsClientCert>;

fn identity(tls: &Tls, verified: Verified) -> Result<ClientConfig, OptionsError> {
    match (&tls.client_cert, &tls.client_key) {
        (None, None) => Ok(verified.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(of_file(key, PemPart::Key))?;
            verified
                .with_client_auth_cert(chain, key)
                .map_err(OptionsError::Tls)
        }
        _ => Err(OptionsError::HalfIdentity),
    }
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, OptionsError> {
    let mut store = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates(file)? {
            store.add(certificate).map_err(OptionsError::Tls)?;
        }
        return Ok(store);
    }
    // A file of the system's that is broken is not worth a refusal to start.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(OptionsError::NoAuthorities);
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OptionsError> {
    let wrong = of_file(path, PemPart::Certificate);
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match found {
        Ok(certificates) if certificates.is_empty() => Err(wrong(pem::Error::NoItemsFound)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(error)),
    }
}

fn of_file(path: &Path, expected: PemPart) -> impl Fn(pem::Error) -> OptionsError {
    move |error| match error {
        pem::Error::Io(source) => OptionsError::File {
            path: path.to_owned(),
            source,
        },
        _ => OptionsError::Pem {
            path: path.to_owned(),
            expected,
        },
    }
}

/// Takes any certificate, but still wants its holder to have the key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_that_do_not_serve_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        fs::write(&empty, "nothing").unwrap();
        let missing = folder.path().join("missing.pem");
        let words = |tls: Tls| config(&tls, b"h2").unwrap_err().to_string();

        let root = |path: &Path| Tls {
            root_ca: Some(path.to_owned()),
            ..Tls::default()
        };
        assert!(words(root(&missing)).starts_with("cannot read"));
        assert!(words(root(&empty)).ends_with("empty.pem has no certificate in PEM"));

        let half = Tls {
            verify: false,
            client_cert: Some(empty.clone()),
            ..Tls::default()
        };
        assert!(words(half).contains("go together"));
    }
}
