//! What somebody who has just started a node wants to see.

use crate::config::{Config, LogFormat, Mode};
use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// Where the node listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) main: SocketAddr,
    /// The others are there if what they serve has a port of its own.
    pub(crate) broadcast: Option<SocketAddr>,
    pub(crate) console: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
}

/// Prints the addresses and, where anybody may use them, two commands to paste.
/// Not among JSON logs: there every line is for a machine.
pub(crate) fn print(config: &Config, ports: Ports) {
    if config.log_format == LogFormat::Text {
        // A closed standard output is no reason not to serve.
        drop(std::io::stdout().write_all(text(config, ports).as_bytes()));
    }
}

fn text(config: &Config, ports: Ports) -> String {
    let base_url = |address| base_url(config, address);
    let base = base_url(ports.main);
    let own_port = ports
        .broadcast
        .filter(|_| config.own_broadcast_port().is_some());
    let publish_base = own_port.map_or_else(|| base.clone(), base_url);
    let publish = format!("{publish_base}{}", config.http_broadcast_path);
    let poll = format!("{base}{}", config.poll_path);
    let mut rows = vec![];
    if config.console_enabled() {
        let base = ports.console.map_or_else(|| base.clone(), base_url);
        rows.push(("Console", format!("{base}/")));
    }
    if config.poll {
        let (interval, keepalive) = (config.poll_interval, config.poll_keepalive_timeout);
        rows.push((
            "Long polling",
            format!("{poll}  (interval {interval:?}, keepalive {keepalive:?})"),
        ));
    }
    rows.push(("Publishing", publish.clone()));
    if let Some(redis) = config.redis_address().filter(|_| config.uses_redis()) {
        rows.push((
            "Redis",
            format!("PUBLISH {} at {redis}", config.redis_channel),
        ));
    }
    if let Some(path) = &config.metrics_http {
        let own_port = ports.metrics.or(ports.console);
        let own_port = own_port.filter(|_| config.own_metrics_port().is_some());
        let base = own_port.map_or_else(|| base.clone(), base_url);
        rows.push(("Metrics", format!("{base}{path}")));
    }
    let mut text = format!("\n  Pollux {}\n\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in rows {
        text.push_str(&format!("  {name:<13} {value}\n"));
    }
    if config.mode() != Mode::Secured && config.poll && config.broadcast_key().is_none() {
        let subscribe = r#"{"command":"subscribe","identifier":"{\"channel\":\"$pubsub\",\"stream_name\":\"chat/1\"}"}"#;
        // The certificate is that of the node's public name.
        let curl = if config.uses_tls() { "curl -k" } else { "curl" };
        let publication = r#"{"stream":"chat/1","data":"{\"text\":\"hi\"}"}"#;
        text.push_str(&format!(
            "\n  Subscribe and wait:\n\n\
             id=$({curl} -si {poll} -d '{subscribe}' | tr -d '\\r' | sed -n 's/^x-anycable-poll-id: //p'); \
             while {curl} -sfX POST {poll} -H \"x-anycable-poll-id: $id\"; do :; done\n\
             \n  Publish, in another terminal:\n\n\
             {curl} {publish} -d '{publication}'\n"
        ));
    }
    text.push('\n');
    text
}

/// An address that can be pasted: one that means "every interface" can't.
fn base_url(config: &Config, mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let scheme = if config.uses_tls() { "https" } else { "http" };
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        Ports {
            main: SocketAddr::from(([0, 0, 0, 0], 443)),
            broadcast: None,
            console: None,
            metrics: None,
        }
    }

    #[test]
    fn redis_is_named_where_it_is_listened_to() {
        let mut config = Config {
            redis_url: Some("redis://away:6379".to_owned().into()),
            ..Config::default()
        };
        let row = "PUBLISH __anycable__ at redis://away:6379";
        let named = text(&config, ports());
        assert!(named.contains(row), "{named}");
        config.broker = crate::config::Broker::Memory;
        let alone = text(&config, ports());
        assert!(!alone.contains("PUBLISH"), "{alone}");
    }

    #[test]
    fn addresses_and_commands_know_of_tls() {
        let ports = ports();
        let plain = text(&Config::default(), ports);
        assert!(plain.contains(" http://127.0.0.1:443/lp "), "{plain}");
        assert!(!plain.contains("https") && !plain.contains("curl -k"));
        let config = Config {
            ssl_cert: Some("cert.pem".to_owned()),
            ssl_key: Some("key.pem".to_owned()),
            ..Config::default()
        };
        let secured = text(&config, ports);
        assert!(
            secured.contains("curl -k https://127.0.0.1:443/_broadcast -d"),
            "{secured}"
        );
        assert!(!secured.contains("http://"), "{secured}");
    }
}
