//! Which addresses may be asked on behalf of users.
//!
//! `step.fetch` and `step.ai.infer` have the server make requests that somebody else has written. From where it stands it may
//! see what they may not: other services of its network, itself, the credentials that a cloud gives to its machines. So only
//! public addresses are asked, and what an operator allows beside them.
//!
//! Promises: the address that is looked at is the one that is connected to, so a name that resolves to something else a moment
//! later gains nothing. What is not known to be public is not. Pure: never resolves or connects.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// Addresses of version 4 that are not public. From the registry of special-purpose addresses, and what clouds have put
/// elsewhere.
const SPECIAL_V4: &[([u8; 4], u8)] = &[
    // This host on this network.
    ([0, 0, 0, 0], 8),
    // Private.
    ([10, 0, 0, 0], 8),
    // Between a provider and its customers; some clouds keep their metadata here.
    ([100, 64, 0, 0], 10),
    // Loopback.
    ([127, 0, 0, 0], 8),
    // Azure answers its machines here, at a public address.
    ([168, 63, 129, 16], 32),
    // Link-local; most clouds keep their metadata here.
    ([169, 254, 0, 0], 16),
    // Private.
    ([172, 16, 0, 0], 12),
    // Protocol assignments.
    ([192, 0, 0, 0], 24),
    // Documentation.
    ([192, 0, 2, 0], 24),
    // Relays to version 6, which are no more.
    ([192, 88, 99, 0], 24),
    // Private.
    ([192, 168, 0, 0], 16),
    // Benchmarks of networks.
    ([198, 18, 0, 0], 15),
    // Documentation.
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast.
    ([224, 0, 0, 0], 4),
    // Reserved, and broadcast.
    ([240, 0, 0, 0], 4),
];

/// The part of version 6 that is given out to be reached by everybody. Loopback, link-local, unique local and multicast
/// addresses are outside of it, as are those that stand for addresses of version 4.
const GLOBAL_V6: Network = Network::v6([0x2000, 0, 0, 0], 3);

/// What is not public within that.
const SPECIAL_V6: &[Network] = &[
    // Protocol assignments, and tunnels that hide an address of version 4.
    Network::v6([0x2001, 0, 0, 0], 23),
    // Documentation.
    Network::v6([0x2001, 0xdb8, 0, 0], 32),
    // Tunnels that hide an address of version 4.
    Network::v6([0x2002, 0, 0, 0], 16),
    // Documentation.
    Network::v6([0x3fff, 0, 0, 0], 20),
];

/// Addresses of version 6 by which a translator reaches those of version 4, which are their last 32 bits.
const TRANSLATED: Network = Network::v6([0x64, 0xff9b, 0, 0], 96);

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no network. The text is for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address such as `10.1.2.3`, or one with a prefix such as `10.1.0.0/16` or `fd00::/8`")]
pub struct NetworkError;

impl Network {
    /// Of the first half of an address.
    const fn v6(half: [u16; 4], prefix: u8) -> Self {
        let base = Ipv6Addr::new(half[0], half[1], half[2], half[3], 0, 0, 0, 0);
        Self {
            base: IpAddr::V6(base),
            prefix,
        }
    }

    const fn v4(base: [u8; 4], prefix: u8) -> Self {
        let base = Ipv4Addr::new(base[0], base[1], base[2], base[3]);
        Self {
            base: IpAddr::V4(base),
            prefix,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let ((base, width), (bits, other)) = (bits(self.base), bits(address));
        let ignored = u32::from(width - self.prefix);
        width == other && (base ^ bits).checked_shr(ignored).unwrap_or_default() == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| NetworkError)?;
        let (bits, width) = bits(base);
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| NetworkError)?,
            None => width,
        };
        // Bits that don't count are a typing error: of the address, or of their number.
        let has_stray = || (0..width - prefix).any(|bit| (bits >> bit) & 1 == 1);
        if prefix > width || has_stray() {
            return Err(NetworkError);
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// An address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// Which addresses may be connected to.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Beside the public ones; `None` for all there are.
    allowed: Option<Arc<[Network]>>,
}

impl Guard {
    /// Anything may be asked: apps, whose URLs operators give, and all on a developer's machine.
    #[must_use]
    pub fn open() -> Self {
        Self { allowed: None }
    }

    /// Public addresses may be asked, and these.
    #[must_use]
    pub fn closed(allowed: impl Into<Arc<[Network]>>) -> Self {
        let allowed = Some(allowed.into());
        Self { allowed }
    }

    /// Whether this address may be connected to.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        // Mapped ones are addresses of version 4 in other letters; translated ones lead to them.
        let reached = match address.to_canonical() {
            IpAddr::V6(v6) if TRANSLATED.contains(v6.into()) => {
                let [.., a, b, c, d] = v6.octets();
                Ipv4Addr::new(a, b, c, d).into()
            }
            canonical => canonical,
        };
        allowed
            .iter()
            .any(|network| network.contains(reached) || network.contains(address))
            || is_public(reached)
    }
}

