//! Faults of a running server: replacing them, counting them, and letting something go wrong now.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rocinante_device::mlx5::Input;
use rocinante_device::mlx5::fault::Injection;
use rocinante_wire::fault::{RuleCounters, RuleErrors};

use super::engine::Request;
use super::{NicSpec, ServerHandle, check_faults};
use crate::faults::{DeviceFault, Faults};
use crate::ports::PortSpec;

/// A fault of firmware or devices that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFaultStatus {
    /// Its name, and how often it matched and hit.
    pub counters: RuleCounters,
    /// The line of the file where it stands.
    pub line: usize,
    /// Names of NICs, with `*` and `?`; empty for all.
    pub nics: Vec<String>,
}

/// The faults of devices that are loaded.
#[derive(Default)]
pub(super) struct Loaded(Mutex<Vec<DeviceFault>>);

impl Loaded {
    fn lock(&self) -> MutexGuard<'_, Vec<DeviceFault>> {
        // It is replaced as a whole, so that it is right even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every fault must be at a port or NIC that there is.
pub fn check_all_faults(
    specs: &[NicSpec],
    ports: &[PortSpec],
    faults: &Faults,
) -> Result<(), RuleErrors> {
    let names: Vec<String> = specs.iter().map(NicSpec::name).collect();
    let nics: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut errors = Vec::new();
    for result in [
        check_faults(specs, ports, &faults.rules),
        faults.check_nics(&nics),
    ] {
        if let Err(RuleErrors(more)) = result {
            errors.extend(more);
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    errors.sort_by_key(|error| error.line);
    Err(RuleErrors(errors))
}

impl ServerHandle {
    /// Replaces all faults, of packets, links, firmware and devices. What was injected and lasts is over. When this
    /// returns, the new ones are there. Counters begin at zero.
    ///
    /// # Errors
    /// Faults that are at no port and no NIC there is; then nothing has changed.
    pub fn set_faults(&self, faults: Faults) -> Result<(), RuleErrors> {
        let specs: Vec<NicSpec> = self.specs().cloned().collect();
        let ports: Vec<PortSpec> = self.ports().cloned().collect();
        check_all_faults(&specs, &ports, &faults)?;
        let mut loaded = self.loaded().lock();
        for (n, spec) in specs.iter().enumerate() {
            let plan = faults.plan(&spec.name());
            // A NIC that has ended has no faults.
            let _ = self.ask(n, |done| Request::Quiesce(Input::Faults(plan), done));
        }
        *loaded = faults.devices;
        self.control().set_rules(faults.rules);
        Ok(())
    }

    /// How often each fault matched and hit since it was loaded: those of packets, then those of firmware and devices.
    pub fn fault_counters(&self) -> Vec<RuleCounters> {
        let mut counters = self.control().rules().counters();
        let loaded = self.loaded().lock();
        counters.extend(loaded.iter().map(|fault| fault.fault.counters()));
        counters
    }

    /// The faults of firmware and devices that are in force.
    pub fn device_faults(&self) -> Vec<DeviceFaultStatus> {
        let loaded = self.loaded().lock();
        let there = loaded.iter().filter(|fault| !fault.fault.is_cleared());
        there
            .map(|fault| DeviceFaultStatus {
                counters: fault.fault.counters(),
                line: fault.line,
                nics: fault.nics.clone(),
            })
            .collect()
    }

    /// Ends one fault; others stay as they are. False if there is none of that name. What an adapter is said to be
    /// (capabilities, timeouts) stays.
    pub fn clear_fault(&self, name: &str) -> bool {
        let loaded = self.loaded().lock();
        let Some(fault) = loaded.iter().find(|fault| fault.fault.name == name) else {
            return self.control().clear_rule(name);
        };
        let cleared = fault.fault.clear();
        for n in 0..self.specs().count() {
            // For what lasts to be over when this returns.
            let _ = self.ask(n, |done| Request::Quiesce(Input::Tick, done));
        }
        cleared
    }

    /// Lets something go wrong at the `n`th NIC now. `None` if there is no such NIC.
    pub fn inject(&self, n: usize, injection: Injection) -> Option<()> {
        self.ask(n, |done| Request::Quiesce(Input::Inject(injection), done))
    }
}
