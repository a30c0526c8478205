//! A command as a line of text: its name, the fields that are not zero, and how it ended.
//!
//! `CREATE_CQ cqc { log_cq_size 0x7 c_eqn 0x4 dbr_addr 0x1f000 } pas 000000000001e000 -> OK cqn 0x85`

use std::fmt;

use super::caps::{CapMode, query_op_mod};
use super::command::{AccessRegisterIn, AccessRegisterOut, Input, Output};
use super::opcode::{Command, Opcode};
use super::registers::Register;
use super::status::Status;
use crate::layout::{Layout, fields};

/// Fields that are said otherwise, or would fill the screen.
const HIDDEN: &[&str] = &[
    "opcode",
    "uid",
    "op_mod",
    "status",
    "syndrome",
    "register_id",
    "register_data",
    "capability",
];

/// An input, and the output if there is one yet. Costs nothing unless it is displayed.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// As the driver sent it.
    pub input: &'a [u8],
    /// As the device will answer.
    pub output: Option<&'a [u8]>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = Input::new(self.input);
        let opcode = Opcode::from_u16(header.opcode());
        let command = opcode.and_then(Opcode::command);
        match opcode {
            Some(opcode) => f.write_str(opcode.name())?,
            None => write!(f, "opcode {:#x}", header.opcode())?,
        }
        self.op_mod(f, opcode, header.op_mod())?;
        if let Some(Command { input, .. }) = command {
            fields(f, input, self.input, HIDDEN)?;
        }
        if opcode == Some(Opcode::AccessReg) {
            self.register(f, AccessRegisterIn::new(self.input).register_data())?;
        }
        let Some(output) = self.output else {
            return Ok(());
        };
        let header = Output::new(output);
        match Status::from_u8(header.status()) {
            Some(Status::Ok) => f.write_str(" -> OK")?,
            Some(status) => return write!(f, " -> {status}, syndrome {:#010x}", header.syndrome()),
            None => {
                return write!(
                    f,
                    " -> status {:#x}, syndrome {:#010x}",
                    header.status(),
                    header.syndrome()
                );
            }
        }
        if let Some(Command { output: layout, .. }) = command {
            fields(f, layout, output, HIDDEN)?;
        }
        if opcode == Some(Opcode::AccessReg) {
            self.register(f, AccessRegisterOut::new(output).register_data())?;
        }
        Ok(())
    }
}

impl Line<'_> {
    fn op_mod(
        &self,
        f: &mut fmt::Formatter<'_>,
        opcode: Option<Opcode>,
        op_mod: u16,
    ) -> fmt::Result {
        match opcode {
            Some(Opcode::AccessReg) => {
                let id = AccessRegisterIn::new(self.input).register_id();
                f.write_str(if op_mod == 0 { " write" } else { " read" })?;
                match Register::from_u16(id) {
                    Some(register) => write!(f, " {register}"),
                    None => write!(f, " register {id:#x}"),
                }
            }
            Some(Opcode::QueryHcaCap) => match query_op_mod(op_mod) {
                Some((cap_type, CapMode::Max)) => write!(f, " {cap_type:?} maximum"),
                Some((cap_type, CapMode::Current)) => write!(f, " {cap_type:?} current"),
                None => write!(f, " type {:#x}", op_mod >> 1),
            },
            Some(Opcode::SetHcaCap) => match query_op_mod(op_mod) {
                Some((cap_type, _)) => write!(f, " {cap_type:?}"),
                None => write!(f, " type {:#x}", op_mod >> 1),
            },
            _ if op_mod != 0 => write!(f, " op_mod {op_mod:#x}"),
            _ => Ok(()),
        }
    }

    fn register(&self, f: &mut fmt::Formatter<'_>, data: &[u8]) -> fmt::Result {
        let layout: Option<&Layout> =
            Register::from_u16(AccessRegisterIn::new(self.input).register_id())
                .map(Register::layout);
        layout.map_or(Ok(()), |layout| fields(f, layout, data, &[]))
    }
}

/// Bytes as hexadecimal digits: what vectors are recorded from.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx5::cq::{CreateCqIn, CreateCqOut};
    use crate::mlx5::registers::port::Pmtu;
    use crate::mlx5::status::syndrome;

    fn line(input: &[u8], output: Option<&[u8]>) -> String {
        Line { input, output }.to_string()
    }

    #[test]
    fn a_command_and_its_answer() {
        let mut input = vec![0; 0x118];
        let mut command = CreateCqIn::new(&mut input);
        command.set_opcode(Opcode::CreateCq.code());
        command
            .cqc_mut()
            .set_log_cq_size(7)
            .set_c_eqn(4)
            .set_dbr_addr(0x1f000);
        command.pas_mut().set(0, 0x1e000);
        let mut output = [0; 0x10];
        CreateCqOut::new(&mut output).set_cqn(0x85);
        assert_eq!(
            line(&input, Some(&output)),
            "CREATE_CQ cqc { log_cq_size 0x7 c_eqn 0x4 dbr_addr 0x1f000 } pas 000000000001e000 -> OK cqn 0x85"
        );
        assert!(line(&input, None).ends_with("pas 000000000001e000"));

        Output::new(&mut output)
            .set_status(5)
            .set_syndrome(syndrome(0x400, 1));
        assert!(line(&input, Some(&output)).ends_with(" -> BAD_RES, syndrome 0x04000001"));
    }

    #[test]
    fn bytes_as_digits() {
        assert_eq!(Hex(&[0x04, 0x00, 0xff]).to_string(), "0400ff");
        assert_eq!(Hex(&[]).to_string(), "");
    }

    #[test]
    fn registers_and_capabilities() {
        let mut input = [0; 0x20];
        let mut command = AccessRegisterIn::new(&mut input);
        command.set_opcode(0x805).set_register_id(0x5003);
        Pmtu::new(command.register_data_mut())
            .set_local_port(1)
            .set_admin_mtu(1522);
        assert_eq!(
            line(&input, Some(&[0; 16])),
            "ACCESS_REG write PMTU local_port 0x1 admin_mtu 0x5f2 -> OK"
        );
        command = AccessRegisterIn::new(&mut input);
        command.set_op_mod(1).set_register_id(0x9162);
        assert_eq!(
            line(&input[..0x10], None),
            "ACCESS_REG read register 0x9162"
        );

        let query = [1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            line(&query, Some(&[0x11; 0x1010])),
            "QUERY_HCA_CAP Roce current -> status 0x11, syndrome 0x11111111"
        );
        assert_eq!(
            line(&[0x0b, 0x16, 0, 0, 0, 0, 0, 2], None),
            "ALLOW_OTHER_VHCA_ACCESS op_mod 0x2"
        );
        assert_eq!(line(&[0xab, 0xcd], None), "opcode 0xabcd");
        assert_eq!(line(&[], Some(&[])), "opcode 0x0 -> OK");
    }
}
