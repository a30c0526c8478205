//! What passed between a port and its outside.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Frames and bytes at the outside of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutsideCounters {
    /// Whether the outside is there.
    pub up: bool,
    /// Frames that came in.
    pub in_packets: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// What came in and was not for this port, or no frame.
    pub in_refused: u64,
    /// Frames that went out.
    pub out_packets: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Frames that did not go out, for want of room or for trouble, and those of which the network
    /// reports that they did not arrive.
    pub out_dropped: u64,
}

/// The same, being counted.
#[derive(Debug, Default)]
pub(super) struct OutsideCounts {
    pub(super) down: AtomicBool,
    pub(super) in_packets: AtomicU64,
    pub(super) in_bytes: AtomicU64,
    pub(super) in_refused: AtomicU64,
    pub(super) out_packets: AtomicU64,
    pub(super) out_bytes: AtomicU64,
    pub(super) out_dropped: AtomicU64,
}

impl OutsideCounts {
    pub(super) fn get(&self) -> OutsideCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OutsideCounters {
            up: !self.down.load(Ordering::Relaxed),
            in_packets: get(&self.in_packets),
            in_bytes: get(&self.in_bytes),
            in_refused: get(&self.in_refused),
            out_packets: get(&self.out_packets),
            out_bytes: get(&self.out_bytes),
            out_dropped: get(&self.out_dropped),
        }
    }
}

/// Adds to a counter that one thread writes.
pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
