//! From what an operator set to what makes calls.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Uri, uri::Scheme};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::{Backend, Codec};
use crate::{
    balance::{Balance, Names},
    dial::{self, Dialer},
    grpc,
    host::{Base, Hosts, Target},
    http as over_http,
    options::{Options, OptionsError},
    peer::{Peer, Wire},
    tally::Counters,
    tls,
};

/// A host that takes longer to connect is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What an attempt over HTTP may take if nothing else is set.
const HTTP_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn backend(options: Options) -> Result<Backend, OptionsError> {
    if options.concurrency == 0 {
        return Err(OptionsError::Zero("rpc_concurrency"));
    }
    if options.command_timeout.is_zero() {
        return Err(OptionsError::Zero("rpc_command_timeout"));
    }
    if options
        .request_timeout
        .is_some_and(|timeout| timeout.is_zero())
    {
        return Err(OptionsError::Zero("rpc_request_timeout"));
    }
    if options.max_answer_bytes == 0 {
        return Err(OptionsError::Zero("rpc_max_call_recv_size"));
    }
    let counters = Arc::new(Counters::default());
    let (codec, balance) = match Hosts::parse(&options.hosts)? {
        Hosts::Http(bases) => (Codec::Json, http(bases, &options, &counters)?),
        Hosts::Grpc(targets) => (Codec::Proto, grpc(targets, &options, &counters)?),
    };
    Ok(Backend {
        balance: Arc::new(balance),
        codec,
        permits: Semaphore::new(options.concurrency.min(Semaphore::MAX_PERMITS)),
        waiting: 0.into(),
        max_waiting: options.max_waiting,
        timeout: options.command_timeout,
        trace: options.trace,
        counters,
    })
}

/// Half of the call's time at most, so that there is some for another host.
fn connect_timeout(options: &Options) -> Duration {
    CONNECT_TIMEOUT.min(options.command_timeout / 2)
}

fn http(
    bases: Vec<Base>,
    options: &Options,
    counters: &Arc<Counters>,
) -> Result<Balance, OptionsError> {
    let secret = match &options.secret {
        None => None,
        Some(secret) => {
            let text = format!("Bearer {}", secret.expose_secret());
            let mut value = HeaderValue::try_from(text).map_err(|_| OptionsError::Secret)?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    let tls = if bases.iter().any(|base| base.tls) {
        let tls = options.tls.clone().unwrap_or_default();
        Some(tls::config(&tls, b"http/1.1")?)
    } else {
        None
    };
    let mut peers = Vec::with_capacity(bases.len());
    for (origin, base) in bases.into_iter().enumerate() {
        let name = base.target.authority.to_string();
        let wrong = |why| OptionsError::Host { host: name, why };
        let tls = tls.as_ref().filter(|_| base.tls);
        let dialer = dialer(tls, &base.target, connect_timeout(options));
        let host = dialer.ok_or("is no name a certificate can have");
        let host = host.and_then(|dialer| {
            let timeout = options.request_timeout.unwrap_or(HTTP_TIMEOUT);
            let most = options.max_answer_bytes;
            over_http::Host::new(base, secret.as_ref(), dialer, timeout, most)
                .ok_or("has a path that no request can have")
        });
        let host = host.map_err(wrong)?;
        peers.push(Peer::new(Wire::Http(host), origin, Arc::clone(counters)));
    }
    Ok(Balance::of_peers(peers))
}

fn grpc(
    targets: Vec<Target>,
    options: &Options,
    counters: &Arc<Counters>,
) -> Result<Balance, OptionsError> {
    let tls = match &options.tls {
        Some(tls) => Some(tls::config(tls, b"h2")?),
        None => None,
    };
    let mut hosts = Vec::with_capacity(targets.len());
    for target in &targets {
        let dialer = dialer(tls.as_ref(), target, connect_timeout(options));
        let origin = Uri::builder()
            .scheme(if tls.is_some() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            })
            .authority(target.authority.clone())
            .path_and_query("/")
            .build();
        let (Some(dialer), Ok(origin)) = (dialer, origin) else {
            return Err(OptionsError::Host {
                host: target.authority.to_string(),
                why: "is no name a certificate can have",
            });
        };
        hosts.push((dialer, origin));
    }
    let (timeout, most) = (options.request_timeout, options.max_answer_bytes);
    let counters = Arc::clone(counters);
    Ok(Balance::of_names(Names {
        targets,
        resolve: Box::new(|target| Box::pin(dial::addresses(target))),
        make: Box::new(move |number, address| {
            let (dialer, origin) = hosts.get(number)?;
            let host = grpc::Host::new(address, origin.clone(), dialer.clone(), timeout, most);
            Some(Peer::new(Wire::Grpc(host), number, Arc::clone(&counters)))
        }),
    }))
}

fn dialer(tls: Option<&Arc<ClientConfig>>, target: &Target, timeout: Duration) -> Option<Dialer> {
    match tls {
        None => Some(Dialer::plain(timeout)),
        Some(config) => Dialer::tls(config, target, timeout),
    }
}
