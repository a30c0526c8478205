//! What the monitor (VMM) sees: a PCI function with configuration space, BARs and MSI-X, served over vfio-user.
//!
//! Knows PCI and vfio-user; knows nothing of what the function does. The device behind it implements
//! [`DeviceModel`] and gets BAR accesses, resets and memory maps; it interrupts the guest through [`Interrupts`].

mod model;

pub use model::{DeviceModel, ResetKind};
