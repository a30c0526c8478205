//! 24-bit packet sequence numbers, IBTA volume 1, 9.7.1.

use std::cmp::Ordering;

/// A packet sequence number; arithmetic is modulo 2^24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Psn(u32);

impl Psn {
    const MASK: u32 = 0x00ff_ffff;

    /// The PSN in the low 24 bits of `value`.
    #[must_use]
    pub const fn new(value: u32) -> Psn {
        Psn(value & Self::MASK)
    }

    /// The number, below 2^24.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// This PSN advanced by `n`.
    #[must_use]
    pub const fn add(self, n: u32) -> Psn {
        Psn::new(self.0.wrapping_add(n))
    }

    /// The PSN before this one.
    #[must_use]
    pub const fn prev(self) -> Psn {
        Psn::new(self.0.wrapping_sub(1))
    }

    /// Signed distance `self - other` in [-2^23, 2^23).
    #[must_use]
    pub const fn diff(self, other: Psn) -> i32 {
        ((self.0.wrapping_sub(other.0) << 8) as i32) >> 8
    }

    /// Order within a window of 2^23: `Less` if `self` precedes `other`.
    #[must_use]
    pub fn cmp_window(self, other: Psn) -> Ordering {
        self.diff(other).cmp(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_24_bits() {
        assert_eq!(Psn::new(0xff_ffff).add(1), Psn::new(0));
        assert_eq!(Psn::new(0).prev(), Psn::new(0xff_ffff));
        assert_eq!(Psn::new(0).diff(Psn::new(0xff_ffff)), 1);
        assert_eq!(Psn::new(0xff_ffff).diff(Psn::new(0)), -1);
        assert_eq!(Psn::new(0x80_0000).diff(Psn::new(0)), -0x80_0000);
        assert_eq!(Psn::new(5).cmp_window(Psn::new(4)), Ordering::Greater);
    }
}
