//! MAC control frames (IEEE 802.3, clause 31): pause frames and others, which end at the port and
//! never reach the host. Source: IEEE 802.3 annex 31B, IEEE 802.1Qbb annex 31D.

use super::FrameCounters;

const ETHERTYPE: [u8; 2] = [0x88, 0x08];
/// The address that bridges do not forward.
const ADDRESS: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x01];

const PAUSE: u16 = 0x0001;
const PRIORITY_PAUSE: u16 = 0x0101;

/// Whether a frame that begins with `head` is a MAC control frame.
#[inline]
pub fn is_control(head: &[u8]) -> bool {
    head.get(12..14) == Some(&ETHERTYPE[..]) && head.starts_with(&ADDRESS)
}

/// What a MAC control frame asks for: how many quanta of 512 bit times of silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Of the whole link.
    Link(u16),
    /// Of these priorities (a bit each), each so many.
    Priorities(u8, [u16; 8]),
}

/// Counts a MAC control frame that begins with `head`, which as a frame has been counted before, and says what it asks for.
pub fn take(counters: &mut FrameCounters, head: &[u8]) -> Option<Request> {
    counters.control += 1;
    let word = |at: usize| match head.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    match word(14) {
        PAUSE => {
            counters.pause += 1;
            counters.priorities[0].pause += 1;
            Some(Request::Link(word(16)))
        }
        PRIORITY_PAUSE => {
            let enabled = word(16);
            for (at, priority) in counters.priorities.iter_mut().enumerate() {
                priority.pause += u64::from(enabled >> at & 1);
            }
            let times = std::array::from_fn(|at| word(18 + 2 * at));
            Some(Request::Priorities(enabled as u8, times))
        }
        _ => {
            counters.unknown_control += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: [u8; 2], vector: [u8; 2]) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 1]);
        frame[12..18].copy_from_slice(&[0x88, 8, opcode[0], opcode[1], vector[0], vector[1]]);
        frame
    }

    #[test]
    fn pause_frames_are_counted_by_kind() {
        let mut counters = FrameCounters::default();
        for (frame, asked) in [
            (frame([0, 1], [0xff, 0xfe]), Some(Request::Link(0xfffe))),
            (
                frame([1, 1], [0, 0b1000_1000]),
                Some(Request::Priorities(0b1000_1000, [0; 8])),
            ),
            (frame([0, 2], [0, 0]), None),
        ] {
            assert!(is_control(&frame));
            assert_eq!(take(&mut counters, &frame), asked);
        }
        assert_eq!(
            (counters.control, counters.pause, counters.unknown_control),
            (3, 1, 1)
        );
        assert_eq!(
            counters.priorities.map(|priority| priority.pause),
            [1, 0, 0, 1, 0, 0, 0, 1]
        );
    }

    #[test]
    fn other_frames_are_none() {
        let mut other = frame([0, 1], [0, 0]);
        other[5] = 2;
        assert!(!is_control(&other), "another address, LACP's");
        let mut other = frame([0, 1], [0, 0]);
        other[13] = 9;
        assert!(!is_control(&other), "another EtherType");
        assert!(!is_control(&other[..13]) && !is_control(&[]));
    }
}
