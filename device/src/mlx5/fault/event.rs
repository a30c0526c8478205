//! Events and interrupts that are lost, late or doubled.

use std::collections::BTreeMap;
use std::time::Duration;

use rocinante_wire::time::Time;

use super::select::Armed;
use super::{Delivery, Kind, Plan};
use crate::mlx5::eq::Eqe;

/// What may be held back at one time; what is more is lost.
const MAX_HELD: usize = 65536;

/// Copies that one delivery may make.
pub const MAX_COPIES: u32 = 1000;

/// Something late.
#[derive(Clone, Copy, Debug)]
pub(in crate::mlx5) enum Late {
    /// An entry for this queue.
    Event(u32, Eqe),
    /// A vector.
    Interrupt(u16),
}

/// Faults of the event queues of a NIC.
pub(in crate::mlx5) struct EventFaults {
    /// What time it is.
    pub(in crate::mlx5) now: Time,
    armed: Vec<Armed>,
    held: BTreeMap<(Time, u64), Late>,
    held_count: u64,
}

impl EventFaults {
    /// `None` if the plan has none.
    pub(super) fn new(plan: &Plan, now: Time) -> Option<Box<EventFaults>> {
        let wanted = |kind: &Kind| matches!(kind, Kind::Event(..) | Kind::Interrupt(..));
        let armed: Vec<_> = plan
            .0
            .iter()
            .filter(|fault| wanted(&fault.kind))
            .map(|fault| Armed::new(fault, now))
            .collect();
        (!armed.is_empty()).then(|| {
            Box::new(EventFaults {
                now,
                armed,
                held: BTreeMap::new(),
                held_count: 0,
            })
        })
    }

    /// Takes an event; whether it is to be delivered now.
    pub(in crate::mlx5) fn event(&mut self, eqn: u32, eqe: &Eqe) -> bool {
        let now = self.now;
        let action = self.armed.iter_mut().find_map(|armed| {
            let fault = armed.fault.clone();
            let Kind::Event(select, fault) = &fault.kind else {
                return None;
            };
            let matches = (fault.types.is_empty() || fault.types.contains(&eqe.event_type()))
                && fault.eqn.is_none_or(|only| only == eqn)
                && fault.sub_type.is_none_or(|only| only == eqe.sub_type());
            (matches && armed.take(select, now)).then_some(fault.action)
        });
        self.deliver(action, Late::Event(eqn, *eqe))
    }

    /// Takes an interrupt; whether it is to fire now.
    pub(in crate::mlx5) fn interrupt(&mut self, vector: u16) -> bool {
        let now = self.now;
        let action = self.armed.iter_mut().find_map(|armed| {
            let fault = armed.fault.clone();
            let Kind::Interrupt(select, fault) = &fault.kind else {
                return None;
            };
            let matches = fault.vector.is_none_or(|only| only == vector);
            (matches && armed.take(select, now)).then_some(fault.action)
        });
        self.deliver(action, Late::Interrupt(vector))
    }

    fn deliver(&mut self, action: Option<Delivery>, what: Late) -> bool {
        match action {
            None => true,
            Some(Delivery::Drop) => false,
            Some(Delivery::Delay(delay)) => {
                self.hold(delay, what);
                false
            }
            Some(Delivery::Duplicate(copies, delay)) => {
                for n in 1..=copies.min(MAX_COPIES) {
                    self.hold(delay * n, what);
                }
                true
            }
        }
    }

    fn hold(&mut self, delay: Duration, what: Late) {
        if self.held.len() < MAX_HELD {
            self.held.insert((self.now + delay, self.held_count), what);
            self.held_count += 1;
        }
    }

    /// The next that is due.
    pub(super) fn due(&mut self) -> Option<Late> {
        let first = self.held.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove())
    }

    pub(in crate::mlx5) fn next(&self) -> Option<Time> {
        self.held.keys().next().map(|(due, _)| *due)
    }

    /// The queues are gone.
    pub(super) fn forget(&mut self) {
        self.held.clear();
    }
}
