//! The mlx5 personality: a ConnectX-5 as its drivers see it.
//!
//! [`Nic`] is a state machine: inputs go in with the time they happened ([`Nic::handle`]), frames,
//! interrupts and the next deadline come out. It reads and writes guest memory through the
//! snapshot it was last given and does no other I/O.

pub mod bar;
pub mod buffer;
pub mod cmd;
pub mod core;
pub mod counters;
pub mod cq;
pub mod cqe;
pub mod crspace;
pub mod eq;
pub mod eth;
pub mod fault;
pub mod hca;
pub mod inspect;
pub mod leak;
pub mod mkey;
pub mod nic;
pub mod notes;
pub mod outbox;
pub mod pages;
mod pause;
pub mod payload;
mod peers;
pub mod port;
pub mod qp;
pub mod reset;
pub mod roce;
pub mod rq;
pub mod srq;
pub mod table;
pub mod timer;
pub mod vport;
pub mod vsc;
pub mod wqe;

pub use self::core::{Core, GuestPayload, NicConfig, NicFrame, PortManager};
pub use self::nic::{Input, Nic};
