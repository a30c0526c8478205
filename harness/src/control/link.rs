//! Links: plugs, carrier, speed.

use rocinante_device::mlx5::port::LinkSpeed;
use serde_json::{Value, json};

use super::arguments::{Arguments, not_found};
use super::nic::{self, gone};
use super::protocol::{Class, Failure};
use crate::serve::ServerHandle;

/// Executes `query-links`.
pub fn query(server: &ServerHandle, _: &Arguments) -> Result<Value, Failure> {
    let ports = server.port_status();
    let mut all = Vec::new();
    for cable in server.control().status() {
        let mut port = json!({
            "port": cable.port,
            "link": cable.link,
            "nic": false,
            "plugged": cable.plugged,
            "carrier": cable.carrier,
        });
        if let Some(n) = server.nic(&cable.port) {
            let glance = nic::glance(server, n)?;
            port["nic"] = true.into();
            port["up"] = glance.up.into();
            port["speed"] = glance.speed.into();
        }
        let status = ports.iter().find(|status| status.port == cable.port);
        if let Some(outside) = status.and_then(|status| status.outside) {
            port["outside"] = outside.up.into();
        }
        all.push(port);
    }
    Ok(json!({ "ports": all }))
}

fn all_ports(server: &ServerHandle) -> Vec<String> {
    let cables = server.control().status();
    cables.into_iter().map(|cable| cable.port).collect()
}

/// Executes `set-link`.
pub fn set(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let port = arguments.needed("port")?;
    let up = arguments.flag("up").unwrap_or(true);
    let known = all_ports(server);
    if !known.iter().any(|name| name == port) {
        return Err(not_found("port", port, known));
    }
    server.plug_port(port, up).ok_or_else(gone)?;
    Ok(json!({}))
}

/// Executes `set-link-speed`.
pub fn set_speed(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let speed: LinkSpeed = arguments
        .needed("speed")?
        .parse()
        .map_err(Failure::argument)?;
    let port = arguments.needed("port")?;
    if server.nic(port).is_none() && all_ports(server).iter().any(|name| name == port) {
        let desc = format!("port '{port}' is no NIC: it has no speed");
        return Err(Failure::new(Class::InvalidArgument, desc));
    }
    let n = nic::named(server, arguments, "port")?;
    server.set_speed(n, speed).ok_or_else(gone)?;
    Ok(json!({}))
}
