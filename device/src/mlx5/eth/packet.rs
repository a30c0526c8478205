//! A frame that is being received: its headers, what its checksums say and what of it goes into
//! memory. Knows no queue.

use rocinante_dma::{DmaError, MemoryMap};

use super::checksum::{Sum, pseudo_header};
use super::headers::{Headers, L3, L4, Tag};
use crate::mlx5::payload::Source;

/// What checksums say about a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    /// One's complement sum over the IP datagram.
    pub sum: u16,
    /// The IPv4 header is good, or it is IPv6.
    pub l3_ok: bool,
    /// The TCP or UDP checksum is good.
    pub l4_ok: bool,
}

/// A frame being received.
pub(super) struct Packet<'a> {
    /// Contiguous beginning with all headers.
    head: &'a [u8],
    rest: &'a [u8],
    /// Its headers.
    pub headers: Headers,
    checks: Option<Checks>,
}

impl<'a> Packet<'a> {
    /// A frame in up to two places.
    pub fn new(head: &'a [u8], rest: &'a [u8], headers: Headers) -> Packet<'a> {
        Packet {
            head,
            rest,
            headers,
            checks: None,
        }
    }

    /// Header bytes.
    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Sum over the bytes `start..end`, taken as if `start` were even.
    pub fn sum(&self, start: usize, end: usize) -> Sum {
        let split = self.head.len();
        let first = self
            .head
            .get(start.min(split)..end.min(split))
            .unwrap_or_default();
        let skip = start.max(split);
        let second = self
            .rest
            .get(skip - split..end.max(skip) - split)
            .unwrap_or_default();
        Sum::default().add_at(0, first).add_at(first.len(), second)
    }

    /// Computed once, however many queues the packet goes to. `None`: not an IP datagram, or not the
    /// whole of it.
    pub fn checks(&mut self) -> Option<Checks> {
        if self.headers.l3 == L3::Other || self.headers.truncated {
            return None;
        }
        if self.checks.is_some() {
            return self.checks;
        }
        let Headers {
            l3_offset, l3_end, ..
        } = self.headers;
        let l4_offset = self.headers.l4_offset.min(l3_end);
        let header = self.sum(l3_offset, l4_offset);
        let l4 = self.sum(l4_offset, l3_end);
        // An IP header is a multiple of four bytes.
        let sum = header.add_word(l4.folded());
        let l3_ok = self.headers.l3 == L3::Ipv6 || header.is_good();
        let without = self.headers.l4 == L4::Udp
            && self.headers.l3 == L3::Ipv4
            && self.head.get(l4_offset + 6..l4_offset + 8) == Some(&[0, 0]);
        let l4_ok = match self.headers.l4 {
            L4::None => false,
            _ if without => true,
            _ => pseudo_header(&self.headers, l3_end - l4_offset)
                .add_word(l4.folded())
                .is_good(),
        };
        self.checks = Some(Checks {
            sum: sum.folded(),
            l3_ok,
            l4_ok,
        });
        self.checks
    }

    /// `l4_hdr_type` and `l3_hdr_type` of a CQE.
    pub fn header_types(&self) -> u8 {
        let l4 = match self.headers.l4 {
            L4::None => 0,
            L4::Udp => 2,
            L4::Tcp if self.headers.tcp_flags & 0x10 == 0 => 1,
            L4::Tcp if self.headers.l4_payload == self.headers.l3_end => 3,
            L4::Tcp => 4,
        };
        let l3 = match self.headers.l3 {
            L3::Other => 0,
            L3::Ipv6 => 1,
            L3::Ipv4 => 2,
        };
        l4 << 4 | l3 << 2
    }

    /// The tag that is taken out if the queue wants that: customer tags only.
    pub fn customer_tag(&self) -> Option<Tag> {
        self.headers.tag.filter(|tag| !tag.service)
    }

    /// What is scattered: with `strip`, without the outermost tag.
    pub fn bytes(&self, strip: bool) -> Parts<'a> {
        let (front, back) = match (strip, self.head.get(..12), self.head.get(16..)) {
            (true, Some(front), Some(back)) => (front, back),
            _ => (self.head, &[][..]),
        };
        Parts([front, back, self.rest, &[]])
    }

    /// Frame check sequence as it was on the cable (IEEE 802.3, 3.2.9): of the whole frame, whatever
    /// is taken out of it afterwards.
    pub fn check_sequence(&self) -> [u8; 4] {
        let mut crc = crc32fast::Hasher::new();
        crc.update(self.head);
        crc.update(self.rest);
        crc.finalize().to_le_bytes()
    }
}

/// Bytes in up to four places.
pub(super) struct Parts<'a>([&'a [u8]; 4]);

impl<'a> Parts<'a> {
    /// The same with `tail` behind it.
    pub fn with_tail(self, tail: &'a [u8]) -> Parts<'a> {
        let [front, back, rest, _] = self.0;
        Parts([front, back, rest, tail])
    }

    /// Appends the bytes `start..end`, as far as there are any.
    pub fn append_to(&self, start: usize, end: usize, out: &mut Vec<u8>) {
        let mut at = 0;
        for part in self.0 {
            let from = start.saturating_sub(at).min(part.len());
            let to = end.saturating_sub(at).min(part.len());
            out.extend_from_slice(part.get(from..to).unwrap_or_default());
            at += part.len();
        }
    }
}

impl Source for Parts<'_> {
    fn size(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    #[inline]
    fn copy_to_guest(
        &self,
        mut at: usize,
        mut len: usize,
        map: &MemoryMap,
        mut iova: u64,
    ) -> Result<(), DmaError> {
        for part in self.0 {
            let Some(bytes) = part.get(at..) else {
                at -= part.len();
                continue;
            };
            let bytes = bytes.get(..len).unwrap_or(bytes);
            map.write(iova, bytes)?;
            iova = iova.wrapping_add(bytes.len() as u64);
            len -= bytes.len();
            at = 0;
        }
        Ok(())
    }
}
