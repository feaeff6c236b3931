//! Whose certificate a node may show.

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Whose certificate a node may show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// One of the authorities that the system trusts must have signed it.
    #[default]
    System,
    /// One of the authorities in this PEM file must have.
    File(PathBuf),
    /// Any will do: whoever is between may read and change everything.
    Anyone,
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file is not there, or holds no certificates.
    #[error("{} holds no certificates in PEM that can be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system names no authority.
    #[error("the system trusts no certificate authority; name one with --ca")]
    NoAuthorities,
    /// The library won't.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// What connections need to know.
    ///
    /// # Errors
    /// There is nobody to trust.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let store = match self {
            Self::Anyone => return any_certificate().map_err(TrustError::Tls),
            Self::System => of_the_system()?,
            Self::File(path) => of_file(path)?,
        };
        // Named, so that none has to be installed for the whole process.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

fn of_the_system() -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    // A file of the system's that is broken leaves the others.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(TrustError::NoAuthorities);
    }
    Ok(store)
}

fn of_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let wrong = |reason: String| TrustError::File {
        path: path.to_owned(),
        reason,
    };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    let found = found.map_err(|error| wrong(error.to_string()))?;
    let mut store = RootCertStore::empty();
    for certificate in found {
        store
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    Ok(store)
}

/// For connections that take any certificate.
///
/// # Errors
/// The library can't be set up.
pub fn any_certificate() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes any certificate, but still wants its holder to have the key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
