//! Opcodes by the names of IBTA table 38, with `*` and `?`.

use crate::opcode::{Op, Opcode, Service};

/// A set of opcode bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opcodes([u64; 4]);

impl Opcodes {
    pub(crate) const NONE: Opcodes = Opcodes([0; 4]);
    pub(crate) const ALL: Opcodes = Opcodes([u64::MAX; 4]);

    pub(crate) fn has(&self, byte: u8) -> bool {
        let word = self.0.get(usize::from(byte >> 6)).copied().unwrap_or(0);
        word >> (byte & 63) & 1 == 1
    }

    pub(crate) fn add(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }

    /// Those that `keep` keeps.
    pub(crate) fn retain(&mut self, keep: impl Fn(u8) -> bool) {
        let all = *self;
        *self = Opcodes::NONE;
        all.iter()
            .filter(|byte| keep(*byte))
            .for_each(|byte| self.add(byte));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=255).filter(|byte| self.has(*byte))
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Opcodes::NONE
    }

    /// Those whose name fits `pattern`: as IBTA and Linux spell it, with or without `RDMA_`.
    pub(crate) fn named(pattern: &str) -> Opcodes {
        let mut set = Opcodes::NONE;
        for byte in 0..=255 {
            let Some(name) = Opcode::from_byte(byte).map(name) else {
                continue;
            };
            if glob(pattern, &name) || glob(pattern, &name.replacen("RDMA_", "", 1)) {
                set.add(byte);
            }
        }
        set
    }
}

/// The name of an opcode, as in Linux' `ib_pack.h` without `IB_OPCODE_`.
#[must_use]
pub fn name(opcode: Opcode) -> String {
    let Opcode::Ib(service, op) = opcode else {
        return "CNP".to_owned();
    };
    let service = match service {
        Service::Rc => "RC",
        Service::Uc => "UC",
        Service::Ud => "UD",
        Service::Xrc => "XRC",
    };
    let op = match op {
        Op::SendFirst => "SEND_FIRST",
        Op::SendMiddle => "SEND_MIDDLE",
        Op::SendLast => "SEND_LAST",
        Op::SendLastImm => "SEND_LAST_WITH_IMMEDIATE",
        Op::SendOnly => "SEND_ONLY",
        Op::SendOnlyImm => "SEND_ONLY_WITH_IMMEDIATE",
        Op::WriteFirst => "RDMA_WRITE_FIRST",
        Op::WriteMiddle => "RDMA_WRITE_MIDDLE",
        Op::WriteLast => "RDMA_WRITE_LAST",
        Op::WriteLastImm => "RDMA_WRITE_LAST_WITH_IMMEDIATE",
        Op::WriteOnly => "RDMA_WRITE_ONLY",
        Op::WriteOnlyImm => "RDMA_WRITE_ONLY_WITH_IMMEDIATE",
        Op::ReadRequest => "RDMA_READ_REQUEST",
        Op::ReadResponseFirst => "RDMA_READ_RESPONSE_FIRST",
        Op::ReadResponseMiddle => "RDMA_READ_RESPONSE_MIDDLE",
        Op::ReadResponseLast => "RDMA_READ_RESPONSE_LAST",
        Op::ReadResponseOnly => "RDMA_READ_RESPONSE_ONLY",
        Op::Acknowledge => "ACKNOWLEDGE",
        Op::AtomicAcknowledge => "ATOMIC_ACKNOWLEDGE",
        Op::CompareSwap => "COMPARE_SWAP",
        Op::FetchAdd => "FETCH_ADD",
        Op::SendLastInv => "SEND_LAST_WITH_INVALIDATE",
        Op::SendOnlyInv => "SEND_ONLY_WITH_INVALIDATE",
    };
    format!("{service}_{op}")
}

/// Whether `text` fits `pattern`, in which `*` stands for any and `?` for one character. Takes
/// time proportional to the product of both lengths at most.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, with one byte more taken by it.
    let mut retry = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(c) if c == byte || *c == b'?' => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((behind, taken)) = retry else {
                    return false;
                };
                p = behind;
                t = taken + 1;
                retry = Some((behind, t));
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("a", "b", false),
            ("nic?", "nic1", true),
            ("nic?", "nic", false),
            ("*_ONLY", "RC_SEND_ONLY", true),
            ("*_ONLY", "RC_SEND_ONLY_WITH_IMMEDIATE", false),
            ("RC_*_LAST*", "RC_SEND_LAST_WITH_INVALIDATE", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        // No exponential search.
        assert!(!glob(&"a*".repeat(50), &"b".repeat(5000)));
        assert!(!glob(&("a*".repeat(50) + "b"), &"a".repeat(5000)));
    }

    #[test]
    fn names_lead_to_the_bytes_of_table_38() {
        let bytes = |pattern| Opcodes::named(pattern).iter().collect::<Vec<_>>();
        assert_eq!(bytes("RC_READ_RESPONSE_MIDDLE"), [0x0e]);
        assert_eq!(bytes("RC_RDMA_READ_RESPONSE_MIDDLE"), [0x0e]);
        assert_eq!(bytes("RC_READ_RESPONSE_*"), [0x0d, 0x0e, 0x0f, 0x10]);
        assert_eq!(bytes("RC_ACKNOWLEDGE"), [0x11]);
        assert_eq!(bytes("UD_SEND_ONLY"), [0x64]);
        assert_eq!(bytes("?C_SEND_ONLY"), [0x04, 0x24]);
        assert_eq!(bytes("CNP"), [0x81]);
        assert_eq!(bytes("NONSENSE"), [0u8; 0]);
    }
}
