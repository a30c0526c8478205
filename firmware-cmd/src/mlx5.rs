//! NVIDIA/Mellanox ConnectX-4 and later.

pub mod cq;
pub mod eq;
pub mod eth;
pub mod flow;
pub mod hca;
pub mod mkey;
pub mod qp;
pub mod resources;
pub mod srq;
pub mod vport;
pub mod wq;
