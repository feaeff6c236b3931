//! Where Redis is.

use super::config::{RedisConfig, RedisTls};
use crate::broker::BrokerError;
use ::redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    ProtocolVersion, RedisError, RedisResult, TlsCertificates, TlsMode,
    cluster::ClusterClient,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use std::{fmt, time::Duration};
use tokio::sync::Mutex;

/// For a command to be answered, and for a connection to be made.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// For all sentinels together to say who the master is.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module's head.
pub(super) enum Place {
    /// One server.
    Server(Box<ConnectionInfo>),
    /// The master that sentinels name.
    Sentinels(Box<Mutex<SentinelClient>>),
    /// A cluster.
    Cluster {
        client: Box<ClusterClient>,
        /// The first node given, whose credentials hold for all.
        like: Box<ConnectionInfo>,
    },
}

impl fmt::Debug for Place {
    /// Without addresses: they come with passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Sentinels(_) => "Sentinels",
            Self::Cluster { .. } => "Cluster",
        })
    }
}

impl Place {
    /// # Errors
    /// The configuration is wrong, or a certificate can't be read.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, BrokerError> {
        // Whoever embeds the node may have chosen a provider already.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self::build(config).map_err(|error| BrokerError::Config(error.to_string()))
    }

    fn build(config: &RedisConfig) -> RedisResult<Self> {
        let certificates = certificates(&config.tls)?;
        let urls = config.url.split(',').map(str::trim);
        let nodes = urls
            .filter(|url| !url.is_empty())
            .map(|url| info(url, config, certificates.clone()))
            .collect::<RedisResult<Vec<_>>>()?;
        let Some(first) = nodes.first().cloned() else {
            return Err(invalid("no URL of Redis was given"));
        };
        if !config.sentinels.is_empty() {
            return sentinels(config, &first, certificates);
        }
        if nodes.len() == 1 {
            return Ok(Self::Server(Box::new(first)));
        }
        let mut builder = ClusterClient::builder(nodes)
            .connection_timeout(ANSWER_TIMEOUT)
            .response_timeout(ANSWER_TIMEOUT)
            .retries(4)
            .tcp_settings(tcp(config.keepalive_interval));
        if let (ConnectionAddr::TcpTls { .. }, Some(certificates)) = (first.addr(), certificates) {
            builder = builder.certs(certificates);
        }
        Ok(Self::Cluster {
            client: Box::new(builder.build()?),
            like: Box::new(first),
        })
    }

    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    /// Where the one server is to connect to; not for clusters.
    pub(super) async fn locate(&self) -> RedisResult<ConnectionInfo> {
        match self {
            Self::Server(info) | Self::Cluster { like: info, .. } => Ok((**info).clone()),
            Self::Sentinels(client) => {
                // Boxed: the library's future is several kilobytes.
                let ask = async { Box::pin(client.lock().await.async_get_client()).await };
                let client = tokio::time::timeout(DISCOVERY_TIMEOUT, ask)
                    .await
                    .map_err(|_| io("no sentinel answered in time"))??;
                Ok(client.get_connection_info().clone())
            }
        }
    }

    /// How to reach another node of the same cluster.
    pub(super) fn node(&self, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
        let Self::Cluster { like, .. } = self else {
            return Err(invalid("not a cluster"));
        };
        let address = match like.addr() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Ok((**like).clone().set_addr(address))
    }

    /// The host and port the address of a server has.
    pub(super) fn address(info: &ConnectionInfo) -> String {
        info.addr().to_string()
    }
}

fn invalid(reason: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, reason))
}

pub(super) fn io(reason: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, reason))
}

fn tcp(keepalive: Duration) -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(keepalive))
}

/// The schema may be left out.
fn with_schema(url: &str) -> String {
    if url.contains("://") {
        url.to_owned()
    } else {
        format!("redis://{url}")
    }
}

fn info(
    url: &str,
    config: &RedisConfig,
    certificates: Option<TlsCertificates>,
) -> RedisResult<ConnectionInfo> {
    let info = with_schema(url).as_str().into_connection_info()?;
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let mut info = info
        .set_redis_settings(settings)
        .set_tcp_settings(tcp(config.keepalive_interval));
    if let ConnectionAddr::TcpTls { host, port, .. } = info.addr().clone() {
        info = info.set_addr(ConnectionAddr::TcpTls {
            host,
            port,
            insecure: !config.tls.verify,
            tls_params: None,
        });
        if let Some(certificates) = certificates {
            let client = Client::build_with_tls(info, certificates)?;
            info = client.get_connection_info().clone();
        }
    }
    Ok(info)
}

fn certificates(tls: &RedisTls) -> RedisResult<Option<TlsCertificates>> {
    if tls.ca.is_none() && tls.client.is_none() {
        return Ok(None);
    }
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| {
            let reason = format!("{}: {error}", path.display());
            RedisError::from((
                ErrorKind::InvalidClientConfig,
                "can't read a certificate of Redis",
                reason,
            ))
        })
    };
    let client_tls = match &tls.client {
        Some((certificate, key)) => Some(ClientTlsConfig {
            client_cert: read(certificate)?,
            client_key: read(key)?,
        }),
        None => None,
    };
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert: tls.ca.as_deref().map(read).transpose()?,
    }))
}

fn sentinels(
    config: &RedisConfig,
    master: &ConnectionInfo,
    certificates: Option<TlsCertificates>,
) -> RedisResult<Place> {
    let (ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. }) = master.addr()
    else {
        return Err(invalid("the URL's host must be the name of the master"));
    };
    let sentinels = config
        .sentinels
        .iter()
        .map(|url| info(url, config, certificates.clone()))
        .collect::<RedisResult<Vec<_>>>()?;
    let Some(first) = sentinels.first() else {
        return Err(invalid("no sentinel was given"));
    };
    let mode = if config.tls.verify {
        TlsMode::Secure
    } else {
        TlsMode::Insecure
    };
    let settings = master.redis_settings();
    let addresses = sentinels.iter().map(|info| info.addr().clone());
    let mut builder =
        SentinelClientBuilder::new(addresses, name.as_str(), SentinelServerType::Master)?
            .set_client_to_redis_db(settings.db())
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_tcp_settings(tcp(config.keepalive_interval));
    if let Some(user) = settings.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = first.redis_settings().username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = first.redis_settings().password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if matches!(master.addr(), ConnectionAddr::TcpTls { .. }) {
        builder = builder.set_client_to_redis_tls_mode(mode);
        if let Some(certificates) = certificates.clone() {
            builder = builder.set_client_to_redis_certificates(certificates);
        }
    }
    if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
        builder = builder.set_client_to_sentinel_tls_mode(mode);
        if let Some(certificates) = certificates {
            builder = builder.set_client_to_sentinel_certificates(certificates);
        }
    }
    Ok(Place::Sentinels(Box::new(Mutex::new(builder.build()?))))
}
