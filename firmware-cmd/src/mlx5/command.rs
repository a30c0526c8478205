//! What all commands have in common: the header, and the register access command that carries another structure.

use crate::layout::layout;

layout! {
    /// Input of a command without parameters, or the header of any other.
    pub input Input[0x10] {}

    /// Output of a command without results, or the header of any other.
    pub output Output[0x10] {}

    /// Input of ACCESS_REG; op_mod 0 writes, 1 reads.
    pub input AccessRegisterIn[0x10] {
        0x08[15:0] register_id;
        0x0c argument;
        0x10 register_data: [u8];
    }

    /// Output of ACCESS_REG.
    pub output AccessRegisterOut[0x10] {
        0x10 register_data: [u8];
    }
}
