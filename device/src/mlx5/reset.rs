//! What goes away at a teardown and what at a reset.

use std::mem::replace;

use super::core::Core;
use super::leak::{self, Goodbye};
use super::nic::Nic;
use super::notes::Note;
use super::port;
use super::table::Table;

impl Nic {
    /// Drops all that commands made, as a teardown does: objects, filters, addresses, and so every
    /// access to guest memory but those of the command queue.
    pub fn drop_objects(&mut self) {
        self.qps = Table::default();
        self.gsi = None;
        self.core.drop_objects();
    }
}

impl Core {
    /// Back to power-on but for what is not the adapter's: its configuration, the guest's memory,
    /// bus mastering, the cable. `qps` queue pairs go away with it.
    pub fn reset(&mut self, qps: usize) {
        leak::report(self, qps, Goodbye::Reset);
        let fresh = Core::new(self.config.clone());
        let old = replace(self, fresh);
        self.mem = old.mem;
        self.bus_master = old.bus_master;
        self.now = old.now;
        self.buffers = old.buffers;
        self.hca.findings = old.hca.findings;
        self.notes = old.notes;
        self.notes.add(Note::Reset);
        self.hca.faults = old.hca.faults;
        self.eqs.faults = old.eqs.faults;
        self.cqs.faults = old.cqs.faults;
        port::keep_cable(self, &old.port);
    }

    /// Drops all objects but the queue pairs. The HCA stays, and the port with its counters.
    fn drop_objects(&mut self) {
        let fresh = Core::new(self.config.clone());
        let old = replace(self, fresh);
        self.mem = old.mem;
        self.bus_master = old.bus_master;
        self.now = old.now;
        self.buffers = old.buffers;
        self.hca = old.hca;
        self.eqs.faults = old.eqs.faults;
        self.cqs.faults = old.cqs.faults;
        self.port = old.port;
        self.vport_counters = old.vport_counters;
        self.icrc_errors = old.icrc_errors;
        self.congestion = old.congestion;
        self.notes = old.notes;
    }
}
