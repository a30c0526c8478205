//! BTH and extension headers: bytes to [`Packet`] and back.

use std::mem::size_of;

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::headers::{
    AckEth, AtomicAckEth, AtomicExtEth, Bth, DatagramEth, ImmDt, InvalidateEth, RdmaEth, XrcEth,
};
use crate::opcode::{Op, Opcode, Service};
use crate::packet::{Aeth, AtomicEth, Deth, Packet, Reth};
use crate::psn::Psn;

/// The longest chain of headers: BTH, XRCETH, AtomicETH.
pub const MAX_HEADERS_LEN: usize = 44;

/// Zero bytes that follow the BTH of a congestion notification packet, IBTA annex A17.9.3.
pub const CNP_RESERVED_LEN: usize = 16;

const LOW_24: u32 = 0x00ff_ffff;

/// Why bytes are no IB transport packet that this device understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The headers that the opcode calls for are not all there.
    #[error("packet ends within its transport headers")]
    Truncated,
    /// TVer is not 0.
    #[error("transport header version {0}")]
    Version(u8),
    /// Reserved or unsupported opcode.
    #[error("opcode {0:#04x}")]
    Opcode(u8),
    /// PadCnt exceeds what follows the headers, or the packet is no multiple of four bytes long.
    #[error("pad count does not fit the packet's length")]
    Pad,
}

/// Which extension headers an opcode has between BTH and payload, and their length with the BTH.
#[derive(Clone, Copy)]
struct Chain {
    headers: u16,
    len: u8,
}

/// Extension headers, as bits in wire order.
mod header {
    pub(super) const XRC: u16 = 1 << 0;
    pub(super) const DETH: u16 = 1 << 1;
    pub(super) const RETH: u16 = 1 << 2;
    pub(super) const ATOMIC: u16 = 1 << 3;
    pub(super) const AETH: u16 = 1 << 4;
    pub(super) const ATOMIC_ACK: u16 = 1 << 5;
    pub(super) const IMM: u16 = 1 << 6;
    pub(super) const IETH: u16 = 1 << 7;
    pub(super) const CNP: u16 = 1 << 8;
}

/// By opcode byte: looked up for each packet in both directions. What is no opcode has no headers.
static CHAINS: [Chain; 256] = {
    let mut chains = [Chain { headers: 0, len: 0 }; 256];
    let mut byte = 0;
    while byte < chains.len() {
        if let Some(opcode) = Opcode::from_byte(byte as u8) {
            chains[byte] = Chain::new(opcode);
        }
        byte += 1;
    }
    chains
};

impl Chain {
    const fn new(opcode: Opcode) -> Chain {
        let mut chain = Chain {
            headers: 0,
            len: size_of::<Bth>() as u8,
        };
        match opcode {
            Opcode::Cnp => chain.add_if(true, header::CNP, CNP_RESERVED_LEN),
            Opcode::Ib(service, op) => {
                let xrc = matches!(service, Service::Xrc) && op.is_request();
                let atomic_ack = matches!(op, Op::AtomicAcknowledge);
                chain.add_if(xrc, header::XRC, size_of::<XrcEth>());
                chain.add_if(
                    matches!(service, Service::Ud),
                    header::DETH,
                    size_of::<DatagramEth>(),
                );
                chain.add_if(op.has_reth(), header::RETH, size_of::<RdmaEth>());
                chain.add_if(
                    op.has_atomic_eth(),
                    header::ATOMIC,
                    size_of::<AtomicExtEth>(),
                );
                chain.add_if(op.has_aeth(), header::AETH, size_of::<AckEth>());
                chain.add_if(atomic_ack, header::ATOMIC_ACK, size_of::<AtomicAckEth>());
                chain.add_if(op.has_imm(), header::IMM, size_of::<ImmDt>());
                chain.add_if(op.has_ieth(), header::IETH, size_of::<InvalidateEth>());
            }
        }
        chain
    }

    const fn add_if(&mut self, has: bool, header: u16, len: usize) {
        if has {
            self.headers |= header;
            self.len += len as u8;
        }
    }

    #[inline]
    fn of(opcode: Opcode) -> Chain {
        CHAINS[usize::from(opcode.to_byte())]
    }

    #[inline]
    fn has(self, header: u16) -> bool {
        self.headers & header != 0
    }

