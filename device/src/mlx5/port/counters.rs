//! Counters of the port.

use std::time::Duration;

use serde::Serialize;

/// The class of a frame of `len` bytes, frame check sequence included, in the manner of RFC 2819: up to 64 bytes,
/// 127, 255, 511, 1023, 1518, 2047, 4095, 8191 and longer.
#[inline]
fn size_class(len: usize) -> usize {
    match len.max(1).ilog2() {
        _ if len <= 64 => 0,
        log @ ..=9 => log as usize - 5,
        10 if len <= 1518 => 5,
        log => (log as usize - 4).min(9),
    }
}

/// Frames of one priority and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriorityCounters {
    /// Frames.
    pub frames: u64,
    /// Bytes, with frame check sequences.
    pub octets: u64,
    /// Pause frames of this priority, or, for priority 0, for all of them.
    pub pause: u64,
    /// How long transmission was paused by them.
    pub pause_time: Duration,
    /// How often it went on.
    pub pause_transitions: u64,
}

/// Counters of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrameCounters {
    /// Frames.
    pub frames: u64,
    /// Bytes, without frame check sequences.
    pub octets: u64,
    /// Frames to a group address that is not the broadcast address.
    pub multicast: u64,
    /// Frames to the broadcast address.
    pub broadcast: u64,
    /// Frames by length with frame check sequence: up to 64 bytes, 127, 255, 511, 1023, 1518,
    /// 2047, 4095, 8191 and longer.
    pub sizes: [u64; 10],
    /// The same frames by priority.
    pub priorities: [PriorityCounters; 8],
    /// MAC control frames, which are frames as well.
    pub control: u64,
    /// Those of them that ask for a pause.
    pub pause: u64,
    /// Those of them with an opcode that is unknown.
    pub unknown_control: u64,
}

impl FrameCounters {
    /// Counts a frame of `len` bytes without frame check sequence, of priority 0.
    #[inline]
    pub fn count(&mut self, dmac: &[u8; 6], len: usize) {
        self.count_of_priority(dmac, len, 0);
    }

    /// Counts a frame of `len` bytes without frame check sequence.
    #[inline]
    pub fn count_of_priority(&mut self, dmac: &[u8; 6], len: usize, priority: u8) {
        self.frames += 1;
        self.octets += len as u64;
        if *dmac == [0xff; 6] {
            self.broadcast += 1;
        } else if dmac[0] & 1 != 0 {
            self.multicast += 1;
        }
        self.sizes[size_class(len + 4)] += 1;
        let priority = &mut self.priorities[usize::from(priority & 7)];
        priority.frames += 1;
        priority.octets += len as u64 + 4;
    }

    /// Frames to one station.
    pub fn unicast(&self) -> u64 {
        self.frames - self.multicast - self.broadcast
    }

    /// Bytes with frame check sequences.
    pub fn octets_on_wire(&self) -> u64 {
        self.octets + 4 * self.frames
    }
}

/// Counters of the port. Whoever sends or receives RoCE frames counts them here too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    /// Frames received.
    pub received: FrameCounters,
    /// Frames sent.
    pub transmitted: FrameCounters,
    /// Received frames that were dropped because they were longer than the MTU.
    pub oversize: u64,
    /// Frames that were dropped for their frame check sequence.
    pub fcs_errors: u64,
    /// Times that the link went down.
    pub link_down_events: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_classes_of_rfc_2819() {
        let bounds = [64, 127, 255, 511, 1023, 1518, 2047, 4095, 8191];
        for len in 0..20_000 {
            let class = bounds.iter().position(|bound| len <= *bound);
            assert_eq!(size_class(len), class.unwrap_or(9), "{len} bytes");
        }
    }

    #[test]
    fn frames_are_counted_by_address_length_and_priority() {
        let mut counters = FrameCounters::default();
        counters.count(&[0xff; 6], 60);
        counters.count(&[1, 0, 0x5e, 0, 0, 1], 61);
        counters.count_of_priority(&[2, 0, 0, 0, 0, 1], 1514, 3);
        counters.count_of_priority(&[2, 0, 0, 0, 0, 1], 9000, 7);
        assert_eq!(
            (counters.broadcast, counters.multicast, counters.unicast()),
            (1, 1, 2)
        );
        assert_eq!(counters.sizes, [1, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(counters.octets_on_wire(), 60 + 61 + 1514 + 9000 + 16);
        let sum = |get: fn(&PriorityCounters) -> u64| counters.priorities.iter().map(get).sum();
        let frames: u64 = sum(|priority| priority.frames);
        let octets: u64 = sum(|priority| priority.octets);
        assert_eq!((frames, octets), (4, counters.octets_on_wire()));
        assert_eq!(
            counters.priorities.map(|priority| priority.frames),
            [2, 0, 0, 1, 0, 0, 0, 1]
        );
    }
}
