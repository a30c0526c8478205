//! Commands about Ethernet queues.

use super::{CmdError, Opcode, Status};
use crate::mlx5::nic::Nic;

/// Executes one Ethernet queue command.
pub fn execute(
    _nic: &mut Nic,
    opcode: Opcode,

    _input: &[u8],
    _output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    Err(CmdError::new(opcode, 0, Status::BadOp, "not a Ethernet queue command"))
}
