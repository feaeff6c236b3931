//! Which peers are proxies of our own, whose word about a client is taken.

use std::net::IpAddr;

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
