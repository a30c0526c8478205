//! What follows the headers: bytes, or a reference to memory that someone else owns.

use crate::buf::Buf;

/// Payload that stays in the memory of whoever sends it, until someone copies it.
pub trait Payload: Send {
    /// Bytes.
    fn len(&self) -> usize;

    /// No bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `out.len()` bytes from `offset` on. `false` if that memory can no longer be read
    /// (or does not reach so far); `out` is then undefined.
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool;
}

impl Payload for Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        copy_slice(self, offset, out)
    }
}

/// The payload reference of a link on which there are none: all frames are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPayload {}

impl Payload for NoPayload {
    fn len(&self) -> usize {
        match *self {}
    }

    fn copy_to(&self, _: usize, _: &mut [u8]) -> bool {
        match *self {}
    }
}

/// What follows the head.
#[derive(Debug)]
pub enum Body<P> {
    /// Nothing.
    Empty,
    /// Bytes.
    Bytes(Buf),
    /// The sender's memory.
    Ref(P),
}

impl<P: Payload> Body<P> {
    pub(super) fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Bytes(buf) => buf.len(),
            Body::Ref(payload) => payload.len(),
        }
    }

    pub(super) fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        match self {
            Body::Empty => out.is_empty(),
            Body::Bytes(buf) => copy_slice(buf, offset, out),
            Body::Ref(payload) => payload.copy_to(offset, out),
        }
    }
}

/// A piece of a frame's bytes, where they lie.
#[derive(Debug)]
pub enum Piece<'a, P> {
    /// In the frame.
    Slice(&'a [u8]),
    /// In the sender's memory.
    Ref {
        /// The whole reference.
        payload: &'a P,
        /// Where the piece begins in it.
        offset: usize,
        /// Bytes.
        len: usize,
    },
}

impl<P> Piece<'_, P> {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Piece::Slice(bytes) => bytes.len(),
            Piece::Ref { len, .. } => *len,
        }
    }

    /// No bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub(super) fn copy_slice(from: &[u8], offset: usize, out: &mut [u8]) -> bool {
    let end = offset.checked_add(out.len());
    match end.and_then(|end| from.get(offset..end)) {
        Some(bytes) => {
            out.copy_from_slice(bytes);
            true
        }
        None => false,
    }
}
