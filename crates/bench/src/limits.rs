//! What one process may open: file descriptors, and local ports by source address.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};

/// Standard streams, epoll, the publisher, `/proc` and `/metrics` reads.
const SPARE_DESCRIPTORS: u64 = 64;
/// Ports from which one may dial, if the kernel does not say.
const DEFAULT_PORTS: (u16, u16) = (32_768, 60_999);
/// A port stays in TIME_WAIT for a minute after its use; half of them is left for that.
const USABLE_SHARE: usize = 2;
/// The first extra source address. 127.0.0.1 is left to everybody else.
const FIRST_SOURCE: [u8; 4] = [127, 0, 0, 2];

/// The addresses pollers dial from, taken in turn.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Empty: the kernel chooses.
    addresses: Vec<IpAddr>,
}

/// Raises the soft limit of open files to the hard one and checks that all pollers fit.
pub(crate) fn make_room_for(pollers: usize) -> Result<()> {
    let (_, hard) = rlimit::Resource::NOFILE
        .get()
        .context("failed to read the limit of open files")?;
    rlimit::Resource::NOFILE
        .set(hard, hard)
        .context("failed to raise the limit of open files")?;
    let needed = SPARE_DESCRIPTORS + u64::try_from(pollers).unwrap_or(u64::MAX - SPARE_DESCRIPTORS);
    if needed > hard {
        bail!(
            "{pollers} pollers need {needed} open files, but the hard limit is {hard}: \
             at most {} pollers fit; raise it with `ulimit -Hn` as root",
            hard.saturating_sub(SPARE_DESCRIPTORS)
        );
    }
    Ok(())
}

impl Sources {
    /// Enough source addresses for `pollers` connections to `addr`.
    pub(crate) fn plan(addr: SocketAddr, pollers: usize) -> Self {
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let (low, high) = text
            .ok()
            .and_then(|text| parse_port_range(&text))
            .unwrap_or(DEFAULT_PORTS);
        let per_address = usize::from(high.saturating_sub(low)).max(1) / USABLE_SHARE + 1;
        let count = pollers.div_ceil(per_address);
        let is_loopback = matches!(addr.ip(), IpAddr::V4(ip) if ip.is_loopback());
        if count <= 1 || !is_loopback {
            return Self {
                addresses: Vec::new(),
            };
        }
        let first = u32::from(Ipv4Addr::from(FIRST_SOURCE));
        let last = first.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let addresses = (first..last)
            .map(|ip| IpAddr::V4(Ipv4Addr::from(ip)))
            .collect();
        Self { addresses }
    }

    pub(crate) fn of(&self, poller: usize) -> Option<IpAddr> {
        let count = self.addresses.len();
        (count > 0).then(|| self.addresses[poller % count])
    }
}

fn parse_port_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace();
    let low = words.next()?.parse().ok()?;
    let high = words.next()?.parse().ok()?;
    (low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pollers_and_far_servers_dial_from_anywhere() {
        let near: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let far: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert_eq!(Sources::plan(near, 100).of(3), None);
        assert_eq!(Sources::plan(far, 1_000_000).of(3), None);
    }

    #[test]
    fn many_pollers_dial_from_several_addresses() {
        let near: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let sources = Sources::plan(near, 200_000);
        assert_eq!(sources.of(0), Some("127.0.0.2".parse().unwrap()));
        assert_eq!(sources.of(1), Some("127.0.0.3".parse().unwrap()));
        assert!(sources.addresses.len() >= 4);
    }

    #[test]
    fn reads_the_port_range() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(parse_port_range("9 1"), None);
        assert_eq!(parse_port_range(""), None);
    }
}
