//! InfiniBand transport headers as they lie on the wire, and their translation to and from
//! [`Packet`](crate::packet::Packet).
//!
//! Knows layouts and which header follows which; nothing of the encapsulation, of the ICRC or of
//! what a packet does to a queue pair.

mod codec;
mod gid;
mod headers;

pub use codec::{CNP_RESERVED_LEN, MAX_HEADERS_LEN, ParseError, headers_len, parse, write};
pub use gid::Gid;
pub use headers::{
    AckEth, AtomicAckEth, AtomicExtEth, Bth, DatagramEth, Grh, ImmDt, InvalidateEth, RdmaEth,
    XrcEth,
};

/// Bytes of the invariant CRC that closes every packet, IBTA 7.8.1.
pub const ICRC_LEN: usize = 4;
