//! Receive side scaling: the hash of a packet, by which an indirection table is indexed.
//! Source: reference of the interface, "RX path"; the Toeplitz hash is that of Microsoft's
//! "RSS Hashing Functions". Knows no queue.

use super::headers::{Headers, L3, L4};

/// Bytes of a hash key (`rx_hash_toeplitz_key`).
pub const KEY_LEN: usize = 40;

/// Longest input: two IPv6 addresses and two ports, or an SPI.
const MAX_INPUT: usize = 36;

/// `rx_hash_field_select.selected_fields`.
mod field {
    pub const SRC_IP: u32 = 1;
    pub const DST_IP: u32 = 1 << 1;
    pub const SPORT: u32 = 1 << 2;
    pub const DPORT: u32 = 1 << 3;
    pub const SPI: u32 = 1 << 4;
}

/// A Toeplitz key, unrolled to one table per half byte of input.
struct Toeplitz {
    tables: Box<[[u32; 16]; 2 * MAX_INPUT]>,
}

impl Toeplitz {
    fn new(key: &[u8; KEY_LEN]) -> Toeplitz {
        // Bit n of the input contributes the 32 key bits from bit n on.
        let window = |bit: usize| -> u32 {
            let (byte, shift) = (bit / 8, bit % 8);
            let mut wide = 0u64;
            for i in 0..5 {
                wide = wide << 8 | key.get(byte + i).map_or(0, |b| u64::from(*b));
            }
            (wide >> (8 - shift)) as u32
        };
        let mut tables = Box::new([[0u32; 16]; 2 * MAX_INPUT]);
        for (nibble, table) in tables.iter_mut().enumerate() {
            for (value, hash) in table.iter_mut().enumerate() {
                for bit in 0..4 {
                    if value & (8 >> bit) != 0 {
                        *hash ^= window(nibble * 4 + bit);
                    }
                }
            }
        }
        Toeplitz { tables }
    }

    #[inline]
    fn hash(&self, input: &[u8]) -> u32 {
        let mut hash = 0;
        for (byte, pair) in input.iter().zip(self.tables.chunks_exact(2)) {
            hash ^= pair[0][usize::from(byte >> 4)] ^ pair[1][usize::from(byte & 0xf)];
        }
        hash
    }
}

/// `tirc.rx_hash_fn`.
enum Function {
    None,
    InvertedXor8,
    Toeplitz(Toeplitz),
}

/// How a TIR hashes.
pub struct Hasher {
    function: Function,
    symmetric: bool,
    fields: u32,
}

/// The hash of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    /// `rss_hash_result`.
    pub value: u32,
    /// `rss_hash_type`: [1:0] source L3 (1 IPv4, 2 IPv6), [3:2] destination L3, [5:4] source L4
    /// (1 TCP, 2 UDP, 3 SPI), [7:6] destination L4.
    pub kind: u8,
}

impl Hasher {
    /// `function` is `rx_hash_fn` (0 none, 1 inverted XOR, 2 Toeplitz), `fields` the outer field
    /// selector. `None` for another function.
    pub fn new(function: u8, symmetric: bool, fields: u32, key: &[u8; KEY_LEN]) -> Option<Hasher> {
        let function = match function {
            0 => Function::None,
            1 => Function::InvertedXor8,
            2 => Function::Toeplitz(Toeplitz::new(key)),
            _ => return None,
        };
        Some(Hasher {
            function,
            symmetric,
            fields: fields & 0x3fff_ffff,
        })
    }

