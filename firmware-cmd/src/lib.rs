//! What the driver asks for: firmware command queues, bit layouts, opcodes, statuses and capabilities.
//!
//! One module per device family. Knows the formats and the queue mechanics; what a command does is somebody else's business.

#![forbid(unsafe_code)]

pub mod layout;
pub mod mlx5;
