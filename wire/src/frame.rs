//! The frame that travels between NICs.
//!
//! A frame has a contiguous head of headers and a body, which is bytes or a reference to the
//! sender's memory. A *raw* frame is complete as it stands. A *RoCE known good* frame lacks its
//! pad and ICRC: within the process nothing can damage it, so they are computed only when it
//! becomes bytes.

mod head;
mod payload;

pub use head::{HEAD_CAPACITY, HeadBuf};
pub use payload::{Body, NoPayload, Payload, Piece};

use std::ops::Range;

use crate::MacAddr;
use crate::buf::{Buf, BufPool};
use crate::ib::ICRC_LEN;
use crate::icrc::Icrc;
use crate::roce::{self, Layout, RoceError, RoceFrame};
use payload::copy_slice;

/// Of a raw frame at least this many bytes (or all) are in the head, so that its headers can be
/// parsed in place.
pub const HEAD_MIN: usize = 128;

/// Why a frame could not be turned into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The memory that the payload refers to is gone.
    #[error("the sender's memory can no longer be read")]
    Unreadable,
    /// Headers and payload do not agree about the length, or the room given is too small.
    #[error("the frame's length does not fit")]
    Length,
}

/// An Ethernet frame without its frame check sequence.
#[derive(Debug)]
pub struct Frame<P> {
    head: HeadBuf,
    body: Body<P>,
    /// Leading bytes of the body that were copied to the head.
    skip: u32,
    /// Set on RoCE known good frames.
    roce: Option<Layout>,
}

impl<P: Payload> Frame<P> {
    /// A complete Ethernet frame: head, then body. If the head is shorter than [`HEAD_MIN`], it
    /// is filled up from the body.
    ///
    /// # Errors
    /// [`FrameError::Unreadable`] if that had to be read from memory that is gone.
    pub fn raw(mut head: HeadBuf, body: Body<P>) -> Result<Frame<P>, FrameError> {
        let missing = HEAD_MIN.saturating_sub(head.len()).min(body.len());
        let filled = head
            .grow(missing)
            .is_none_or(|place| body.copy_to(0, place));
        if !filled {
            return Err(FrameError::Unreadable);
        }
        Ok(Frame {
            head,
            body,
            skip: missing as u32,
            roce: None,
        })
    }

    /// A complete Ethernet frame as received into a buffer.
    #[must_use]
    pub fn from_buf(buf: Buf) -> Frame<P> {
        let mut head = HeadBuf::new();
        let len = if buf.len() <= HEAD_CAPACITY {
            buf.len()
        } else {
            HEAD_MIN
        };
        // Both bounds hold by the line above.
        let _ = head.extend(buf.get(..len).unwrap_or_default());
        let body = if buf.len() > len {
            Body::Bytes(buf)
        } else {
            Body::Empty
        };
        Frame {
            head,
            body,
            skip: len as u32,
            roce: None,
        }
    }

    /// A complete Ethernet frame, copied.
    #[must_use]
    pub fn from_slice(bytes: &[u8], pool: &BufPool) -> Frame<P> {
        let mut head = HeadBuf::new();
        if head.extend(bytes) {
            return Frame {
                head,
                body: Body::Empty,
                skip: 0,
                roce: None,
            };
        }
        let (first, rest) = bytes.split_at_checked(HEAD_MIN).unwrap_or((bytes, &[]));
        let _ = head.extend(first);
        Frame {
            head,
            body: Body::Bytes(pool.copy_of(rest)),
            skip: 0,
            roce: None,
        }
    }

    /// A RoCE frame whose ICRC is known good. `head` holds the headers that gave `layout`, and
    /// possibly the beginning of the payload; `body` the rest of the payload.
    #[must_use]
    pub fn roce(head: HeadBuf, layout: Layout, body: Body<P>) -> Frame<P> {
        let frame = Frame {
            head,
            body,
            skip: 0,
            roce: Some(layout),
        };
        debug_assert!(
            frame.pad().is_some(),
            "payload does not fit the headers: {layout:?}"
        );
        frame
    }

    /// Nothing yet, to be made in place: head and body first, then [`set_roce`](Self::set_roce).
    #[must_use]
    pub const fn empty() -> Frame<P> {
        Frame {
            head: HeadBuf::new(),
            body: Body::Empty,
            skip: 0,
            roce: None,
        }
    }

    /// Takes everything out of a frame, which is [empty](Self::empty) then.
    #[inline]
    #[must_use]
    pub fn take(&mut self) -> Frame<P> {
        let taken = Frame {
            head: self.head.clone(),
            body: std::mem::replace(&mut self.body, Body::Empty),
            skip: self.skip,
            roce: self.roce,
        };
        self.head.set_len(0);
        self.skip = 0;
        self.roce = None;
        taken
    }

