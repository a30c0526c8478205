//! NICs as a whole: what they are and how they do, and reset.

use rocinante_device::mlx5::hca::State;
use rocinante_device::mlx5::leak::Inventory;
use serde_json::{Value, json};

use super::arguments::{Arguments, not_found};
use super::protocol::{Class, Failure};
use super::{capture, faults};
use crate::serve::ServerHandle;

/// The number of the NIC that the argument `name` names.
pub fn named(server: &ServerHandle, arguments: &Arguments, name: &str) -> Result<usize, Failure> {
    let nic = arguments.needed(name)?;
    server
        .nic(nic)
        .ok_or_else(|| not_found("NIC", nic, server.specs().map(|spec| spec.name())))
}

/// What a NIC that has ended answers.
pub fn gone() -> Failure {
    Failure::new(Class::Failed, "the NIC does not answer")
}

/// What there is to know of a NIC at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct Glance {
    /// A monitor is there.
    pub attached: bool,
    /// State of the HCA.
    pub state: &'static str,
    /// What the driver says it is.
    pub driver: Option<String>,
    /// The link is up for the driver.
    pub up: bool,
    /// Mbit/s, 0 while it is down.
    pub speed: u64,
    /// 0 is healthy.
    pub health: u8,
    /// What the driver has made.
    pub inventory: Inventory,
}

/// Looks at the `n`th NIC.
pub fn glance(server: &ServerHandle, n: usize) -> Result<Glance, Failure> {
    server
        .look(n, |nic| Glance {
            attached: !nic.core.mem.is_empty(),
            state: match nic.core.hca.state {
                State::Disabled => "disabled",
                State::Enabled => "enabled",
                State::Initialized => "initialized",
                State::Stopped => "stopped",
            },
            driver: nic.core.hca.driver_version.clone(),
            up: nic.core.port.link_up() && !nic.is_gone(),
            speed: match nic.is_gone() {
                true => 0,
                false => u64::from(nic.core.port.operational_speed().1) * 100,
            },
            health: nic.health_syndrome(),
            inventory: Inventory::of(nic),
        })
        .ok_or_else(gone)
}

/// Executes `query-status`.
pub fn status(server: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    let mut nics = Vec::new();
    for (n, spec) in server.specs().enumerate() {
        let glance = glance(server, n)?;
        let objects: usize = glance.inventory.objects.iter().map(|(_, n)| n).sum();
        nics.push(json!({
            "nic": spec.name(),
            "link": spec.link,
            "mac": spec.mac.to_string(),
            "socket": spec.socket.display().to_string(),
            "attached": glance.attached,
            "state": glance.state,
            "driver": glance.driver,
            "up": glance.up,
            "speed": glance.speed,
            "health": glance.health,
            "objects": objects,
            "pages": glance.inventory.pages,
        }));
    }
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime": server.uptime().as_secs(),
        "nics": nics,
        "ports": server.ports().map(|spec| spec.name.clone()).collect::<Vec<_>>(),
        "faults": faults::entries(server).len(),
        "capture": capture::state(server),
    }))
}

/// Executes `reset`.
pub fn reset(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let n = named(server, arguments, "nic")?;
    server.reset(n).ok_or_else(gone)?;
    Ok(json!({}))
}
