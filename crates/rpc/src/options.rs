//! What an operator sets.

use std::{fmt, io, path::PathBuf, time::Duration};

use http::HeaderValue;
use secrecy::SecretString;
use thiserror::Error;

/// How the application is reached, and how hard it may be pressed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the application serves its calls: either all `http://` or
    /// `https://` addresses with a base path, or all gRPC (`host:port`,
    /// `dns:///host:port`, `grpc-list://h1:p,h2:p`).
    pub hosts: Vec<String>,
    /// Calls at once; more than 0.
    pub concurrency: usize,
    /// Calls that may wait for their turn; 0: none. Others are refused at once.
    pub max_waiting: usize,
    /// A call's time in all, with waiting for its turn and all its attempts.
    pub command_timeout: Duration,
    /// An attempt's time once it is connected; none: 3 s over HTTP, over gRPC
    /// no bound but the call's.
    pub request_timeout: Option<Duration>,
    /// Who we are, over HTTP: sent as `Authorization: Bearer`.
    pub secret: Option<SecretString>,
    /// gRPC over TLS. For `https://` TLS is implied, this says how; none: the
    /// system's authorities are trusted.
    pub tls: Option<Tls>,
    /// Bytes an answer may have.
    pub max_answer_bytes: usize,
    /// The W3C `traceparent` of what a call is made for, asked where the call
    /// begins.
    pub trace: fn() -> Option<HeaderValue>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: vec!["localhost:50051".to_owned()],
            concurrency: 28,
            max_waiting: 5000,
            command_timeout: Duration::from_secs(3),
            request_timeout: None,
            secret: None,
            tls: None,
            max_answer_bytes: 4 * 1024 * 1024,
            trace: || None,
        }
    }
}

/// How a server's certificate is checked, and what it is shown of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whether the certificate is checked at all. Without that anyone on the
    /// way can answer in the application's place.
    pub verify: bool,
    /// A file of authorities in PEM, trusted instead of the system's.
    pub root_ca: Option<PathBuf>,
    /// A file with our certificate in PEM, for servers that ask for one.
    pub client_cert: Option<PathBuf>,
    /// The file with its key.
    pub client_key: Option<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            verify: true,
            root_ca: None,
            client_cert: None,
            client_key: None,
        }
    }
}

/// Options that cannot be meant. The texts name what an operator set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Nothing to call.
    #[error("rpc_host names no host")]
    NoHost,
    /// A host that cannot be read.
    #[error("rpc_host {host:?}: {why}")]
    Host {
        /// As it was given, but for a user and password.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// HTTP and gRPC in one list.
    #[error("rpc_host names both HTTP and gRPC hosts: all have to be of one kind")]
    MixedHosts,
    /// A number that has to be more than 0.
    #[error("{0} has to be more than 0")]
    Zero(&'static str),
    /// A secret that no header can carry.
    #[error("the secret of the calls has characters that a header cannot carry")]
    Secret,
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error("{} has no {expected} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: PemPart,
    },
    /// Half of a client certificate.
    #[error("a client certificate and its key go together, one of them is missing")]
    HalfIdentity,
    /// No authority to trust.
    #[error("the system has no trusted authorities; name a file of them with rpc_tls_root_ca")]
    NoAuthorities,
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("TLS for the calls cannot be set up: {0}")]
    Tls(rustls::Error),
}

/// What a PEM file should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemPart {
    /// One certificate or more.
    Certificate,
    /// A private key.
    Key,
}

impl fmt::Display for PemPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
        })
    }
}
