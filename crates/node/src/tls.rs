//! The certificate that clients see, and its successors.

mod local;

pub(crate) use local::connect_local;

use parking_lot::{Mutex, RwLock};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

/// How often the files are looked at. What renews a certificate does so days
/// before it must.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What HTTP/2 is called in a handshake.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// Plain bytes that may wait in a connection for its socket. Little, because
/// they count as an answer that does not move for as long as they do.
pub(crate) const SEND_BUFFER: usize = 16 * 1024;

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("find {what} in {}: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
    /// Both are readable, and can't be used together.
    #[error("use the certificate {} with the key {}: {error}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        error: rustls::Error,
    },
}

/// The files, and what was in them last.
#[derive(Debug)]
pub(crate) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    /// For new connections.
    current: RwLock<Arc<ServerConfig>>,
    /// What the files held when they were looked at last, good or bad. `None`
    /// after they could not be read. Held while they are looked at.
    seen: Mutex<Option<Fingerprint>>,
}

type Fingerprint = [u8; 32];

/// Both files' bytes.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads a certificate and its key.
    pub(crate) fn load(cert: &str, key: &str) -> Result<Arc<Self>, TlsError> {
        let (cert, key) = (PathBuf::from(cert), PathBuf::from(key));
        let contents = Contents::read(&cert, &key)?;
        let config = contents.config(&cert, &key)?;
        Ok(Arc::new(Self {
            cert,
            key,
            current: RwLock::new(config),
            seen: Mutex::new(Some(contents.fingerprint())),
        }))
    }

    /// For a connection that begins now.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }

    /// Takes what is in the files now, if it is new and good. What they are
    /// links to may have been exchanged, so what counts is what they hold.
    pub(crate) fn reload(&self) {
        let mut seen = self.seen.lock();
        let contents = Contents::read(&self.cert, &self.key);
        let fingerprint = contents.as_ref().ok().map(Contents::fingerprint);
        if fingerprint == *seen {
            return;
        }
        *seen = fingerprint;
        match contents.and_then(|contents| contents.config(&self.cert, &self.key)) {
            Ok(config) => {
                // All of it, so that no session of the certificate before is
                // resumed either.
                *self.current.write() = config;
                info!(cert = %self.cert.display(), "A new certificate is in use");
            }
            Err(failure) => {
                error!("Failed to {failure}; the certificate before stays in use");
            }
        }
    }

    /// Looks at the files for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            sleep(LOOK_EVERY).await;
            let tls = Arc::clone(&self);
            if let Err(error) = spawn_blocking(move || tls.reload()).await {
                warn!(%error, "Failed to look at the certificate");
            }
        }
    }
}

impl Contents {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| TlsError::Read {
                path: path.to_owned(),
                error,
            })
        };
        Ok(Self {
            cert: read(cert)?,
            key: read(key)?,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let cert = Sha256::digest(&self.cert);
        let both = Sha256::new().chain_update(cert).chain_update(&self.key);
        both.finalize().into()
    }

    fn config(&self, cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.cert).collect();
        let certificates = match certificates {
            Ok(none) if none.is_empty() => Err(pem::Error::NoItemsFound),
            certificates => certificates,
        };
        let certificates = certificates.map_err(|error| TlsError::Pem {
            path: cert.to_owned(),
            what: "a certificate",
            error,
        })?;
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| TlsError::Pem {
            path: key.to_owned(),
            what: "a private key",
            error,
        })?;
        let make = || {
            let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(certificates, private)?;
            config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
            // Clients that come back all at once keep their own state, and the
            // node none.
            config.ticketer = ring::Ticketer::new()?;
            Ok(Arc::new(config))
        };
        make().map_err(|error| TlsError::Pair {
            cert: cert.to_owned(),
            key: key.to_owned(),
            error,
        })
    }
}
