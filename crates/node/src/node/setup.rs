//! What a node is made of before there is one.

use super::{NodeError, doors::category_keep};
use crate::{
    application::{Application, Farewells, Telling},
    archive,
    config::{Config, PollOverflow},
    proxies::TrustedProxies,
    runtime::voice,
    telemetry::{Throttle, traces},
};
use base64::Engine as _;
use pollux_broker::{
    Broker, BrokerError, Events, MemoryBroker, MemoryConfig, RedisBroker, RedisConfig, RedisTls,
};
use pollux_protocol::{Meta, Publication};
use pollux_rpc::{Backend, Options, Tls};
use pollux_session::{Overflow, PollConfig, Rate};
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Seconds' worth of commands that may come at once.
const BURST: usize = 2;

pub(super) fn start_broker(
    config: &Config,
    node_id: &str,
) -> Result<(Arc<dyn Broker>, Events), NodeError> {
    if let Some(url) = config.redis_url.as_ref().filter(|_| config.uses_redis()) {
        let (broker, events) = RedisBroker::start(redis_config(config, node_id, url))?;
        return Ok((broker, events));
    }
    let (broker, events) = MemoryBroker::start(MemoryConfig {
        history_limit: config.history_limit,
        history_ttl: config.history_ttl,
        max_streams: config.memory_max_streams,
        max_bytes: config.memory_max_bytes,
    })?;
    if let Some(path) = &config.category_file {
        let keep = category_keep(config);
        for event in archive::load(Path::new(path), keep, voice::micros())? {
            let publication = Publication {
                stream: event.stream,
                data: event.data,
                meta: Meta::default(),
            };
            broker.restore(publication, event.time, keep);
        }
    }
    Ok((broker, events))
}

/// How to reach the Redis that the options name, for somebody who is no node.
pub(crate) fn redis_config_of(config: &Config) -> Option<RedisConfig> {
    let url = config.redis_url.as_ref()?;
    Some(redis_config(config, "", url))
}

fn redis_config(config: &Config, node_id: &str, url: &SecretString) -> RedisConfig {
    let sentinels = config.redis_sentinels.as_ref();
    let sentinels = sentinels.map_or("", |sentinels| sentinels.expose_secret());
    let client = config.redis_tls_client_cert_path.as_ref();
    RedisConfig {
        url: url.expose_secret().to_owned(),
        sentinels: sentinels
            .split(',')
            .map(str::trim)
            .filter(|sentinel| !sentinel.is_empty())
            .map(str::to_owned)
            .collect(),
        tls: RedisTls {
            verify: config.redis_tls_verify,
            ca: config.redis_tls_ca_cert_path.as_ref().map(PathBuf::from),
            client: client
                .zip(config.redis_tls_client_key_path.as_ref())
                .map(|(certificate, key)| (PathBuf::from(certificate), PathBuf::from(key))),
        },
        prefix: config.redis_prefix.clone(),
        channel: config.redis_channel.clone(),
        intake: config.redisx_stream.clone(),
        intake_group: config.redisx_group.clone(),
        node: node_id.to_owned(),
        keepalive_interval: config.redis_keepalive_interval,
        history_limit: config.history_limit,
        history_ttl: config.history_ttl,
        linger: config.redis_linger,
        check_interval: config.redis_check_interval,
        discovery_interval: config.redis_sentinel_discovery_interval,
        max_publication_size: config.max_publication_size,
    }
}

/// The backend, if there is one.
pub(super) fn start_application(
    config: &Config,
    proxies: &TrustedProxies,
) -> Result<Option<Arc<Application>>, NodeError> {
    if !config.asks_backend() {
        return Ok(None);
    }
    let hosts = config.backends();
    let speaks_http = hosts.iter().any(|host| host.starts_with("http"));
    let tls = Tls {
        verify: config.rpc_tls_verify,
        root_ca: config.rpc_tls_root_ca.as_ref().map(PathBuf::from),
        client_cert: config.rpc_tls_client_cert_path.as_ref().map(PathBuf::from),
        client_key: config.rpc_tls_client_key_path.as_ref().map(PathBuf::from),
    };
    let backend = Backend::new(Options {
        hosts,
        concurrency: config.rpc_concurrency,
        max_waiting: config.rpc_max_waiting,
        command_timeout: config.rpc_command_timeout,
        request_timeout: Some(config.rpc_request_timeout).filter(|time| !time.is_zero()),
        secret: config.rpc_key().map(SecretString::from),
        tls: (speaks_http || config.rpc_enable_tls).then_some(tls),
        max_answer_bytes: config.rpc_max_call_recv_size,
        trace: traces::current,
    })?;
    Ok(Some(Arc::new(Application {
        backend,
        telling: Telling::new(
            &config.headers,
            &config.jwt_param,
            &config.proxy_cookies,
            proxies.clone(),
            config.uses_tls(),
        ),
        farewells: Farewells::new(
            config.disconnect_mode,
            config.disconnect_rate,
            config.disconnect_backlog_size,
        ),
        failures: Throttle::default(),
    })))
}

pub(super) fn poll_config(config: &Config) -> PollConfig {
    PollConfig {
        interval: config.poll_interval,
        flush_interval: config.poll_flush_interval,
        keepalive_timeout: config.poll_keepalive_timeout,
        max_waiting: config.poll_max_waiting,
        max_frames: config.poll_outbox_max_frames,
        max_bytes: config.poll_outbox_max_bytes,
        overflow: match config.poll_overflow {
            PollOverflow::Expire => Overflow::Expire,
            PollOverflow::DropOldest => Overflow::DropOldest,
        },
        max_subscriptions: config.max_subscriptions_per_session,
        commands: {
            let per_second = config.max_commands_per_second;
            // A client that comes back subscribes to everything at once.
            let burst = per_second.saturating_mul(BURST);
            Rate::new(per_second, burst.max(config.max_subscriptions_per_session))
        },
    }
}

pub(crate) fn random_node_id() -> Result<String, BrokerError> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| BrokerError::Unavailable(error.to_string()))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random))
}
