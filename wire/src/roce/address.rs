//! Who talks to whom: the layers below the BTH in parsed form.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::MacAddr;
use crate::ib::Gid;
use crate::icrc::Encap;

/// Tag control information of an 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tci(pub u16);

impl Tci {
    /// From priority code point (3 bits), drop eligible indicator and VLAN identifier (12 bits).
    #[must_use]
    pub const fn new(pcp: u8, dei: bool, vid: u16) -> Tci {
        Tci(((pcp as u16 & 7) << 13) | ((dei as u16) << 12) | (vid & 0xfff))
    }

    /// VLAN identifier, 0 for a priority tag.
    #[must_use]
    pub const fn vid(self) -> u16 {
        self.0 & 0xfff
    }

    /// Priority code point.
    #[must_use]
    pub const fn pcp(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// Drop eligible indicator.
    #[must_use]
    pub const fn dei(self) -> bool {
        self.0 & 0x1000 != 0
    }
}

/// Layer 3 of a RoCE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L3 {
    /// RoCE v1: a global route header.
    V1 {
        /// Source GID.
        sgid: Gid,
        /// Destination GID.
        dgid: Gid,
        /// Traffic class.
        tclass: u8,
        /// Flow label, 20 bits.
        flow_label: u32,
        /// Hop limit.
        hop_limit: u8,
    },
    /// RoCE v2 over IPv4.
    V2Ipv4 {
        /// Source address.
        src: Ipv4Addr,
        /// Destination address.
        dst: Ipv4Addr,
        /// Type of service: DSCP and ECN.
        tos: u8,
        /// Time to live.
        ttl: u8,
    },
    /// RoCE v2 over IPv6.
    V2Ipv6 {
        /// Source address.
        src: Ipv6Addr,
        /// Destination address.
        dst: Ipv6Addr,
        /// Traffic class: DSCP and ECN.
        tclass: u8,
        /// Flow label, 20 bits.
        flow_label: u32,
        /// Hop limit.
        hop_limit: u8,
    },
}

impl L3 {
    /// The way back.
    #[must_use]
    pub const fn reverse(self) -> L3 {
        match self {
            L3::V1 {
                sgid,
                dgid,
                tclass,
                flow_label,
                hop_limit,
            } => L3::V1 {
                sgid: dgid,
                dgid: sgid,
                tclass,
                flow_label,
                hop_limit,
            },
            L3::V2Ipv4 { src, dst, tos, ttl } => L3::V2Ipv4 {
                src: dst,
                dst: src,
                tos,
                ttl,
            },
            L3::V2Ipv6 {
                src,
                dst,
                tclass,
                flow_label,
                hop_limit,
            } => L3::V2Ipv6 {
                src: dst,
                dst: src,
                tclass,
                flow_label,
                hop_limit,
            },
        }
    }

    /// Which encapsulation.
    #[must_use]
    pub const fn encap(&self) -> Encap {
        match self {
            L3::V1 { .. } => Encap::V1,
            L3::V2Ipv4 { .. } => Encap::V2Ipv4,
            L3::V2Ipv6 { .. } => Encap::V2Ipv6,
        }
    }

    /// Source as a GID, IPv4-mapped where it is one.
    #[must_use]
    pub fn src_gid(&self) -> Gid {
        match *self {
            L3::V1 { sgid, .. } => sgid,
            L3::V2Ipv4 { src, .. } => src.into(),
            L3::V2Ipv6 { src, .. } => src.into(),
        }
    }

    /// Destination as a GID, IPv4-mapped where it is one.
    #[must_use]
    pub fn dst_gid(&self) -> Gid {
        match *self {
            L3::V1 { dgid, .. } => dgid,
            L3::V2Ipv4 { dst, .. } => dst.into(),
            L3::V2Ipv6 { dst, .. } => dst.into(),
        }
    }

    /// Traffic class or type of service.
    #[must_use]
    pub const fn tclass(&self) -> u8 {
        match *self {
            L3::V1 { tclass, .. } | L3::V2Ipv6 { tclass, .. } => tclass,
            L3::V2Ipv4 { tos, .. } => tos,
        }
    }

    /// The two ECN bits: 3 is "congestion experienced". RoCE v1 has none and gives 0.
    #[must_use]
    pub const fn ecn(&self) -> u8 {
        match self {
            L3::V1 { .. } => 0,
            _ => self.tclass() & 3,
        }
    }

    /// Hop limit or time to live.
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        match *self {
            L3::V1 { hop_limit, .. } | L3::V2Ipv6 { hop_limit, .. } => hop_limit,
            L3::V2Ipv4 { ttl, .. } => ttl,
        }
    }
}

/// Everything below the BTH that stays the same for all packets of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Source MAC address.
    pub src_mac: MacAddr,
    /// Destination MAC address.
    pub dst_mac: MacAddr,
    /// 802.1Q tag, if any.
    pub vlan: Option<Tci>,
    /// GRH, IPv4 or IPv6.
    pub l3: L3,
    /// UDP source port (entropy for equal-cost routing); 0 on v1.
    pub udp_sport: u16,
}

impl Address {
    /// The address of an answer.
    #[must_use]
    pub const fn reverse(&self) -> Address {
        Address {
            src_mac: self.dst_mac,
            dst_mac: self.src_mac,
            l3: self.l3.reverse(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tci_fields() {
        let tci = Tci::new(5, true, 0x123);
        assert_eq!(tci.0, 0xb123);
        assert_eq!((tci.pcp(), tci.dei(), tci.vid()), (5, true, 0x123));
        assert_eq!(Tci::new(0xff, false, 0xffff).0, 0xefff);
    }
}
