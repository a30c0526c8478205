//! The table of fields: what a rule can match, rewrite and corrupt, by name.
//!
//! Matching, rewriting, error messages and the printed reference all come from it. Knows where a
//! field lies in its header, not where the header lies in a frame.

mod table;

pub use table::FIELDS;

use std::fmt;

/// The headers that fields belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the standards'
pub enum Header {
    Ethernet,
    Vlan,
    Arp,
    Ipv4,
    Ipv6,
    Grh,
    Udp,
    Tcp,
    Icmp,
    Icmpv6,
    Bth,
    XrcEth,
    Deth,
    Reth,
    AtomicEth,
    Aeth,
    AtomicAckEth,
    ImmDt,
    Ieth,
    Mad,
}

/// How many headers there are.
pub(crate) const HEADERS: usize = 20;

/// All headers: what a rule calls it, bytes that a rule can name, and what it is.
const NAMES: [(Header, &str, u8, &str); HEADERS] = [
    (Header::Ethernet, "eth", 14, "Ethernet"),
    (
        Header::Vlan,
        "vlan",
        4,
        "IEEE 802.1Q tag (the outer of two)",
    ),
    (Header::Arp, "arp", 28, "ARP for IPv4, RFC 826"),
    (Header::Ipv4, "ipv4", 20, "IPv4, RFC 791"),
    (Header::Ipv6, "ipv6", 40, "IPv6, RFC 8200"),
    (
        Header::Grh,
        "grh",
        40,
        "global route header, RoCE v1, IBTA 8.3",
    ),
    (Header::Udp, "udp", 8, "UDP, RFC 768"),
    (Header::Tcp, "tcp", 20, "TCP, RFC 9293"),
    (Header::Icmp, "icmp", 8, "ICMP, RFC 792"),
    (Header::Icmpv6, "icmpv6", 8, "ICMPv6, RFC 4443"),
    (Header::Bth, "bth", 12, "base transport header, IBTA 9.2"),
    (
        Header::XrcEth,
        "xrceth",
        4,
        "XRC extended transport header, IBTA A14",
    ),
    (
        Header::Deth,
        "deth",
        8,
        "datagram extended transport header, IBTA 9.3.2",
    ),
    (
        Header::Reth,
        "reth",
        16,
        "RDMA extended transport header, IBTA 9.3.3",
    ),
    (
        Header::AtomicEth,
        "atomiceth",
        28,
        "atomic extended transport header, IBTA 9.3.4",
    ),
    (
        Header::Aeth,
        "aeth",
        4,
        "ACK extended transport header, IBTA 9.3.5",
    ),
    (
        Header::AtomicAckEth,
        "atomicacketh",
        8,
        "atomic ACK extended transport header, IBTA 9.5.2",
    ),
    (Header::ImmDt, "immdt", 4, "immediate data, IBTA 9.3.6"),
    (
        Header::Ieth,
        "ieth",
        4,
        "invalidate extended transport header, IBTA 9.3.7",
    ),
    (
        Header::Mad,
        "mad",
        24,
        "management datagram to QP 0 or 1, IBTA 13.4",
    ),
];

impl Header {
    /// All of them, in the order in which they lie in a frame.
    pub fn all() -> impl Iterator<Item = Header> {
        NAMES.iter().map(|entry| entry.0)
    }

    /// By the name that rules use.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Header> {
        NAMES
            .iter()
            .find(|entry| entry.1 == name)
            .map(|entry| entry.0)
    }

    fn entry(self) -> &'static (Header, &'static str, u8, &'static str) {
        // Every header has its entry, in order: a test says so.
        NAMES.get(self as usize).unwrap_or(&NAMES[0])
    }

    /// What rules call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// What it is and where it is defined.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.entry().3
    }

    /// Bytes that have to be there for its fields to be.
    pub(crate) fn len(self) -> usize {
        usize::from(self.entry().2)
    }

    pub(crate) const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// Extension headers: which ones there are depends on the opcode.
    pub(crate) const fn is_extension(self) -> bool {
        matches!(
            self,
            Header::XrcEth
                | Header::Deth
                | Header::Reth
                | Header::AtomicEth
                | Header::Aeth
                | Header::AtomicAckEth
                | Header::ImmDt
                | Header::Ieth
        )
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a field's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// One bit: `true` or `false`.
    Flag,
    /// A MAC address.
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address or GID.
    Ipv6,
    /// A BTH opcode by name.
    Opcode,
}

/// Where a field's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Bits of a header, counted from its first byte's highest bit.
    Bits {
        /// The header.
        header: Header,
        /// The first bit.
        offset: u16,
    },
    /// Bytes of the frame on the wire, without frame check sequence.
    FrameLen,
    /// Bytes of payload, without pad.
    PayloadLen,
    /// Distance from the first PSN of the flow.
    RelativePsn,
    /// RoCE version, 1 or 2.
    RoceVersion,
}

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// `header.field`.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// Bits, at most 128.
    pub width: u8,
    /// How its values are written.
    pub kind: Kind,
    /// What it is.
    pub about: &'static str,
}

