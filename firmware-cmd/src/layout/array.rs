//! Arrays of integers or structures.

use std::fmt;
use std::marker::PhantomData;

use super::{Bytes, BytesMut, Layout, Scalar, double_word};

/// What a view of an array yields.
pub trait Element {
    /// Bytes per element.
    const SIZE: usize;
    /// One element, laid over `S`.
    type Value<S: Bytes>;
    /// Lay it over `bytes`.
    fn read<S: Bytes>(bytes: S) -> Self::Value<S>;
}

macro_rules! element {
    ($($T:ty, $size:literal;)*) => {$(
        impl Element for $T {
            const SIZE: usize = $size;
            type Value<S: Bytes> = $T;
            fn read<S: Bytes>(bytes: S) -> $T {
                (double_word(bytes.bytes(), 0) >> (64 - 8 * $size)) as $T
            }
        }
    )*};
}
element! { u32, 4; u64, 8; }

/// A declared structure; implemented by `X<()>` for each declared `X`.
pub trait Structure: Element {
    /// Name, size and fields.
    const LAYOUT: &'static Layout;
}

/// Consecutive elements, in bytes `S`.
#[derive(Clone, Copy)]
pub struct Array<T, S> {
    bytes: S,
    of: PhantomData<T>,
}

impl<T: Element, S: Bytes> Array<T, S> {
    /// Over `bytes`.
    pub fn new(bytes: S) -> Self {
        Array {
            bytes,
            of: PhantomData,
        }
    }
    /// Number of complete elements.
    pub fn len(&self) -> usize {
        self.bytes.bytes().len() / T::SIZE
    }
    /// Whether there is no complete element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Element `index`, if it is complete.
    pub fn get(&self, index: usize) -> Option<T::Value<S::Part<'_>>> {
        (index < self.len()).then(|| T::read(self.bytes.part(index * T::SIZE, T::SIZE)))
    }
}

impl<'a, T: Element> Array<T, &'a [u8]> {
    /// The complete elements.
    pub fn iter(&self) -> Elements<'a, T> {
        Elements {
            chunks: self.bytes.chunks_exact(T::SIZE),
            of: PhantomData,
        }
    }
}

impl<'a, T: Element> IntoIterator for Array<T, &'a [u8]> {
    type Item = T::Value<&'a [u8]>;
    type IntoIter = Elements<'a, T>;
    fn into_iter(self) -> Elements<'a, T> {
        self.iter()
    }
}

impl<T: Scalar + Element> Array<T, &mut [u8]> {
    /// Store element `index`, if there is room for it.
    pub fn set(&mut self, index: usize, value: T) {
        let be = (value.to_u64() << (64 - 8 * T::SIZE)).to_be_bytes();
        let element = self.bytes.part_mut(index.saturating_mul(T::SIZE), T::SIZE);
        if element.len() == T::SIZE {
            element.copy_from_slice(&be[..T::SIZE]);
        }
    }
}

impl<T: Structure> Array<T, &mut [u8]> {
    /// Element `index` for writing; beyond the end it is over no bytes, so that nothing is written.
    pub fn get_mut(&mut self, index: usize) -> T::Value<&mut [u8]> {
        T::read(self.bytes.part_mut(index.saturating_mul(T::SIZE), T::SIZE))
    }
}

/// Iterator over the elements of an [`Array`].
#[derive(Clone)]
pub struct Elements<'a, T> {
    chunks: std::slice::ChunksExact<'a, u8>,
    of: PhantomData<T>,
}

impl<'a, T: Element> Iterator for Elements<'a, T> {
    type Item = T::Value<&'a [u8]>;
    fn next(&mut self) -> Option<Self::Item> {
        self.chunks.next().map(T::read)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }
}

impl<T: Element> ExactSizeIterator for Elements<'_, T> {}

impl<T, S> fmt::Debug for Array<T, S>
where
    T: Element,
    S: Bytes,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} elements]", self.len())
    }
}

impl<T> fmt::Debug for Elements<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} elements]", self.chunks.len())
    }
}
