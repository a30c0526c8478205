//! What is remembered of the packets between two queue pairs: the PSN they began with and the
//! last message number acknowledged. Finite: beyond that, flows are not tracked.

use std::collections::HashMap;

use super::view::{FlowKey, View};

/// Flows in one direction of one port.
const MAX_FLOWS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Flow {
    first_psn: u32,
    msn: u32,
}

/// The flows of one direction of one port.
#[derive(Debug, Default)]
pub(crate) struct Flows(HashMap<FlowKey, Flow>);

impl Flows {
    /// Takes note of a RoCE packet; returns its PSN less the first of its flow, modulo 2^24.
    pub(crate) fn note(&mut self, view: &View<'_>) -> Option<u32> {
        let psn = view.psn()?;
        let key = view.flow()?;
        let full = self.0.len() >= MAX_FLOWS;
        let flow = match self.0.get_mut(&key) {
            Some(flow) => flow,
            None if full => return None,
            None => self.0.entry(key).or_insert(Flow {
                first_psn: psn,
                msn: 0,
            }),
        };
        if let Some(msn) = view.msn() {
            flow.msn = msn;
        }
        Some(psn.wrapping_sub(flow.first_psn) & 0xff_ffff)
    }

    /// The last MSN that a responder told, 0 if it has told none.
    pub(crate) fn msn(&self, key: &FlowKey) -> u32 {
        self.0.get(key).map_or(0, |flow| flow.msn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{self, unhex};

    #[test]
    fn the_first_psn_is_zero_and_the_distance_wraps() {
        let mut flows = Flows::default();
        let mut bytes = unhex(vectors::V4_SEND.frame);
        let psn = 14 + 20 + 8 + 9;
        let mut note = |psn_bytes: [u8; 3], qp: u8| {
            bytes[psn..psn + 3].copy_from_slice(&psn_bytes);
            bytes[psn - 2] = qp;
            flows.note(&View::parse(&bytes, bytes.len()))
        };
        assert_eq!(note([0xff, 0xff, 0xfe], 1), Some(0));
        assert_eq!(note([0, 0, 1], 1), Some(3));
        assert_eq!(note([0xff, 0xff, 0xfe], 1), Some(0));
        assert_eq!(note([0xff, 0xff, 0xfd], 1), Some(0xff_ffff));
        assert_eq!(note([0, 0, 9], 2), Some(0));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut flows = Flows::default();
        let mut bytes = unhex(vectors::V4_SEND.frame);
        for n in 0..2 * MAX_FLOWS {
            bytes[47..50].copy_from_slice(&(n as u32).to_be_bytes()[1..]);
            let tracked = flows.note(&View::parse(&bytes, bytes.len()));
            assert_eq!(tracked.is_some(), n < MAX_FLOWS);
        }
    }
}
