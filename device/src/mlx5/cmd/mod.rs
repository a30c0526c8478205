//! Firmware commands: from opcode to what it does.
//!
//! Knows nothing of how commands arrive: input and output are byte strings. The caller puts status
//! and syndrome of a refused command into the output.

pub mod counters;
pub mod cq;
pub mod eq;
pub mod eth;
pub mod flow;
pub mod hca;
pub mod l2;
pub mod mkey;
pub mod pages;
pub mod qp;
pub mod registers;
pub mod resources;
pub mod roce;
pub mod srq;
pub mod vport;

#[cfg(test)]
mod tests;

use log::{debug, warn};
use rocinante_firmware_cmd::mlx5::log::Line;
pub use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::queue::Request;
pub use rocinante_firmware_cmd::mlx5::status::{CmdError, Status, syndrome};

use super::buffer::QueueBuffer;
use super::nic::Nic;

/// Checks that every command has.
mod check {
    pub const UNKNOWN: u16 = 0xfff0;
    pub const STATE: u16 = 0xfff1;
    pub const INPUT_LENGTH: u16 = 0xfff2;
}

/// Executes one command. `input` is the whole input with its header, `output` at least 16 zeroed
/// bytes that the command extends to the natural size of its output.
pub fn execute(
    nic: &mut Nic,
    opcode: u16,
    op_mod: u16,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    let result = admit(nic, opcode, input, output)
        .and_then(|opcode| dispatch(nic, opcode, op_mod, input, output))
        // Some checks are shared by several commands; the syndrome names the one that was sent.
        .map_err(|error| CmdError {
            syndrome: syndrome(opcode, error.syndrome as u16),
            ..error
        });
    match result {
        Ok(()) => pages::request_pages(nic),
        Err(_) => {
            let hca = &mut nic.core.hca;
            hca.refused_commands = hca.refused_commands.saturating_add(1);
        }
    }
    result
}

/// Writes a command to the log: refused ones as warnings, with the reason.
pub fn log(nic: &str, request: &Request, input: &[u8], output: &[u8], error: Option<CmdError>) {
    let line = Line {
        input,
        output: Some(output),
    };
    match error {
        None => debug!(target: "mlx5::cmd", "{nic}: slot {}: {line}", request.slot),
        Some(error) => {
            warn!(target: "mlx5::cmd", "{nic}: slot {}: {line}: {}", request.slot, error.reason);
        }
    }
}

/// The checks that all commands have in common; then the output has its natural size.
fn admit(nic: &Nic, code: u16, input: &[u8], output: &mut Vec<u8>) -> Result<Opcode, CmdError> {
    let known = Opcode::from_u16(code).and_then(|opcode| Some((opcode, opcode.command()?)));
    let Some((opcode, command)) = known else {
        return Err(CmdError {
            status: Status::BadOp,
            syndrome: syndrome(code, check::UNKNOWN),
            reason: "the command is not offered",
        });
    };
    if !nic.core.hca.admits(opcode) {
        let reason = "not in this state of the HCA";
        return Err(CmdError::new(
            opcode,
            check::STATE,
            Status::BadSysState,
            reason,
        ));
    }
    if input.len() < command.min_input_len {
        let reason = "shorter than any driver's input";
        return Err(CmdError::new(
            opcode,
            check::INPUT_LENGTH,
            Status::BadInpLen,
            reason,
        ));
    }
    output.resize(command.output.size.max(16), 0);
    Ok(opcode)
}

