//! What a kernel leaves for hardware to do: unfinished checksums, and TCP or UDP segments that are
//! still in one piece. Sans-I/O; knows the header that says so (virtio-net's) and the bytes.

use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

const NEEDS_CSUM: u8 = 1;

const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside the type; the first segment keeps CWR, the others lose it in any case.
const GSO_ECN: u8 = 0x80;

const TCP: u8 = 6;
const UDP: u8 = 17;

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// Of IPv4, with options, or of IPv6.
const L3_MIN: usize = 20;

/// `struct virtio_net_hdr`, in the byte order of the host.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub(super) struct VnetHeader {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    pub(super) hdr_len: u16,
    pub(super) gso_size: u16,
    pub(super) csum_start: u16,
    pub(super) csum_offset: u16,
}

impl VnetHeader {
    /// Whether there is more than one segment in the piece.
    pub(super) fn is_large(&self) -> bool {
        self.gso_type != 0
    }

    /// From where on a checksum is to be computed, and where its field is from there.
    pub(super) fn unfinished(&self) -> Option<(usize, usize)> {
        let wanted = self.flags & NEEDS_CSUM != 0;
        wanted.then_some((self.csum_start.into(), self.csum_offset.into()))
    }
}

/// The sum of RFC 1071 over `bytes`, on top of `sum`.
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let sum = words
        .iter()
        .fold(sum, |sum, word| sum + u64::from(u16::from_be_bytes(*word)));
    rest.first()
        .map_or(sum, |last| sum + (u64::from(*last) << 8))
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of a sum; never the 0 that means none to UDP.
fn checksum(sum: u64) -> u16 {
    match !folded(sum) {
        0 => 0xffff,
        checksum => checksum,
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Finishes a checksum, whose field holds the sum of the pseudo header. False if it is not there.
pub(super) fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(covered) = frame.get(start..) else {
        return false;
    };
    let value = checksum(add(0, covered));
    put(frame, start + offset, value.to_be_bytes()).is_some()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ip {
    V4,
    V6,
}

/// A piece that is being taken apart.
#[derive(Debug, Default)]
pub(super) struct Segments {
    work: Option<Work>,
}

#[derive(Debug)]
struct Work {
    /// Where the piece lies.
    at: Range<usize>,
    ip: Ip,
    protocol: u8,
    /// Offsets from its beginning.
    l3: usize,
    l4: usize,
    payload: usize,
    /// Payload bytes of a segment.
    size: usize,
    /// Payload bytes that are done.
    done: usize,
}

/// Which protocol a frame holds, and where its header is.
fn layer3(frame: &[u8]) -> Option<(Ip, usize)> {
    let mut l3 = 14;
    let mut kind = get(frame, 12)?;
    // Up to two tags; more are nobody's offload.
    for _ in 0..2 {
        if matches!(u16::from_be_bytes(kind), 0x8100 | 0x88a8) {
            kind = get(frame, l3 + 2)?;
            l3 += 4;
        }
    }
    match u16::from_be_bytes(kind) {
        0x0800 => Some((Ip::V4, l3)),
        0x86dd => Some((Ip::V6, l3)),
        _ => None,
    }
}

/// Finishes the checksum of TCP or UDP in a frame whose kernel has not said that it is unfinished.
/// It is, if it is wrong and its field holds the sum of the pseudo header. That is what comes out of
/// a tunnel whose other end is on the same host: between the two no hardware was ever needed.
pub(super) fn finish_unmarked(frame: &mut [u8]) -> Option<()> {
    let (ip, l3) = layer3(frame)?;
    let fixed: [u8; L3_MIN] = get(frame, l3)?;
    let (l4, len, protocol, addresses) = match ip {
        Ip::V4 => {
            let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff;
            let header = usize::from(fixed[0] & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
            let len = total.checked_sub(header).filter(|_| fragment == 0)?;
            (l3 + header, len, fixed[9], l3 + 12..l3 + 20)
        }
        Ip::V6 => {
            let len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
            (l3 + 40, len, fixed[6], l3 + 8..l3 + 40)
        }
    };
    let offset = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let pseudo = u64::from(protocol) + len as u64;
    let pseudo = folded(add(pseudo, frame.get(addresses)?));
    let segment = frame.get_mut(l4..)?.get_mut(..len)?;
    if u16::from_be_bytes(get(segment, offset)?) != pseudo {
        return None;
    }
    let sum = add(0, segment);
    if folded(sum + u64::from(pseudo)) == 0xffff {
        return None;
    }
    put(segment, offset, checksum(sum).to_be_bytes())
}

impl Work {
    fn new(piece: &[u8], at: Range<usize>, header: &VnetHeader) -> Option<Work> {
        let (ip, l3) = layer3(piece)?;
        let protocol = match header.gso_type & !GSO_ECN {
            GSO_TCPV4 if ip == Ip::V4 => TCP,
            GSO_TCPV6 if ip == Ip::V6 => TCP,
            GSO_UDP_L4 => UDP,
            _ => return None,
        };
        let fixed: [u8; L3_MIN] = get(piece, l3)?;
        // Tunnels are no such protocol: their inner segments stay with the kernel.
        let (l4, next) = match ip {
            Ip::V4 => (l3 + usize::from(fixed[0] & 0x0f) * 4, fixed[9]),
            Ip::V6 => (l3 + 40, fixed[6]),
        };
        if next != protocol || l4 < l3 + L3_MIN {
            return None;
        }
        let payload = match protocol {
            TCP => l4 + usize::from(get::<1>(piece, l4 + 12)?[0] >> 4) * 4,
            _ => l4 + 8,
        };
        let least = if protocol == TCP { l4 + 20 } else { l4 + 8 };
        let size = usize::from(header.gso_size);
        let sound = payload >= least && payload < piece.len() && size > 0;
        sound.then_some(Work {
            at,
            ip,
            protocol,
            l3,
            l4,
            payload,
            size,
            done: 0,
        })
    }

    /// Writes the next segment to `out`.
    fn write(&mut self, piece: &[u8], out: &mut [u8]) -> Option<usize> {
        let data = piece.get(self.payload..)?.get(self.done..)?;
        let data = data.get(..self.size.min(data.len()))?;
        if data.is_empty() {
            return None;
        }
        let last = self.payload + self.done + data.len() == piece.len();
        let len = self.payload + data.len();
        let out = out.get_mut(..len)?;
        let (headers, body) = out.split_at_mut_checked(self.payload)?;
        headers.copy_from_slice(piece.get(..self.payload)?);
        body.copy_from_slice(data);
        let (l3, l4) = (self.l3, self.l4);
        let l4_len = (len - l4) as u16;
        let mut sum = u64::from(self.protocol) + u64::from(l4_len);
        match self.ip {
            Ip::V4 => {
                let id = u16::from_be_bytes(get(out, l3 + 4)?);
                let index = (self.done / self.size) as u16;
                put(out, l3 + 2, ((len - l3) as u16).to_be_bytes())?;
                put(out, l3 + 4, id.wrapping_add(index).to_be_bytes())?;
                put(out, l3 + 10, [0; 2])?;
                let header = checksum(add(0, out.get(l3..l4)?));
                put(out, l3 + 10, header.to_be_bytes())?;
                sum = add(sum, out.get(l3 + 12..l3 + 20)?);
            }
            Ip::V6 => {
                put(out, l3 + 4, l4_len.to_be_bytes())?;
                sum = add(sum, out.get(l3 + 8..l3 + 40)?);
            }
        }
        let field = if self.protocol == TCP {
            let sequence = u32::from_be_bytes(get(out, l4 + 4)?);
            let sequence = sequence.wrapping_add(self.done as u32);
            put(out, l4 + 4, sequence.to_be_bytes())?;
            let [mut flags] = get(out, l4 + 13)?;
            if !last {
                flags &= !FIN_PSH;
            }
            if self.done > 0 {
                flags &= !CWR;
            }
            put(out, l4 + 13, [flags])?;
            l4 + 16
        } else {
            put(out, l4 + 4, l4_len.to_be_bytes())?;
            l4 + 6
        };
        put(out, field, [0; 2])?;
        let value = checksum(add(sum, out.get(l4..)?));
        put(out, field, value.to_be_bytes())?;
        self.done += data.len();
        Some(len)
    }
}

impl Segments {
    /// Begins with the piece at `at` of `buf`. False if it is none that can be taken apart.
    pub(super) fn start(&mut self, buf: &[u8], at: Range<usize>, header: &VnetHeader) -> bool {
        let piece = buf.get(at.clone());
        self.work = piece.and_then(|piece| Work::new(piece, at, header));
        self.work.is_some()
    }

    /// Writes the next segment of the piece, which is still in `buf`, to `out`.
    pub(super) fn next(&mut self, buf: &[u8], out: &mut [u8]) -> Option<usize> {
        let work = self.work.as_mut()?;
        let at = work.at.clone();
        let len = buf.get(at).and_then(|piece| work.write(piece, out));
        if len.is_none() {
            self.work = None;
        }
        len
    }
}

#[cfg(test)]
mod tests;
