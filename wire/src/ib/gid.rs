//! Global identifiers, IBTA 4.1.1: 128 bits in the shape of an IPv6 address.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A GID. RoCE v2 over IPv4 shows as an IPv4-mapped one, `::ffff:a.b.c.d` (IBTA annex A17.4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gid(pub [u8; 16]);

impl Gid {
    /// The IPv4 address in an IPv4-mapped GID.
    #[must_use]
    pub fn to_ipv4(self) -> Option<Ipv4Addr> {
        Ipv6Addr::from(self.0).to_ipv4_mapped()
    }

    /// The same bits as an IPv6 address.
    #[must_use]
    pub fn to_ipv6(self) -> Ipv6Addr {
        Ipv6Addr::from(self.0)
    }

    /// A multicast GID, `ff00::/8` or an IPv4-mapped `224.0.0.0/4`.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        self.0[0] == 0xff || self.to_ipv4().is_some_and(|ip| ip.is_multicast())
    }
}

impl From<Ipv4Addr> for Gid {
    fn from(ip: Ipv4Addr) -> Gid {
        Gid(ip.to_ipv6_mapped().octets())
    }
}

impl From<Ipv6Addr> for Gid {
    fn from(ip: Ipv6Addr) -> Gid {
        Gid(ip.octets())
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ipv6().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_mapped_and_back() {
        let ip = Ipv4Addr::new(10, 1, 2, 3);
        let gid = Gid::from(ip);
        assert_eq!(
            gid.0,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]
        );
        assert_eq!(gid.to_ipv4(), Some(ip));
        assert_eq!(Gid::from(Ipv6Addr::LOCALHOST).to_ipv4(), None);
        assert!(!gid.is_multicast());
        assert!(Gid::from(Ipv4Addr::new(224, 0, 0, 1)).is_multicast());
    }
}
