//! What is on the cable: Ethernet, IP and InfiniBand transport headers, the RoCE transport
//! state machines, the frame that travels between NICs, the switch and the capture.
//!
//! Knows nothing of guest memory, of mlx5, or of a clock: time is a parameter, payload bytes
//! are the caller's.
#![forbid(unsafe_code)]

pub mod buf;
pub mod cable;
pub mod capture;
pub mod cnp;
pub mod fault;
pub mod frame;
pub mod ib;
pub mod icrc;
pub mod opcode;
pub mod packet;
pub mod psn;
pub mod roce;
pub mod sim;
pub mod switch;
pub mod time;
pub mod transport;
pub mod vxlan;

#[cfg(test)]
mod vectors;

pub use pnet_base::MacAddr;
