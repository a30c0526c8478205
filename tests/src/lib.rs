//! What the whole-system tests share: fabrics of NICs in virtual time with queue pairs on them, patterns in memory, and
//! waiting for completions; pairs of real guests.

pub mod capture;
pub mod guests;
pub mod world;

pub use world::{End, Payload, World, pattern, run_id};
