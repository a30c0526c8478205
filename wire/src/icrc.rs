//! The invariant CRC of a RoCE packet, IBTA 7.8.1 and annexes A16.5.1 and A17.3.3.
//!
//! Knows which header fields are masked in each encapsulation. Does not know where in a frame the
//! headers begin: it is given them.

use crc32fast::Hasher;

/// The three ways RoCE lies on Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encap {
    /// RoCE v1: EtherType 0x8915, GRH.
    V1,
    /// RoCE v2: IPv4, UDP.
    V2Ipv4,
    /// RoCE v2: IPv6, UDP.
    V2Ipv6,
}

impl Encap {
    /// Bytes from the layer 3 header to the BTH.
    #[must_use]
    pub const fn headers_len(self) -> usize {
        match self {
            Encap::V1 => 40,
            Encap::V2Ipv4 => 20 + 8,
            Encap::V2Ipv6 => 40 + 8,
        }
    }
}

const BTH_LEN: usize = 12;
/// The longest masked part: IPv6, UDP, BTH.
const MAX_MASKED: usize = 40 + 8 + BTH_LEN;
/// CRC of the dummy local route header, eight bytes of 0xff, in the finished (inverted) form that
/// `crc32fast` continues from: `!0xdebb20e3`.
const DUMMY_LRH: u32 = 0x2144_df1c;

/// An ICRC under way; payload and pad may come in pieces.
#[derive(Clone, Debug)]
pub struct Icrc(Hasher);

impl Icrc {
    /// Starts with the headers: from the first byte of the layer 3 header through at least the
    /// BTH. What follows the BTH in `headers` is taken as it is. `None` if the BTH is not whole.
    #[must_use]
    pub fn new(encap: Encap, headers: &[u8]) -> Option<Icrc> {
        let bth = encap.headers_len();
        let masked_len = bth + BTH_LEN;
        let (masked, rest) = headers.split_at_checked(masked_len)?;
        let mut copy = [0u8; MAX_MASKED];
        let copy = copy.get_mut(..masked_len)?;
        copy.copy_from_slice(masked);
        match encap {
            // Traffic class, flow label, hop limit; the UDP checksum on v2.
            Encap::V1 | Encap::V2Ipv6 => {
                copy[0] |= 0x0f;
                copy[1..4].fill(0xff);
                copy[7] = 0xff;
                if encap == Encap::V2Ipv6 {
                    copy[46..48].fill(0xff);
                }
            }
            // Type of service, TTL, header checksum; UDP checksum.
            Encap::V2Ipv4 => {
                copy[1] = 0xff;
                copy[8] = 0xff;
                copy[10..12].fill(0xff);
                copy[26..28].fill(0xff);
            }
        }
        // FECN, BECN and the reserved bits beside them.
        copy[bth + 4] = 0xff;
        let mut hasher = Hasher::new_with_initial(DUMMY_LRH);
        hasher.update(copy);
        hasher.update(rest);
        Some(Icrc(hasher))
    }

