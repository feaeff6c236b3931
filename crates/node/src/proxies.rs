//! Which peers are proxies of our own, whose word about a client is taken.

use http::{HeaderMap, HeaderName, HeaderValue};
use pollux_session::Source;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
};

/// Where proxies write down whom they have a request from, the nearest last.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What the word `private` stands for: this machine, and the networks that
/// nobody can reach from the internet.
const PRIVATE: [&str; 7] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1",
    "fc00::/7",
    "fe80::/10",
];

/// An IPv4 address is looked at as the IPv6 address that stands for it, which
/// is how a socket that serves both shows it.
const IPV4_PREFIX: u32 = 96;

/// The networks of `trusted_proxies`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Box<[Network]>);

/// Something that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address such as 10.1.2.3, a network such as 10.0.0.0/8, or the word private"
)]
pub struct NotANetwork(String);

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug)]
struct Network {
    bits: u128,
    prefix: u32,
}

impl TrustedProxies {
    /// Reads addresses, networks, and the word `private`.
    ///
    /// # Errors
    /// One of them is none of these.
    pub(crate) fn try_new(texts: &[String]) -> Result<Self, NotANetwork> {
        let mut networks = Vec::new();
        for text in texts {
            let these = match text.as_str() {
                "private" => PRIVATE.as_slice(),
                other => &[other],
            };
            for text in these {
                let network = Network::parse(text);
                networks.push(network.ok_or_else(|| NotANetwork((*text).to_owned()))?);
            }
        }
        Ok(Self(networks.into()))
    }

    /// Whether this is the address of a proxy of ours.
    pub(crate) fn include(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.includes(peer))
    }

    /// The address of the client whose request came from `peer`: that itself,
    /// or if it is a proxy of ours, the last in `X-Forwarded-For` that is none.
    /// What stands before that one the client may have made up. `None`: no
    /// proxy has said who it is.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.include(peer) {
            return Some(peer);
        }
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let addresses = lines.flat_map(last_to_first);
        for address in addresses {
            // A proxy of ours wrote it, and did not say.
            let address = address?;
            if !self.include(address) {
                return Some(address);
            }
        }
        None
    }

    /// What the client behind a request is counted as: its address, or for
    /// IPv6 its network of 64 bits, all of which one client may use.
    pub(crate) fn source(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Source> {
        let client = self.client(peer?, headers)?;
        Some(source_of(client))
    }
}

/// The addresses of one line, `None` for what is not one.
fn last_to_first(line: &HeaderValue) -> impl Iterator<Item = Option<IpAddr>> {
    let line = line.to_str().unwrap_or("not text");
    line.rsplit(',').map(|address| address_of(address.trim()))
}

/// Some proxies write the port too.
fn address_of(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let plain = text.parse().or_else(|_| with_port());
    plain.ok().or_else(in_brackets)
}

