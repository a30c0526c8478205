//! Headers of outgoing packets: everything that is the same for all packets of a path is laid out
//! once, a packet then costs a copy, its lengths, the IPv4 checksum and the IB headers.

use pnet_packet::ethernet::{EtherType, EtherTypes, MutableEthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{Ipv4Flags, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::udp::MutableUdpPacket;
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::{Address, ETHERTYPE_V1, L3, Layout, UDP_PORT, fold, ipv4_sum};
use crate::frame::HeadBuf;
use crate::ib::{self, Grh, ICRC_LEN};
use crate::icrc::Encap;
use crate::packet::Packet;

const ETHERNET_LEN: usize = 14;
const VLAN_TAG_LEN: usize = 4;
const UDP_LEN: usize = 8;
/// Ethernet with a tag, IPv6, UDP.
const MAX_LEN: usize = ETHERNET_LEN + VLAN_TAG_LEN + 40 + UDP_LEN;
/// Payload that still fits the 16-bit lengths; no path MTU comes near it.
const MAX_PAYLOAD: usize = 0xf000;

/// The headers below the BTH, ready to be copied in front of a packet.
#[derive(Clone, Debug)]
pub struct HeaderTemplate {
    bytes: [u8; MAX_LEN],
    encap: Encap,
    l3_offset: u8,
    ib_offset: u8,
    /// One's complement sum of the IPv4 header with length, identification and checksum 0.
    ipv4_sum: u32,
}

fn write_ethernet(address: &Address, bytes: &mut [u8]) -> Option<usize> {
    let ethertype = match address.l3.encap() {
        Encap::V1 => EtherType(ETHERTYPE_V1),
        Encap::V2Ipv4 => EtherTypes::Ipv4,
        Encap::V2Ipv6 => EtherTypes::Ipv6,
    };
    let mut ethernet = MutableEthernetPacket::new(bytes)?;
    ethernet.set_destination(address.dst_mac);
    ethernet.set_source(address.src_mac);
    let Some(tci) = address.vlan else {
        ethernet.set_ethertype(ethertype);
        return Some(ETHERNET_LEN);
    };
    ethernet.set_ethertype(EtherTypes::Vlan);
    bytes.get_mut(14..16)?.copy_from_slice(&tci.0.to_be_bytes());
    bytes
        .get_mut(16..18)?
        .copy_from_slice(&ethertype.0.to_be_bytes());
    Some(ETHERNET_LEN + VLAN_TAG_LEN)
}

fn write_l3(address: &Address, bytes: &mut [u8]) -> Option<()> {
    match address.l3 {
        L3::V1 {
            sgid,
            dgid,
            tclass,
            flow_label,
            hop_limit,
        } => {
            let word = 6 << 28 | u32::from(tclass) << 20 | (flow_label & 0xf_ffff);
            let grh = Grh {
                version_tclass_flow: U32::new(word),
                payload_len: U16::new(0),
                next_header: Grh::NEXT_HEADER_IBA,
                hop_limit,
                sgid: sgid.0,
                dgid: dgid.0,
            };
            grh.write_to_prefix(bytes).ok()
        }
        L3::V2Ipv4 { src, dst, tos, ttl } => {
            let mut ip = MutableIpv4Packet::new(bytes)?;
            ip.set_version(4);
            ip.set_header_length(5);
            ip.set_dscp(tos >> 2);
            ip.set_ecn(tos & 3);
            ip.set_flags(Ipv4Flags::DontFragment);
            ip.set_ttl(ttl);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
            ip.set_source(src);
            ip.set_destination(dst);
            write_udp(address, bytes.get_mut(20..)?)
        }
        L3::V2Ipv6 {
            src,
            dst,
            tclass,
            flow_label,
            hop_limit,
        } => {
            let mut ip = MutableIpv6Packet::new(bytes)?;
            ip.set_version(6);
            ip.set_traffic_class(tclass);
            ip.set_flow_label(flow_label & 0xf_ffff);
            ip.set_next_header(IpNextHeaderProtocols::Udp);
            ip.set_hop_limit(hop_limit);
            ip.set_source(src);
            ip.set_destination(dst);
            write_udp(address, bytes.get_mut(40..)?)
        }
    }
}

/// The checksum stays 0: the ICRC covers more, and hardware sends 0 on IPv6 too.
fn write_udp(address: &Address, bytes: &mut [u8]) -> Option<()> {
    let mut udp = MutableUdpPacket::new(bytes)?;
    udp.set_source(address.udp_sport);
    udp.set_destination(UDP_PORT);
    Some(())
}

impl HeaderTemplate {
    /// Lays out the headers for a path.
    #[must_use]
    pub fn new(address: &Address) -> HeaderTemplate {
        let encap = address.l3.encap();
        let mut bytes = [0; MAX_LEN];
        // The array holds the longest headers there are, so nothing below comes back empty.
        let l3_offset = write_ethernet(address, &mut bytes).unwrap_or(ETHERNET_LEN);
        let l3 = bytes.get_mut(l3_offset..).unwrap_or_default();
        write_l3(address, l3).unwrap_or_default();
        let ipv4_sum = match l3.first_chunk() {
            Some(header) if encap == Encap::V2Ipv4 => ipv4_sum(header),
            _ => 0,
        };
        HeaderTemplate {
            bytes,
            encap,
            l3_offset: l3_offset as u8,
            ib_offset: (l3_offset + encap.headers_len()) as u8,
            ipv4_sum,
        }
    }

    /// Writes all headers of `packet` to the beginning of `head`, replacing what was there.
    ///
    /// The lengths come from `packet.payload_len`; payload, pad and ICRC are not written. The
    /// IPv4 identification is the low half of the PSN (any value is right, DF is set: RFC 6864).
    #[inline]
    pub fn write(&self, packet: &Packet, head: &mut HeadBuf) -> Layout {
        let l3 = usize::from(self.l3_offset);
        let ib = usize::from(self.ib_offset);
        let room = head.array_mut();
        let (below, above) = room.split_at_mut(ib);
        below.copy_from_slice(self.bytes.get(..ib).unwrap_or_default());
        let headers_len = match above.first_chunk_mut() {
            Some(chunk) => ib::write(packet, chunk),
            None => 0,
        };
        let payload = (packet.payload_len as usize)
            .min(MAX_PAYLOAD)
            .next_multiple_of(4);
        let ib_len = (headers_len + payload + ICRC_LEN) as u16;
        let mut put = |at: usize, value: u16| {
            if let Some(place) = below.get_mut(at..at + 2) {
                place.copy_from_slice(&value.to_be_bytes());
            }
        };
        let udp_len = ib_len + UDP_LEN as u16;
        match self.encap {
            Encap::V1 => put(l3 + 4, ib_len),
            Encap::V2Ipv6 => {
                put(l3 + 4, udp_len);
                put(l3 + 44, udp_len);
            }
            Encap::V2Ipv4 => {
                let total_len = udp_len + 20;
                let id = packet.psn.get() as u16;
                let sum = self.ipv4_sum + u32::from(total_len) + u32::from(id);
                put(l3 + 2, total_len);
                put(l3 + 4, id);
                put(l3 + 10, !fold(sum));
                put(l3 + 24, udp_len);
            }
        }
        head.set_len(ib + headers_len);
        Layout {
            encap: self.encap,
            l3_offset: self.l3_offset,
            ib_offset: self.ib_offset,
            end: u16::from(self.ib_offset) + ib_len,
        }
    }
}
