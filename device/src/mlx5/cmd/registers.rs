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
use rocinante_firmware_cmd::mlx5::registers::management::{HostEndianness, NodeDesc};
use rocinante_firmware_cmd::mlx5::registers::port::Pcap;

use super::CmdError;
use crate::mlx5::core::Core;
use crate::mlx5::fault::{Timeouts, announced};
use crate::mlx5::nic::Nic;
use crate::mlx5::port::PortCounters;

mod buffers;
mod capabilities;
mod counters;
mod firmware;
mod link;
mod module;
mod qos;

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
        FEC = 14, BadParam, "fec_override_admin has a mode that the rate cannot do";
        PAGE = 15, BadParam, "no such page of diagnostic data";
        MODULE_SIZE = 16, BadParam, "more bytes of the module than fit in";
        TRUST = 17, BadParam, "trust_state is neither PCP nor DSCP";
        BANDWIDTH = 18, BadParam, "bw_allocation above 100 percent";
        BUFFER = 19, BadParam, "no such buffer or pool";
        BUFFER_SIZE = 20, BadParam, "buffers larger than what there is, or a threshold than its buffer";
        RESET = 23, BadParam, "no such level of a reset";
        ITEM = 22, BadParam, "no such item of the non-volatile configuration";
        DCBX = 21, BadParam, "version_admin is neither the host nor the adapter";
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
        // FreeBSD's are shorter than Linux': without the internal buffers, without rates that came
        // later.
        Register::Pbmc => 0x4c,
        Register::Pplm => 0x18,
        Register::Pptb | Register::Mlcr => 8,
        Register::Sbpr | Register::DcbxParam => 0xc,
        Register::Mtmp => 0x14,
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
        Register::Pmlp => link::read_pmlp(data),
        Register::Pmtu => link::read_pmtu(port, data),
        Register::Ptys => link::read_ptys(port, data),
        Register::Paos => link::read_paos(port, data),
        Register::Pplm => link::read_pplm(port, data),
        Register::Pddr => link::read_pddr(port, data),
        Register::Pcmr => link::read_pcmr(port, data),
        Register::Mlcr => link::read_mlcr(port, core.now, data),
        Register::Pfcc => qos::read_pfcc(port, data),
        Register::Qpts => qos::read_qpts(port, data),
        Register::Qpdp => qos::read_qpdp(port, data),
        Register::Qpdpm => qos::read_qpdpm(port, data),
        Register::Qtct => qos::read_qtct(port, data),
        Register::Qetcr => qos::read_qetcr(port, data),
        Register::DcbxParam => qos::read_dcbx_param(port, data),
        Register::Pptb => buffers::read_pptb(port, data),
        Register::Pbmc => buffers::read_pbmc(port, data),
        Register::Sbpr => buffers::read_sbpr(port, data),
        Register::Sbcm => buffers::read_sbcm(port, data),
        Register::Sbcam => buffers::read_sbcam(data),
        Register::Ppcnt => counters::read(core, data),
        Register::Mpcnt => {
            Mpcnt::new(data).counter_set_mut().fill(0);
            Ok(())
        }
        Register::Pcam => capabilities::read_pcam(data),
        Register::Mcam => {
            capabilities::read_mcam(data);
            Ok(())
        }
        Register::Qcam => capabilities::read_qcam(data),
        Register::Mcqs => firmware::read_state(data),
        Register::Mcqi => firmware::read_information(data),
        Register::Mfrl => {
            firmware::read_resets(data);
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
        Register::Mnvda => firmware::read_configuration(data),
        Register::Mtcap => {
            module::read_mtcap(data);
            Ok(())
        }
        Register::Mtmp => module::read_mtmp(port, data),
        Register::Mcia => module::read_mcia(core, data),
        // The initialization segment says whether it is there: with the timeouts that are in it.
        Register::Dtor => read_timeouts(core, data),
    }
}

fn read_timeouts(core: &Core, data: &mut [u8]) -> Result<(), CmdError> {
    let timeouts = &core.hca.faults.timeouts;
    if *timeouts == Timeouts::default() {
        return Err(UNKNOWN);
    }
    for (offset, time) in &timeouts.registers {
        if let Some(word) = data.get_mut(*offset..*offset + 4) {
            word.copy_from_slice(&announced(*time).to_be_bytes());
        }
    }
    Ok(())
}

fn write(core: &mut Core, register: Register, data: &mut [u8]) -> Result<(), CmdError> {
    match register {
        // The capability mask is InfiniBand's; FreeBSD writes it on Ethernet too.
        Register::Pcap => check_port(Pcap::new(data).local_port()),
        Register::Pmtu => link::write_pmtu(&mut core.port, data),
        Register::Ptys => link::write_ptys(&mut core.port, data),
        Register::Paos => link::write_paos(core, data),
        Register::Pplm => link::write_pplm(&mut core.port, data),
        Register::Pcmr => link::write_pcmr(&mut core.port, data),
        Register::Mlcr => link::write_mlcr(core, data),
        Register::Pfcc => qos::write_pfcc(&mut core.port, data),
        Register::Qpts => qos::write_qpts(&mut core.port, data),
        Register::Qpdp => qos::write_qpdp(&mut core.port, data),
        Register::Qpdpm => qos::write_qpdpm(&mut core.port, data),
        Register::Qtct => qos::write_qtct(&mut core.port, data),
        Register::Qetcr => qos::write_qetcr(&mut core.port, data),
        Register::DcbxParam => qos::write_dcbx_param(&mut core.port, data),
        Register::Pptb => buffers::write_pptb(&mut core.port, data),
        Register::Pbmc => buffers::write_pbmc(&mut core.port, data),
        Register::Sbpr => buffers::write_sbpr(&mut core.port, data),
        Register::Sbcm => buffers::write_sbcm(&mut core.port, data),
        Register::Ppcnt => {
            if data.get(4).is_some_and(|byte| byte & 0x80 != 0) {
                core.port.counters = PortCounters::default();
                core.port.counted_since = core.now;
            }
            Ok(())
        }
        Register::Mfrl => firmware::ask_for_reset(data),
        Register::Mtmp => module::write_mtmp(&mut core.port, data),
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
