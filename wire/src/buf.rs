//! Byte buffers that go back to their pool when dropped, on whatever thread that happens.
//!
//! Knows nothing of what the bytes are. No locks; a pool that has run dry allocates.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

/// Bytes of a buffer that holds any frame with an MTU of 9000 and its headers.
pub const FRAME_BUF_SIZE: usize = 10 * 1024;

struct Shelf {
    size: usize,
    free: ArrayQueue<Vec<u8>>,
}

/// A pool of buffers of one size; clones share it.
#[derive(Clone)]
pub struct BufPool(Arc<Shelf>);

impl BufPool {
    /// A pool of buffers of `size` bytes that keeps at most `capacity` of them. It starts empty
    /// and grows by what is taken out at the same time.
    #[must_use]
    pub fn new(size: usize, capacity: usize) -> BufPool {
        BufPool(Arc::new(Shelf {
            size,
            free: ArrayQueue::new(capacity.max(1)),
        }))
    }

    /// A pool for whole frames, [`FRAME_BUF_SIZE`].
    #[must_use]
    pub fn for_frames(capacity: usize) -> BufPool {
        BufPool::new(FRAME_BUF_SIZE, capacity)
    }

    /// A buffer of `len` bytes. The contents are what the last user left: overwrite all of it.
    /// A `len` beyond the pool's size gets a buffer of its own that is freed after use.
    #[must_use]
    pub fn get(&self, len: usize) -> Buf {
        let shelf = &self.0;
        let data = if len <= shelf.size {
            shelf.free.pop().unwrap_or_else(|| vec![0; shelf.size])
        } else {
            vec![0; len]
        };
        Buf {
            data,
            start: 0,
            end: len,
            home: Some(self.clone()),
        }
    }

    /// A buffer with a copy of `bytes`.
    #[must_use]
    pub fn copy_of(&self, bytes: &[u8]) -> Buf {
        let mut buf = self.get(bytes.len());
        buf.copy_from_slice(bytes);
        buf
    }

    /// Buffers waiting in the pool.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.0.free.len()
    }
}

impl fmt::Debug for BufPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufPool")
            .field("size", &self.0.size)
            .field("idle", &self.idle())
            .finish()
    }
}

/// A byte buffer; returns to its pool when dropped.
pub struct Buf {
    data: Vec<u8>,
    start: usize,
    end: usize,
    home: Option<BufPool>,
}

impl Buf {
    /// A buffer without a pool.
    #[must_use]
    pub fn from_vec(data: Vec<u8>) -> Buf {
        let end = data.len();
        Buf {
            data,
            start: 0,
            end,
            home: None,
        }
    }

    /// Drops the first `n` bytes (all, if there are fewer) from view, without copying.
    pub fn advance(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    /// Keeps only the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len));
    }

    /// A copy, from the same pool.
    #[must_use]
    pub fn duplicate(&self) -> Buf {
        match &self.home {
            Some(pool) => pool.copy_of(self),
            None => Buf::from_vec(self.to_vec()),
        }
    }
}

impl Deref for Buf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.start..self.end).unwrap_or_default()
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len())
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let Some(BufPool(shelf)) = &self.home else {
            return;
        };
        if self.data.len() == shelf.size {
            // A full pool lets the surplus go back to the allocator.
            let _ = shelf.free.push(mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_return_from_any_thread_and_the_pool_is_bounded() {
        let pool = BufPool::new(64, 2);
        let bufs: Vec<Buf> = (0..3).map(|_| pool.get(10)).collect();
        assert_eq!(pool.idle(), 0);
        std::thread::spawn(move || drop(bufs)).join().unwrap();
        assert_eq!(pool.idle(), 2);
        let buf = pool.get(64);
        assert_eq!((buf.len(), pool.idle()), (64, 1));
    }

    #[test]
    fn a_larger_buffer_does_not_enter_the_pool() {
        let pool = BufPool::new(64, 2);
        let big = pool.get(65);
        assert_eq!(big.len(), 65);
        drop(big);
        assert_eq!(pool.idle(), 0);
    }

    #[test]
    fn advance_and_truncate_move_the_view_only() {
        let pool = BufPool::new(16, 2);
        let mut buf = pool.copy_of(b"0123456789");
        buf.advance(3);
        assert_eq!(&buf[..], b"3456789");
        buf.truncate(2);
        assert_eq!(&buf[..], b"34");
        let copy = buf.duplicate();
        assert_eq!(&copy[..], b"34");
        buf.advance(100);
        assert!(buf.is_empty());
        drop((buf, copy));
        assert_eq!(pool.idle(), 2);
        assert_eq!(pool.get(16).len(), 16);
    }
}
