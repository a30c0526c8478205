//! Where the headers lie in a frame, as far as they can be made out. Nothing is assumed of the
//! bytes; a header that is not whole is not there.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::field::{Field, HEADERS, Header, Source, get_bits};
use crate::frame::{Frame, Payload};
use crate::opcode::{Op, Opcode, Service};
use crate::roce::{self, ETHERTYPE_V1, Layout, UDP_PORT};

/// Bytes in which all headers lie: two tags, IPv6, UDP, BTH, DETH, MAD are 118.
pub(crate) const DEEP: usize = 160;

const ABSENT: u8 = u8::MAX;

pub(crate) const TYPE_VLAN: u16 = 0x8100;
pub(crate) const TYPE_QINQ: u16 = 0x88a8;
pub(crate) const TYPE_ARP: u16 = 0x0806;
pub(crate) const TYPE_IPV4: u16 = 0x0800;
pub(crate) const TYPE_IPV6: u16 = 0x86dd;
pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_UDP: u8 = 17;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;

/// The extension headers of an opcode, as [`Header::bit`]s.
pub(crate) fn extensions(opcode: u8) -> u32 {
    let Some(Opcode::Ib(service, op)) = Opcode::from_byte(opcode) else {
        return 0;
    };
    let headers = [
        (service == Service::Xrc && op.is_request(), Header::XrcEth),
        (service == Service::Ud, Header::Deth),
        (op.has_reth(), Header::Reth),
        (op.has_atomic_eth(), Header::AtomicEth),
        (op.has_aeth(), Header::Aeth),
        (op == Op::AtomicAcknowledge, Header::AtomicAckEth),
        (op.has_imm(), Header::ImmDt),
        (op.has_ieth(), Header::Ieth),
    ];
    headers
        .iter()
        .filter(|(has, _)| *has)
        .fold(0, |bits, (_, header)| bits | header.bit())
}

/// The headers of one frame.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    head: &'a [u8],
    /// Where each header begins.
    at: [u8; HEADERS],
    /// Which there are, as [`Header::bit`]s.
    present: u32,
    wire_len: usize,
    payload: Option<Range<usize>>,
    layout: Option<Layout>,
}

