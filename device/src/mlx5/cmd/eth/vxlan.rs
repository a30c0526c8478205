//! ADD_VXLAN_UDP_DPORT and DELETE_VXLAN_UDP_DPORT. FreeBSD from 13 on names the port of each vxlan interface, whatever the
//! capabilities say; looking into tunnels is not offered, so that frames to these ports are ordinary datagrams.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::eth::VxlanUdpDportIn;

use crate::mlx5::cmd::CmdError;
use crate::mlx5::nic::Nic;

checks! {
    AddVxlanUdpDport {
        LIMIT = 1, Lim, "no more VXLAN ports";
    }
    DeleteVxlanUdpDport {
        NO_PORT = 1, BadRes, "no such VXLAN port";
    }
}

/// Ports at a time.
const MAX_PORTS: usize = 16;

/// Adds one. Two interfaces may have the same port.
pub(super) fn add(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let ports = &mut nic.core.eth.vxlan_ports;
    if ports.len() >= MAX_PORTS {
        return Err(LIMIT);
    }
    ports.push(VxlanUdpDportIn::new(input).vxlan_udp_port());
    Ok(())
}

/// Removes one of those with that number.
pub(super) fn delete(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let port = VxlanUdpDportIn::new(input).vxlan_udp_port();
    let ports = &mut nic.core.eth.vxlan_ports;
    let at = ports.iter().position(|used| *used == port).ok_or(NO_PORT)?;
    ports.swap_remove(at);
    Ok(())
}