fn dispatch(
    nic: &mut Nic,
    opcode: Opcode,
    op_mod: u16,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    use Opcode as O;
    let core = &mut nic.core;
    match opcode {
        O::EnableHca => hca::enable_hca(core, input),
        O::DisableHca => hca::disable_hca(nic, input),
        O::InitHca => {
            hca::init_hca(core);
            Ok(())
        }
        O::TeardownHca => hca::teardown_hca(nic, input),
        O::QueryIssi => {
            hca::query_issi(core, output);
            Ok(())
        }
        O::SetIssi => hca::set_issi(core, input),
        O::QueryHcaCap => hca::query_hca_cap(core, op_mod, input, output),
        O::SetHcaCap => hca::set_hca_cap(core, op_mod, input),
        O::QueryAdapter => {
            hca::query_adapter(output);
            Ok(())
        }
        O::SetDriverVersion => {
            hca::set_driver_version(core, input);
            Ok(())
        }
        O::QueryPages => pages::query_pages(nic, op_mod, input, output),
        O::ManagePages => pages::manage_pages(nic, op_mod, input, output),
        O::Nop => Ok(()),

        O::AllocUar => resources::alloc_uar(core, output),
        O::DeallocUar => resources::dealloc_uar(core, input),
        O::AllocPd => resources::alloc_pd(core, output),
        O::DeallocPd => resources::dealloc_pd(core, input),
        O::AllocTransportDomain => resources::alloc_transport_domain(core, output),
        O::DeallocTransportDomain => resources::dealloc_transport_domain(core, input),
        O::AllocXrcd => resources::alloc_xrcd(core, output),
        O::DeallocXrcd => resources::dealloc_xrcd(core, input),

        O::AllocQCounter => counters::alloc_q_counter(core, output),
        O::DeallocQCounter => counters::dealloc_q_counter(core, input),
        O::QueryQCounter => counters::query_q_counter(core, input, output),
        O::QueryCongStatistics => counters::query_cong_statistics(core, input, output),
        O::QueryCongParams => counters::query_cong_params(input, output),
        O::QueryVportCounter => counters::query_vport_counter(core, input, output),
        O::QueryVnicEnv => counters::query_vnic_env(core, input, output),

        O::QueryVportState => vport::query_vport_state(core, op_mod, input, output),
        O::ModifyVportState => vport::modify_vport_state(core, op_mod, input),
        O::QueryNicVportContext => vport::query_nic_vport_context(core, input, output),
        O::ModifyNicVportContext => vport::modify_nic_vport_context(core, input),
        // The context of an InfiniBand port, which this is not: zeros.
        O::QueryHcaVportContext => Ok(()),
        O::QueryHcaVportPkey => vport::query_hca_vport_pkey(input, output),

        O::SetL2TableEntry => l2::set_l2_table_entry(core, input),
        O::QueryL2TableEntry => l2::query_l2_table_entry(core, input, output),
        O::DeleteL2TableEntry => l2::delete_l2_table_entry(core, input),

        O::SetRoceAddress => roce::set_roce_address(core, input),
        O::QueryRoceAddress => roce::query_roce_address(core, input, output),
        O::AttachToMcg => roce::attach_to_mcg(nic, input),
        O::DetachFromMcg => roce::detach_from_mcg(core, input),

        O::CreateEq => eq::create_eq(core, input, output),
        O::DestroyEq => eq::destroy_eq(core, input),
        O::QueryEq => eq::query_eq(core, input, output),

        O::CreateCq => cq::create_cq(core, input, output),
        O::DestroyCq => cq::destroy_cq(core, input),
        O::QueryCq => cq::query_cq(core, input, output),
        O::ModifyCq => cq::modify_cq(core, op_mod, input),

        O::CreateMkey => mkey::create_mkey(core, input, output),
        O::QueryMkey => mkey::query_mkey(core, input, output),
        O::DestroyMkey => mkey::destroy_mkey(core, input),
        O::QuerySpecialContexts => {
            mkey::query_special_contexts(output);
            Ok(())
        }

        O::CreateRmp => srq::create_rmp(core, input, output),
        O::ModifyRmp => srq::modify_rmp(core, input),
        O::DestroyRmp => srq::destroy_rmp(core, input),
        O::QueryRmp => srq::query_rmp(core, input, output),
        O::CreateXrcSrq => srq::create_xrc_srq(core, input, output),
        O::DestroyXrcSrq => srq::destroy_xrc_srq(core, input),
        O::QueryXrcSrq => srq::query_xrc_srq(core, input, output),
        O::ArmXrcSrq => srq::arm_xrc_srq(core, input),
        O::CreateSrq => srq::create_srq(core, input, output),
        O::DestroySrq => srq::destroy_srq(core, input),
        O::QuerySrq => srq::query_srq(core, input, output),
        O::ArmRq => srq::arm_rq(core, input),

        O::AccessReg => registers::access_reg(nic, op_mod, input, output),
        _ => match opcode.code() >> 8 {
            0x05 => qp::execute(nic, opcode, input, output),
            _ if opcode.code() >= O::SetFlowTableRoot.code() => {
                flow::execute(nic, opcode, op_mod, input, output)
            }
            _ => eth::execute(nic, opcode, input, output),
        },
    }
}

/// The buffer of a queue as create commands describe it: `log_page_size` counts from 4 KiB pages,
/// `page_offset` in 64ths of a page. `None` if the page list does not cover it.
pub fn object_buffer(
    pas: impl Iterator<Item = u64>,
    log_page_size: u8,
    page_offset: u32,
    size: u64,
) -> Option<QueueBuffer> {
    let page_shift = u32::from(log_page_size) + 12;
    let offset = u64::from(page_offset).checked_shl(page_shift.saturating_sub(6))?;
    QueueBuffer::new(pas, page_shift, offset, size).ok()
}