impl<'a> View<'a> {
    /// Of a frame. `scratch` is used where the headers reach beyond the frame's head.
    pub(crate) fn of<P: Payload>(frame: &'a Frame<P>, scratch: &'a mut [u8; DEEP]) -> View<'a> {
        let wire_len = frame.len_on_wire();
        let view = View::parse(frame.head(), wire_len);
        // All but management datagrams have their headers in the head.
        let is_mad = view.has(Header::Deth) && view.dest_qp().is_some_and(|qpn| qpn <= 1);
        if !is_mad || view.has(Header::Mad) {
            return view;
        }
        let end = view.payload.as_ref().map_or(0, |payload| payload.end);
        let Some(place) = scratch.get_mut(..end.min(DEEP)) else {
            return view;
        };
        if frame.copy_to(0, place) {
            View::parse(place, wire_len)
        } else {
            view
        }
    }

    /// Of the contiguous beginning of a frame of `wire_len` bytes.
    pub(crate) fn parse(head: &'a [u8], wire_len: usize) -> View<'a> {
        let mut view = View {
            head,
            at: [ABSENT; HEADERS],
            present: 0,
            wire_len,
            payload: None,
            layout: None,
        };
        view.find_headers();
        view
    }

    fn put(&mut self, header: Header, at: usize) -> Option<usize> {
        let end = at + header.len();
        if end > self.head.len() || end > self.wire_len || at >= usize::from(ABSENT) {
            return None;
        }
        *self.at.get_mut(header as usize)? = at as u8;
        self.present |= header.bit();
        Some(end)
    }

    fn word(&self, at: usize) -> Option<u16> {
        let bytes = self.head.get(at..at.checked_add(2)?)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    fn find_headers(&mut self) -> Option<()> {
        let mut at = self.put(Header::Ethernet, 0)?;
        let mut ethertype = self.word(12)?;
        for tag in 0..2 {
            if ethertype != TYPE_VLAN && ethertype != TYPE_QINQ {
                break;
            }
            ethertype = self.word(at + 2)?;
            at = match tag {
                0 => self.put(Header::Vlan, at)?,
                _ => at + Header::Vlan.len(),
            };
        }
        self.payload = Some(at.min(self.wire_len)..self.wire_len);
        match ethertype {
            TYPE_ARP => {
                self.put(Header::Arp, at)?;
            }
            TYPE_IPV4 => self.find_ipv4(at)?,
            TYPE_IPV6 => {
                let next = self.put(Header::Ipv6, at)?;
                let end = next + usize::from(self.word(at + 4)?);
                let protocol = *self.head.get(at + 6)?;
                self.find_l4(protocol, next, end)?;
            }
            ETHERTYPE_V1 => {
                let next = self.put(Header::Grh, at)?;
                self.find_ib(next)?;
            }
            _ => {}
        }
        Some(())
    }

    fn find_ipv4(&mut self, at: usize) -> Option<()> {
        self.put(Header::Ipv4, at)?;
        let header_len = usize::from(*self.head.get(at)? & 0xf) * 4;
        let end = at + usize::from(self.word(at + 2)?);
        let fragment = self.word(at + 6)? & 0x1fff;
        let protocol = *self.head.get(at + 9)?;
        if header_len < Header::Ipv4.len() || fragment != 0 {
            return None;
        }
        self.find_l4(protocol, at + header_len, end)
    }

    fn find_l4(&mut self, protocol: u8, at: usize, end: usize) -> Option<()> {
        let end = end.min(self.wire_len);
        let start = match protocol {
            PROTOCOL_UDP => {
                let next = self.put(Header::Udp, at)?;
                if self.word(at + 2)? == UDP_PORT {
                    return self.find_ib(next);
                }
                next
            }
            PROTOCOL_TCP => {
                self.put(Header::Tcp, at)?;
                at + usize::from(*self.head.get(at + 12)? >> 4) * 4
            }
            PROTOCOL_ICMP if self.has(Header::Ipv4) => self.put(Header::Icmp, at)?,
            PROTOCOL_ICMPV6 if self.has(Header::Ipv6) => self.put(Header::Icmpv6, at)?,
            _ => at,
        };
        self.payload = Some(start.min(end)..end);
        Some(())
    }

    fn find_ib(&mut self, at: usize) -> Option<()> {
        self.payload = None;
        let mut next = self.put(Header::Bth, at)?;
        let opcode = *self.head.get(at)?;
        let has = extensions(opcode);
        for header in Header::all().filter(|header| has & header.bit() != 0) {
            next = self.put(header, next)?;
        }
        if Opcode::from_byte(opcode) == Some(Opcode::Cnp) {
            next += crate::ib::CNP_RESERVED_LEN;
        }
        // Lengths that do not fit leave a packet without payload and ICRC.
        self.layout = roce::classify(self.head, self.wire_len).ok();
        if let Some(layout) = self.layout {
            let pad = usize::from(self.head.get(at + 1)? >> 4 & 3);
            let end = layout.icrc_offset().saturating_sub(pad);
            self.payload = Some(next.min(end)..end);
        }
        if has & Header::Deth.bit() != 0 && self.dest_qp()? <= 1 {
            self.put(Header::Mad, next)?;
        }
        Some(())
    }

    /// Where a header begins.
    pub(crate) fn offset(&self, header: Header) -> Option<usize> {
        let at = *self.at.get(header as usize)?;
        (at != ABSENT).then_some(usize::from(at))
    }

    pub(crate) fn has(&self, header: Header) -> bool {
        self.present & header.bit() != 0
    }

    /// The headers that there are, as [`Header::bit`]s.
    pub(crate) fn present(&self) -> u32 {
        self.present
    }

    /// Where the payload lies; `None` where the headers do not tell.
    pub(crate) fn payload(&self) -> Option<Range<usize>> {
        self.payload.clone()
    }

    /// Of a RoCE packet whose lengths are in order.
    pub(crate) fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }

    pub(crate) fn opcode(&self) -> Option<u8> {
        self.head.get(self.offset(Header::Bth)?).copied()
    }

    /// A field's value, if the frame has it. The relative PSN is not in the frame.
    pub(crate) fn get(&self, field: &Field) -> Option<u128> {
        match field.source {
            Source::Bits { header, offset } => {
                let at = self.offset(header)?;
                get_bits(self.head, 8 * at + usize::from(offset), field.width)
            }
            Source::FrameLen => Some(self.wire_len as u128),
            Source::PayloadLen => Some(self.payload()?.len() as u128),
            Source::RoceVersion => {
                self.offset(Header::Bth)?;
                Some(if self.has(Header::Grh) { 1 } else { 2 })
            }
            Source::RelativePsn => None,
        }
    }

    fn word_24(&self, header: Header, bit: usize) -> Option<u32> {
        let at = self.offset(header)?;
        Some(get_bits(self.head, 8 * at + bit, 24)? as u32)
    }

    fn dest_qp(&self) -> Option<u32> {
        self.word_24(Header::Bth, 40)
    }

    pub(crate) fn psn(&self) -> Option<u32> {
        self.word_24(Header::Bth, 72)
    }

    pub(crate) fn msn(&self) -> Option<u32> {
        self.word_24(Header::Aeth, 8)
    }

    /// Whom the frame is between.
    pub(crate) fn flow(&self) -> Option<FlowKey> {
        let bytes = |header: Header, at: usize, len: usize| {
            let start = self.offset(header)? + at;
            self.head.get(start..start + len)
        };
        let mac = |at: usize| -> Option<[u8; 16]> {
            let mut key = [0; 16];
            key.get_mut(..6)?
                .copy_from_slice(bytes(Header::Ethernet, at, 6)?);
            Some(key)
        };
        let v4 = |at: usize| -> Option<[u8; 16]> {
            let octets: [u8; 4] = bytes(Header::Ipv4, at, 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).to_ipv6_mapped().octets())
        };
        let v6 = |header: Header, at: usize| -> Option<[u8; 16]> {
            let octets: [u8; 16] = bytes(header, at, 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).octets())
        };
        let (src, dst) = if self.has(Header::Ipv4) {
            (v4(12)?, v4(16)?)
        } else if self.has(Header::Ipv6) {
            (v6(Header::Ipv6, 8)?, v6(Header::Ipv6, 24)?)
        } else if self.has(Header::Grh) {
            (v6(Header::Grh, 8)?, v6(Header::Grh, 24)?)
        } else {
            (mac(6)?, mac(0)?)
        };
        let ports = [(Header::Tcp, 1u64), (Header::Udp, 2)]
            .into_iter()
            .find_map(|(header, tag)| {
                let ports: [u8; 4] = bytes(header, 0, 4)?.try_into().ok()?;
                Some(tag << 32 | u64::from(u32::from_be_bytes(ports)))
            });
        // The UDP source port of RoCE may change within a connection, its QP does not.
        let end_point = match self.dest_qp() {
            Some(qpn) => 3 << 32 | u64::from(qpn),
            None => ports.unwrap_or(0),
        };
        Some(FlowKey {
            src,
            dst,
            end_point,
        })
    }
}