/// Whether everybody may be meant to reach this address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => {
            let mut special = SPECIAL_V4.iter().map(|(base, prefix)| Network::v4(*base, *prefix));
            !special.any(|network| network.contains(address))
        }
        IpAddr::V6(_) => GLOBAL_V6.contains(address) && !SPECIAL_V6.iter().any(|network| network.contains(address)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[rstest]
    #[case::this_host("0.0.0.0")]
    #[case::private("10.255.0.1")]
    #[case::provider("100.100.100.200")]
    #[case::loopback("127.0.0.1")]
    #[case::all_of_loopback("127.255.255.254")]
    #[case::azure("168.63.129.16")]
    #[case::metadata("169.254.169.254")]
    #[case::private_12("172.31.255.255")]
    #[case::oracle("192.0.0.192")]
    #[case::documentation("192.0.2.1")]
    #[case::private_16("192.168.0.1")]
    #[case::benchmark("198.19.0.1")]
    #[case::multicast("239.1.2.3")]
    #[case::reserved("240.0.0.1")]
    #[case::broadcast("255.255.255.255")]
    #[case::unspecified("::")]
    #[case::loopback_6("::1")]
    #[case::mapped_loopback("::ffff:127.0.0.1")]
    #[case::mapped_metadata("::ffff:a9fe:a9fe")]
    #[case::compatible("::127.0.0.1")]
    #[case::translated_private("64:ff9b::10.0.0.1")]
    #[case::local_translation("64:ff9b:1::1")]
    #[case::discard("100::1")]
    #[case::tunnel("2002:7f00:1::1")]
    #[case::teredo("2001:0:1::1")]
    #[case::documentation_6("2001:db8::1")]
    #[case::new_documentation_6("3fff:fff::1")]
    #[case::unique_local("fd00:ec2::254")]
    #[case::link_local("fe80::1")]
    #[case::site_local("fec0::1")]
    #[case::multicast_6("ff02::1")]
    fn what_is_not_public_is_refused(#[case] text: &str) {
        assert!(!Guard::closed([]).permits(address(text)), "{text}");
        assert!(Guard::open().permits(address(text)), "{text}");
    }

    #[rstest]
    #[case("1.1.1.1")]
    #[case("100.63.255.255")]
    #[case("100.128.0.0")]
    #[case("168.63.129.17")]
    #[case("172.15.255.255")]
    #[case("172.32.0.0")]
    #[case("223.255.255.255")]
    #[case("::ffff:8.8.8.8")]
    #[case("64:ff9b::8.8.8.8")]
    #[case("2606:4700::1111")]
    #[case("2a00:1450:4001::1")]
    fn what_is_public_is_not(#[case] text: &str) {
        assert!(Guard::closed([]).permits(address(text)), "{text}");
    }

    #[rstest]
    #[case("10.1.0.0/16", "10.1.255.255", true)]
    #[case("10.1.0.0/16", "10.2.0.0", false)]
    #[case("10.1.2.3", "10.1.2.3", true)]
    #[case("10.1.2.3", "10.1.2.4", false)]
    #[case("10.1.0.0/16", "::ffff:10.1.2.3", true)]
    #[case("10.1.0.0/16", "64:ff9b::10.1.2.3", true)]
    #[case("10.1.0.0/16", "fd00::a01:203", false)]
    #[case("0.0.0.0/0", "127.0.0.1", true)]
    #[case("0.0.0.0/0", "::1", false)]
    #[case("::/0", "::1", true)]
    #[case("fd00::/8", "fd12::1", true)]
    #[case("::1", "::1", true)]
    fn operators_allow_networks(#[case] network: &str, #[case] text: &str, #[case] permitted: bool) {
        let network: Network = network.parse().expect("a network");
        assert_eq!(Guard::closed([network]).permits(address(text)), permitted);
    }

    #[rstest]
    #[case("")]
    #[case("10.0.0.0/33")]
    #[case("10.1.0.0/8")]
    #[case("10.0.0/8")]
    #[case("fd00::/129")]
    #[case("localhost")]
    #[case("10.0.0.0/")]
    fn what_is_no_network_is_told(#[case] text: &str) {
        assert_eq!(text.parse::<Network>(), Err(NetworkError));
    }

    proptest! {
        /// However an address of version 4 is written, the verdict is the same.
        #[test]
        fn other_letters_change_nothing(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let guard = Guard::closed([]);
            prop_assert_eq!(guard.permits(v4.to_ipv6_mapped().into()), guard.permits(v4.into()));
        }

        /// Whatever the standard library knows to be special is refused.
        #[test]
        fn it_is_as_strict_as_the_standard_library(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            prop_assert!(!(special && Guard::closed([]).permits(v4.into())));
        }

        #[test]
        fn networks_are_read_as_they_are_written(bits: u128, prefix in 0u8..=128) {
            let base = if prefix == 0 { 0 } else { bits >> (128 - prefix) << (128 - prefix) };
            let network = Network { base: Ipv6Addr::from_bits(base).into(), prefix };
            prop_assert_eq!(network.to_string().parse(), Ok(network));
            prop_assert!(network.contains(Ipv6Addr::from_bits(bits).into()));
        }
    }
}
