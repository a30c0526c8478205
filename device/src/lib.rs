//! The NIC: objects and behaviour. The only place where the PCI function, guest memory, the
//! firmware commands and the wire meet.
//!
//! A NIC is a state machine without thread, socket, clock or random source: see
//! [`mlx5::Nic`].
#![forbid(unsafe_code)]

pub mod mlx5;
