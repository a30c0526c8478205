//! From a send WQE to frames: VLAN insertion, checksums, segmentation of TCP and UDP, padding.
//! Source: reference of the interface, "SQ and send WQEs"; Linux `mlx5_wqe_eth_seg`.
//!
//! Knows where payload bytes are, not whether they may be read: that was checked before.

use rocinante_dma::MemoryMap;
use rocinante_wire::buf::{Buf, BufPool};

use super::Fault;
use super::checksum;
use super::headers::{ETHERNET_LEN, ETHERTYPE_CVLAN, ETHERTYPE_SVLAN, Headers, L3, L4};
use crate::mlx5::wqe::{self, BadWqe, CtrlSeg, SendData, opcode};

/// Smallest frame without frame check sequence (IEEE 802.3).
pub const MIN_FRAME: usize = 60;

/// Bytes of one send WQE's data: BIG TCP reaches 512 KiB.
pub const MAX_DATA: u64 = 1 << 20;

/// Frames that one WQE may become: 512 KiB in segments of 64 bytes.
const MAX_SEGMENTS: usize = 8192;

/// Headers of a segmented packet; no driver has more than the inline header of a WQE.
const MAX_HEADER: usize = 256;

/// Bytes of data that are looked at for headers if none are inline.
const PEEK: usize = 128;

/// TCP flags by position in byte 13 of the header.
const FIN: u8 = 1;
const PSH: u8 = 8;
const CWR: u8 = 0x80;

/// What a send WQE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRequest<'a> {
    /// Compute the IPv4 header checksum.
    pub l3_checksum: bool,
    /// Compute the TCP or UDP checksum.
    pub l4_checksum: bool,
    /// Segment into this many payload bytes each.
    pub mss: Option<u16>,
    /// Tag to insert: protocol and tag control information.
    pub insert: Option<(u16, u16)>,
    /// Inline header: the first bytes of the frame.
    pub header: &'a [u8],
}

/// Decodes a SEND or LSO WQE, cut to its length.
pub fn decode<'a>(
    ctrl: &CtrlSeg,
    wqe: &'a [u8],
    data: &mut SendData,
) -> Result<SendRequest<'a>, BadWqe> {
    let eth: &[u8; 16] = wqe
        .get(16..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(BadWqe)?;
    let field = u16::from_be_bytes([eth[12], eth[13]]);
    let mut insert = None;
    let mut inline = usize::from(field & 0x3ff);
    if field & 0x8000 != 0 {
        let protocol = if field & 1 != 0 {
            ETHERTYPE_SVLAN
        } else {
            ETHERTYPE_CVLAN
        };
        insert = Some((protocol, u16::from_be_bytes([eth[14], eth[15]])));
        inline = 0;
    }
    // The inline header starts in the last two bytes of the segment.
    let header = wqe.get(30..30 + inline).ok_or(BadWqe)?;
    let at = (30 + inline).next_multiple_of(16);
    wqe::data_segs(wqe.get(at..).unwrap_or_default(), data)?;
    let mss = u16::from_be_bytes([eth[6], eth[7]]);
    Ok(SendRequest {
        l3_checksum: eth[4] & 0x40 != 0,
        l4_checksum: eth[4] & 0x80 != 0,
        mss: (ctrl.opcode() == opcode::LSO).then_some(mss & 0x3fff),
        insert,
        header,
    })
}

/// What a WQE of many packets asks for, for each of them: checksums only.
pub fn decode_shared(wqe: &[u8]) -> Result<SendRequest<'static>, BadWqe> {
    let flags = *wqe.get(20).ok_or(BadWqe)?;
    Ok(SendRequest {
        l3_checksum: flags & 0x40 != 0,
        l4_checksum: flags & 0x80 != 0,
        mss: None,
        insert: None,
        header: &[],
    })
}

/// The data of a WQE, read from front to back.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    mem: &'a MemoryMap,
    inline: &'a [u8],
    pieces: &'a [(u64, u64)],
    /// Bytes of the first piece that were read.
    offset: u64,
    left: usize,
}

