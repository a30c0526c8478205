//! Match parameters as flow groups mask and compare them: `fte_match_set_lyr_2_4`, 64 bytes,
//! as eight words. Knows nothing of what the fields mean.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The outer headers of a packet, or a mask over them, or masked values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key([u64; 8]);

impl Key {
    /// From the bytes of the layout.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Key {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Key(words)
    }

    /// The bytes again.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// What `mask` leaves of it.
    #[must_use]
    #[inline]
    pub fn masked(&self, mask: &Key) -> Key {
        let mut words = self.0;
        for (word, mask) in words.iter_mut().zip(mask.0) {
            *word &= mask;
        }
        Key(words)
    }

    /// Whether it matches everything, as a mask.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 8]
    }
}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in self.0 {
            state.write_u64(word);
        }
    }
}

/// Hasher of keys: a multiplication per word. Whoever fills the tables is the guest that waits for
/// the look-ups, so collisions on purpose hurt nobody else.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// For maps of keys.
pub type BuildKeyHasher = BuildHasherDefault<KeyHasher>;