impl Field {
    /// The header it lies in; for what is derived, the header that has to be there.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        match self.source {
            Source::Bits { header, .. } => Some(header),
            Source::RelativePsn | Source::RoceVersion => Some(Header::Bth),
            Source::FrameLen | Source::PayloadLen => None,
        }
    }

    /// Its largest value.
    #[must_use]
    pub fn max(&self) -> u128 {
        match self.width {
            128.. => u128::MAX,
            width => (1 << width) - 1,
        }
    }

    /// By name; `opcode` is short for `bth.opcode`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Field> {
        let name = if name == "opcode" { "bth.opcode" } else { name };
        FIELDS.iter().find(|field| field.name == name)
    }
}

/// The bits `offset..offset + width` of `bytes`, highest first; `None` if they are not all there.
pub(crate) fn get_bits(bytes: &[u8], offset: usize, width: u8) -> Option<u128> {
    let width = usize::from(width);
    let end = offset.checked_add(width)?;
    let span = bytes.get(offset / 8..end.div_ceil(8))?;
    let mut value: u128 = 0;
    let mut have = 0;
    for (n, byte) in span.iter().enumerate() {
        // The first byte may begin, the last may end in the middle.
        let skip = if n == 0 { offset % 8 } else { 0 };
        let take = (8 - skip).min(width - have);
        let part = (u16::from(*byte) >> (8 - skip - take)) & ((1 << take) - 1);
        value = value.checked_shl(take as u32).unwrap_or(0) | u128::from(part);
        have += take;
    }
    Some(value)
}

/// Sets the bits that [`get_bits`] gets; false, and nothing changed, if they are not all there.
pub(crate) fn set_bits(bytes: &mut [u8], offset: usize, width: u8, value: u128) -> bool {
    let width = usize::from(width);
    let Some(end) = offset.checked_add(width) else {
        return false;
    };
    let Some(span) = bytes.get_mut(offset / 8..end.div_ceil(8)) else {
        return false;
    };
    let mut left = width;
    for (n, byte) in span.iter_mut().enumerate() {
        let skip = if n == 0 { offset % 8 } else { 0 };
        let take = (8 - skip).min(left);
        left -= take;
        let shift = 8 - skip - take;
        let mask = (((1u16 << take) - 1) << shift) as u8;
        let part = ((value >> left) as u8).wrapping_shl(shift as u32) & mask;
        *byte = (*byte & !mask) | part;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_sound() {
        for (n, header) in Header::all().enumerate() {
            assert_eq!(header as usize, n, "{header}");
            assert_eq!(Header::by_name(header.name()), Some(header));
        }
        for (n, field) in FIELDS.iter().enumerate() {
            assert_eq!(Field::by_name(field.name).map(|f| f.name), Some(field.name));
            assert!(
                FIELDS[..n].iter().all(|other| other.name != field.name),
                "{} twice",
                field.name
            );
            assert!((1..=128).contains(&field.width), "{}", field.name);
            let Source::Bits { header, offset } = field.source else {
                continue;
            };
            assert_eq!(
                field.name.split_once('.').map(|parts| parts.0),
                Some(header.name()),
                "{}",
                field.name
            );
            let end = usize::from(offset) + usize::from(field.width);
            assert!(end <= 8 * header.len(), "{} reaches beyond", field.name);
            let width = match field.kind {
                Kind::Flag => 1,
                Kind::Mac => 48,
                Kind::Ipv4 => 32,
                Kind::Ipv6 => 128,
                Kind::Opcode => 8,
                Kind::Number => field.width,
            };
            assert_eq!(field.width, width, "{}", field.name);
        }
        assert_eq!(Field::by_name("opcode"), Field::by_name("bth.opcode"));
    }

    proptest! {
        #[test]
        fn bits_are_read_and_written_alike(
            bytes in prop::collection::vec(any::<u8>(), 1..40),
            offset in 0..330usize,
            width in 1..=128u8,
            value: u128,
        ) {
            let end = offset + usize::from(width);
            // One bit at a time.
            let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
            let slow = (end <= 8 * bytes.len()).then(|| {
                (offset..end).fold(0u128, |value, at| value << 1 | u128::from(bit(&bytes, at)))
            });
            prop_assert_eq!(get_bits(&bytes, offset, width), slow);
            let mut changed = bytes.clone();
            prop_assert_eq!(set_bits(&mut changed, offset, width, value), slow.is_some());
            let mask = if width == 128 { u128::MAX } else { (1 << width) - 1 };
            if slow.is_some() {
                prop_assert_eq!(get_bits(&changed, offset, width), Some(value & mask));
            }
            for at in 0..8 * bytes.len() {
                if slow.is_none() || !(offset..end).contains(&at) {
                    prop_assert_eq!(bit(&bytes, at), bit(&changed, at));
                }
            }
        }
    }
}
