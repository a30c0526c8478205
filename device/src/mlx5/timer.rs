//! Deadlines of the NIC, in one ordered set. Owners keep their deadline too: they take it back when
//! it changes, and ignore one that is not theirs any more.

use std::collections::BTreeSet;

use rocinante_wire::time::Time;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// Transport timer of a QP.
    Qp(u32),
    /// Moderation timer of a CQ.
    Cq(u32),
    /// The first of the packets being merged are to be delivered.
    Lro,
    /// Software reset finishes.
    Reset,
}

/// Armed deadlines.
#[derive(Default)]
pub struct Timers {
    set: BTreeSet<(Time, TimerKey)>,
}

impl Timers {
    /// Adds a deadline.
    pub fn arm(&mut self, due: Time, key: TimerKey) {
        self.set.insert((due, key));
    }

    /// Takes a deadline back, if it is still there.
    pub fn disarm(&mut self, due: Time, key: TimerKey) {
        self.set.remove(&(due, key));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.set.first().map(|(due, _)| *due)
    }

    /// Takes one deadline that has passed.
    pub fn expired(&mut self, now: Time) -> Option<TimerKey> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_can_be_taken_back() {
        let mut timers = Timers::default();
        timers.arm(Time(30), TimerKey::Reset);
        timers.arm(Time(10), TimerKey::Qp(5));
        timers.arm(Time(20), TimerKey::Cq(5));
        timers.arm(Time(20), TimerKey::Cq(5));
        timers.disarm(Time(10), TimerKey::Qp(5));
        assert_eq!(timers.next(), Some(Time(20)));
        assert_eq!(timers.expired(Time(19)), None);
        assert_eq!(timers.expired(Time(30)), Some(TimerKey::Cq(5)));
        assert_eq!(timers.expired(Time(30)), Some(TimerKey::Reset));
        assert_eq!(timers.expired(Time(99)), None);
    }
}
