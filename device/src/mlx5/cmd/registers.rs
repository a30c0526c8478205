//! ACCESS_REG: registers of the port, the module, sensors and the like.
//! Source: reference of the interface, "Access registers".
//!
//! Each register is read into, or written from, its layout; state is in [`Port`].
//!
//! [`Port`]: crate::mlx5::port::Port

use log::debug;
use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::command::AccessRegisterIn;
use rocinante_firmware_cmd::mlx5::registers::Register;
use rocinante_firmware_cmd::mlx5::registers::counters::Mpcnt;
use rocinante_firmware_cmd::mlx5::registers::management::{
    HostEndianness, Mcam, Mcia, Mtcap, NodeDesc,
};
use rocinante_firmware_cmd::mlx5::registers::port::{
    Paos, Pbmc, Pcam, Pcap, Pfcc, Pmlp, Pmtu, Pptb, Ptys,
};

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::nic::Nic;
use crate::mlx5::port::{self, MAX_MTU, speed};

mod counters;
mod firmware;

checks! {
    AccessReg {
        UNKNOWN = 1, BadParam, "no such register";
        READ_ONLY = 2, BadParam, "register cannot be written";
        SHORT = 3, BadInpLen, "register data shorter than the register";
        PORT = 4, BadParam, "no such port";
        METHOD = 5, BadParam, "op_mod is neither read nor write";
        MTU = 6, BadParam, "admin_mtu above max_mtu";
        SPEED = 7, BadParam, "eth_proto_admin has no mode that the port can do";
        STATUS = 8, BadParam, "admin_status is neither up nor down";
        SENSOR = 9, BadParam, "no such sensor";
        GROUP = 10, BadParam, "no such feature or register group";
        COMPONENT = 11, BadParam, "no such component of the firmware";
        INFORMATION = 12, BadParam, "no such information about the component";
        WINDOW = 13, BadParam, "offset behind the end of the information";
    }
}

const HEADER: usize = 16;
const WRITE: u16 = 0;
const READ: u16 = 1;

/// Reads or writes an access register.
pub fn access_reg(
    nic: &mut Nic,
    op_mod: u16,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    let id = AccessRegisterIn::new(input).register_id();
    let Some(register) = Register::from_u16(id) else {
        debug!(target: "mlx5::cmd", "ACCESS_REG of register {id:#06x}, which does not exist");
        return Err(UNKNOWN);
    };
    let size = register.layout().size;
    output.clear();
    output.resize(HEADER + size, 0);
    // What the driver sent selects ports, groups and indices, and comes back; a read of FreeBSD may
    // come without (MTCAP), which is all zeros.
    let given = input.get(HEADER..).unwrap_or_default();
    let data = output.get_mut(HEADER..).unwrap_or_default();
    let n = given.len().min(size);
    if let (Some(to), Some(from)) = (data.get_mut(..n), given.get(..n)) {
        to.copy_from_slice(from);
    }
    match op_mod {
        READ => read(&nic.core, register, data),
        WRITE if given.len() < least(register) => Err(SHORT),
        WRITE => write(&mut nic.core, register, data),
        _ => Err(METHOD),
    }
}

/// Bytes that a write must bring: up to the last field that is written.
fn least(register: Register) -> usize {
    match register {
        Register::Paos => 8,
        Register::Pmtu => 12,
        Register::Ptys => 0x1c,
        Register::Pfcc => 0x10,
        Register::HostEndianness => 4,
        register => register.layout().size,
    }
}

/// There is one port; drivers that forget to name it mean that one.
fn check_port(local_port: u8) -> Result<(), CmdError> {
    if local_port <= 1 { Ok(()) } else { Err(PORT) }
}

