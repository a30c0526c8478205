//! Capabilities.

pub mod ethernet;
pub mod flow;
pub mod general;
pub mod rdma;
