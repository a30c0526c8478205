//! What the whole-system tests share: fabrics of NICs in virtual time with queue pairs on them, patterns in memory, and
//! waiting for completions; pairs of real guests and traffic between them; recorded drivers.

pub mod capture;
pub mod guests;
pub mod hostnet;
pub mod net;
pub mod program;
pub mod replay;
pub mod served;
pub mod tshark;
pub mod vectors;
pub mod verbs;
pub mod world;

pub use world::{End, Payload, World, pattern, run_id};
