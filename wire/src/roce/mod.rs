//! RoCE encapsulation: InfiniBand packets in Ethernet frames, v1 (GRH) and v2 (UDP over IPv4 or
//! IPv6), IBTA annexes A16 and A17.
//!
//! Knows headers and lengths on the way out ([`HeaderTemplate`]) and in ([`classify`],
//! [`parse_frame`]). Knows no payload and computes no ICRC: that is for whoever holds all bytes.

mod address;
mod parse;
mod template;

pub use crate::icrc::Encap;
pub use address::{Address, L3, Tci};
pub use parse::{RoceError, RoceFrame, check_frame, classify, parse_frame, parse_headers};
pub use template::HeaderTemplate;

/// EtherType of RoCE v1.
pub const ETHERTYPE_V1: u16 = 0x8915;
/// UDP destination port of RoCE v2.
pub const UDP_PORT: u16 = 4791;

/// Where the parts of one RoCE frame lie. All offsets count from the first byte of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Encapsulation.
    pub encap: Encap,
    /// The layer 3 header (GRH, IPv4, IPv6).
    pub l3_offset: u8,
    /// The BTH.
    pub ib_offset: u8,
    /// The byte behind the ICRC. A received frame may be longer (Ethernet padding).
    pub end: u16,
}

impl Layout {
    /// The first byte of the ICRC.
    #[must_use]
    pub fn icrc_offset(&self) -> usize {
        usize::from(self.end).saturating_sub(crate::ib::ICRC_LEN)
    }

    /// Bytes from the BTH to the last pad byte.
    #[must_use]
    pub fn ib_len(&self) -> usize {
        self.icrc_offset()
            .saturating_sub(usize::from(self.ib_offset))
    }
}

/// The one's complement sum of an IPv4 header without options, not folded (RFC 1071).
fn ipv4_sum(header: &[u8; 20]) -> u32 {
    header
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum()
}

/// A one's complement sum folded to 16 bits.
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests;