/// Whom frames are between: addresses, and the destination QP or the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    src: [u8; 16],
    dst: [u8; 16],
    end_point: u64,
}

impl FlowKey {
    /// Of RoCE packets the other way, to QP `qpn`.
    pub(crate) fn reverse(&self, qpn: u32) -> FlowKey {
        FlowKey {
            src: self.dst,
            dst: self.src,
            end_point: 3 << 32 | u64::from(qpn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ib;
    use crate::vectors::{self, unhex};
    use proptest::prelude::*;

    fn value(view: &View<'_>, name: &str) -> Option<u128> {
        view.get(Field::by_name(name).unwrap())
    }

    #[test]
    fn the_lengths_of_extension_headers_are_the_codecs() {
        for byte in 0..=255 {
            let Some(opcode) = Opcode::from_byte(byte) else {
                assert_eq!(extensions(byte), 0);
                continue;
            };
            let has = extensions(byte);
            let len: usize = Header::all()
                .filter(|header| has & header.bit() != 0)
                .map(Header::len)
                .sum();
            let reserved = if opcode == Opcode::Cnp { 16 } else { 0 };
            assert_eq!(12 + len + reserved, ib::headers_len(opcode), "{byte:#x}");
        }
    }

    #[test]
    fn vectors_in_all_encapsulations() {
        let parse = |vector: &vectors::Vector| unhex(vector.frame);
        let bytes = parse(&vectors::V4_VLAN_SEND);
        let view = View::parse(&bytes, bytes.len());
        for (name, expected) in [
            ("frame.len", Some(bytes.len() as u128)),
            ("frame.roce", Some(2)),
            ("payload.len", Some(12)),
            ("eth.dst", Some(0x0200_0000_0002)),
            ("eth.type", Some(0x8100)),
            ("vlan.pcp", Some(3)),
            ("vlan.vid", Some(100)),
            ("vlan.type", Some(0x800)),
            ("ipv4.src", Some(0x0a00_0001)),
            ("ipv4.df", Some(1)),
            ("udp.dport", Some(4791)),
            ("udp.sport", Some(0xc000)),
            ("bth.opcode", Some(4)),
            ("bth.dest_qp", Some(0x12)),
            ("bth.ackreq", Some(1)),
            ("bth.psn", Some(1)),
            ("reth.va", None),
            ("ipv6.src", None),
            ("bth.psn_rel", None),
        ] {
            assert_eq!(value(&view, name), expected, "{name}");
        }
        let bytes = parse(&vectors::V6_WRITE);
        let view = View::parse(&bytes, bytes.len());
        assert_eq!(value(&view, "reth.va"), Some(0x1234_5678_9abc));
        assert_eq!(value(&view, "reth.dma_len"), Some(8));
        assert_eq!(value(&view, "payload.len"), Some(8));
        assert_eq!(value(&view, "ipv6.flow"), Some(0x12345));
        let bytes = parse(&vectors::V1_SEND);
        let view = View::parse(&bytes, bytes.len());
        assert_eq!(value(&view, "frame.roce"), Some(1));
        assert_eq!(value(&view, "grh.next"), Some(0x1b));
        assert_eq!(value(&view, "udp.dport"), None);
        let bytes = parse(&vectors::HW_CNP);
        let view = View::parse(&bytes, bytes.len());
        assert_eq!(value(&view, "bth.becn"), Some(1));
        assert_eq!(value(&view, "payload.len"), Some(0));
    }

    #[test]
    fn management_datagrams_are_read_where_their_bytes_are() {
        // A CM REQ to QP 1: SEND_ONLY, DETH, and the MAD in the sender's memory.
        let mut bytes = unhex(vectors::V4_SEND.frame);
        bytes.truncate(42);
        let bth = unhex("6400ffff0000000100000001");
        let deth = unhex("8001000000000001");
        bytes.extend([bth, deth].concat());
        let mut mad = vec![0; 256];
        mad[..4].copy_from_slice(&[1, 7, 2, 3]);
        mad[16..18].copy_from_slice(&0x10u16.to_be_bytes());
        let len = bytes.len() + mad.len() + 4;
        bytes[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
        bytes[38..40].copy_from_slice(&((len - 34) as u16).to_be_bytes());
        let layout = roce::classify(&bytes, len).unwrap();
        let mut head = crate::frame::HeadBuf::new();
        assert!(head.extend(&bytes));
        let frame = Frame::roce(head, layout, crate::frame::Body::Ref(mad));
        let mut scratch = [0; DEEP];
        let view = View::of(&frame, &mut scratch);
        assert_eq!(value(&view, "mad.attr_id"), Some(0x10));
        assert_eq!(value(&view, "mad.class"), Some(7));
        assert_eq!(value(&view, "deth.src_qp"), Some(1));
        assert_eq!(value(&view, "payload.len"), Some(256));
    }

    #[test]
    fn flows_ignore_the_udp_source_port_and_can_be_reversed() {
        let bytes = unhex(vectors::V4_SEND.frame);
        let flow = View::parse(&bytes, bytes.len()).flow().unwrap();
        let mut other = bytes.clone();
        other[34] ^= 1;
        assert_eq!(View::parse(&other, other.len()).flow(), Some(flow));
        other[49] ^= 1; // destination QP
        assert_ne!(View::parse(&other, other.len()).flow(), Some(flow));
        assert_eq!(flow.reverse(7).reverse(0x12), flow);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            ethertype in prop::sample::select(vec![0u16, 0x800, 0x806, 0x8100, 0x86dd, 0x8915]),
            more in 0..3000usize,
        ) {
            let mut bytes = bytes;
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice(&ethertype.to_be_bytes());
            }
            let view = View::parse(&bytes, bytes.len() + more);
            for field in super::super::field::FIELDS {
                if let Some(value) = view.get(field) {
                    prop_assert!(value <= field.max() || field.source == Source::FrameLen);
                }
            }
            let _ = view.flow();
        }

        #[test]
        fn frames_that_end_anywhere_do_not_panic(
            which in 0..vectors::ALL.len(), keep: prop::sample::Index, at: prop::sample::Index, byte: u8,
        ) {
            let mut bytes = unhex(vectors::ALL[which].frame);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let keep = keep.index(bytes.len());
            let view = View::parse(&bytes[..keep], bytes.len());
            for field in super::super::field::FIELDS {
                let _ = view.get(field);
            }
            let view = View::parse(&bytes[..keep], keep);
            prop_assert!(view.payload().is_none_or(|range| range.end <= keep));
        }
    }
}
