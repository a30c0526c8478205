//! Commands about flow steerings.

use super::{CmdError, Opcode, Status};
use crate::mlx5::nic::Nic;

/// Executes one flow steering command.
pub fn execute(
    _nic: &mut Nic,
    opcode: Opcode,
    _op_mod: u16,
    _input: &[u8],
    _output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    Err(CmdError::new(opcode, 0, Status::BadOp, "not a flow steering command"))
}