    #[inline]
    fn len(self) -> usize {
        usize::from(self.len)
    }
}

/// Bytes of BTH and extension headers of an opcode (for a CNP with its reserved bytes).
#[must_use]
pub fn headers_len(opcode: Opcode) -> usize {
    Chain::of(opcode).len()
}

#[inline]
fn take<T>(bytes: &mut &[u8]) -> Result<T, ParseError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    let (value, rest) = T::read_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
    *bytes = rest;
    Ok(value)
}

/// Parses BTH and extension headers to `packet`, which after an error is of no use.
///
/// `bytes` begins at the BTH and holds at least the headers; `ib_len` is the length of the whole
/// packet from BTH to the last pad byte (no ICRC), of which `bytes` may be only the beginning.
/// Returns the length of the headers.
///
/// # Errors
/// See [`ParseError`]; no input panics.
#[inline]
pub fn parse(bytes: &[u8], ib_len: usize, packet: &mut Packet) -> Result<usize, ParseError> {
    let mut rest = bytes.get(..ib_len).unwrap_or(bytes);
    let bth: Bth = take(&mut rest)?;
    if bth.version() != 0 {
        return Err(ParseError::Version(bth.version()));
    }
    let opcode = Opcode::from_byte(bth.opcode).ok_or(ParseError::Opcode(bth.opcode))?;
    let chain = Chain::of(opcode);
    let header_len = chain.len();
    let after = ib_len
        .checked_sub(header_len)
        .ok_or(ParseError::Truncated)?;
    *packet = Packet {
        solicited: bth.flags & Bth::SOLICITED != 0,
        mig_req: bth.flags & Bth::MIG_REQ != 0,
        pkey: bth.pkey.get(),
        dest_qp: bth.dest_qp.get() & LOW_24,
        ack_req: bth.psn.get() & Bth::ACK_REQ != 0,
        psn: Psn::new(bth.psn.get()),
        ..Packet::new(opcode)
    };
    if chain.headers != 0 {
        parse_extensions(chain, &mut rest, packet)?;
    }
    // IBTA 9.2.4: PadCnt aligns the payload to four bytes, and headers are multiples of four.
    let payload_len = after
        .checked_sub(usize::from(bth.pad()))
        .ok_or(ParseError::Pad)?;
    if after % 4 != 0 {
        return Err(ParseError::Pad);
    }
    packet.payload_len = u32::try_from(payload_len).map_err(|_| ParseError::Pad)?;
    Ok(header_len)
}

fn parse_extensions(chain: Chain, rest: &mut &[u8], packet: &mut Packet) -> Result<(), ParseError> {
    if chain.has(header::XRC) {
        let h: XrcEth = take(rest)?;
        packet.xrc_srqn = Some(h.xrc_srqn.get() & LOW_24);
    }
    if chain.has(header::DETH) {
        let h: DatagramEth = take(rest)?;
        packet.deth = Some(Deth {
            qkey: h.qkey.get(),
            src_qp: h.src_qp.get() & LOW_24,
        });
    }
    if chain.has(header::RETH) {
        let h: RdmaEth = take(rest)?;
        packet.reth = Some(Reth {
            va: h.va.get(),
            rkey: h.rkey.get(),
            dma_len: h.dma_len.get(),
        });
    }
    if chain.has(header::ATOMIC) {
        let h: AtomicExtEth = take(rest)?;
        packet.atomic = Some(AtomicEth {
            va: h.va.get(),
            rkey: h.rkey.get(),
            swap_add: h.swap_add.get(),
            compare: h.compare.get(),
        });
    }
    if chain.has(header::AETH) {
        let h: AckEth = take(rest)?;
        packet.aeth = Some(Aeth {
            syndrome: h.syndrome(),
            msn: h.msn(),
        });
    }
    if chain.has(header::ATOMIC_ACK) {
        let h: AtomicAckEth = take(rest)?;
        packet.atomic_ack = Some(h.original.get());
    }
    if chain.has(header::IMM) {
        let h: ImmDt = take(rest)?;
        packet.imm = Some(h.data.get());
    }
    if chain.has(header::IETH) {
        let h: InvalidateEth = take(rest)?;
        packet.inv_rkey = Some(h.rkey.get());
    }
    if chain.has(header::CNP) {
        let _: [u8; CNP_RESERVED_LEN] = take(rest)?;
    }
    Ok(())
}

