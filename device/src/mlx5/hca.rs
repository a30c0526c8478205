//! The HCA as a whole: its state, capabilities and page accounting.

/// HCA state.
#[derive(Default)]
pub struct Hca {}

impl Hca {
    /// At power-on.
    pub fn new() -> Hca {
        Hca {}
    }
}