    /// Hashes what the packet has of the selected fields; nothing selected or there gives 0.
    pub fn hash(&self, headers: &Headers) -> Hash {
        let mut input = [0u8; MAX_INPUT];
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = input.get_mut(len..len + bytes.len()) {
                place.copy_from_slice(bytes);
                len += bytes.len();
            }
        };
        let has = |bit| self.fields & bit != 0;
        let mut kind = 0;
        let (l3, first) = match headers.l3 {
            L3::Other => return Hash::default(),
            L3::Ipv4 => (1, 12),
            L3::Ipv6 => (2, 0),
        };
        // What Linux calls RXH_XFRM_SYM_OR_XOR, the one symmetric hash of these adapters: of each pair of fields the OR, then the XOR.
        let both = self.symmetric && has(field::SRC_IP) && has(field::DST_IP);
        let (mut src, mut dst) = (headers.src, headers.dst);
        if both {
            for (s, d) in src.iter_mut().zip(&mut dst) {
                (*s, *d) = (*s | *d, *s ^ *d);
            }
        }
        if has(field::SRC_IP) {
            put(&src[first..]);
            kind |= l3;
        }
        if has(field::DST_IP) {
            put(&dst[first..]);
            kind |= l3 << 2;
        }
        let l4 = match headers.l4 {
            L4::None => 0,
            L4::Tcp => 1,
            L4::Udp => 2,
        };
        let (mut sport, mut dport) = (headers.sport, headers.dport);
        if self.symmetric && has(field::SPORT) && has(field::DPORT) {
            (sport, dport) = (sport | dport, sport ^ dport);
        }
        if l4 != 0 && has(field::SPORT) {
            put(&sport.to_be_bytes());
            kind |= l4 << 4;
        }
        if l4 != 0 && has(field::DPORT) {
            put(&dport.to_be_bytes());
            kind |= l4 << 6;
        }
        if let (true, Some(spi)) = (has(field::SPI), headers.spi) {
            put(&spi.to_be_bytes());
            kind |= 3 << 4 | 3 << 6;
        }
        let input = input.get(..len).unwrap_or_default();
        let value = match &self.function {
            Function::None => return Hash::default(),
            Function::InvertedXor8 => u32::from(!input.iter().fold(0, |xor, byte| xor ^ byte)),
            Function::Toeplitz(toeplitz) => toeplitz.hash(input),
        };
        Hash { value, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The key of Microsoft's "Verifying the RSS Hash Calculation".
    const KEY: [u8; KEY_LEN] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn v4(src: &str, sport: u16, dst: &str, dport: u16) -> Headers {
        let mut headers = Headers {
            l3: L3::Ipv4,
            l4: L4::Tcp,
            sport,
            dport,
            ..Headers::default()
        };
        headers.src[12..].copy_from_slice(&src.parse::<Ipv4Addr>().unwrap().octets());
        headers.dst[12..].copy_from_slice(&dst.parse::<Ipv4Addr>().unwrap().octets());
        headers
    }

    fn v6(src: &str, sport: u16, dst: &str, dport: u16) -> Headers {
        Headers {
            l3: L3::Ipv6,
            l4: L4::Tcp,
            sport,
            dport,
            src: src.parse::<Ipv6Addr>().unwrap().octets(),
            dst: dst.parse::<Ipv6Addr>().unwrap().octets(),
            ..Headers::default()
        }
    }

    fn hasher(fields: u32) -> Hasher {
        Hasher::new(2, false, fields, &KEY).unwrap()
    }

    /// Packets and hashes of the RSS verification suite: addresses only, then with TCP ports.
    #[test]
    fn microsoft_verification_suite() {
        let suite = [
            (
                v4("66.9.149.187", 2794, "161.142.100.80", 1766),
                0x323e_8fc2,
                0x51cc_c178,
                0x05,
                0x55,
            ),
            (
                v4("199.92.111.2", 14230, "65.69.140.83", 4739),
                0xd718_262a,
                0xc626_b0ea,
                0x05,
                0x55,
            ),
            (
                v4("24.19.198.95", 12898, "12.22.207.184", 38024),
                0xd2d0_a5de,
                0x5c2b_394a,
                0x05,
                0x55,
            ),
            (
                v4("38.27.205.30", 48228, "209.142.163.6", 2217),
                0x8298_9176,
                0xafc7_327f,
                0x05,
                0x55,
            ),
            (
                v4("153.39.163.191", 44251, "202.188.127.2", 1303),
                0x5d18_09c5,
                0x10e8_28a2,
                0x05,
                0x55,
            ),
            (
                v6("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766),
                0x2cc1_8cd5,
                0x4020_7d3d,
                0x0a,
                0x5a,
            ),
            (
                v6("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739),
                0x0f0c_461c,
                0xdde5_1bbf,
                0x0a,
                0x5a,
            ),
            (
                v6(
                    "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                    44251,
                    "fe80::200:f8ff:fe21:67cf",
                    38024,
                ),
                0x4b61_e985,
                0x02d1_feef,
                0x0a,
                0x5a,
            ),
        ];
        for (headers, ip, tcp, ip_kind, tcp_kind) in suite {
            assert_eq!(
                hasher(3).hash(&headers),
                Hash {
                    value: ip,
                    kind: ip_kind
                },
                "{headers:?}"
            );
            assert_eq!(
                hasher(15).hash(&headers),
                Hash {
                    value: tcp,
                    kind: tcp_kind
                },
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_symmetric_hash_is_the_same_both_ways() {
        let hasher = Hasher::new(2, true, 15, &KEY).unwrap();
        let there = hasher.hash(&v4("66.9.149.187", 2794, "161.142.100.80", 1766));
        let back = hasher.hash(&v4("161.142.100.80", 1766, "66.9.149.187", 2794));
        assert_eq!(there, back);
        assert_ne!(there.value, 0);
        let other = hasher.hash(&v4("161.142.100.80", 1767, "66.9.149.187", 2794));
        assert_ne!(there, other);
        // The plain hash of the fields OR-ed and XOR-ed: 0x42|0xa1, 0x09|0x8e …, 2794|1766, 2794^1766.
        let mixed = Hasher::new(2, false, 15, &KEY).unwrap().hash(&v4(
            "227.143.245.251",
            3822,
            "227.135.241.235",
            3084,
        ));
        assert_eq!(there, mixed);
    }

    #[test]
    fn what_a_packet_does_not_have_is_not_hashed() {
        assert_eq!(hasher(15).hash(&Headers::default()), Hash::default());
        let mut icmp = v4("66.9.149.187", 2794, "161.142.100.80", 1766);
        icmp.l4 = L4::None;
        assert_eq!(
            hasher(15).hash(&icmp),
            Hash {
                value: 0x323e_8fc2,
                kind: 5
            }
        );
        icmp.spi = Some(7);
        assert_eq!(hasher(0x13).hash(&icmp).kind, 0xf5);
        assert!(Hasher::new(3, false, 0, &KEY).is_none());
        let xor = Hasher::new(1, false, 3, &KEY).unwrap().hash(&icmp);
        let bytes = [66u8, 9, 149, 187, 161, 142, 100, 80];
        assert_eq!(xor.value, u32::from(!bytes.iter().fold(0, |a, b| a ^ b)));
    }
}
