//! What entries of flow tables say: actions and destinations; and why steering refuses a change.

/// `flow_context.action`, the bits that this device executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action(u16);

impl Action {
    /// Transmit tables only; changes nothing on receive.
    pub const ALLOW: u16 = 1;
    /// Ends here.
    pub const DROP: u16 = 2;
    /// Goes to each destination.
    pub const FORWARD: u16 = 4;
    /// Is counted.
    pub const COUNT: u16 = 8;

    /// `None` for bits that need capabilities which are not offered.
    pub fn from_bits(bits: u16) -> Option<Action> {
        let known = Self::ALLOW | Self::DROP | Self::FORWARD | Self::COUNT;
        (bits & !known == 0).then_some(Action(bits))
    }

    /// Whether this bit is set.
    pub fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

/// Where an entry forwards to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Another flow table.
    Table(u32),
    /// A TIR.
    Tir(u32),
}

/// Why steering refuses a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowError {
    /// No such table.
    NoTable,
    /// No such group in the table.
    NoGroup,
    /// No such entry.
    NoEntry,
    /// No such flow counter.
    NoCounter,
    /// A destination does not exist.
    NoDestination,
    /// log_size or level beyond the capabilities.
    Size,
    /// The way to a table of the same or a lower level.
    Level,
    /// Outside the table, or overlapping another group.
    Range,
    /// Flow index outside the group.
    Index,
    /// Still referred to.
    Busy,
    /// No more of that kind.
    Limit,
}

/// A TIR that a packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// TIR number.
    pub tirn: u32,
    /// Tag of the entry that sent it there.
    pub flow_tag: u32,
}

/// What to change of an entry (`modify_enable_mask`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modify {
    /// Bit 0.
    pub action: bool,
    /// Bit 1.
    pub flow_tag: bool,
    /// Bit 2.
    pub destinations: bool,
    /// Bit 3.
    pub counters: bool,
}
