//! Where a connected QP's packets go: the address path of its context (`ads`) resolved with the
//! RoCE address table into headers.

use std::net::{Ipv4Addr, Ipv6Addr};

use rocinante_firmware_cmd::mlx5::qp::Ads;
use rocinante_wire::MacAddr;
use rocinante_wire::ib::Gid;
use rocinante_wire::roce::{Address, HeaderTemplate, L3, Tci};

use crate::mlx5::roce::{Roce, RoceAddress, RoceVersion};

/// A resolved path.
#[derive(Clone, Debug)]
pub struct Path {
    /// Headers of every packet.
    pub template: HeaderTemplate,
    /// Own GID; incoming packets must be addressed to it.
    pub local: Gid,
    /// Peer's GID; incoming packets must come from it.
    pub remote: Gid,
    /// Next hop.
    pub dst_mac: MacAddr,
}

/// What a sender chooses beside the source address; common to QP contexts and address vectors.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Destination MAC.
    pub dst_mac: MacAddr,
    /// Destination GID; IPv4 in the last four bytes.
    pub dst_gid: [u8; 16],
    /// Traffic class or TOS.
    pub tclass: u8,
    /// Flow label.
    pub flow_label: u32,
    /// Hop limit.
    pub hop_limit: u8,
    /// UDP source port.
    pub udp_sport: u16,
    /// PCP of a tagged frame.
    pub priority: u8,
}

/// Addresses of packets from table entry `source` along `route`.
pub fn address(source: &RoceAddress, route: &Route) -> Address {
    let Route {
        tclass,
        flow_label,
        hop_limit,
        ..
    } = *route;
    let ipv4 = |gid: &[u8; 16]| Ipv4Addr::new(gid[12], gid[13], gid[14], gid[15]);
    let l3 = match source.version {
        RoceVersion::V1 => L3::V1 {
            sgid: Gid(source.gid),
            dgid: Gid(route.dst_gid),
            tclass,
            flow_label,
            hop_limit,
        },
        RoceVersion::V2Ipv4 => L3::V2Ipv4 {
            src: ipv4(&source.gid),
            dst: ipv4(&route.dst_gid),
            tos: tclass,
            ttl: hop_limit,
        },
        RoceVersion::V2Ipv6 => L3::V2Ipv6 {
            src: Ipv6Addr::from(source.gid),
            dst: Ipv6Addr::from(route.dst_gid),
            tclass,
            flow_label,
            hop_limit,
        },
    };
    Address {
        src_mac: source.mac,
        dst_mac: route.dst_mac,
        vlan: source.vlan.map(|vid| Tci::new(route.priority, false, vid)),
        l3,
        udp_sport: if source.version == RoceVersion::V1 {
            0
        } else {
            route.udp_sport
        },
    }
}

/// First UDP source port of RoCE v2 (`r_roce_min_src_udp_port`).
pub const MIN_UDP_SPORT: u16 = 0xc000;

impl Path {
    /// Resolves the primary path of a context. `None` if the source index names no entry.
    /// Without a port in the context the entropy comes from the QP numbers.
    pub fn resolve(roce: &Roce, ads: &Ads<&[u8]>, qpn: u32, remote_qpn: u32) -> Option<Path> {
        let source = roce.address(ads.src_addr_index())?;
        let mac = ads.rmac();
        let sport = match ads.udp_sport() {
            0 => MIN_UDP_SPORT | (qpn.wrapping_mul(remote_qpn.wrapping_mul(2) + 1) & 0x3fff) as u16,
            port => port,
        };
        // On v2 the drivers put the DSCP into its own field and the whole byte into tclass.
        let tclass = match source.version {
            RoceVersion::V1 => ads.tclass(),
            _ => ads.dscp() << 2 | ads.tclass() & 3,
        };
        let route = Route {
            dst_mac: MacAddr::new(mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]),
            dst_gid: ads.rgid_rip(),
            tclass,
            flow_label: ads.flow_label(),
            hop_limit: ads.hop_limit(),
            udp_sport: sport,
            priority: ads.eth_prio(),
        };
        let address = address(source, &route);
        Some(Path {
            template: HeaderTemplate::new(&address),
            local: address.l3.src_gid(),
            remote: address.l3.dst_gid(),
            dst_mac: address.dst_mac,
        })
    }
}
