//! Commands about raw Ethernet objects: SQ, RQ, RQT, TIS, TIR.

mod rq;
mod sq;
mod tir;
mod tis;
mod vxlan;

use super::{CmdError, Opcode, Status};
use crate::mlx5::buffer::{QueueBuffer, TooFewPages};
use crate::mlx5::nic::Nic;
use rocinante_firmware_cmd::mlx5::wq::Wq;

/// log2 of the WQEs or WQEBBs of the largest queue (`log_max_wq_sz`).
const LOG_MAX_WQ_SIZE: u8 = 15;

/// Executes one Ethernet queue command.
pub fn execute(
    nic: &mut Nic,
    opcode: Opcode,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    match opcode {
        Opcode::CreateTir => tir::create_tir(nic, input, output),
        Opcode::ModifyTir => tir::modify_tir(nic, input),
        Opcode::DestroyTir => tir::destroy_tir(nic, input),
        Opcode::CreateSq => sq::create_sq(nic, input, output),
        Opcode::ModifySq => sq::modify_sq(nic, input),
        Opcode::DestroySq => sq::destroy_sq(nic, input),
        Opcode::QuerySq => sq::query_sq(nic, input, output),
        Opcode::CreateRq => rq::create_rq(nic, input, output),
        Opcode::ModifyRq => rq::modify_rq(nic, input),
        Opcode::DestroyRq => rq::destroy_rq(nic, input),
        Opcode::QueryRq => rq::query_rq(nic, input, output),
        Opcode::CreateTis => tis::create_tis(nic, input, output),
        Opcode::ModifyTis => tis::modify_tis(nic, input),
        Opcode::DestroyTis => tis::destroy_tis(nic, input),
        Opcode::QueryTis => tis::query_tis(nic, input, output),
        Opcode::CreateRqt => tir::create_rqt(nic, input, output),
        Opcode::ModifyRqt => tir::modify_rqt(nic, input),
        Opcode::DestroyRqt => tir::destroy_rqt(nic, input),
        Opcode::AddVxlanUdpDport => vxlan::add(nic, input),
        Opcode::DeleteVxlanUdpDport => vxlan::delete(nic, input),
        opcode => Err(CmdError::new(
            opcode,
            0,
            Status::BadOp,
            "not an Ethernet object command",
        )),
    }
}

/// The buffer of a work queue of `size` bytes.
fn buffer(wq: Wq<&[u8]>, size: u64) -> Result<QueueBuffer, TooFewPages> {
    let page_shift = 12 + u32::from(wq.log_wq_pg_sz());
    // In units of a 64th of a page.
    let offset = u64::from(wq.page_offset()) << (page_shift - 6);
    QueueBuffer::new(wq.pas().iter(), page_shift, offset, size)
}

/// The first `N` bytes, zeros where there are none.
fn context<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut context = [0; N];
    for (to, from) in context.iter_mut().zip(bytes) {
        *to = *from;
    }
    context
}
