//! The Internet checksum (RFC 1071) and its use in IPv4, TCP and UDP. Knows bytes and offsets,
//! nothing of queues.

use super::headers::{Headers, L3, L4};

/// A one's complement sum in the making: add 16-bit words, fold at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes` as big-endian 16-bit words; a last odd byte is the high half of a word.
    #[must_use]
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Sum {
        // Words may be summed in any byte order if the result is swapped back (RFC 1071, 2 B).
        let mut sum = 0u64;
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            let word = u64::from_ne_bytes(word);
            sum += (word & 0xffff_ffff) + (word >> 32);
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(chunks.remainder()) {
            *to = *from;
        }
        let word = u64::from_ne_bytes(last);
        sum += (word & 0xffff_ffff) + (word >> 32);
        Sum(self.0 + u64::from(u16::from_be(fold(sum))))
    }

    /// Adds `bytes` that begin at byte `at` of what is summed up.
    #[must_use]
    #[inline]
    pub fn add_at(self, at: usize, bytes: &[u8]) -> Sum {
        let part = Sum::default().add_bytes(bytes);
        let part = if at.is_multiple_of(2) {
            part.folded()
        } else {
            part.folded().swap_bytes()
        };
        self.add_word(part)
    }

    /// Adds one word.
    #[must_use]
    #[inline]
    pub fn add_word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word))
    }

    /// Without what `other` added: the sum of the rest.
    #[must_use]
    #[inline]
    pub fn without(self, other: Sum) -> Sum {
        self.add_word(!other.folded())
    }

    /// The 16-bit sum, not complemented.
    #[must_use]
    #[inline]
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// What goes into a checksum field.
    #[must_use]
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Whether the sum over data and its checksum says that nothing is damaged.
    #[must_use]
    #[inline]
    pub fn is_good(self) -> bool {
        self.folded() == 0xffff
    }
}

fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Sum of the pseudo header of TCP and UDP (RFC 9293 3.1, RFC 8200 8.1).
#[must_use]
pub fn pseudo_header(headers: &Headers, l4_len: usize) -> Sum {
    Sum::default()
        .add_bytes(&headers.src)
        .add_bytes(&headers.dst)
        .add_word(u16::from(headers.ip_protocol))
        .add_word((l4_len >> 16) as u16)
        .add_word(l4_len as u16)
}

/// Puts the IPv4 header checksum into `frame`.
pub fn fill_ipv4(frame: &mut [u8], headers: &Headers) {
    if headers.l3 != L3::Ipv4 {
        return;
    }
    let Some(header) = frame.get_mut(headers.l3_offset..headers.l4_offset) else {
        return;
    };
    let Some(field) = header.get_mut(10..12) else {
        return;
    };
    field.fill(0);
    let checksum = Sum::default().add_bytes(header).checksum();
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Computes the TCP or UDP checksum from scratch, whatever the field holds. Fragments and
/// datagrams that the frame does not hold completely stay as they are.
pub fn fill_l4(frame: &mut [u8], headers: &Headers) {
    let field = match headers.l4 {
        L4::Tcp => 16,
        L4::Udp => 6,
        L4::None => return,
    };
    let Some(l4) = frame.get_mut(headers.l4_offset..headers.l3_end) else {
        return;
    };
    let Some(place) = l4.get_mut(field..field + 2) else {
        return;
    };
    place.fill(0);
    let mut checksum = pseudo_header(headers, l4.len()).add_bytes(l4).checksum();
    // Zero in UDP says that there is no checksum (RFC 768).
    if headers.l4 == L4::Udp && checksum == 0 {
        checksum = 0xffff;
    }
    if let Some(place) = l4.get_mut(field..field + 2) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The definition, word by word.
    pub(in crate::mlx5::eth) fn slow_sum(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_example() {
        let sum = Sum::default().add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    #[test]
    fn any_split_gives_the_sum_of_the_definition() {
        let bytes: Vec<u8> = (0..97u32).map(|i| (i * 151 + 7) as u8).collect();
        for len in 0..bytes.len() {
            let all = &bytes[..len];
            assert_eq!(
                Sum::default().add_bytes(all).folded(),
                slow_sum(all),
                "{len} bytes"
            );
            for split in 0..=len {
                let sum = Sum::default()
                    .add_at(0, &all[..split])
                    .add_at(split, &all[split..]);
                assert_eq!(sum.folded(), slow_sum(all), "{len} bytes split at {split}");
            }
        }
    }

    #[test]
    fn an_ipv4_header_of_a_textbook() {
        let mut frame = vec![0u8; 14];
        frame[12] = 8;
        frame.extend([0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0x12, 0x34]);
        frame.extend([0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7]);
        frame.resize(14 + 0x73, 0);
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        fill_ipv4(&mut frame, &headers);
        assert_eq!(frame[24..26], [0xb8, 0x61]);
    }
}
