//! Message bytes between guest memory and frames: gathering what a work request sends,
//! scattering what a frame brings. All access goes through memory keys.

use std::ops::Range;
use std::sync::Arc;

use rocinante_dma::{DmaError, Gather, MemoryMap};
use rocinante_wire::buf::BufPool;
use rocinante_wire::frame::{Body, Piece};

use super::core::{GuestPayload, NicFrame};
use super::mkey::{Accessor, MkeyFault, Mkeys, Rights};
use super::wqe::{DataSeg, SendData};

/// Payload up to this many bytes travels in the frame's head: cheaper than a reference.
const INLINE_PAYLOAD: usize = 64;

/// The sender's memory could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatherFault {
    /// A key did not open what was asked.
    Mkey(MkeyFault),
    /// The key led to an address that is not guest memory.
    Dma(DmaError),
}

impl From<MkeyFault> for GatherFault {
    fn from(fault: MkeyFault) -> Self {
        GatherFault::Mkey(fault)
    }
}

impl From<DmaError> for GatherFault {
    fn from(error: DmaError) -> Self {
        GatherFault::Dma(error)
    }
}

/// Guest memory with the keys to it, as one queue may use them.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// The map.
    pub map: &'a Arc<MemoryMap>,
    /// The keys.
    pub mkeys: &'a Mkeys,
    /// Whose queue it is.
    pub who: Accessor,
}