struct Cursor<'a> {
    out: &'a mut [u8; MAX_HEADERS_LEN],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn put<T: IntoBytes + Immutable>(&mut self, header: &T) {
        let end = self.at + size_of::<T>();
        if let Some(place) = self.out.get_mut(self.at..end) {
            place.copy_from_slice(header.as_bytes());
            self.at = end;
        }
    }
}

/// Writes BTH and the extension headers that the opcode calls for; returns their length.
///
/// A header whose field of `packet` is `None` is written as zeros; fields of headers that the
/// opcode does not carry are ignored.
#[inline]
pub fn write(packet: &Packet, out: &mut [u8; MAX_HEADERS_LEN]) -> usize {
    let chain = Chain::of(packet.opcode);
    let pad = (packet.payload_len.wrapping_neg() & 3) as u8;
    let bit = |set: bool, mask: u8| if set { mask } else { 0 };
    let mut cursor = Cursor { out, at: 0 };
    cursor.put(&Bth {
        opcode: packet.opcode.to_byte(),
        flags: bit(packet.solicited, Bth::SOLICITED) | bit(packet.mig_req, Bth::MIG_REQ) | pad << 4,
        pkey: U16::new(packet.pkey),
        dest_qp: U32::new(
            (packet.dest_qp & LOW_24) | if chain.has(header::CNP) { Bth::BECN } else { 0 },
        ),
        psn: U32::new(packet.psn.get() | if packet.ack_req { Bth::ACK_REQ } else { 0 }),
    });
    if chain.headers != 0 {
        write_extensions(chain, packet, &mut cursor);
    }
    cursor.at
}

