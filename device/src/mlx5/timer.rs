//! Deadlines of the NIC: one heap. An entry that came too early is re-armed by its owner, one
//! that came too late for its owner is ignored: owners keep the true deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rocinante_wire::time::Time;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// Transport timer of a QP.
    Qp(u32),
    /// Moderation timer of a CQ.
    Cq(u32),
    /// Software reset finishes.
    Reset,
}

/// Armed deadlines.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Time, TimerKey)>>,
}

impl Timers {
    /// Adds a deadline.
    pub fn arm(&mut self, due: Time, key: TimerKey) {
        self.heap.push(Reverse((due, key)));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes one deadline that has passed.
    pub fn expired(&mut self, now: Time) -> Option<TimerKey> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.heap.clear();
    }
}
