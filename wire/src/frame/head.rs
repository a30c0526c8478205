//! Room for headers and small payloads, without allocation.

/// Bytes that fit a head: the longest headers (110 with a tag), and behind shorter ones a small
/// payload. Frames are moved about with their heads in them.
pub const HEAD_CAPACITY: usize = 128;

/// The contiguous beginning of a frame.
#[derive(Clone, Debug)]
pub struct HeadBuf {
    bytes: [u8; HEAD_CAPACITY],
    len: u8,
}

impl HeadBuf {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> HeadBuf {
        HeadBuf {
            bytes: [0; HEAD_CAPACITY],
            len: 0,
        }
    }

    /// What is in it.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        HEAD_CAPACITY - self.len()
    }

    /// Appends `n` bytes and returns them, to be overwritten; `None` if they do not fit.
    pub fn grow(&mut self, n: usize) -> Option<&mut [u8]> {
        let start = self.len();
        let place = self.bytes.get_mut(start..start.checked_add(n)?)?;
        self.len += n as u8;
        Some(place)
    }

    /// Appends `bytes`, all or (`false`) none.
    #[must_use]
    pub fn extend(&mut self, bytes: &[u8]) -> bool {
        match self.grow(bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// What is in it, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(..usize::from(self.len))
            .unwrap_or_default()
    }

    pub(crate) fn array_mut(&mut self) -> &mut [u8; HEAD_CAPACITY] {
        &mut self.bytes
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = len.min(HEAD_CAPACITY) as u8;
    }
}

impl Default for HeadBuf {
    fn default() -> HeadBuf {
        HeadBuf::new()
    }
}
