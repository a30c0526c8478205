//! How a command ends: delivery status, command status, and a syndrome for each check that can fail.

use std::fmt;

use super::opcode::Opcode;

/// What became of the queue entry, bits 7:1 of its last byte. Other than `Ok` the output is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DeliveryStatus {
    /// Executed: see the status in the output.
    Ok = 0x00,
    /// A signature is wrong.
    Signature = 0x01,
    /// A mailbox block has another token than the entry.
    Token = 0x02,
    /// A mailbox block has another number than its place in the chain.
    BlockNumber = 0x03,
    /// An output mailbox is not aligned, or not accessible.
    OutputPointer = 0x04,
    /// An input mailbox is not aligned, or not accessible.
    InputPointer = 0x05,
    /// The device itself failed.
    Internal = 0x06,
    /// The input is shorter than its header, or longer than its mailboxes or than the device takes.
    InputLength = 0x07,
    /// The output is shorter than its header, or longer than its mailboxes.
    OutputLength = 0x08,
    /// A reserved field is not zero.
    Reserved = 0x09,
    /// The entry is not of type 7, PCIe.
    Type = 0x10,
}

/// Byte 0 of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0x00,
    /// Internal error.
    IntErr = 0x01,
    /// Unknown opcode, or one this function does not have.
    BadOp = 0x02,
    /// Illegal field value.
    BadParam = 0x03,
    /// Not in this state of the HCA.
    BadSysState = 0x04,
    /// No object of that number.
    BadRes = 0x05,
    /// The object is in use.
    ResBusy = 0x06,
    /// Not yet; only newer Linux knows it.
    NotReady = 0x07,
    /// A capability limit is reached.
    Lim = 0x08,
    /// The object is in another state.
    BadResState = 0x09,
    /// Index out of range.
    Ix = 0x0a,
    /// Out of resources for now.
    NoRes = 0x0f,
    /// No such transition of the queue pair.
    BadQpState = 0x10,
    /// Bad packet.
    BadPkt = 0x30,
    /// The CQ holds more entries than it is to be resized to.
    BadSizeOutsCqes = 0x40,
    /// Input too short.
    BadInpLen = 0x50,
    /// Output too short.
    BadOutpLen = 0x51,
}

impl DeliveryStatus {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl Status {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status of that number.
    #[must_use]
    pub const fn from_u8(code: u8) -> Option<Status> {
        use Status::*;
        Some(match code {
            0x00 => Ok,
            0x01 => IntErr,
            0x02 => BadOp,
            0x03 => BadParam,
            0x04 => BadSysState,
            0x05 => BadRes,
            0x06 => ResBusy,
            0x07 => NotReady,
            0x08 => Lim,
            0x09 => BadResState,
            0x0a => Ix,
            0x0f => NoRes,
            0x10 => BadQpState,
            0x30 => BadPkt,
            0x40 => BadSizeOutsCqes,
            0x50 => BadInpLen,
            0x51 => BadOutpLen,
            _ => return None,
        })
    }

    /// As the drivers print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        use Status::*;
        match self {
            Ok => "OK",
            IntErr => "INT_ERR",
            BadOp => "BAD_OP",
            BadParam => "BAD_PARAM",
            BadSysState => "BAD_SYS_STATE",
            BadRes => "BAD_RES",
            ResBusy => "RES_BUSY",
            NotReady => "NOT_READY",
            Lim => "LIM",
            BadResState => "BAD_RES_STATE",
            Ix => "IX",
            NoRes => "NO_RES",
            BadQpState => "BAD_QP_STATE",
            BadPkt => "BAD_PKT",
            BadSizeOutsCqes => "BAD_SIZE_OUTS_CQES",
            BadInpLen => "BAD_INP_LEN",
            BadOutpLen => "BAD_OUTP_LEN",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a command was refused.
///
/// The syndrome, which drivers print, is opcode << 16 | check: it names one check in the source.
/// [`checks!`](crate::checks) declares them with the reason in words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{status}, syndrome {syndrome:#010x}: {reason}")]
pub struct CmdError {
    /// For the driver's errno.
    pub status: Status,
    /// For whoever reads the driver's log.
    pub syndrome: u32,
    /// For whoever reads ours.
    pub reason: &'static str,
}

impl CmdError {
    /// Check `check` of `opcode` failed.
    #[must_use]
    pub const fn new(opcode: Opcode, check: u16, status: Status, reason: &'static str) -> Self {
        CmdError {
            status,
            syndrome: syndrome(opcode.code(), check),
            reason,
        }
    }
}

impl fmt::Debug for CmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The syndrome of check `check` of a command.
#[must_use]
pub const fn syndrome(opcode: u16, check: u16) -> u32 {
    (opcode as u32) << 16 | check as u32
}

/// For [`checks!`](crate::checks): stops the compilation if two checks have the same syndrome.
pub const fn assert_distinct(checks: &[CmdError]) {
    let mut a = 0;
    while a < checks.len() {
        let mut b = a + 1;
        while b < checks.len() {
            assert!(
                checks[a].syndrome != checks[b].syndrome,
                "two checks have the same syndrome"
            );
            b += 1;
        }
        a += 1;
    }
}

/// Declare the checks of a command as constants of type [`CmdError`], numbered by hand so that a syndrome keeps its meaning.
///
/// ```
/// use rocinante_firmware_cmd::checks;
///
/// checks! {
///     CreateCq {
///         NO_EQ = 1, BadRes, "c_eqn names no EQ";
///         CQE_SIZE = 2, BadParam, "cqe_sz is above 2";
///     }
/// }
/// assert_eq!(NO_EQ.to_string(), "BAD_RES, syndrome 0x04000001: c_eqn names no EQ");
/// ```
#[macro_export]
macro_rules! checks {
    ($($Opcode:ident { $($NAME:ident = $check:literal, $Status:ident, $reason:literal;)* })*) => {
        $($(
            #[doc = concat!(stringify!($Status), ": ", $reason, ".")]
            const $NAME: $crate::mlx5::status::CmdError = $crate::mlx5::status::CmdError::new(
                $crate::mlx5::opcode::Opcode::$Opcode,
                $check,
                $crate::mlx5::status::Status::$Status,
                $reason,
            );
        )*)*
        const _: () = $crate::mlx5::status::assert_distinct(&[$($($NAME),*),*]);
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_numbers_round_trip() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(Status::from_u8).collect();
        assert_eq!(known.len(), 17);
        for code in 0..=u8::MAX {
            if let Some(status) = Status::from_u8(code) {
                assert_eq!(status.code(), code);
            }
        }
    }
}