impl Memory<'_> {
    /// Puts the bytes `range` of a message into a frame: few of them behind the headers in its head,
    /// others as a reference to guest memory.
    #[inline]
    pub fn gather_message(
        self,
        data: &SendData,
        range: Range<u64>,
        frame: &mut NicFrame,
        buffers: &BufPool,
    ) -> Result<(), GatherFault> {
        let len = (range.end - range.start) as usize;
        if !data.inline.is_empty() {
            let bytes = data.inline.get(range.start as usize..range.end as usize);
            let bytes = bytes.ok_or(MkeyFault::Bounds)?;
            if !frame.head_mut().extend(bytes) {
                frame.set_body(Body::Bytes(buffers.copy_of(bytes)));
            }
            return Ok(());
        }
        if let [seg] = *data.segs
            && range.end <= u64::from(seg.len)
        {
            let va = seg.addr.wrapping_add(range.start);
            if self.gather_whole(seg.lkey, va, len, Rights::LOCAL_READ, frame)? {
                return Ok(());
            }
        }
        self.gather(len, frame, buffers, |each| {
            for_range(&data.segs, range.clone(), |seg, skip, n| {
                let va = seg.addr.wrapping_add(skip);
                self.mkeys
                    .resolve(self.who, seg.lkey, va, n, Rights::LOCAL_READ, each)
            })
        })
    }

    /// A payload that is worth a reference and in one piece; false for others.
    #[inline]
    fn gather_whole(
        self,
        key: u32,
        va: u64,
        len: usize,
        need: Rights,
        frame: &mut NicFrame,
    ) -> Result<bool, GatherFault> {
        if len <= INLINE_PAYLOAD {
            return Ok(false);
        }
        let whole = self
            .mkeys
            .resolve_whole(self.who, key, va, len as u64, need)?;
        let Some(iova) = whole else {
            return Ok(false);
        };
        self.map.check(iova, len, false)?;
        // A packet's payload is far below 4 GiB.
        let gather = Gather::one(Arc::clone(self.map), iova, len as u32);
        frame.set_body(Body::Ref(GuestPayload(gather)));
        Ok(true)
    }

    /// Puts `len` bytes at `va` of a remote key into a frame, for a READ response.
    #[inline]
    pub fn gather_remote(
        self,
        rkey: u32,
        va: u64,
        len: u32,
        frame: &mut NicFrame,
        buffers: &BufPool,
    ) -> Result<(), GatherFault> {
        let need = Rights::REMOTE_READ;
        // The reserved lkey is no rkey.
        let who = Accessor {
            reserved_lkey: false,
            ..self.who
        };
        let remote = Memory { who, ..self };
        if remote.gather_whole(rkey, va, len as usize, need, frame)? {
            return Ok(());
        }
        self.gather(len as usize, frame, buffers, |each| {
            self.mkeys
                .resolve(who, rkey, va, u64::from(len), need, each)
        })
    }

    /// `pieces` calls its argument for each piece of guest memory, in order; `len` bytes in all.
    #[inline]
    fn gather(
        self,
        len: usize,
        frame: &mut NicFrame,
        buffers: &BufPool,
        pieces: impl Fn(&mut Each<'_>) -> Result<(), MkeyFault>,
    ) -> Result<(), GatherFault> {
        if len <= INLINE_PAYLOAD
            && let Some(place) = frame.head_mut().grow(len)
        {
            return self.read_pieces(place, pieces);
        }
        let mut gather = Gather::new(Arc::clone(self.map));
        let mut fits = true;
        let mut readable = Ok(());
        pieces(&mut |iova, n| {
            if readable.is_ok() {
                readable = self.map.check(iova, n as usize, false);
            }
            // A packet's payload is far below 4 GiB.
            fits &= gather.push(iova, n as u32);
        })?;
        readable?;
        if fits {
            frame.set_body(Body::Ref(GuestPayload(gather)));
            return Ok(());
        }
        let mut buf = buffers.get(len);
        self.read_pieces(&mut buf, pieces)?;
        frame.set_body(Body::Bytes(buf));
        Ok(())
    }

    fn read_pieces(
        self,
        out: &mut [u8],
        pieces: impl Fn(&mut Each<'_>) -> Result<(), MkeyFault>,
    ) -> Result<(), GatherFault> {
        let mut at = 0;
        let mut dma = Ok(());
        pieces(&mut |iova, n| {
            let n = (n as usize).min(out.len() - at);
            if dma.is_ok() {
                dma = self.map.read(iova, &mut out[at..at + n]);
            }
            at += n;
        })?;
        Ok(dma?)
    }

    /// Puts the bytes `range` of a message into a frame as bytes: for services that complete
    /// before delivery.
    pub fn copy_range(
        self,
        data: &SendData,
        range: Range<u64>,
        frame: &mut NicFrame,
        buffers: &BufPool,
    ) -> Result<(), GatherFault> {
        let len = (range.end - range.start) as usize;
        if len <= INLINE_PAYLOAD
            && let Some(place) = frame.head_mut().grow(len)
        {
            return self.read_range(data, range, place);
        }
        let mut buf = buffers.get(len);
        self.read_range(data, range, &mut buf)?;
        frame.set_body(Body::Bytes(buf));
        Ok(())
    }

    /// Copies the bytes `range` of a message into `out`, which is as long.
    pub fn read_range(
        self,
        data: &SendData,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), GatherFault> {
        if !data.inline.is_empty() {
            let bytes = data.inline.get(range.start as usize..range.end as usize);
            let bytes = bytes.filter(|bytes| bytes.len() == out.len());
            out.copy_from_slice(bytes.ok_or(MkeyFault::Bounds)?);
            return Ok(());
        }
        self.read_pieces(out, |each| {
            for_range(&data.segs, range.clone(), |seg, skip, n| {
                let va = seg.addr.wrapping_add(skip);
                self.mkeys
                    .resolve(self.who, seg.lkey, va, n, Rights::LOCAL_READ, each)
            })
        })
    }

    /// Writes `source` at `offset` of a scatter list.
    #[inline]
    pub fn scatter(
        self,
        segs: &[DataSeg],
        offset: u64,
        source: &impl Source,
    ) -> Result<(), GatherFault> {
        let len = source.size() as u64;
        let range = offset..offset + len;
        if let [seg] = *segs
            && len > 0
            && range.end <= u64::from(seg.len)
        {
            let va = seg.addr.wrapping_add(offset);
            let need = Rights::LOCAL_WRITE;
            let whole = self
                .mkeys
                .resolve_whole(self.who, seg.lkey, va, len, need)?;
            if let Some(iova) = whole {
                return Ok(source.copy_to_guest(0, source.size(), self.map, iova)?);
            }
        }
        self.write_pieces(source, |each| {
            for_range(segs, range, |seg, skip, n| {
                let va = seg.addr.wrapping_add(skip);
                self.mkeys
                    .resolve(self.who, seg.lkey, va, n, Rights::LOCAL_WRITE, each)
            })
        })
    }

    /// Writes `source` at `va` of a remote key.
    #[inline]
    pub fn place_remote(self, rkey: u32, va: u64, source: &impl Source) -> Result<(), GatherFault> {
        let len = source.size() as u64;
        if len > 0 {
            let need = Rights::REMOTE_WRITE;
            let whole = self
                .mkeys
                .resolve_remote_whole(self.who, rkey, va, len, need)?;
            if let Some(iova) = whole {
                return Ok(source.copy_to_guest(0, source.size(), self.map, iova)?);
            }
        }
        self.write_pieces(source, |each| {
            self.mkeys
                .resolve_remote(self.who, rkey, va, len, Rights::REMOTE_WRITE, each)
        })
    }

    #[inline]
    fn write_pieces(
        self,
        source: &impl Source,
        pieces: impl FnOnce(&mut Each<'_>) -> Result<(), MkeyFault>,
    ) -> Result<(), GatherFault> {
        let mut at = 0;
        let mut dma = Ok(());
        pieces(&mut |iova, n| {
            let n = n as usize;
            if dma.is_ok() {
                dma = source.copy_to_guest(at, n, self.map, iova);
            }
            at += n;
        })?;
        Ok(dma?)
    }
}

/// Called for each piece of guest memory: bus address, bytes.
type Each<'a> = dyn FnMut(u64, u64) + 'a;

/// Calls `piece(segment, bytes to skip in it, bytes of it)` for what `range` covers of a list.
#[inline]
fn for_range(
    segs: &[DataSeg],
    range: Range<u64>,
    mut piece: impl FnMut(&DataSeg, u64, u64) -> Result<(), MkeyFault>,
) -> Result<(), MkeyFault> {
    let mut skip = range.start;
    let mut left = range.end - range.start;
    for seg in segs {
        if left == 0 {
            break;
        }
        let len = u64::from(seg.len);
        if skip >= len {
            skip -= len;
            continue;
        }
        let n = left.min(len - skip);
        piece(seg, skip, n)?;
        skip = 0;
        left -= n;
    }
    if left == 0 {
        Ok(())
    } else {
        Err(MkeyFault::Bounds)
    }
}

/// Bytes on their way into guest memory.
pub trait Source {
    /// How many.
    fn size(&self) -> usize;
    /// Copies `len` bytes from `at` on to `iova`.
    fn copy_to_guest(
        &self,
        at: usize,
        len: usize,
        map: &MemoryMap,
        iova: u64,
    ) -> Result<(), DmaError>;
}

impl Source for [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn copy_to_guest(
        &self,
        at: usize,
        len: usize,
        map: &MemoryMap,
        iova: u64,
    ) -> Result<(), DmaError> {
        map.write(iova, self.get(at..at + len).unwrap_or_default())
    }
}

impl Source for &[u8] {
    fn size(&self) -> usize {
        (**self).len()
    }

    fn copy_to_guest(
        &self,
        at: usize,
        len: usize,
        map: &MemoryMap,
        iova: u64,
    ) -> Result<(), DmaError> {
        (**self).copy_to_guest(at, len, map, iova)
    }
}

/// The payload of a frame being received.
pub struct Incoming<'a> {
    frame: &'a NicFrame,
    payload: Range<usize>,
}

impl<'a> Incoming<'a> {
    /// `payload` is where it lies in `frame`, without pad.
    pub fn new(frame: &'a NicFrame, payload: Range<usize>) -> Incoming<'a> {
        Incoming { frame, payload }
    }
}

impl Source for Incoming<'_> {
    fn size(&self) -> usize {
        self.payload.len()
    }

    #[inline]
    fn copy_to_guest(
        &self,
        at: usize,
        len: usize,
        map: &MemoryMap,
        mut iova: u64,
    ) -> Result<(), DmaError> {
        let start = self.payload.start + at;
        for piece in self.frame.pieces(start..start + len).into_iter().flatten() {
            match piece {
                Piece::Slice(bytes) => {
                    map.write(iova, bytes)?;
                    iova = iova.wrapping_add(bytes.len() as u64);
                }
                Piece::Ref {
                    payload,
                    offset,
                    len,
                } => {
                    payload.0.copy_to_guest(offset, map, iova, len)?;
                    iova = iova.wrapping_add(len as u64);
                }
            }
        }
        Ok(())
    }
}
