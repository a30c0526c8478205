//! The NIC vport: what the driver told us about addresses, filters and modes.

use rocinante_wire::MacAddr;

/// NIC vport context.
pub struct Vport {
    /// Burned-in address.
    pub permanent: MacAddr,
}

impl Vport {
    /// Defaults of an adapter with this burned-in address.
    pub fn new(permanent: MacAddr) -> Vport {
        Vport { permanent }
    }
}
