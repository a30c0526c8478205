//! What is in guest memory: the translation of an IOVA to host memory, and volatile, ordered access to it.
//!
//! Knows the regions a monitor has mapped and how to read, write, copy and synchronise through them.
//! Knows nothing of PCI, of mlx5, or of who asks.
//!
//! The guest runs while the device accesses its memory, so no Rust reference to guest bytes ever exists:
//! bulk data is copied through [`vm_memory::VolatileSlice`], and everything that carries ownership
//! (doorbell records, owner bits, counters) is an atomic access with a stated ordering.

mod bulk;
mod error;
mod gather;
mod map;
mod ordered;
mod space;
#[cfg(test)]
mod tests;

pub use error::{DmaError, DmaErrorKind, MapError};
pub use gather::{Gather, MAX_SEGMENTS};
pub use map::{MemoryMap, copy};
pub use space::{DmaSpace, MAX_REGIONS, Prot};