    /// The head of a frame that is being made.
    pub fn head_mut(&mut self) -> &mut HeadBuf {
        &mut self.head
    }

    /// Gives a frame that is being made its body.
    #[inline]
    pub fn set_body(&mut self, body: Body<P>) {
        self.body = body;
        self.skip = 0;
    }

    /// Completes a frame as [`roce`](Self::roce) does; its head and body are written.
    #[inline]
    pub fn set_roce(&mut self, layout: Layout) {
        self.roce = Some(layout);
        debug_assert!(
            self.pad().is_some(),
            "payload does not fit the headers: {layout:?}"
        );
    }

    /// The contiguous beginning: at least all headers of a RoCE frame.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.head.as_slice()
    }

    /// Destination MAC address; `None` for a frame shorter than an Ethernet header.
    #[must_use]
    pub fn dst_mac(&self) -> Option<MacAddr> {
        self.mac_at(0)
    }

    /// Source MAC address.
    #[must_use]
    pub fn src_mac(&self) -> Option<MacAddr> {
        self.mac_at(6)
    }

    /// The VLAN that the outer tag names (802.1Q or 802.1ad); 0 if there is none, or for a tag that
    /// has but a priority.
    #[inline]
    #[must_use]
    pub fn vlan_id(&self) -> u16 {
        match self.head().first_chunk::<16>() {
            Some(&[.., 0x81, 0x00, high, low] | &[.., 0x88, 0xa8, high, low]) => {
                u16::from_be_bytes([high & 0x0f, low])
            }
            _ => 0,
        }
    }

    fn mac_at(&self, at: usize) -> Option<MacAddr> {
        let header: &[u8; 14] = self.head().first_chunk()?;
        let octets: [u8; 6] = header.get(at..at + 6)?.try_into().ok()?;
        Some(octets.into())
    }

    /// Whether pad and ICRC are left out because they are right.
    #[must_use]
    pub fn is_known_good(&self) -> bool {
        self.roce.is_some()
    }

    /// Bytes on the wire, with pad and ICRC, without preamble and frame check sequence.
    #[must_use]
    pub fn len_on_wire(&self) -> usize {
        match self.roce {
            Some(layout) => usize::from(layout.end),
            None => self.held_len(),
        }
    }

    fn body_len(&self) -> usize {
        self.body.len().saturating_sub(self.skip as usize)
    }

    fn held_len(&self) -> usize {
        self.head.len() + self.body_len()
    }

    /// Pad bytes of a known good frame; `None` if the held bytes do not fit its layout.
    fn pad(&self) -> Option<usize> {
        let Some(layout) = self.roce else {
            return Some(0);
        };
        let pad = layout.icrc_offset().checked_sub(self.held_len())?;
        (pad < 4).then_some(pad)
    }

    /// Parses the headers of a RoCE frame, raw or known good. Does not check the ICRC.
    ///
    /// # Errors
    /// See [`RoceError`].
    pub fn parse_roce(&self) -> Result<RoceFrame, RoceError> {
        let mut parsed = RoceFrame::empty();
        self.parse_roce_to(&mut parsed)?;
        Ok(parsed)
    }

    /// [`parse_roce`](Self::parse_roce) in place: what is parsed is large, and moving it costs more than parsing.
    /// After an error the contents are of no use.
    ///
    /// # Errors
    /// See [`RoceError`].
    #[inline]
    pub fn parse_roce_to(&self, parsed: &mut RoceFrame) -> Result<(), RoceError> {
        match &self.roce {
            Some(layout) => roce::parse_headers(self.head(), layout, parsed),
            None => {
                let layout = roce::check_frame(self.head(), self.len_on_wire())?;
                roce::parse_headers(self.head(), &layout, parsed)
            }
        }
    }

    /// Where the bytes of `range` lie (offsets in the frame, as in [`RoceFrame::payload`]): up to
    /// two non-empty pieces, in order. What reaches beyond the frame is left out.
    #[must_use]
    pub fn pieces(&self, range: Range<usize>) -> [Option<Piece<'_, P>>; 2] {
        let split = self.head.len();
        let in_head = self
            .head()
            .get(range.start.min(split)..range.end.min(split));
        let first = in_head.filter(|bytes| !bytes.is_empty()).map(Piece::Slice);
        let skip = self.skip as usize;
        let limit = split + self.body_len();
        let start = range.start.clamp(split, limit) - split + skip;
        let end = range.end.clamp(split, limit) - split + skip;
        let len = end.saturating_sub(start);
        let second = match &self.body {
            _ if len == 0 => None,
            Body::Empty => None,
            Body::Bytes(buf) => buf.get(start..end).map(Piece::Slice),
            Body::Ref(payload) => Some(Piece::Ref {
                payload,
                offset: start,
                len,
            }),
        };
        [first, second]
    }

    /// Copies `out.len()` bytes from `offset` of the frame on (of a known good frame: headers and
    /// payload only). `false` if they are not there or can no longer be read.
    #[must_use]
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        let in_head = self.head.len().saturating_sub(offset).min(out.len());
        let (first, second) = out.split_at_mut(in_head);
        if in_head > 0 && !copy_slice(self.head(), offset, first) {
            return false;
        }
        if second.is_empty() {
            return true;
        }
        let in_body = offset
            .saturating_add(in_head)
            .saturating_sub(self.head.len());
        self.body
            .copy_to(in_body.saturating_add(self.skip as usize), second)
    }

    /// Writes the frame as it stands on the wire, with pad and ICRC; returns its length.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn write_to(&self, out: &mut [u8]) -> Result<usize, FrameError> {
        let len = self.len_on_wire();
        let out = out.get_mut(..len).ok_or(FrameError::Length)?;
        let pad = self.pad().ok_or(FrameError::Length)?;
        let (held, rest) = out
            .split_at_mut_checked(self.held_len())
            .ok_or(FrameError::Length)?;
        if !self.copy_to(0, held) {
            return Err(FrameError::Unreadable);
        }
        let Some(layout) = self.roce else {
            return Ok(len);
        };
        rest.get_mut(..pad).ok_or(FrameError::Length)?.fill(0);
        let (covered, icrc) = out
            .split_at_mut_checked(layout.icrc_offset())
            .ok_or(FrameError::Length)?;
        let headers = covered
            .get(usize::from(layout.l3_offset)..)
            .unwrap_or_default();
        let value = Icrc::new(layout.encap, headers)
            .ok_or(FrameError::Length)?
            .finish();
        icrc.copy_from_slice(&value);
        Ok(len)
    }

    /// Replaces `out` by the frame as it stands on the wire.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn to_bytes(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.clear();
        out.resize(self.len_on_wire(), 0);
        self.write_to(out).map(|_| ())
    }

    /// The same frame as bytes of its own: raw, and independent of the sender's memory.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn materialize<Q: Payload>(&self, pool: &BufPool) -> Result<Frame<Q>, FrameError> {
        let mut buf = pool.get(self.len_on_wire());
        self.write_to(&mut buf)?;
        Ok(Frame::from_buf(buf))
    }

    /// Whether the ICRC is right; `layout` is where the frame's headers say its parts lie.
    #[must_use]
    pub fn icrc_is_good(&self, layout: &Layout) -> bool {
        if self.is_known_good() {
            return true;
        }
        let end = layout.icrc_offset();
        let in_head = self
            .head()
            .get(usize::from(layout.l3_offset)..end.min(self.head.len()));
        let Some(mut icrc) = in_head.and_then(|headers| Icrc::new(layout.encap, headers)) else {
            return false;
        };
        for piece in self
            .pieces(self.head.len().min(end)..end)
            .into_iter()
            .flatten()
        {
            match piece {
                Piece::Slice(bytes) => icrc.update(bytes),
                Piece::Ref {
                    payload,
                    offset,
                    len,
                } => {
                    let mut chunk = [0; 512];
                    let mut done = 0;
                    while done < len {
                        let n = (len - done).min(chunk.len());
                        let part = chunk.get_mut(..n).unwrap_or_default();
                        if !payload.copy_to(offset + done, part) {
                            return false;
                        }
                        icrc.update(part);
                        done += n;
                    }
                }
            }
        }
        let mut received = [0; ICRC_LEN];
        self.copy_to(end, &mut received) && received == icrc.finish()
    }

    /// A copy, as a switch needs to send one frame to many. Bytes are copied, references cloned.
    #[must_use]
    pub fn duplicate(&self) -> Frame<P>
    where
        P: Clone,
    {
        let body = match &self.body {
            Body::Empty => Body::Empty,
            Body::Bytes(buf) => Body::Bytes(buf.duplicate()),
            Body::Ref(payload) => Body::Ref(payload.clone()),
        };
        Frame {
            head: self.head.clone(),
            body,
            skip: self.skip,
            roce: self.roce,
        }
    }
}

#[cfg(test)]
mod tests;
