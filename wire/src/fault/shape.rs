//! Rate and latency of a port, with a finite queue in front.

use std::time::Duration;

use super::rule::Place;

/// What every frame on the wire costs beside its bytes: preamble, FCS, gap.
pub(crate) const OVERHEAD: u64 = 24;
/// The shortest frame, without FCS.
pub(crate) const SHORTEST: u64 = 60;

/// A port that is slower than the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Unique.
    pub name: String,
    /// The line of the file where it stands.
    pub line: usize,
    /// At which ports and in which direction.
    pub place: Place,
    /// Bits per second; `None` for as fast as can be.
    pub rate: Option<u64>,
    /// From the end of a frame to its arrival.
    pub latency: Duration,
    /// Bytes that may wait for their turn; what comes then is dropped.
    pub queue: u64,
    /// Bytes that wait from which on frames are marked (if they say that they can be).
    pub ecn: Option<u64>,
    /// When the sender is asked to pause.
    pub pause: Option<Pause>,
}

/// Flow control of a queue: who fills it is stopped in time, if it heeds that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Bytes that wait from which on the sender is to pause.
    pub xoff: u64,
    /// Bytes that still wait when it is to go on.
    pub xon: u64,
    /// The priorities that are to pause (IEEE 802.1Qbb), a bit each; `None` for the whole link (802.3x).
    pub priorities: Option<u8>,
}

impl Shape {
    /// How long a frame of `len` bytes occupies the wire.
    pub(crate) fn serialization(&self, len: usize) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let bits = 8 * ((len as u64).max(SHORTEST) + OVERHEAD);
        let nanos = u128::from(bits) * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_gigabit() {
        let shape = Shape {
            name: String::new(),
            line: 1,
            place: Place {
                links: Vec::new(),
                ports: Vec::new(),
                direction: None,
            },
            rate: Some(10_000_000_000),
            latency: Duration::ZERO,
            queue: 1 << 20,
            ecn: None,
            pause: None,
        };
        // 1514 + 4 + 8 + 12 bytes are 1230.4 ns; 14.88 million short frames a second.
        assert_eq!(shape.serialization(1514), Duration::from_nanos(1230));
        assert_eq!(shape.serialization(20), Duration::from_nanos(67));
    }
}
