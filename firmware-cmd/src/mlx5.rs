//! NVIDIA/Mellanox ConnectX-4 and later.

pub mod caps;
pub mod command;
pub mod cq;
pub mod eq;
pub mod eth;
pub mod flow;
pub mod hca;
pub mod log;
pub mod mkey;
pub mod opcode;
pub mod qp;
pub mod queue;
pub mod registers;
pub mod resources;
pub mod srq;
pub mod status;
pub mod vport;
pub mod wq;

#[cfg(test)]
mod positions;
