//! What a view can be laid over.

/// Bytes a view can be laid over: a reference to something of bytes, or owned bytes.
pub trait Bytes {
    /// A piece of it. Pieces of a `&'a [u8]` live as long as `'a`, so a sub-structure may outlive the view it came from.
    type Part<'s>: Bytes + Copy
    where
        Self: 's;
    /// All of it.
    fn bytes(&self) -> &[u8];
    /// At most `len` bytes from `offset`; shorter, or empty, where the bytes end.
    fn part(&self, offset: usize, len: usize) -> Self::Part<'_>;
}

/// Bytes that can be written.
pub trait BytesMut: Bytes {
    /// All of it.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// At most `len` bytes from `offset`; shorter, or empty, where the bytes end.
    fn part_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let all = self.bytes_mut();
        let start = offset.min(all.len());
        let end = offset.saturating_add(len).min(all.len());
        &mut all[start..end]
    }
}

pub(super) fn clip(all: &[u8], offset: usize, len: usize) -> &[u8] {
    let start = offset.min(all.len());
    let end = offset.saturating_add(len).min(all.len());
    &all[start..end]
}

impl<'a, T: AsRef<[u8]> + ?Sized> Bytes for &'a T {
    type Part<'s>
        = &'a [u8]
    where
        Self: 's;
    fn bytes(&self) -> &[u8] {
        (**self).as_ref()
    }
    fn part(&self, offset: usize, len: usize) -> &'a [u8] {
        clip((**self).as_ref(), offset, len)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]> + ?Sized> Bytes for &mut T {
    type Part<'s>
        = &'s [u8]
    where
        Self: 's;
    fn bytes(&self) -> &[u8] {
        (**self).as_ref()
    }
    fn part(&self, offset: usize, len: usize) -> &[u8] {
        clip((**self).as_ref(), offset, len)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]> + ?Sized> BytesMut for &mut T {
    fn bytes_mut(&mut self) -> &mut [u8] {
        (**self).as_mut()
    }
}

macro_rules! owned_bytes {
    ($([$($generics:tt)*] $T:ty),*) => {$(
        impl<$($generics)*> Bytes for $T {
            type Part<'s> = &'s [u8] where Self: 's;
            fn bytes(&self) -> &[u8] {
                self
            }
            fn part(&self, offset: usize, len: usize) -> &[u8] {
                clip(self, offset, len)
            }
        }
        impl<$($generics)*> BytesMut for $T {
            fn bytes_mut(&mut self) -> &mut [u8] {
                self
            }
        }
    )*};
}
owned_bytes!([] Vec<u8>, [] Box<[u8]>, [const N: usize] [u8; N]);
