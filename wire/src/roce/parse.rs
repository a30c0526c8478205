//! Headers of incoming frames: is it RoCE, and if so, what does it say.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use pnet_packet::ethernet::EtherTypes;
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::udp::UdpPacket;
use zerocopy::FromBytes;

use super::{Address, ETHERTYPE_V1, L3, Layout, Tci, UDP_PORT, fold, ipv4_sum};
use crate::MacAddr;
use crate::ib::{self, Gid, Grh, ICRC_LEN, ParseError};
use crate::icrc::Encap;
use crate::opcode::Opcode;
use crate::packet::Packet;

/// `l3_offset` of a frame with a tag.
const TAGGED: u8 = 18;
const UDP_LEN: usize = 8;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// Why a frame is no good RoCE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoceError {
    /// Another protocol: not an error of the frame.
    #[error("not RoCE")]
    NotRoce,
    /// The lengths in the headers do not fit each other or the frame.
    #[error("lengths in the headers do not agree with the frame")]
    Length,
    /// IPv4 header checksum.
    #[error("wrong IPv4 header checksum")]
    Ipv4Checksum,
    /// BTH or extension headers.
    #[error(transparent)]
    Ib(#[from] ParseError),
}

/// The headers of a RoCE frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoceFrame {
    /// Who sent it to whom, as seen by the sender.
    pub address: Address,
    /// Where its parts lie.
    pub layout: Layout,
    /// BTH and extension headers.
    pub packet: Packet,
    /// Where the payload lies in the frame, without pad.
    pub payload: Range<usize>,
}

impl RoceFrame {
    /// Room for headers that are to be parsed.
    #[inline]
    #[must_use]
    pub const fn empty() -> RoceFrame {
        RoceFrame {
            address: Address {
                src_mac: MacAddr(0, 0, 0, 0, 0, 0),
                dst_mac: MacAddr(0, 0, 0, 0, 0, 0),
                vlan: None,
                l3: L3::V2Ipv4 {
                    src: Ipv4Addr::UNSPECIFIED,
                    dst: Ipv4Addr::UNSPECIFIED,
                    tos: 0,
                    ttl: 0,
                },
                udp_sport: 0,
            },
            layout: Layout {
                encap: Encap::V2Ipv4,
                l3_offset: 0,
                ib_offset: 0,
                end: 0,
            },
            packet: Packet::new(Opcode::Cnp),
            payload: 0..0,
        }
    }

    /// The 40 bytes that a UD receive places in front of the payload: GRH, or IPv6 header, or 20
    /// zero bytes and the IPv4 header. `head` is what the frame was parsed from.
    #[must_use]
    pub fn grh_area(&self, head: &[u8]) -> [u8; 40] {
        let mut area = [0; 40];
        let l3 = usize::from(self.layout.l3_offset);
        let (from, len) = match self.layout.encap {
            Encap::V2Ipv4 => (20, IPV4_LEN),
            Encap::V1 | Encap::V2Ipv6 => (0, 40),
        };
        if let (Some(source), Some(place)) = (head.get(l3..l3 + len), area.get_mut(from..)) {
            place.copy_from_slice(source);
        }
        area
    }
}

/// EtherType behind at most one 802.1Q tag, the tag, and the offset of what follows.
fn ethernet_header(head: &[u8]) -> Option<(u16, Option<Tci>, usize)> {
    let word = |at: usize| Some(u16::from_be_bytes([*head.get(at)?, *head.get(at + 1)?]));
    let ethertype = word(12)?;
    if ethertype == EtherTypes::Vlan.0 {
        Some((word(16)?, Some(Tci(word(14)?)), 18))
    } else {
        Some((ethertype, None, 14))
    }
}

/// Whether a frame is RoCE by EtherType or by IP protocol and UDP port, and where its parts lie.
///
/// `head` is the contiguous beginning of a frame of `wire_len` bytes. Tells nothing about whether
/// the packet is meant for this NIC or in order. IPv4 options, IPv6 extension headers, fragments
/// and double tags are not RoCE.
///
/// # Errors
/// [`RoceError::NotRoce`], or [`RoceError::Length`] if it is RoCE but its lengths are wrong.
#[inline]
pub fn classify(head: &[u8], wire_len: usize) -> Result<Layout, RoceError> {
    let (ethertype, _, l3_offset) = ethernet_header(head).ok_or(RoceError::NotRoce)?;
    let l3 = head.get(l3_offset..).unwrap_or_default();
    let (encap, ib_len) = if ethertype == ETHERTYPE_V1 {
        let (grh, _) = Grh::ref_from_prefix(l3).map_err(|_| RoceError::Length)?;
        if grh.version() != 6 || grh.next_header != Grh::NEXT_HEADER_IBA {
            return Err(RoceError::NotRoce);
        }
        (Encap::V1, usize::from(grh.payload_len.get()))
    } else if ethertype == EtherTypes::Ipv4.0 {
        let ip = Ipv4Packet::new(l3).ok_or(RoceError::NotRoce)?;
        let udp = UdpPacket::new(l3.get(IPV4_LEN..).unwrap_or_default());
        let udp = udp.ok_or(RoceError::NotRoce)?;
        if ip.get_version() != 4
            || ip.get_header_length() != 5
            || ip.get_next_level_protocol() != IpNextHeaderProtocols::Udp
            || ip.get_flags() & Ipv4Flags::MoreFragments != 0
            || ip.get_fragment_offset() != 0
            || udp.get_destination() != UDP_PORT
        {
            return Err(RoceError::NotRoce);
        }
        if usize::from(ip.get_total_length()) != IPV4_LEN + usize::from(udp.get_length()) {
            return Err(RoceError::Length);
        }
        (
            Encap::V2Ipv4,
            usize::from(udp.get_length()).saturating_sub(UDP_LEN),
        )
    } else if ethertype == EtherTypes::Ipv6.0 {
        let ip = Ipv6Packet::new(l3).ok_or(RoceError::NotRoce)?;
        let udp = UdpPacket::new(l3.get(IPV6_LEN..).unwrap_or_default());
        let udp = udp.ok_or(RoceError::NotRoce)?;
        if ip.get_version() != 6
            || ip.get_next_header() != IpNextHeaderProtocols::Udp
            || udp.get_destination() != UDP_PORT
        {
            return Err(RoceError::NotRoce);
        }
        if ip.get_payload_length() != udp.get_length() {
            return Err(RoceError::Length);
        }
        (
            Encap::V2Ipv6,
            usize::from(udp.get_length()).saturating_sub(UDP_LEN),
        )
    } else {
        return Err(RoceError::NotRoce);
    };
    let ib_offset = l3_offset + encap.headers_len();
    let end = ib_offset + ib_len;
    if ib_len < ICRC_LEN || end > wire_len {
        return Err(RoceError::Length);
    }
    Ok(Layout {
        encap,
        l3_offset: l3_offset as u8,
        ib_offset: ib_offset as u8,
        end: u16::try_from(end).map_err(|_| RoceError::Length)?,
    })
}