fn read(core: &Core, register: Register, data: &mut [u8]) -> Result<(), CmdError> {
    let port = &core.port;
    match register {
        Register::Pcap => check_port(Pcap::new(data).local_port()),
        Register::Pmlp => {
            let mut pmlp = Pmlp::new(data);
            check_port(pmlp.local_port())?;
            // Module 0, lane n of it for both directions.
            let lane = |n: u32| n << 24 | n << 16;
            pmlp.set_rxtx(false).set_width(4);
            pmlp.set_lane0_module_mapping(lane(0))
                .set_lane1_module_mapping(lane(1));
            pmlp.set_lane2_module_mapping(lane(2))
                .set_lane3_module_mapping(lane(3));
            Ok(())
        }
        Register::Pmtu => {
            let mut pmtu = Pmtu::new(data);
            check_port(pmtu.local_port())?;
            pmtu.set_max_mtu(MAX_MTU)
                .set_admin_mtu(port.mtu())
                .set_oper_mtu(port.mtu());
            Ok(())
        }
        Register::Ptys => read_ptys(core, data),
        Register::Paos => {
            let mut paos = Paos::new(data);
            check_port(paos.local_port())?;
            paos.set_admin_status(if port.admin_up() { 1 } else { 2 });
            paos.set_oper_status(if port.link_up() { 1 } else { 2 });
            Ok(())
        }
        Register::Pfcc => {
            let local_port = Pfcc::new(&*data).local_port();
            check_port(local_port)?;
            data.copy_from_slice(&port.flow_control);
            Pfcc::new(data).set_local_port(local_port);
            Ok(())
        }
        Register::Ppcnt => counters::read(core, data),
        Register::Mpcnt => {
            Mpcnt::new(data).counter_set_mut().fill(0);
            Ok(())
        }
        // No buffer is modelled: all priorities share one without a size.
        Register::Pptb => check_port(Pptb::new(data).local_port()),
        Register::Pbmc => check_port(Pbmc::new(data).local_port()),
        Register::Pcam => read_pcam(data),
        Register::Mcqs => firmware::read_state(data),
        Register::Mcqi => firmware::read_information(data),
        Register::Mcam => {
            read_mcam(data);
            Ok(())
        }
        Register::NodeDesc => {
            let mut text = [0; 64];
            for (to, from) in text.iter_mut().zip(core.config.name.bytes().take(63)) {
                *to = from;
            }
            let text = port.node_description.unwrap_or(text);
            NodeDesc::new(data).set_node_description(&text);
            Ok(())
        }
        Register::HostEndianness => {
            let value = if port.host_big_endian { 0x80 } else { 0 };
            HostEndianness::new(data).set_host_endianness(value);
            Ok(())
        }
        Register::Mtcap => {
            Mtcap::new(data).set_sensor_count(0).set_sensor_map(0);
            Ok(())
        }
        Register::Mtmp => Err(SENSOR),
        Register::Mcia => {
            // 1: there is no module with an EEPROM in the cage.
            Mcia::new(data).set_status(1);
            Ok(())
        }
        // Announced by no capability.
        Register::Pplm | Register::Dtor => Err(UNKNOWN),
    }
}

fn read_ptys(core: &Core, data: &mut [u8]) -> Result<(), CmdError> {
    let port = &core.port;
    let request = Ptys::new(&*data);
    check_port(request.local_port())?;
    let (local_port, proto_mask) = (request.local_port(), request.proto_mask());
    data.fill(0);
    let mut ptys = Ptys::new(data);
    ptys.set_local_port(local_port).set_proto_mask(proto_mask);
    // Of InfiniBand modes (mask 1) there are none.
    if proto_mask & 4 == 0 {
        return Ok(());
    }
    let (mode, rate) = port.operational_speed();
    ptys.set_eth_proto_capability(speed::ALL)
        .set_eth_proto_admin(port.speeds);
    ptys.set_eth_proto_oper(mode).set_data_rate_oper(rate);
    if mode != 0 {
        // Auto-negotiation complete; the partner can do the same.
        ptys.set_an_status(1).set_eth_proto_lp_advertise(speed::ALL);
    }
    // Direct attach copper, as CR4 says.
    ptys.set_connector_type(7);
    Ok(())
}

