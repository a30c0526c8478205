//! Firmware commands: from opcode to what it does.
//!
//! Knows nothing of how commands arrive: input and output are byte strings. The caller puts status
//! and syndrome into the output.

pub mod eth;
pub mod flow;
pub mod qp;
pub mod registers;

pub use rocinante_firmware_cmd::mlx5::opcode::Opcode;
pub use rocinante_firmware_cmd::mlx5::status::{CmdError, Status, syndrome};

use super::nic::Nic;

/// Executes one command. `input` is the whole input with its header, `output` at least 16 zeroed
/// bytes that the command extends to the natural size of its output.
pub fn execute(
    nic: &mut Nic,
    opcode: u16,
    op_mod: u16,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    let unknown = CmdError {
        status: Status::BadOp,
        syndrome: syndrome(opcode, 0),
        reason: "no such command",
    };
    let opcode = Opcode::from_u16(opcode).ok_or(unknown)?;
    match opcode.code() {
        0x500..=0x50e => qp::execute(nic, opcode, input, output),
        0x805 => registers::access_reg(nic, op_mod, input, output),
        0x900..=0x90b | 0x912..=0x918 => eth::execute(nic, opcode, input, output),
        0x92f..=0x93c => flow::execute(nic, opcode, op_mod, input, output),
        _ => Err(unknown),
    }
}
