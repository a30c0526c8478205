//! ACCESS_REG.

use super::{CmdError, Opcode, Status};
use crate::mlx5::nic::Nic;

/// Reads or writes an access register.
pub fn access_reg(
    _nic: &mut Nic,
    _op_mod: u16,
    _input: &[u8],
    _output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    Err(CmdError::new(Opcode::AccessReg, 0, Status::BadOp, "no such register"))
}