fn parse_address(head: &[u8], layout: &Layout, address: &mut Address) -> Result<(), RoceError> {
    let (dst_mac, rest) = head.split_first_chunk::<6>().ok_or(RoceError::Length)?;
    let (src_mac, rest) = rest.split_first_chunk::<6>().ok_or(RoceError::Length)?;
    // Without a tag the EtherType is where the tag's protocol identifier would be.
    address.vlan = match rest.first_chunk() {
        Some(&[_, _, high, low]) if layout.l3_offset == TAGGED => {
            Some(Tci(u16::from_be_bytes([high, low])))
        }
        _ => None,
    };
    let l3 = head
        .get(usize::from(layout.l3_offset)..)
        .unwrap_or_default();
    match layout.encap {
        Encap::V1 => {
            let (grh, _) = Grh::ref_from_prefix(l3).map_err(|_| RoceError::Length)?;
            address.l3 = L3::V1 {
                sgid: Gid(grh.sgid),
                dgid: Gid(grh.dgid),
                tclass: grh.tclass(),
                flow_label: grh.flow_label(),
                hop_limit: grh.hop_limit,
            };
            address.udp_sport = 0;
        }
        Encap::V2Ipv4 => {
            let ip: &[u8; IPV4_LEN + 2] = l3.first_chunk().ok_or(RoceError::Length)?;
            address.l3 = L3::V2Ipv4 {
                src: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]),
                dst: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]),
                tos: ip[1],
                ttl: ip[8],
            };
            address.udp_sport = u16::from_be_bytes([ip[20], ip[21]]);
        }
        Encap::V2Ipv6 => {
            let udp: &[u8; IPV6_LEN + 2] = l3.first_chunk().ok_or(RoceError::Length)?;
            address.udp_sport = u16::from_be_bytes([udp[40], udp[41]]);
            // The GRH is an IPv6 header.
            let (ip, _) = Grh::ref_from_prefix(l3).map_err(|_| RoceError::Length)?;
            address.l3 = L3::V2Ipv6 {
                src: Ipv6Addr::from(ip.sgid),
                dst: Ipv6Addr::from(ip.dgid),
                tclass: ip.tclass(),
                flow_label: ip.flow_label(),
                hop_limit: ip.hop_limit,
            };
        }
    }
    address.src_mac = MacAddr::from(*src_mac);
    address.dst_mac = MacAddr::from(*dst_mac);
    Ok(())
}

/// Parses all headers of a RoCE frame. Does not check the ICRC.
///
/// `head` is the contiguous beginning of a frame of `wire_len` bytes and holds all headers.
///
/// # Errors
/// See [`RoceError`]; no input panics.
pub fn parse_frame(head: &[u8], wire_len: usize) -> Result<RoceFrame, RoceError> {
    let mut frame = RoceFrame::empty();
    let layout = check_frame(head, wire_len)?;
    parse_headers(head, &layout, &mut frame)?;
    Ok(frame)
}

/// How a RoCE frame is laid out ([`classify`]), if what lies below the BTH is right.
///
/// # Errors
/// See [`RoceError`].
pub fn check_frame(head: &[u8], wire_len: usize) -> Result<Layout, RoceError> {
    let layout = classify(head, wire_len)?;
    if layout.encap == Encap::V2Ipv4 {
        let header = head.get(usize::from(layout.l3_offset)..);
        let sum = header
            .and_then(|header| header.first_chunk())
            .map(|header| fold(ipv4_sum(header)));
        if sum != Some(0xffff) {
            return Err(RoceError::Ipv4Checksum);
        }
    }
    Ok(layout)
}

/// [`parse_frame`] where it is known to be RoCE, and how it is laid out; to `frame`, which after an error is of no
/// use.
///
/// # Errors
/// As [`parse_frame`], for what can still be wrong.
#[inline]
pub fn parse_headers(head: &[u8], layout: &Layout, frame: &mut RoceFrame) -> Result<(), RoceError> {
    parse_address(head, layout, &mut frame.address)?;
    frame.layout = *layout;
    let ib_offset = usize::from(layout.ib_offset);
    let ib = head.get(ib_offset..).unwrap_or_default();
    let start = ib_offset + ib::parse(ib, layout.ib_len(), &mut frame.packet)?;
    frame.payload = start..start + frame.packet.payload_len as usize;
    Ok(())
}