fn source_of(client: IpAddr) -> Source {
    let number = match client.to_canonical() {
        // No network of IPv6 begins like this.
        IpAddr::V4(address) => (0xffff << u32::BITS) | u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> u64::BITS).unwrap_or(u64::MAX),
    };
    // The first network is that of `::1`.
    Source(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let before = match address {
            IpAddr::V4(_) => IPV4_PREFIX,
            IpAddr::V6(_) => 0,
        };
        let longest = u128::BITS - before;
        let length = match length {
            // `parse` would take a sign.
            Some(length) if !length.bytes().all(|byte| byte.is_ascii_digit()) => return None,
            Some(length) => length.parse().ok()?,
            None => longest,
        };
        (length <= longest).then(|| Self {
            bits: bits(address),
            prefix: before + length,
        })
    }

    /// Bits after the prefix do not matter, so `127.0.0.1/8` is `127.0.0.0/8`.
    fn includes(self, address: IpAddr) -> bool {
        let different = self.bits ^ bits(address);
        different
            .checked_shr(u128::BITS - self.prefix)
            .is_none_or(|prefix| prefix == 0)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn include(networks: &[&str], peer: &str) -> bool {
        let texts: Vec<_> = networks.iter().map(|text| (*text).to_owned()).collect();
        let proxies = TrustedProxies::try_new(&texts).unwrap();
        proxies.include(peer.parse().unwrap())
    }

    #[test]
    fn networks_include_what_begins_like_them() {
        for (network, inside, outside) in [
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
            ("127.0.0.1/8", "127.255.0.9", "128.0.0.1"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
        ] {
            assert!(include(&[network], inside), "{inside} in {network}");
            assert!(!include(&[network], outside), "{outside} in {network}");
        }
        assert!(include(&["::/0"], "2001:db8::1"));
        assert!(!include(&[], "127.0.0.1"));
    }

    /// The client of a request from `peer` with these lines.
    fn client(peer: &str, lines: &[&str]) -> Option<String> {
        let trusted = ["10.0.0.0/8".to_owned(), "::1".to_owned()];
        let proxies = TrustedProxies::try_new(&trusted).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(FORWARDED_FOR, line);
        }
        let client = proxies.client(peer.parse().unwrap(), &headers);
        client.map(|client| client.to_string())
    }

    #[test]
    fn a_client_is_the_last_address_that_is_no_proxy_of_ours() {
        for (peer, lines, expected) in [
            // Nobody else is taken at his word.
            ("8.8.8.8", vec!["1.1.1.1"], Some("8.8.8.8")),
            ("10.0.0.1", vec!["1.1.1.1"], Some("1.1.1.1")),
            ("::ffff:10.0.0.1", vec!["1.1.1.1"], Some("1.1.1.1")),
            ("::1", vec!["2001:db8::1"], Some("2001:db8::1")),
            // What comes before it the client may have made up.
            ("10.0.0.1", vec!["9.9.9.9, 1.1.1.1"], Some("1.1.1.1")),
            (
                "10.0.0.1",
                vec!["10.0.0.7, 1.1.1.1, 10.0.0.2"],
                Some("1.1.1.1"),
            ),
            (
                "10.0.0.1",
                vec!["9.9.9.9", "1.1.1.1 ,10.0.0.2"],
                Some("1.1.1.1"),
            ),
            (
                "10.0.0.1",
                vec!["nonsense\u{e4}", "1.1.1.1"],
                Some("1.1.1.1"),
            ),
            // With a port.
            ("10.0.0.1", vec!["1.1.1.1:4711"], Some("1.1.1.1")),
            ("10.0.0.1", vec!["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("10.0.0.1", vec!["[2001:db8::1]"], Some("2001:db8::1")),
            // Nobody says.
            ("10.0.0.1", vec![], None),
            ("10.0.0.1", vec![""], None),
            ("10.0.0.1", vec!["1.1.1.1, unknown"], None),
            ("10.0.0.1", vec!["1.1.1.1", "\u{e4}"], None),
            ("10.0.0.1", vec!["10.0.0.7, 10.0.0.2"], None),
        ] {
            assert_eq!(
                client(peer, &lines).as_deref(),
                expected,
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn a_client_counts_as_its_address_or_its_network() {
        let number = |address: &str| source_of(address.parse().unwrap()).0.get();
        assert_ne!(number("1.2.3.4"), number("1.2.3.5"));
        assert_eq!(number("1.2.3.4"), number("::ffff:1.2.3.4"));
        assert_eq!(number("2001:db8:0:1::1"), number("2001:db8:0:1:ffff::2"));
        assert_ne!(number("2001:db8:0:1::1"), number("2001:db8:0:2::1"));
        assert_ne!(number("::1"), number("0.0.0.0"));
        assert_eq!(number("::1"), 1);
        let proxies = TrustedProxies::default();
        assert_eq!(proxies.source(None, &HeaderMap::new()), None);
    }

    #[test]
    fn private_is_what_the_internet_does_not_reach() {
        for inside in [
            "127.0.0.1",
            "10.0.0.1",
            "172.18.0.2",
            "192.168.1.1",
            "::1",
            "::ffff:10.0.0.1",
            "fd12::1",
            "fe80::1",
        ] {
            assert!(include(&["private"], inside), "{inside}");
        }
        for outside in [
            "8.8.8.8",
            "172.32.0.1",
            "192.169.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!include(&["private"], outside), "{outside}");
        }
        assert!(include(&["private", "8.8.8.8"], "8.8.8.8"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for wrong in [
            "",
            "Private",
            "localhost",
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::1/129",
            "10.0.0.1:80",
            "10.0.0.0/99999999999",
        ] {
            let texts = ["private".to_owned(), wrong.to_owned()];
            let error = TrustedProxies::try_new(&texts).unwrap_err();
            assert_eq!(error, NotANetwork(wrong.to_owned()));
        }
    }
}
