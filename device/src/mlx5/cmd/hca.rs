//! HCA management: enable, initialize, tear down, capabilities, identity.

use log::{debug, info};
use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::caps::{CapType, query_op_mod};
use rocinante_firmware_cmd::mlx5::hca::{
    DisableHcaIn, EnableHcaIn, QueryAdapterOut, QueryHcaCapIn, QueryHcaCapOut, QueryIssiOut,
    SetDriverVersionIn, SetHcaCapIn, SetIssiIn, TeardownHcaIn,
};

use super::CmdError;
use crate::mlx5::core::{Core, PortManager};
use crate::mlx5::hca::State;
use crate::mlx5::leak::{self, Goodbye};
use crate::mlx5::nic::Nic;
use crate::mlx5::notes::Note;

checks! {
    EnableHca { ENABLE_FUNCTION = 1, BadParam, "there is no other function"; }
    DisableHca { DISABLE_FUNCTION = 1, BadParam, "there is no other function"; }
    TeardownHca { PROFILE = 1, BadParam, "profile is none of graceful, force, fast"; }
    SetIssi { ISSI = 1, BadParam, "ISSI is neither 0 nor 1"; }
    QueryHcaCap {
        QUERY_TYPE = 1, BadParam, "no capabilities of this type";
        QUERY_FUNCTION = 2, BadParam, "there is no other function";
    }
    SetHcaCap {
        SET_TYPE = 1, BadParam, "no capabilities of this type";
        SET_FUNCTION = 2, BadParam, "there is no other function";
    }
}

/// Bit n: ISSI n is supported.
const SUPPORTED_ISSI: u32 = 0b11;

/// Mellanox' organizationally unique identifier.
const IEEE_VENDOR_ID: u32 = 0x0002c9;
/// PCI vendor.
const VSD_VENDOR_ID: u16 = 0x15b3;
/// Parameter set identifier, which drivers show as the board ID. Not one of NVIDIA's, so that no
/// firmware tool takes this adapter for a board that it has an image for.
const PSID: &[u8; 16] = b"RCN0000000001\0\0\0";

/// `profile` of TEARDOWN_HCA.
const GRACEFUL: u16 = 0;
const FORCE: u16 = 1;
const PREPARE_FAST: u16 = 2;

/// ENABLE_HCA. Enabling twice changes nothing.
pub fn enable_hca(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let enable = EnableHcaIn::new(input);
    if enable.function_id() != 0 || enable.embedded_cpu_function() {
        return Err(ENABLE_FUNCTION);
    }
    if core.hca.state == State::Disabled {
        core.hca.state = State::Enabled;
    }
    Ok(())
}

/// INIT_HCA: from now on there can be objects.
pub fn init_hca(core: &mut Core) {
    core.hca.state = State::Initialized;
    core.hca.findings = None;
    core.notes.add(Note::Came);
    info!(target: "mlx5::cmd", "{}: HCA initialized", core.config.name);
}

/// TEARDOWN_HCA: reports what is left and drops it. A fast teardown only prepares: Linux waits for
/// its completion event, so EQs live until the driver disables the NIC interface.
pub fn teardown_hca(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let (goodbye, state) = match TeardownHcaIn::new(input).profile() {
        GRACEFUL => (Goodbye::Teardown, State::Enabled),
        FORCE => (Goodbye::ForceTeardown, State::Stopped),
        PREPARE_FAST => {
            nic.core.hca.state = State::Stopped;
            info!(target: "mlx5::cmd", "{}: fast teardown prepared", nic.core.config.name);
            return Ok(());
        }
        _ => return Err(PROFILE),
    };
    leak::report(&mut nic.core, nic.qps.len(), goodbye);
    nic.drop_objects();
    nic.core.eqs.silenced = state == State::Stopped;
    nic.core.hca.state = state;
    info!(target: "mlx5::cmd", "{}: HCA torn down ({goodbye:?})", nic.core.config.name);
    Ok(())
}