/// Registers 0x5001 to 0x5008 and what this file answers beyond.
fn read_pcam(data: &mut [u8]) -> Result<(), CmdError> {
    let mut pcam = Pcam::new(data);
    if pcam.access_reg_group() != 0 || pcam.feature_group() != 0 {
        return Err(GROUP);
    }
    let registers: u32 = [0x1, 0x2, 0x3, 0x4, 0x6, 0x7, 0x8]
        .iter()
        .map(|n| 1 << n)
        .sum();
    let mut mask = pcam.port_access_reg_cap_mask_mut();
    mask.as_bytes_mut().fill(0);
    mask.set_ppcnt(true);
    mask.set_port_access_reg_cap_mask_07_to_00(registers as u8);
    let mut features = pcam.feature_cap_mask_mut();
    features.as_bytes_mut().fill(0);
    features.set_ptys_connector_type(true);
    Ok(())
}

/// Registers 0x9060 and 0x9061 of group 0. That the firmware can be asked for its version does not
/// mean that it can be updated: that takes MCC and MCDA. No other group, of which newer drivers ask
/// for several, has a register or feature to announce.
fn read_mcam(data: &mut [u8]) {
    let mut mcam = Mcam::new(data);
    let first = mcam.access_reg_group() == 0;
    let mut registers = mcam.mng_access_reg_cap_mask_mut();
    registers.as_bytes_mut().fill(0);
    registers.set_mcqs(first).set_mcqi(first);
    mcam.mng_feature_cap_mask_mut().as_bytes_mut().fill(0);
}

fn write(core: &mut Core, register: Register, data: &mut [u8]) -> Result<(), CmdError> {
    match register {
        // The capability mask is InfiniBand's; FreeBSD writes it on Ethernet too.
        Register::Pcap => check_port(Pcap::new(data).local_port()),
        Register::Pmtu => {
            let mut pmtu = Pmtu::new(data);
            check_port(pmtu.local_port())?;
            if !core.port.set_mtu(pmtu.admin_mtu()) {
                return Err(MTU);
            }
            pmtu.set_max_mtu(MAX_MTU).set_oper_mtu(core.port.mtu());
            Ok(())
        }
        Register::Ptys => {
            let ptys = Ptys::new(&*data);
            check_port(ptys.local_port())?;
            let modes = ptys.eth_proto_admin() & speed::ALL;
            if ptys.proto_mask() & 4 == 0 || modes == 0 {
                return Err(SPEED);
            }
            core.port.speeds = modes;
            Ok(())
        }
        Register::Paos => {
            let paos = Paos::new(&*data);
            check_port(paos.local_port())?;
            let up = match (paos.ase(), paos.admin_status()) {
                (false, _) => return Ok(()),
                (true, 1) => true,
                (true, 2) => false,
                _ => return Err(STATUS),
            };
            port::set_admin(core, up);
            let oper = if core.port.link_up() { 1 } else { 2 };
            Paos::new(data).set_oper_status(oper);
            Ok(())
        }
        Register::Pfcc => {
            check_port(Pfcc::new(&*data).local_port())?;
            core.port.flow_control.copy_from_slice(data);
            Ok(())
        }
        Register::Ppcnt => {
            if data.get(4).is_some_and(|byte| byte & 0x80 != 0) {
                core.port.counters = port::PortCounters::default();
            }
            Ok(())
        }
        Register::NodeDesc => {
            core.port.node_description = Some(NodeDesc::new(data).node_description());
            Ok(())
        }
        Register::HostEndianness => {
            core.port.host_big_endian = HostEndianness::new(data).host_endianness() == 0x80;
            Ok(())
        }
        _ => Err(READ_ONLY),
    }
}

#[cfg(test)]
mod tests;
