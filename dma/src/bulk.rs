//! Copies between host memory and pieces of guest memory, at the speed of memcpy in every alignment.
//!
//! C libraries copy more than 2 KiB by `rep movsb`, which on current processors takes 20 times as long when the
//! target lies 1 to 15 bytes behind the source modulo 4096: 1.3 µs instead of 0.05 µs for 4 KiB. That is where
//! headers and NET_IP_ALIGN put payload. In steps of 2 KiB nothing is lost in the other cases.

use vm_memory::VolatileSlice;

/// The longest step: what C libraries copy with vector registers.
const STEP: usize = 2048;

/// Copies `piece` to the beginning of `dst`, which is at least as long.
#[inline]
pub(crate) fn read(piece: &VolatileSlice<'_>, dst: &mut [u8]) {
    if piece.len() <= STEP {
        piece.copy_to(dst);
        return;
    }
    for (at, part) in (0..piece.len()).step_by(STEP).zip(dst.chunks_mut(STEP)) {
        if let Ok(rest) = piece.offset(at) {
            rest.copy_to(part);
        }
    }
}

/// Copies the beginning of `src`, which is at least as long, to `piece`.
#[inline]
pub(crate) fn write(piece: &VolatileSlice<'_>, src: &[u8]) {
    if piece.len() <= STEP {
        piece.copy_from(src);
        return;
    }
    for (at, part) in (0..piece.len()).step_by(STEP).zip(src.chunks(STEP)) {
        if let Ok(rest) = piece.offset(at) {
            rest.copy_from(part);
        }
    }
}

/// Copies as much of `from` to `to` as fits. They may overlap.
#[inline]
pub(crate) fn copy(from: &VolatileSlice<'_>, to: &VolatileSlice<'_>) {
    let len = from.len().min(to.len());
    let distance =
        (to.ptr_guard().as_ptr() as usize).wrapping_sub(from.ptr_guard().as_ptr() as usize);
    // Step by step, the source must not be overwritten before it is read.
    if len <= STEP || distance < len {
        from.copy_to_volatile_slice(*to);
        return;
    }
    for at in (0..len).step_by(STEP) {
        if let (Ok(from), Ok(to)) = (from.subslice(at, STEP.min(len - at)), to.offset(at)) {
            from.copy_to_volatile_slice(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_are_exact(len in 0usize..9000, at in 0usize..64) {
            let source: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
            let mut memory = vec![0xeeu8; len + 128];
            let all = VolatileSlice::from(&mut memory[..]);
            write(&all.subslice(at, len).unwrap(), &source);
            let mut back = vec![0u8; len];
            read(&all.subslice(at, len).unwrap(), &mut back);
            prop_assert_eq!(&back, &source);
            prop_assert!(memory[..at].iter().chain(&memory[at + len..]).all(|b| *b == 0xee));
        }

        #[test]
        fn overlapping_copies_are_moves(len in 0usize..9000, from in 0usize..6000, to in 0usize..6000) {
            let mut memory: Vec<u8> = (0..15000).map(|i| (i % 253) as u8).collect();
            let mut expected = memory.clone();
            expected.copy_within(from..from + len, to);
            let all = VolatileSlice::from(&mut memory[..]);
            copy(&all.subslice(from, len).unwrap(), &all.subslice(to, len).unwrap());
            prop_assert_eq!(memory, expected);
        }
    }
}
