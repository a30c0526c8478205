//! Counters of NICs, ports, cables and rules.

use rocinante_device::mlx5::inspect::Counters;
use rocinante_wire::cable::{CableCounters, CableStatus};
use rocinante_wire::switch::PortCounters;
use serde_json::{Value, json};

use super::arguments::{Arguments, not_found};
use super::nic::gone;
use super::protocol::Failure;
use super::{capture, faults};
use crate::ports::OutsideCounters;
use crate::serve::{PortStatus, ServerHandle};

/// Everything that is counted, at about one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// NICs, by name.
    pub nics: Vec<(String, Counters)>,
    /// Ports of the switches.
    pub ports: Vec<PortStatus>,
    /// The cables that lead to them.
    pub cables: Vec<CableStatus>,
}

impl Snapshot {
    /// Of all ports, or of one.
    pub fn take(server: &ServerHandle, port: Option<&str>) -> Result<Snapshot, Failure> {
        let wanted = |name: &str| port.is_none_or(|port| port == name);
        let mut nics = Vec::new();
        for (n, spec) in server.specs().enumerate() {
            let name = spec.name();
            if wanted(&name) {
                nics.push((name, server.look(n, Counters::of).ok_or_else(gone)?));
            }
        }
        let mut ports = server.port_status();
        let mut cables = server.control().status();
        ports.retain(|status| wanted(&status.port));
        cables.retain(|cable| wanted(&cable.port));
        Ok(Snapshot {
            nics,
            ports,
            cables,
        })
    }
}

/// Counters of a port by name, from the point of view of what is plugged in.
pub fn of_port(counters: &PortCounters) -> [(&'static str, u64); 8] {
    [
        ("tx_packets", counters.tx_packets),
        ("tx_bytes", counters.tx_bytes),
        ("tx_dropped_packets", counters.tx_dropped_packets),
        ("tx_dropped_bytes", counters.tx_dropped_bytes),
        ("rx_packets", counters.rx_packets),
        ("rx_bytes", counters.rx_bytes),
        ("rx_dropped_packets", counters.rx_dropped_packets),
        ("rx_dropped_bytes", counters.rx_dropped_bytes),
    ]
}

/// Counters of one direction of a cable by name.
pub fn of_cable(counters: &CableCounters) -> [(&'static str, u64); 10] {
    [
        ("rule_drops", counters.rule_drops),
        ("link_drops", counters.link_drops),
        ("blackhole_drops", counters.blackhole_drops),
        ("queue_drops", counters.queue_drops),
        ("fcs_errors", counters.fcs_errors),
        ("unreadable", counters.unreadable),
        ("ecn_marks", counters.ecn_marks),
        ("pauses", counters.pauses),
        ("forged", counters.forged),
        ("unforgeable", counters.unforgeable),
    ]
}

/// Counters of the outside of a port by name.
pub fn of_outside(counters: &OutsideCounters) -> [(&'static str, u64); 6] {
    [
        ("in_packets", counters.in_packets),
        ("in_bytes", counters.in_bytes),
        ("in_refused", counters.in_refused),
        ("out_packets", counters.out_packets),
        ("out_bytes", counters.out_bytes),
        ("out_dropped", counters.out_dropped),
    ]
}

fn object<const N: usize>(named: [(&'static str, u64); N]) -> Value {
    let members = named.map(|(name, value)| (name.to_owned(), value.into()));
    Value::Object(members.into_iter().collect())
}

/// Executes `query-counters`.
pub fn query(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let port = arguments.text("port");
    let snapshot = Snapshot::take(server, port)?;
    if let Some(port) = port
        && snapshot.ports.is_empty()
    {
        let known = server.port_status().into_iter().map(|status| status.port);
        return Err(not_found("port", port, known));
    }
    let nics = snapshot.nics.iter().map(|(name, counters)| {
        let mut nic = json!(counters);
        nic["nic"] = name.as_str().into();
        nic
    });
    let ports = snapshot.ports.iter().map(|status| {
        let mut port = json!({
            "port": status.port,
            "link": status.link,
            "switch": object(of_port(&status.counters)),
        });
        let cable = snapshot.cables.iter();
        if let Some(cable) = cable.clone().find(|cable| cable.port == status.port) {
            port["cable"] = json!({
                "tx": object(of_cable(&cable.tx)),
                "rx": object(of_cable(&cable.rx)),
            });
        }
        if let Some(outside) = &status.outside {
            port["outside"] = object(of_outside(outside));
            port["outside"]["up"] = outside.up.into();
        }
        port
    });
    let mut answer = json!({
        "nics": nics.collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
    });
    if port.is_none() {
        answer["faults"] = faults::entries(server).into();
        answer["capture"] = capture::state(server);
    }
    Ok(answer)
}