/// DISABLE_HCA: the driver is gone, and the pages it did not take back with it.
pub fn disable_hca(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let disable = DisableHcaIn::new(input);
    if disable.function_id() != 0 || disable.embedded_cpu_function() {
        return Err(DISABLE_FUNCTION);
    }
    if nic.core.hca.state != State::Disabled {
        leak::report(&mut nic.core, nic.qps.len(), Goodbye::Disable);
        nic.drop_objects();
    }
    let manages_port = nic.core.config.manager == PortManager::Always;
    let hca = &mut nic.core.hca;
    hca.pages.clear();
    hca.caps.set_manages_port(manages_port);
    hca.caps.reset();
    hca.issi = 0;
    hca.state = State::Disabled;
    Ok(())
}

/// QUERY_ISSI.
pub fn query_issi(core: &Core, output: &mut [u8]) {
    QueryIssiOut::new(output)
        .set_current_issi(core.hca.issi)
        .set_supported_issi_dw0(SUPPORTED_ISSI);
}

/// SET_ISSI.
pub fn set_issi(core: &mut Core, input: &[u8]) -> Result<(), CmdError> {
    let issi = SetIssiIn::new(input).current_issi();
    if issi > 1 {
        return Err(ISSI);
    }
    core.hca.issi = issi;
    Ok(())
}

/// QUERY_HCA_CAP: op_mod is type << 1 | current.
pub fn query_hca_cap(
    core: &Core,
    op_mod: u16,
    input: &[u8],
    output: &mut [u8],
) -> Result<(), CmdError> {
    let query = QueryHcaCapIn::new(input);
    if query.other_function() || query.function_id() != 0 {
        return Err(QUERY_FUNCTION);
    }
    let (cap_type, mode) = query_op_mod(op_mod).ok_or(QUERY_TYPE)?;
    let caps = core.hca.caps.get(cap_type, mode);
    let mut out = QueryHcaCapOut::new(output);
    for (to, from) in out.capability_mut().iter_mut().zip(caps) {
        *to = *from;
    }
    let said = &core.hca.faults.overrides;
    for odd in said.iter().filter(|odd| odd.cap_type == cap_type) {
        odd.apply(out.capability_mut());
    }
    Ok(())
}

/// SET_HCA_CAP: op_mod is type << 1. Drivers echo everything with a few fields changed; what cannot
/// be changed is ignored.
pub fn set_hca_cap(core: &mut Core, op_mod: u16, input: &[u8]) -> Result<(), CmdError> {
    let set = SetHcaCapIn::new(input);
    if set.other_function() || set.function_id() != 0 {
        return Err(SET_FUNCTION);
    }
    let cap_type = CapType::from_u16(op_mod >> 1).ok_or(SET_TYPE)?;
    core.hca.caps.set(cap_type, set.capability());
    Ok(())
}

/// QUERY_ADAPTER.
pub fn query_adapter(output: &mut [u8]) {
    let mut out = QueryAdapterOut::new(output);
    out.adapter_mut()
        .set_ieee_vendor_id(IEEE_VENDOR_ID)
        .set_vsd_vendor_id(VSD_VENDOR_ID)
        .set_vsd_contd_psid(PSID);
}

/// SET_DRIVER_VERSION: kept for the log, and decides who manages the port.
pub fn set_driver_version(core: &mut Core, input: &[u8]) {
    let bytes = SetDriverVersionIn::new(input).driver_version();
    let text: String = bytes
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| {
            if byte.is_ascii_graphic() || *byte == b' ' {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect();
    debug!(target: "mlx5::cmd", "driver version {text}");
    if core.config.manager == PortManager::ForLinux {
        core.hca.caps.set_manages_port(text.starts_with("Linux"));
    }
    core.notes.add(Note::Version(text.clone()));
    core.hca.driver_version = Some(text);
}
