//! Integers of any width in big-endian words.

use super::bytes::clip;

/// An integer a field is read as.
pub trait Scalar: Copy {
    /// From the low bits of `value`.
    fn from_u64(value: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
}

macro_rules! scalar {
    ($($T:ty),*) => {$(
        impl Scalar for $T {
            fn from_u64(value: u64) -> Self {
                value as $T
            }
            fn to_u64(self) -> u64 {
                u64::from(self)
            }
        }
    )*};
}
scalar!(u8, u16, u32, u64);

impl Scalar for bool {
    fn from_u64(value: u64) -> Self {
        value != 0
    }
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
}

/// A field of `N` bits.
#[derive(Debug)]
pub struct Bits<const N: u32>;

/// Which integer holds a field of some width.
pub trait Width {
    /// The smallest that does.
    type Int: Scalar;
}

macro_rules! width {
    ($($T:ty: $($n:literal)*;)*) => {$($(
        impl Width for Bits<$n> {
            type Int = $T;
        }
    )*)*};
}
width! {
    bool: 1;
    u8: 2 3 4 5 6 7 8;
    u16: 9 10 11 12 13 14 15 16;
    u32: 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32;
    u64: 64;
}

/// What an `N` bit field is read as: `bool`, `u8`, `u16`, `u32` or `u64`.
pub type Int<const N: u32> = <Bits<N> as Width>::Int;

/// The big-endian word at `offset`; missing bytes are zero.
#[inline]
#[must_use]
pub fn word(bytes: &[u8], offset: usize) -> u32 {
    let mut be = [0; 4];
    let part = clip(bytes, offset, 4);
    be[..part.len()].copy_from_slice(part);
    u32::from_be_bytes(be)
}

/// The big-endian double word at `offset`; missing bytes are zero.
#[inline]
#[must_use]
pub fn double_word(bytes: &[u8], offset: usize) -> u64 {
    u64::from(word(bytes, offset)) << 32 | u64::from(word(bytes, offset.saturating_add(4)))
}

/// Bits `hi..=lo` of the word at `offset`.
#[inline]
#[must_use]
pub fn get_bits(bytes: &[u8], offset: usize, hi: u32, lo: u32) -> u64 {
    u64::from(word(bytes, offset) >> lo) & mask(hi, lo)
}

/// Replace bits `hi..=lo` of the word at `offset`; surplus high bits of `value` are cut off.
#[inline]
pub fn set_bits(bytes: &mut [u8], offset: usize, hi: u32, lo: u32, value: u64) {
    let keep = word(bytes, offset) & !((mask(hi, lo) as u32) << lo);
    let new = keep | ((value & mask(hi, lo)) as u32) << lo;
    set_bytes(bytes, offset, &new.to_be_bytes());
}

/// Store as much of `value` at `offset` as there is room for.
#[inline]
pub fn set_bytes(bytes: &mut [u8], offset: usize, value: &[u8]) {
    let start = offset.min(bytes.len());
    let end = offset.saturating_add(value.len()).min(bytes.len());
    bytes[start..end].copy_from_slice(&value[..end - start]);
}

const fn mask(hi: u32, lo: u32) -> u64 {
    u64::MAX >> (63 - (hi - lo))
}
