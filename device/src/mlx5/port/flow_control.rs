//! Flow control: which pause frames the port is to send and to heed (PFCC).
//! Source: `pfcc_reg` of Linux `mlx5_ifc.h`, and how both drivers write it.
//!
//! Knows what was asked for. No pause frame is ever sent: what is received goes straight to guest memory, so that no buffer
//! of the port runs full. Those that come are heeded, see [`pause`](super::pause).

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowControl {
    /// Send pause frames for the whole link.
    pub pause_tx: bool,
    /// Heed pause frames for the whole link.
    pub pause_rx: bool,
    /// Priorities to send pause frames for (IEEE 802.1Qbb).
    pub priorities_tx: u8,
    /// Priorities of which pause frames are heeded.
    pub priorities_rx: u8,
    /// Pause policy auto-negotiation.
    pub auto: u8,
    /// Milliseconds after which a receiver that stands still is noted, and after which pausing
    /// on its behalf ends.
    pub watermarks: (u16, u16),
}

impl Default for FlowControl {
    /// As adapters come: pause frames for the whole link, both ways.
    fn default() -> Self {
        FlowControl {
            pause_tx: true,
            pause_rx: true,
            priorities_tx: 0,
            priorities_rx: 0,
            auto: 0,
            watermarks: (0, 0),
        }
    }
}

impl FlowControl {
    /// Pausing for the whole link and for priorities exclude each other, in each direction: what
    /// `before` did not have goes before what it had.
    pub fn resolve(&mut self, before: &FlowControl) {
        let direction = |pause: &mut bool, priorities: &mut u8, had_priorities: u8| {
            if *pause && *priorities != 0 {
                if *priorities & !had_priorities != 0 {
                    *pause = false;
                } else {
                    *priorities = 0;
                }
            }
        };
        direction(
            &mut self.pause_tx,
            &mut self.priorities_tx,
            before.priorities_tx,
        );
        direction(
            &mut self.pause_rx,
            &mut self.priorities_rx,
            before.priorities_rx,
        );
    }
}
