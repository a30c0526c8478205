//! BTH opcodes, IBTA volume 1, table 38: three bits of transport, five of operation.

/// Transport service, BTH opcode bits 7:5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
    /// Unreliable datagram.
    Ud,
    /// Extended reliable connection.
    Xrc,
}

/// The RC operation, BTH opcode bits 4:0; UC, UD and XRC use subsets of the same codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the standard's
pub enum Op {
    SendFirst = 0x00,
    SendMiddle = 0x01,
    SendLast = 0x02,
    SendLastImm = 0x03,
    SendOnly = 0x04,
    SendOnlyImm = 0x05,
    WriteFirst = 0x06,
    WriteMiddle = 0x07,
    WriteLast = 0x08,
    WriteLastImm = 0x09,
    WriteOnly = 0x0a,
    WriteOnlyImm = 0x0b,
    ReadRequest = 0x0c,
    ReadResponseFirst = 0x0d,
    ReadResponseMiddle = 0x0e,
    ReadResponseLast = 0x0f,
    ReadResponseOnly = 0x10,
    Acknowledge = 0x11,
    AtomicAcknowledge = 0x12,
    CompareSwap = 0x13,
    FetchAdd = 0x14,
    SendLastInv = 0x16,
    SendOnlyInv = 0x17,
}

/// A BTH opcode this device understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// Service and operation.
    Ib(Service, Op),
    /// Congestion notification packet, 0x81.
    Cnp,
}

impl Op {
    /// From the low five bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Op> {
        use Op::*;
        Some(match bits & 0x1f {
            0x00 => SendFirst,
            0x01 => SendMiddle,
            0x02 => SendLast,
            0x03 => SendLastImm,
            0x04 => SendOnly,
            0x05 => SendOnlyImm,
            0x06 => WriteFirst,
            0x07 => WriteMiddle,
            0x08 => WriteLast,
            0x09 => WriteLastImm,
            0x0a => WriteOnly,
            0x0b => WriteOnlyImm,
            0x0c => ReadRequest,
            0x0d => ReadResponseFirst,
            0x0e => ReadResponseMiddle,
            0x0f => ReadResponseLast,
            0x10 => ReadResponseOnly,
            0x11 => Acknowledge,
            0x12 => AtomicAcknowledge,
            0x13 => CompareSwap,
            0x14 => FetchAdd,
            0x16 => SendLastInv,
            0x17 => SendOnlyInv,
            _ => return None,
        })
    }

    /// Whether a requester sends it (as opposed to a responder).
    #[must_use]
    pub const fn is_request(self) -> bool {
        !matches!(
            self,
            Op::ReadResponseFirst
                | Op::ReadResponseMiddle
                | Op::ReadResponseLast
                | Op::ReadResponseOnly
                | Op::Acknowledge
                | Op::AtomicAcknowledge
        )
    }

    /// Carries a RETH.
    #[must_use]
    pub const fn has_reth(self) -> bool {
        matches!(
            self,
            Op::WriteFirst | Op::WriteOnly | Op::WriteOnlyImm | Op::ReadRequest
        )
    }

    /// Carries an AETH.
    #[must_use]
    pub const fn has_aeth(self) -> bool {
        matches!(
            self,
            Op::ReadResponseFirst
                | Op::ReadResponseLast
                | Op::ReadResponseOnly
                | Op::Acknowledge
                | Op::AtomicAcknowledge
        )
    }

    /// Carries immediate data.
    #[must_use]
    pub const fn has_imm(self) -> bool {
        matches!(
            self,
            Op::SendLastImm | Op::SendOnlyImm | Op::WriteLastImm | Op::WriteOnlyImm
        )
    }

    /// Carries an IETH (the R_Key to invalidate).
    #[must_use]
    pub const fn has_ieth(self) -> bool {
        matches!(self, Op::SendLastInv | Op::SendOnlyInv)
    }

    /// Carries an AtomicETH.
    #[must_use]
    pub const fn has_atomic_eth(self) -> bool {
        matches!(self, Op::CompareSwap | Op::FetchAdd)
    }
}

impl Opcode {
    /// From the byte on the wire; `None` for reserved and unsupported codes.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Opcode> {
        if byte == 0x81 {
            return Some(Opcode::Cnp);
        }
        let service = match byte >> 5 {
            0 => Service::Rc,
            1 => Service::Uc,
            3 => Service::Ud,
            5 => Service::Xrc,
            _ => return None,
        };
        let Some(op) = Op::from_bits(byte) else {
            return None;
        };
        let valid = match service {
            Service::Rc | Service::Xrc => true,
            Service::Uc => (op as u8) <= Op::WriteOnlyImm as u8,
            Service::Ud => matches!(op, Op::SendOnly | Op::SendOnlyImm),
        };
        if valid {
            Some(Opcode::Ib(service, op))
        } else {
            None
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Opcode::Cnp => 0x81,
            Opcode::Ib(service, op) => {
                let transport = match service {
                    Service::Rc => 0,
                    Service::Uc => 1,
                    Service::Ud => 3,
                    Service::Xrc => 5,
                };
                (transport << 5) | op as u8
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_byte_round_trips() {
        let mut accepted = 0;
        for byte in 0..=255u8 {
            if let Some(opcode) = Opcode::from_byte(byte) {
                assert_eq!(opcode.to_byte(), byte);
                accepted += 1;
            }
        }
        // 23 RC + 23 XRC + 12 UC + 2 UD + CNP
        assert_eq!(accepted, 61);
    }
}