impl<'a> Data<'a> {
    /// Inline bytes, then pieces of guest memory.
    pub fn new(mem: &'a MemoryMap, inline: &'a [u8], pieces: &'a [(u64, u64)]) -> Data<'a> {
        let guest: u64 = pieces.iter().map(|(_, len)| len).sum();
        Data {
            mem,
            inline,
            pieces,
            offset: 0,
            left: inline.len().saturating_add(guest as usize),
        }
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Reads on.
    fn take(&mut self, mut out: &mut [u8]) -> Result<(), Fault> {
        if out.len() > self.left {
            return Err(Fault::LENGTH);
        }
        self.left -= out.len();
        let (now, later) = self.inline.split_at(self.inline.len().min(out.len()));
        self.inline = later;
        let (to, rest) = out.split_at_mut(now.len());
        to.copy_from_slice(now);
        out = rest;
        while !out.is_empty() {
            let (address, len) = *self.pieces.first().ok_or(Fault::LENGTH)?;
            let n = (len - self.offset).min(out.len() as u64);
            let (to, rest) = out.split_at_mut(n as usize);
            self.mem
                .read(address.wrapping_add(self.offset), to)
                .map_err(|_| Fault::PROTECTION)?;
            out = rest;
            self.offset += n;
            if self.offset == len {
                self.offset = 0;
                self.pieces = self.pieces.get(1..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// Makes the frames of a WQE and gives each to `emit`. On a fault nothing more is given; the frames
/// before it were whole.
pub fn build(
    request: &SendRequest<'_>,
    mut data: Data<'_>,
    max_frame: usize,
    buffers: &BufPool,
    mut emit: impl FnMut(Buf, &Headers),
) -> Result<(), Fault> {
    if let Some(mss) = request.mss {
        return segment(request, data, usize::from(mss), max_frame, buffers, emit);
    }
    let tag = if request.insert.is_some() { 4 } else { 0 };
    let plain = request.header.len() + data.len();
    let len = plain + tag;
    if plain < ETHERNET_LEN || len > max_frame {
        return Err(Fault::LENGTH);
    }
    let mut buf = buffers.get(len.max(MIN_FRAME));
    let frame = &mut buf[..];
    let (header, rest) = frame[tag..].split_at_mut(request.header.len());
    header.copy_from_slice(request.header);
    let (body, pad) = rest.split_at_mut(data.len());
    data.take(body)?;
    pad.fill(0);
    if let Some(tag) = request.insert {
        insert_tag(frame, tag);
    }
    let headers = Headers::parse(frame, len).ok_or(Fault::LENGTH)?;
    if request.l3_checksum {
        checksum::fill_ipv4(frame, &headers);
    }
    if request.l4_checksum {
        checksum::fill_l4(frame, &headers);
    }
    emit(buf, &headers);
    Ok(())
}

/// Moves the addresses of a frame that begins at byte 4 to its front, and puts a tag behind them.
fn insert_tag(frame: &mut [u8], (protocol, tci): (u16, u16)) {
    if frame.len() >= 16 {
        frame.copy_within(4..16, 0);
        frame[12..14].copy_from_slice(&protocol.to_be_bytes());
        frame[14..16].copy_from_slice(&tci.to_be_bytes());
    }
}

fn put16(bytes: &mut [u8], at: usize, value: usize) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&(value as u16).to_be_bytes());
    }
}

/// Lets the IP header say that the datagram ends with `end`.
fn put_l3_length(frame: &mut [u8], headers: &Headers, end: usize) {
    match headers.l3 {
        L3::Ipv4 => put16(frame, headers.l3_offset + 2, end - headers.l3_offset),
        L3::Ipv6 => put16(frame, headers.l3_offset + 4, end - headers.l3_offset - 40),
        L3::Other => {}
    }
}

/// The headers of a packet that is to be segmented, tag inserted. What is in the IP length is of
/// no importance: it may not even be able to hold the length (BIG TCP).
fn large_header(
    request: &SendRequest<'_>,
    data: &mut Data<'_>,
    out: &mut [u8; MAX_HEADER],
) -> Result<Headers, Fault> {
    let inline = !request.header.is_empty();
    let tag = if request.insert.is_some() { 4 } else { 0 };
    let len = tag
        + if inline {
            request.header.len()
        } else {
            data.len().min(PEEK)
        };
    let place = out.get_mut(tag..len).ok_or(Fault::OPERATION)?;
    if inline {
        place.copy_from_slice(request.header);
    } else {
        let mut peek = *data;
        peek.take(place)?;
    }
    let head = &mut out[..len];
    if let Some(tag) = request.insert {
        insert_tag(head, tag);
    }
    let outline = Headers::parse(head, len).ok_or(Fault::OPERATION)?;
    let l3 = match head.get(outline.l3_offset).map(|byte| byte >> 4) {
        Some(4) => L3::Ipv4,
        Some(6) if len >= outline.l3_offset + 40 => L3::Ipv6,
        _ => return Err(Fault::OPERATION),
    };
    put_l3_length(head, &Headers { l3, ..outline }, len);
    let headers = Headers::parse(head, len).ok_or(Fault::OPERATION)?;
    if headers.l4 == L4::None {
        return Err(Fault::OPERATION);
    }
    if inline {
        return Ok(Headers {
            l4_payload: len,
            ..headers
        });
    }
    let mut skipped = [0; MAX_HEADER];
    let skip = headers
        .l4_payload
        .checked_sub(tag)
        .and_then(|n| skipped.get_mut(..n));
    data.take(skip.ok_or(Fault::OPERATION)?)?;
    Ok(headers)
}

fn segment(
    request: &SendRequest<'_>,
    mut data: Data<'_>,
    mss: usize,
    max_frame: usize,
    buffers: &BufPool,
    mut emit: impl FnMut(Buf, &Headers),
) -> Result<(), Fault> {
    let mut header = [0; MAX_HEADER];
    let mut headers = large_header(request, &mut data, &mut header)?;
    let header = header.get(..headers.l4_payload).ok_or(Fault::OPERATION)?;
    if mss == 0 {
        return Err(Fault::OPERATION);
    }
    if header.len() + mss.min(data.len()) > max_frame || data.len().div_ceil(mss) > MAX_SEGMENTS {
        return Err(Fault::LENGTH);
    }
    let be32 = |at: usize| {
        header
            .get(at..)
            .and_then(|b| b.first_chunk())
            .map(|b| u32::from_be_bytes(*b))
    };
    let be16 = |at: usize| {
        header
            .get(at..)
            .and_then(|b| b.first_chunk())
            .map(|b| u16::from_be_bytes(*b))
    };
    let (l3, l4) = (headers.l3_offset, headers.l4_offset);
    let mut sequence = be32(l4 + 4).unwrap_or(0);
    let mut identification = be16(l3 + 4).unwrap_or(0);
    let mut first = true;
    loop {
        let n = mss.min(data.len());
        let end = header.len() + n;
        let last = n == data.len();
        let mut buf = buffers.get(end.max(MIN_FRAME));
        let frame = &mut buf[..];
        let (head, rest) = frame.split_at_mut(header.len());
        head.copy_from_slice(header);
        let (body, pad) = rest.split_at_mut(n);
        data.take(body)?;
        pad.fill(0);
        put_l3_length(frame, &headers, end);
        if headers.l3 == L3::Ipv4 {
            put16(frame, l3 + 4, usize::from(identification));
        }
        if headers.l4 == L4::Tcp {
            if let Some(place) = frame.get_mut(l4 + 4..l4 + 8) {
                place.copy_from_slice(&sequence.to_be_bytes());
            }
            if let Some(flags) = frame.get_mut(l4 + 13) {
                *flags &= !(if last { 0 } else { FIN | PSH } | if first { 0 } else { CWR });
            }
        } else {
            put16(frame, l4 + 4, end - l4);
        }
        headers.l3_end = end;
        checksum::fill_ipv4(frame, &headers);
        checksum::fill_l4(frame, &headers);
        emit(buf, &headers);
        if last {
            return Ok(());
        }
        first = false;
        sequence = sequence.wrapping_add(n as u32);
        identification = identification.wrapping_add(1);
    }
}
