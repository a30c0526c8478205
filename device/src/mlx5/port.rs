//! The physical port: link state.

/// Port 1.
pub struct Port {
    /// Physical link, from the wire.
    pub physical_up: bool,
    /// What the driver asked for.
    pub admin_up: bool,
}

impl Port {
    /// Down, enabled.
    pub fn new() -> Port {
        Port { physical_up: false, admin_up: true }
    }

    /// Whether frames pass.
    pub fn link_up(&self) -> bool {
        self.physical_up && self.admin_up
    }
}

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}
