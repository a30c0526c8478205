//! Reassembly of incoming SEND and WRITE messages: which packet may follow which, and how long
//! each has to be (IBTA 9.7.4.1). Shared by RC and UC, which differ in what a violation means.

use super::host::RecvKind;
use crate::opcode::Op;
use crate::packet::Packet;

/// The message a responder is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// None: the next packet has to be a First or an Only.
    Idle,
    /// A SEND of which this many bytes came.
    Send { received: u32 },
    /// A WRITE of `len` bytes to `va`, of which `received` came.
    Write {
        rkey: u32,
        va: u64,
        len: u32,
        received: u32,
    },
}

/// Where a packet's payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Into the receive WQE.
    Receive { offset: u32 },
    /// To remotely addressed memory; `va` is the payload's, `total` the message's length.
    Remote { rkey: u32, va: u64, total: u32 },
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a receive completion for so many bytes.
    Receive { kind: RecvKind, byte_len: u32 },
    /// Unnoticed by the receiver.
    Write,
}

/// What a packet in its proper place means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: bool,
    pub(crate) target: Target,
    pub(crate) end: Option<End>,
    /// The message once this packet is executed.
    pub(crate) after: Message,
}

impl Part {
    /// A receive WQE has to be there before the packet may be executed.
    pub(crate) fn wants_receive(&self) -> bool {
        match self.target {
            Target::Receive { .. } => self.first,
            Target::Remote { .. } => matches!(self.end, Some(End::Receive { .. })),
        }
    }
}

/// Whether an operation starts a message.
pub(crate) fn starts_message(op: Op) -> bool {
    matches!(
        op,
        Op::SendFirst
            | Op::SendOnly
            | Op::SendOnlyImm
            | Op::SendOnlyInv
            | Op::WriteFirst
            | Op::WriteOnly
            | Op::WriteOnlyImm
    )
}

impl Message {
    /// What `packet` means after what came before; `None` if it must not come here, has the
    /// wrong length or belongs to a message longer than `max_len`.
    pub(crate) fn part(self, op: Op, packet: &Packet, mtu: u32, max_len: u32) -> Option<Part> {
        let len = packet.payload_len;
        let (first, last) = match op {
            Op::SendFirst | Op::WriteFirst => (true, false),
            Op::SendMiddle | Op::WriteMiddle => (false, false),
            Op::SendLast | Op::SendLastImm | Op::SendLastInv | Op::WriteLast | Op::WriteLastImm => {
                (false, true)
            }
            Op::SendOnly | Op::SendOnlyImm | Op::SendOnlyInv | Op::WriteOnly | Op::WriteOnlyImm => {
                (true, true)
            }
            _ => return None,
        };
        let length_fits = match (first, last) {
            (_, false) => len == mtu,
            (false, true) => (1..=mtu).contains(&len),
            (true, true) => len <= mtu,
        };
        if !length_fits {
            return None;
        }
        let write = matches!(
            op,
            Op::WriteFirst
                | Op::WriteMiddle
                | Op::WriteLast
                | Op::WriteLastImm
                | Op::WriteOnly
                | Op::WriteOnlyImm
        );
        let before = match (self, first, write) {
            (Message::Idle, true, false) => Message::Send { received: 0 },
            (Message::Idle, true, true) => {
                let reth = packet.reth?;
                Message::Write {
                    rkey: reth.rkey,
                    va: reth.va,
                    len: reth.dma_len,
                    received: 0,
                }
            }
            (Message::Send { .. }, false, false) | (Message::Write { .. }, false, true) => self,
            _ => return None,
        };
        match before {
            Message::Idle => None,
            Message::Send { received } => {
                let sum = received.checked_add(len)?;
                if sum > max_len {
                    return None;
                }
                let kind = match op {
                    Op::SendLastImm | Op::SendOnlyImm => RecvKind::SendImm(packet.imm?),
                    Op::SendLastInv | Op::SendOnlyInv => RecvKind::SendInv(packet.inv_rkey?),
                    _ => RecvKind::Send,
                };
                Some(Part {
                    first,
                    target: Target::Receive { offset: received },
                    end: last.then_some(End::Receive {
                        kind,
                        byte_len: sum,
                    }),
                    after: if last {
                        Message::Idle
                    } else {
                        Message::Send { received: sum }
                    },
                })
            }
            Message::Write {
                rkey,
                va,
                len: total,
                received,
            } => {
                let sum = received.checked_add(len)?;
                // A packet that is not the last must leave something for the last.
                let fits = if last { sum == total } else { sum < total };
                if total > max_len || !fits {
                    return None;
                }
                let end = match op {
                    Op::WriteLastImm | Op::WriteOnlyImm => End::Receive {
                        kind: RecvKind::WriteImm(packet.imm?),
                        byte_len: total,
                    },
                    _ => End::Write,
                };
                Some(Part {
                    first,
                    target: Target::Remote {
                        rkey,
                        va: va.wrapping_add(received.into()),
                        total,
                    },
                    end: last.then_some(end),
                    after: if last {
                        Message::Idle
                    } else {
                        Message::Write {
                            rkey,
                            va,
                            len: total,
                            received: sum,
                        }
                    },
                })
            }
        }
    }
}
