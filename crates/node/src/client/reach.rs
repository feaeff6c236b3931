//! From what was asked for to a way to a node.

use super::Failure;
use crate::{
    config::{Config, Hidden, Reach},
    health::{is_local, reachable},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use pollux_client::{Address, Trust, Wire};

/// The way to the node that was named, or else to the one that the configuration describes, at
/// this port of its. `more` are headers that the command itself has.
pub(super) fn wire(
    reach: &Reach,
    config: &Config,
    port: u16,
    more: &[(&str, &Hidden)],
) -> Result<Wire, Failure> {
    let address = match &reach.address {
        Some(address) => address.clone(),
        None if port == 0 => {
            let why = "port is 0, so the node chose one that only it knows: say it with --url";
            return Err(Failure::Asked(why.to_owned()));
        }
        None => Address {
            tls: config.uses_tls(),
            host: reachable(&config.host),
            port,
            path: None,
        },
    };
    let mut headers = HeaderMap::new();
    let given = reach.headers.iter().map(|(name, value)| (&**name, value));
    for (name, value) in more.iter().copied().chain(given) {
        let (Ok(name), Ok(mut value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value.expose()),
        ) else {
            return Err(Failure::Asked(format!("{name} can't be sent in a header")));
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    if !address.tls {
        return Ok(Wire::plain(address, headers));
    }
    let trust = match &reach.trust {
        // Its certificate is that of its public name, and nobody is between a machine and itself.
        Trust::System if reach.address.is_none() && is_local(&address.host) => &Trust::Anyone,
        trust => trust,
    };
    let trusted = trust.config();
    let trusted = trusted.map_err(|error| Failure::Asked(error.to_string()))?;
    Wire::secure(address, headers, trusted)
        .ok_or_else(|| Failure::Asked("nobody can have a certificate for this host".to_owned()))
}

/// The path to ask: that of the address, or else the configured one.
pub(super) fn path<'a>(wire: &'a Wire, configured: &'a str) -> &'a str {
    wire.address().path.as_deref().unwrap_or(configured)
}

/// How a node and a door of it are called in messages.
pub(super) fn place(wire: &Wire, path: &str) -> String {
    let address = Address {
        path: Some(path.to_owned()),
        ..wire.address().clone()
    };
    address.to_string()
}
