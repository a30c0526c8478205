//! Ethernet objects and steering.

/// All Ethernet objects.
#[derive(Default)]
pub struct Eth {}

impl Eth {
    /// None.
    pub fn new() -> Eth {
        Eth {}
    }
}
