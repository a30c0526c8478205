//! The headers of an Ethernet frame, parsed once: what steering matches, what the receive hash
//! covers and what checksums need. Knows no queue and changes no byte.

use super::steering::Key;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_CVLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_SVLAN: u16 = 0x88a8;
/// Bytes of an Ethernet header without tag.
pub const ETHERNET_LEN: usize = 14;

/// Internet layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum L3 {
    /// None, or not well formed.
    #[default]
    Other,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Transport layer, if its header is in the frame: never in fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum L4 {
    /// None that the adapter knows.
    #[default]
    None,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An outermost VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Service tag; else customer tag.
    pub service: bool,
    /// Tag control information.
    pub tci: u16,
}

/// Parsed headers. Offsets count from the first byte of the frame.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// Destination MAC address.
    pub dmac: [u8; 6],
    /// Source MAC address.
    pub smac: [u8; 6],
    /// Outermost VLAN tag.
    pub tag: Option<Tag>,
    /// EtherType behind the VLAN tags.
    pub ethertype: u16,
    /// Internet layer.
    pub l3: L3,
    /// First byte of the IP header.
    pub l3_offset: usize,
    /// First byte after the IP datagram; never beyond the frame.
    pub l3_end: usize,
    /// The IP header tells of more than there is in the frame: good enough to be matched, not to be
    /// summed.
    pub truncated: bool,
    /// IPv4 header length in 4-byte units.
    pub ihl: u8,
    /// Traffic class or type of service.
    pub tclass: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Protocol behind the IP header and the extension headers.
    pub ip_protocol: u8,
    /// Any fragment, also the first.
    pub fragment: bool,
    /// Source address, IPv4 in the last four bytes.
    pub src: [u8; 16],
    /// Destination address, IPv4 in the last four bytes.
    pub dst: [u8; 16],
    /// Transport layer.
    pub l4: L4,
    /// First byte behind the IP headers.
    pub l4_offset: usize,
    /// First byte behind the TCP or UDP header.
    pub l4_payload: usize,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// TCP flags, 9 bits.
    pub tcp_flags: u16,
    /// Security parameter index of ESP or AH.
    pub spi: Option<u32>,
}

/// Numbers of protocols (IANA).
pub mod protocol {
    #![allow(missing_docs)] // the names are IANA's
    pub const HOP_BY_HOP: u8 = 0;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Extension headers that are followed.
const MAX_EXTENSIONS: usize = 8;

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Headers {
    /// Parses a frame of `len` bytes; `head` is its contiguous beginning. Headers that reach
    /// beyond `head` count as not there. `None`: not even an Ethernet header.
    #[must_use]
    pub fn parse(head: &[u8], len: usize) -> Option<Headers> {
        let mut headers = Headers {
            dmac: *head.first_chunk()?,
            smac: *head.get(6..)?.first_chunk()?,
            ..Headers::default()
        };
        let mut at = 12;
        let mut ethertype = be16(head, at)?;
        for depth in 0..2 {
            if !matches!(ethertype, ETHERTYPE_CVLAN | ETHERTYPE_SVLAN) {
                break;
            }
            let (Some(tci), Some(next)) = (be16(head, at + 2), be16(head, at + 4)) else {
                break;
            };
            if depth == 0 {
                headers.tag = Some(Tag {
                    service: ethertype == ETHERTYPE_SVLAN,
                    tci,
                });
            }
            ethertype = next;
            at += 4;
        }
        headers.ethertype = ethertype;
        headers.l3_offset = at + 2;
        headers.l3_end = headers.l3_offset;
        headers.l4_offset = headers.l3_offset;
        // A datagram that is not well formed stays what it is below IP.
        let parsed = match ethertype {
            ETHERTYPE_IPV4 => headers.parse_ipv4(head, len),
            ETHERTYPE_IPV6 => headers.parse_ipv6(head, len),
            _ => None,
        };
        if parsed.is_some() && !headers.fragment {
            headers.parse_l4(head);
        }
        Some(headers)
    }

    fn parse_ipv4(&mut self, head: &[u8], len: usize) -> Option<()> {
        let at = self.l3_offset;
        let header: &[u8; 20] = head.get(at..)?.first_chunk()?;
        let ihl = header[0] & 0xf;
        let header_len = usize::from(ihl) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || header_len < 20 || total < header_len {
            return None;
        }
        if at + header_len > head.len() {
            return None;
        }
        self.l3 = L3::Ipv4;
        self.ihl = ihl;
        self.tclass = header[1];
        self.ttl = header[8];
        self.ip_protocol = header[9];
        // More fragments, or an offset.
        self.fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        self.src[12..].copy_from_slice(&header[12..16]);
        self.dst[12..].copy_from_slice(&header[16..20]);
        self.l3_end = len.min(at + total);
        self.truncated = at + total > len;
        self.l4_offset = at + header_len;
        Some(())
    }

    fn parse_ipv6(&mut self, head: &[u8], len: usize) -> Option<()> {
        let at = self.l3_offset;
        let header: &[u8; 40] = head.get(at..)?.first_chunk()?;
        let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 {
            return None;
        }
        self.l3 = L3::Ipv6;
        self.tclass = header[0] << 4 | header[1] >> 4;
        self.ttl = header[7];
        self.src.copy_from_slice(&header[8..24]);
        self.dst.copy_from_slice(&header[24..40]);
        self.l3_end = len.min(at + 40 + payload);
        self.truncated = at + 40 + payload > len;
        let mut next = header[6];
        let mut at = at + 40;
        for _ in 0..MAX_EXTENSIONS {
            let is_fragment = next == protocol::FRAGMENT;
            if !is_fragment
                && !matches!(
                    next,
                    protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS
                )
            {
                break;
            }
            let Some(extension) = head.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
                break;
            };
            next = extension[0];
            at += if is_fragment {
                8
            } else {
                8 + usize::from(extension[1]) * 8
            };
            self.fragment |= is_fragment;
            // Behind the header of a later fragment is payload.
            if is_fragment && u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0 {
                break;
            }
        }
        self.ip_protocol = next;
        self.l4_offset = at;
        Some(())
    }