    /// Continues with the next bytes: extension headers, payload, pad.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The four bytes as they stand on the wire.
    #[must_use]
    pub fn finish(self) -> [u8; 4] {
        self.0.finalize().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{self, unhex};
    use proptest::prelude::*;

    /// CRC-32 one bit at a time, from the polynomial; shares nothing with `crc32fast`.
    fn bitwise(bytes: impl IntoIterator<Item = u8>) -> [u8; 4] {
        let mut state = 0xffff_ffff_u32;
        for byte in bytes {
            for bit in 0..8 {
                let feedback = (state ^ (u32::from(byte) >> bit)) & 1;
                state = (state >> 1) ^ if feedback == 1 { 0xedb8_8320 } else { 0 };
            }
        }
        (!state).to_le_bytes()
    }

    /// The masking rules written as a list of bit masks, independent of `Icrc::new`.
    fn slow_icrc(encap: Encap, from_l3: &[u8]) -> [u8; 4] {
        let masks: &[(usize, u8)] = match encap {
            Encap::V1 => &[(0, 0x0f), (1, 255), (2, 255), (3, 255), (7, 255), (44, 255)],
            Encap::V2Ipv4 => &[
                (1, 255),
                (8, 255),
                (10, 255),
                (11, 255),
                (26, 255),
                (27, 255),
                (32, 255),
            ],
            Encap::V2Ipv6 => &[
                (0, 0x0f),
                (1, 255),
                (2, 255),
                (3, 255),
                (7, 255),
                (46, 255),
                (47, 255),
                (52, 255),
            ],
        };
        let mut bytes = vec![0xff; 8];
        bytes.extend_from_slice(from_l3);
        for (at, mask) in masks {
            bytes[8 + at] |= mask;
        }
        bitwise(bytes)
    }

    #[test]
    fn seed_is_the_crc_of_the_dummy_lrh() {
        assert_eq!(crc32fast::hash(&[0xff; 8]), DUMMY_LRH);
        assert_eq!(!DUMMY_LRH, 0xdebb_20e3);
        assert_eq!(bitwise([0xff; 8]), DUMMY_LRH.to_le_bytes());
    }

    #[test]
    fn every_vector_holds_in_both_implementations() {
        for vector in vectors::ALL {
            let frame = unhex(vector.frame);
            let (covered, icrc) = frame.split_at(frame.len() - 4);
            let from_l3 = &covered[vector.l3_offset..];
            let icrc: [u8; 4] = icrc.try_into().unwrap();
            assert_eq!(
                slow_icrc(vector.encap, from_l3),
                icrc,
                "bitwise: {}",
                vector.name
            );
            let fast = Icrc::new(vector.encap, from_l3).unwrap().finish();
            assert_eq!(fast, icrc, "fast: {}", vector.name);
        }
    }

    #[test]
    fn ib_native_vector_confirms_the_crc_core() {
        let mut bytes = unhex(concat!(
            "7012375c000e17d20a202487ff87b1b3000dec2a01710a1c015d400238f27a05",
            "0000000ebb884d85fd5cfba4728bc0690ed40000"
        ));
        bytes[0] |= 0xf0; // the virtual lane
        bytes[8 + 4] = 0xff; // BTH: FECN, BECN, reserved
        assert_eq!(bitwise(bytes.iter().copied()), [0x96, 0x25, 0xb7, 0x5a]);
        assert_eq!(
            crc32fast::hash(&bytes).to_le_bytes(),
            [0x96, 0x25, 0xb7, 0x5a]
        );
    }

    #[test]
    fn short_headers_have_no_icrc() {
        for encap in [Encap::V1, Encap::V2Ipv4, Encap::V2Ipv6] {
            let len = encap.headers_len() + BTH_LEN;
            assert!(Icrc::new(encap, &vec![0; len - 1]).is_none());
            assert!(Icrc::new(encap, &vec![0; len]).is_some());
        }
    }

    proptest! {
        #[test]
        fn pieces_equal_the_whole_and_the_slow_way(
            encap in prop::sample::select(vec![Encap::V1, Encap::V2Ipv4, Encap::V2Ipv6]),
            bytes in prop::collection::vec(any::<u8>(), 60..600),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|c| 60 + c.index(bytes.len() - 59)).collect();
            cuts.sort_unstable();
            cuts.insert(0, 60);
            cuts.push(bytes.len());
            let mut icrc = Icrc::new(encap, &bytes[..60]).unwrap();
            for pair in cuts.windows(2) {
                icrc.update(&bytes[pair[0]..pair[1]]);
            }
            let in_pieces = icrc.finish();
            prop_assert_eq!(in_pieces, Icrc::new(encap, &bytes).unwrap().finish());
            prop_assert_eq!(in_pieces, slow_icrc(encap, &bytes));
        }

        #[test]
        fn a_flipped_bit_that_is_not_masked_is_noticed(
            bytes in prop::collection::vec(any::<u8>(), 60..200),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let at = 12 + at.index(bytes.len() - 12);
            prop_assume!(![26, 27, 32].contains(&at));
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let icrc = |bytes: &[u8]| Icrc::new(Encap::V2Ipv4, bytes).unwrap().finish();
            prop_assert_ne!(icrc(&bytes), icrc(&flipped));
        }
    }
}
