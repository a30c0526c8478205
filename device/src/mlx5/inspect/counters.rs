//! All that a NIC counts.

use serde::Serialize;

use crate::mlx5::counters::{QCounters, VportCounters};
use crate::mlx5::eth::Discards;
use crate::mlx5::nic::Nic;
use crate::mlx5::port::PortCounters;

/// Counters of a NIC, as its driver reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Of the port (PPCNT).
    pub port: PortCounters,
    /// Of the vport (QUERY_VPORT_COUNTER).
    pub vport: VportCounters,
    /// Of all Q counter sets together (QUERY_Q_COUNTER).
    pub q: QCounters,
    /// Frames that were dropped.
    pub discards: Discards,
    /// RoCE packets dropped for their ICRC.
    pub icrc_errors: u64,
    /// Datagrams refused for their Q_Key.
    pub qkey_violations: u16,
    /// Firmware commands refused.
    pub refused_commands: u32,
}

impl Counters {
    /// Of a NIC.
    pub fn of(nic: &Nic) -> Counters {
        let core = &nic.core;
        let mut q = QCounters::default();
        // A set has a number of 8 bits, so these are few.
        for (_, set) in core.q_counters.iter() {
            q.add(set);
        }
        Counters {
            port: core.port.counters,
            vport: core.vport_counters,
            q,
            discards: core.eth.discards,
            icrc_errors: core.icrc_errors,
            qkey_violations: core.vport.qkey_violations,
            refused_commands: core.hca.refused_commands,
        }
    }
}

/// A Q counter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QCounterSet {
    /// Number.
    pub number: u32,
    /// What it counted.
    #[serde(flatten)]
    pub counters: QCounters,
}

impl QCounterSet {
    pub(super) fn of(number: u32, counters: &QCounters) -> QCounterSet {
        QCounterSet {
            number,
            counters: *counters,
        }
    }
}
