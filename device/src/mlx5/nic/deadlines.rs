//! What a NIC does because time has passed. Knows whose deadline it is, not why there is one.

use std::time::Duration;

use rocinante_wire::time::Time;

use super::Nic;
use crate::mlx5::bar::nic_interface;
use crate::mlx5::core::Core;
use crate::mlx5::qp::host::SendHost;
use crate::mlx5::qp::{Engine, Qp, State, error, transmit};
use crate::mlx5::timer::TimerKey;
use crate::mlx5::{eth, fault};

/// How long a deadline waits that comes while bus mastering is off.
const POSTPONED: Duration = Duration::from_millis(100);

impl Nic {
    pub(super) fn run_timers(&mut self, now: Time) {
        while let Some(key) = self.core.timers.expired(now) {
            if key != TimerKey::Reset && !self.core.bus_master {
                // What it would do needs memory: later, if at all.
                self.core.timers.arm(now + POSTPONED, key);
                continue;
            }
            match key {
                TimerKey::Qp(qpn) => self.queue_pair_timeout(qpn),
                TimerKey::Cq(cqn) => {
                    let core = &mut self.core;
                    core.cqs
                        .timeout(&core.mem, &mut core.eqs, &mut core.timers, now, cqn);
                }
                TimerKey::Lro => eth::lro::timeout(&mut self.core),
                TimerKey::Reset => {
                    if self.bar.nic_interface() == nic_interface::SW_RESET {
                        self.bar.health_syndrome = 0;
                        self.bar.set_nic_interface(nic_interface::DISABLED);
                        fault::after_reset(self, false);
                    }
                }
            }
        }
        if self.faults.is_some() {
            fault::run(self, now);
        }
    }

    fn queue_pair_timeout(&mut self, qpn: u32) {
        let Some(qp) = self.qps.get_mut(qpn) else {
            return;
        };
        // An entry older than the QP's own deadline is left over.
        if qp.timer.is_none_or(|due| due > self.core.now) {
            return;
        }
        qp.timer = None;
        if qp.state == State::Err {
            error::flush(qp, &mut self.core);
            return;
        }
        let now = self.core.now;
        let Qp {
            attr, send, engine, ..
        } = &mut *qp;
        if let Engine::Reliable { requester, .. } = engine
            && requester.next_timeout().is_some_and(|due| due <= now)
        {
            let core = &mut self.core;
            let mut host = SendHost::new(core, attr, send, None);
            requester.handle_timeout(now, &mut host);
            let (failed, overrun) = (host.failed, host.overrun);
            transmit::after_send(qp, &mut self.core, failed, overrun);
        }
        arm_timer(qp, &mut self.core);
        self.schedule(qpn);
    }
}

/// Sees to it that the NIC's timers hold the QP's deadline, or an earlier one.
pub(super) fn arm_timer(qp: &mut Qp, core: &mut Core) {
    let Engine::Reliable { requester, .. } = &qp.engine else {
        return;
    };
    if let Some(due) = requester.next_timeout()
        && qp.timer.is_none_or(|armed| armed > due)
    {
        let key = TimerKey::Qp(qp.attr.qpn);
        if let Some(old) = qp.timer.replace(due) {
            core.timers.disarm(old, key);
        }
        core.timers.arm(due, key);
    }
}