fn write_extensions(chain: Chain, packet: &Packet, cursor: &mut Cursor<'_>) {
    if chain.has(header::XRC) {
        cursor.put(&XrcEth {
            xrc_srqn: U32::new(packet.xrc_srqn.unwrap_or(0) & LOW_24),
        });
    }
    if chain.has(header::DETH) {
        let deth = packet.deth.unwrap_or(Deth { qkey: 0, src_qp: 0 });
        cursor.put(&DatagramEth {
            qkey: U32::new(deth.qkey),
            src_qp: U32::new(deth.src_qp & LOW_24),
        });
    }
    if chain.has(header::RETH) {
        let reth = packet.reth.unwrap_or(Reth {
            va: 0,
            rkey: 0,
            dma_len: 0,
        });
        cursor.put(&RdmaEth {
            va: U64::new(reth.va),
            rkey: U32::new(reth.rkey),
            dma_len: U32::new(reth.dma_len),
        });
    }
    if chain.has(header::ATOMIC) {
        let atomic = packet.atomic.unwrap_or(AtomicEth {
            va: 0,
            rkey: 0,
            swap_add: 0,
            compare: 0,
        });
        cursor.put(&AtomicExtEth {
            va: U64::new(atomic.va),
            rkey: U32::new(atomic.rkey),
            swap_add: U64::new(atomic.swap_add),
            compare: U64::new(atomic.compare),
        });
    }
    if chain.has(header::AETH) {
        let aeth = packet.aeth.unwrap_or(Aeth {
            syndrome: 0,
            msn: 0,
        });
        cursor.put(&AckEth::new(aeth.syndrome, aeth.msn));
    }
    if chain.has(header::ATOMIC_ACK) {
        cursor.put(&AtomicAckEth {
            original: U64::new(packet.atomic_ack.unwrap_or(0)),
        });
    }
    if chain.has(header::IMM) {
        cursor.put(&ImmDt {
            data: U32::new(packet.imm.unwrap_or(0)),
        });
    }
    if chain.has(header::IETH) {
        cursor.put(&InvalidateEth {
            rkey: U32::new(packet.inv_rkey.unwrap_or(0)),
        });
    }
    if chain.has(header::CNP) {
        cursor.put(&[0u8; CNP_RESERVED_LEN]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8], ib_len: usize) -> Result<(Packet, usize), ParseError> {
        // What was there before must not matter.
        let mut packet = Packet {
            solicited: true,
            imm: Some(7),
            deth: Some(Deth { qkey: 1, src_qp: 2 }),
            payload_len: 9,
            ..Packet::new(Opcode::Cnp)
        };
        let len = super::parse(bytes, ib_len, &mut packet)?;
        Ok((packet, len))
    }

    fn any_packet() -> impl Strategy<Value = Packet> {
        let opcodes: Vec<Opcode> = (0..=255u8).filter_map(Opcode::from_byte).collect();
        (
            prop::sample::select(opcodes),
            any::<(bool, bool, bool, u16, u32, u32)>(),
            any::<(u64, u32, u32, u64, u64)>(),
            0..5000u32,
        )
            .prop_map(|(opcode, bits, values, payload_len)| {
                let (solicited, mig_req, ack_req, pkey, dest_qp, psn) = bits;
                let (va, key, word, swap_add, compare) = values;
                let chain = Chain::of(opcode);
                Packet {
                    opcode,
                    solicited,
                    mig_req,
                    pkey,
                    dest_qp: dest_qp & LOW_24,
                    ack_req,
                    psn: Psn::new(psn),
                    xrc_srqn: chain.has(header::XRC).then_some(word & LOW_24),
                    deth: chain.has(header::DETH).then_some(Deth {
                        qkey: key,
                        src_qp: word & LOW_24,
                    }),
                    reth: chain.has(header::RETH).then_some(Reth {
                        va,
                        rkey: key,
                        dma_len: word,
                    }),
                    atomic: chain.has(header::ATOMIC).then_some(AtomicEth {
                        va,
                        rkey: key,
                        swap_add,
                        compare,
                    }),
                    aeth: chain.has(header::AETH).then_some(Aeth {
                        syndrome: key as u8,
                        msn: word & LOW_24,
                    }),
                    atomic_ack: chain.has(header::ATOMIC_ACK).then_some(va),
                    imm: chain.has(header::IMM).then_some(word),
                    inv_rkey: chain.has(header::IETH).then_some(key),
                    payload_len,
                }
            })
    }

    proptest! {
        #[test]
        fn packet_round_trips(packet in any_packet()) {
            let mut out = [0xa5; MAX_HEADERS_LEN];
            let len = write(&packet, &mut out);
            prop_assert_eq!(len, headers_len(packet.opcode));
            let ib_len = len + (packet.payload_len as usize).next_multiple_of(4);
            let (parsed, header_len) = parse(&out[..len], ib_len).unwrap();
            prop_assert_eq!(header_len, len);
            prop_assert_eq!(parsed, packet);
            // Every byte of the headers is needed.
            prop_assert_eq!(parse(&out[..len - 1], ib_len), Err(ParseError::Truncated));
            prop_assert_eq!(parse(&out[..len], len - 1), Err(ParseError::Truncated));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), ib_len in 0..100usize) {
            if let Ok((packet, len)) = parse(&bytes, ib_len) {
                prop_assert!(len <= bytes.len());
                prop_assert!(len + packet.payload_len as usize <= ib_len);
                // What was understood and is not reserved survives a rewrite.
                let mut out = [0; MAX_HEADERS_LEN];
                prop_assert_eq!(write(&packet, &mut out), len);
                prop_assert_eq!(out[0], bytes[0]);
                prop_assert_eq!(out[9..12].to_vec(), bytes[9..12].to_vec());
            }
        }

        #[test]
        fn bytes_with_a_known_opcode_do_not_panic(
            packet in any_packet(),
            tail in prop::collection::vec(any::<u8>(), MAX_HEADERS_LEN),
            ib_len in 0..200usize,
        ) {
            let mut bytes = tail;
            bytes[0] = packet.opcode.to_byte();
            bytes[1] &= 0xf0;
            let _ = parse(&bytes, ib_len);
        }
    }

    #[test]
    fn version_opcode_and_pad_are_checked() {
        let mut bytes = [0u8; 16];
        bytes[0] = 0x04;
        assert!(parse(&bytes, 16).is_ok());
        bytes[1] = 0x01;
        assert_eq!(parse(&bytes, 16), Err(ParseError::Version(1)));
        bytes[1] = 0x30;
        assert_eq!(parse(&bytes, 16).map(|(p, _)| p.payload_len), Ok(1));
        assert_eq!(parse(&bytes, 12), Err(ParseError::Pad));
        assert_eq!(parse(&bytes, 15), Err(ParseError::Pad));
        bytes[0] = 0x15;
        bytes[1] = 0;
        assert_eq!(parse(&bytes, 16), Err(ParseError::Opcode(0x15)));
    }
}