    fn parse_l4(&mut self, head: &[u8]) -> Option<()> {
        let at = self.l4_offset;
        match self.ip_protocol {
            protocol::TCP => {
                let word = be16(head, at + 12)?;
                let header_len = usize::from(word >> 12) * 4;
                if header_len < 20 || at + header_len > self.l3_end {
                    return None;
                }
                // The checksum and all that is matched is in the first 20 bytes.
                head.get(at..at + 20)?;
                self.tcp_flags = word & 0x1ff;
                self.l4_payload = at + header_len;
                self.l4 = L4::Tcp;
            }
            protocol::UDP => {
                head.get(at..at + 8)?;
                if at + 8 > self.l3_end {
                    return None;
                }
                self.l4_payload = at + 8;
                self.l4 = L4::Udp;
            }
            protocol::ESP => {
                self.spi = be32(head, at);
                return None;
            }
            protocol::AH => {
                self.spi = be32(head, at + 4);
                return None;
            }
            _ => return None,
        }
        self.sport = be16(head, at)?;
        self.dport = be16(head, at + 2)?;
        Some(())
    }

    /// The headers in the form that flow groups mask (`fte_match_set_lyr_2_4`).
    #[must_use]
    pub fn key(&self) -> Key {
        let mut bytes = [0u8; 64];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + value.len()) {
                place.copy_from_slice(value);
            }
        };
        put(0x00, &self.smac);
        put(0x06, &self.ethertype.to_be_bytes());
        put(0x08, &self.dmac);
        let mut flags = self.tcp_flags & 0x1ff;
        if let Some(tag) = self.tag {
            put(0x0e, &tag.tci.to_be_bytes());
            flags |= if tag.service { 1 << 14 } else { 1 << 15 };
        }
        flags |= u16::from(self.fragment) << 13;
        let (version, ihl) = match self.l3 {
            L3::Other => (0, 0),
            L3::Ipv4 => (4, self.ihl),
            L3::Ipv6 => (6, 0),
        };
        flags |= version << 9;
        put(0x10, &[self.ip_protocol, self.tclass]);
        put(0x12, &flags.to_be_bytes());
        let (ports, l4_type) = match self.l4 {
            L4::None => (None, 0),
            L4::Tcp => (Some(0x14), 1),
            L4::Udp => (Some(0x1c), 2),
        };
        if let Some(at) = ports {
            put(at, &self.sport.to_be_bytes());
            put(at + 2, &self.dport.to_be_bytes());
        }
        put(0x18, &[l4_type << 6, 0, ihl << 4, self.ttl]);
        put(0x20, &self.src);
        put(0x30, &self.dst);
        Key::from_bytes(&bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rocinante_firmware_cmd::mlx5::flow::FteMatchSetLyr24;

    /// A TCP or UDP datagram over IPv4 in Ethernet, with an optional tag; checksums zero.
    pub(in crate::mlx5::eth) fn ipv4(
        tag: Option<(u16, u16)>,
        protocol: u8,
        ports: (u16, u16),
        payload: &[u8],
    ) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if let Some((tpid, tci)) = tag {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let l4_len = if protocol == protocol::TCP { 20 } else { 8 };
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        frame.extend([0x45, 0x02]);
        frame.extend(((20 + l4_len + payload.len()) as u16).to_be_bytes());
        frame.extend([
            0x12, 0x34, 0x40, 0, 63, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        l4(&mut frame, protocol, ports, payload);
        frame
    }

    /// The same over IPv6.
    pub(in crate::mlx5::eth) fn ipv6(protocol: u8, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x61, 0x20, 0, 0,
        ];
        let l4_len = if protocol == protocol::TCP { 20 } else { 8 };
        frame.extend(((l4_len + payload.len()) as u16).to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend((0u8..16).map(|i| 0xfd ^ i));
        frame.extend((0u8..16).map(|i| 0xfc ^ i));
        l4(&mut frame, protocol, ports, payload);
        frame
    }

    fn l4(frame: &mut Vec<u8>, protocol: u8, ports: (u16, u16), payload: &[u8]) {
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        if protocol == protocol::TCP {
            frame.extend([
                0, 0, 0x10, 0, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0,
            ]);
        } else {
            frame.extend(((8 + payload.len()) as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
        frame.extend(payload);
    }

    #[test]
    fn a_tagged_tcp_segment() {
        let frame = ipv4(
            Some((ETHERTYPE_CVLAN, 0x6123)),
            protocol::TCP,
            (80, 4000),
            b"hello",
        );
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        assert_eq!(
            headers.tag,
            Some(Tag {
                service: false,
                tci: 0x6123
            })
        );
        assert_eq!(
            (headers.ethertype, headers.l3, headers.l4),
            (0x800, L3::Ipv4, L4::Tcp)
        );
        assert_eq!(
            (headers.l3_offset, headers.l4_offset, headers.l4_payload),
            (18, 38, 58)
        );
        assert_eq!(headers.l3_end, frame.len());
        assert_eq!(
            (headers.sport, headers.dport, headers.tcp_flags),
            (80, 4000, 0x18)
        );
    }

    #[test]
    fn a_datagram_that_claims_more_than_there_is_can_be_matched() {
        for frame in [
            ipv4(None, protocol::UDP, (9, 10), &[0; 30]),
            ipv6(protocol::UDP, (9, 10), &[0; 30]),
        ] {
            let cut = &frame[..frame.len() - 1];
            let whole = Headers::parse(&frame, frame.len()).unwrap();
            let headers = Headers::parse(cut, cut.len()).unwrap();
            assert!(headers.truncated && !whole.truncated);
            assert_eq!(headers.l3_end, cut.len());
            assert_eq!(headers.key().to_bytes(), whole.key().to_bytes());
        }
    }

    #[test]
    fn the_key_has_the_layout_of_the_match_parameters() {
        let frame = ipv4(
            Some((ETHERTYPE_SVLAN, 0x6123)),
            protocol::TCP,
            (80, 4000),
            b"",
        );
        let key = Headers::parse(&frame, frame.len())
            .unwrap()
            .key()
            .to_bytes();
        let set = FteMatchSetLyr24::new(&key);
        assert_eq!(set.dmac(), [2, 0, 0, 0, 0, 2]);
        assert_eq!(set.smac(), [2, 0, 0, 0, 0, 1]);
        assert_eq!(
            (set.ethertype(), set.first_prio(), set.first_vid()),
            (0x800, 3, 0x123)
        );
        assert_eq!(
            (set.cvlan_tag(), set.svlan_tag(), set.frag()),
            (false, true, false)
        );
        assert_eq!(
            (set.ip_version(), set.ip_protocol(), set.ip_ecn()),
            (4, 6, 2)
        );
        assert_eq!(
            (set.tcp_sport(), set.tcp_dport(), set.tcp_flags()),
            (80, 4000, 0x18)
        );
        assert_eq!(
            (set.udp_sport(), set.ttl_hoplimit(), set.ipv4_ihl()),
            (0, 63, 5)
        );
        assert_eq!(set.src_ipv4_src_ipv6()[12..], [10, 0, 0, 1]);
        assert_eq!(set.dst_ipv4_dst_ipv6()[12..], [10, 0, 0, 2]);
        assert_eq!(set.l4_type(), 1);
    }

    #[test]
    fn fragments_have_no_ports() {
        let mut frame = ipv4(None, protocol::UDP, (5, 6), b"hello");
        frame[20] = 0x20;
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        assert!(headers.fragment);
        assert_eq!(
            (headers.l4, headers.sport, headers.ip_protocol),
            (L4::None, 0, 17)
        );
    }

    #[test]
    fn ipv6_extension_headers_are_followed() {
        let mut frame = ipv6(protocol::UDP, (5, 6), b"hello");
        let payload = u16::from_be_bytes([frame[18], frame[19]]) + 16;
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        frame[20] = protocol::HOP_BY_HOP;
        let mut extension = [0u8; 16];
        extension[0] = protocol::UDP;
        extension[1] = 1;
        frame.splice(54..54, extension);
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        assert_eq!(
            (headers.l4, headers.l4_offset, headers.dport),
            (L4::Udp, 70, 6)
        );
        assert_eq!((headers.tclass, headers.ttl), (0x12, 64));
        frame[54] = protocol::FRAGMENT;
        frame[55] = 0;
        frame[62] = protocol::UDP;
        frame[64..66].copy_from_slice(&[0, 8]);
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        assert!(headers.fragment);
        assert_eq!((headers.l4, headers.ip_protocol), (L4::None, protocol::UDP));
    }

    #[test]
    fn lengths_that_do_not_fit_leave_a_plain_frame() {
        let mut frame = ipv4(None, protocol::TCP, (80, 4000), b"hello");
        frame[17] = 19;
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        assert_eq!((headers.l3, headers.ethertype), (L3::Other, 0x800));
        assert!(Headers::parse(&frame[..13], 13).is_none());
        for len in 14..frame.len() {
            Headers::parse(&frame[..len], len).unwrap();
        }
    }
}
