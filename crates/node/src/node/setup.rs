//! What a node is made of before there is one.

use super::{NodeError, doors::category_keep};
use crate::{
    archive,
    config::{Config, PollOverflow},
    runtime::voice,
};
use base64::Engine as _;
use pollux_broker::{
    Broker, BrokerError, Events, MemoryBroker, MemoryConfig, RedisBroker, RedisConfig, RedisTls,
};
use pollux_protocol::{Meta, Publication};
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

pub(super) fn random_node_id() -> Result<String, BrokerError> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| BrokerError::Unavailable(error.to_string()))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random))
}
