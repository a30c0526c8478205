//! What the monitor (VMM) sees: a PCI function with configuration space, BARs and MSI-X, served over vfio-user.
//!
//! Knows PCI and vfio-user; knows nothing of what the function does. The device behind it implements
//! [`DeviceModel`] and gets BAR accesses, resets and memory maps; it interrupts the guest through [`Interrupts`].

pub mod client;
mod config;
mod connection;
mod function;
mod interrupts;
mod irqs;
mod layout;
mod model;
mod msix;
mod protocol;
pub mod server;
mod session;
mod shutdown;
mod sys;
#[cfg(test)]
mod tests;
mod vendor;

pub use config::CONFIG_SPACE_LEN;
pub use function::{ConfigError, Function, FunctionConfig, OutOfRange, SharedAreas};
pub use interrupts::{Interrupts, MAX_VECTORS};
pub use model::{DeviceModel, ResetKind};
pub use server::{Listener, ServeError, serve};
pub use shutdown::Shutdown;
pub use vendor::{ConfigRegisters, VendorCapability};
