//! The physical port: its link, what its registers hold, and its counters.
//! Source: reference of the interface, "Port state machine and events", "Access registers".
//!
//! Knows nothing of how registers are laid out.

pub mod buffers;
pub mod control;
pub mod counters;
pub mod fec;
pub mod flow_control;
pub mod mode;
pub mod module;
pub mod pause;
pub mod qos;
pub mod sensor;

use rocinante_wire::time::Time;

use super::core::Core;
use super::eq::Eqe;
use buffers::Buffers;
pub use counters::{FrameCounters, PortCounters};
use fec::Fec;
use flow_control::FlowControl;
pub use mode::LinkSpeed;
use pause::Pauses;
use qos::Qos;
use sensor::Sensor;

/// Largest value of the MTU registers: with Ethernet header, VLAN tag and frame check sequence.
pub const MAX_MTU: u16 = 10218;

/// MTU before a driver sets one, for 1500 bytes of payload.
pub const DEFAULT_MTU: u16 = 1522;

/// Why there is no link (`monitor_opcode` of PDDR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum LinkTrouble {
    /// There is one.
    None = 0,
    /// The driver closed the port.
    ClosedByCommand = 1,
    /// Auto-negotiation hears nobody.
    NoPartner = 2,
    /// The speed is forced, and nobody is heard.
    NoPartnerForced = 36,
    /// The two ends have no speed in common.
    NoCommonSpeed = 39,
}

/// How long the LED of the port is to blink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beacon {
    /// Not at all.
    Off,
    /// Until somebody switches it off.
    On,
    /// Until then.
    Until(Time),
}

/// Port 1.
pub struct Port {
    physical_up: bool,
    admin_up: bool,
    /// Modes that the far end of the cable can do.
    partner: u32,
    /// Mode of the link, 0 while it is down.
    operational: u32,
    /// MTU that the driver set.
    mtu: u16,
    /// Link modes that the driver allows (`eth_proto_admin`). They count from the next time on
    /// that the link comes up.
    pub modes: u32,
    /// The driver wants no auto-negotiation (`an_disable_admin`), likewise.
    pub forced: bool,
    /// Whether the link came up without auto-negotiation.
    came_up_forced: bool,
    /// Forward error correction.
    pub fec: Fec,
    /// Pause frames.
    pub flow_control: FlowControl,
    /// Pauses that the far end has asked for.
    pub pauses: Pauses,
    /// Priorities and traffic classes.
    pub qos: Qos,
    /// Receive buffers.
    pub buffers: Buffers,
    /// Temperature of the chip.
    pub sensor: Sensor,
    /// LED.
    pub beacon: Beacon,
    /// Frames with a wrong frame check sequence are dropped (`fcs_chk`). None ever comes.
    pub checks_fcs: bool,
    /// NODE_DESC as last written; empty for the name of the NIC.
    pub node_description: Option<[u8; 64]>,
    /// HOST_ENDIANNESS: the host is big-endian.
    pub host_big_endian: bool,
    /// Counters.
    pub counters: PortCounters,
    /// When the counters began to count.
    pub counted_since: Time,
    /// Bits that links before this one could have carried, and when this one came up.
    bits_before: u64,
    up_since: Time,
}

impl Port {
    /// At power-on: enabled, not connected.
    pub fn new() -> Port {
        Port {
            physical_up: false,
            admin_up: true,
            partner: mode::up_to(LinkSpeed::default()),
            operational: 0,
            mtu: DEFAULT_MTU,
            modes: mode::ALL,
            forced: false,
            came_up_forced: false,
            fec: Fec::default(),
            flow_control: FlowControl::default(),
            pauses: Pauses::default(),
            qos: Qos::default(),
            buffers: Buffers::default(),
            sensor: Sensor::default(),
            beacon: Beacon::Off,
            checks_fcs: true,
            node_description: None,
            host_big_endian: false,
            counters: PortCounters::default(),
            counted_since: Time::ZERO,
            bits_before: 0,
            up_since: Time::ZERO,
        }
    }

    /// Whether frames pass: enabled by the driver, connected, and of one speed with the far end.
    #[inline]
    pub fn link_up(&self) -> bool {
        self.operational != 0
    }

    /// What the driver asked for with PAOS.
    pub fn admin_up(&self) -> bool {
        self.admin_up
    }

    /// Whether it is connected.
    pub fn physical_up(&self) -> bool {
        self.physical_up
    }

    /// Modes that the far end can do.
    pub fn partner(&self) -> u32 {
        self.partner
    }

    /// MTU in force, in the unit of the registers.
    #[inline]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Sets the MTU; false if the port cannot do it.
    #[must_use]
    pub fn set_mtu(&mut self, mtu: u16) -> bool {
        let ok = mtu <= MAX_MTU;
        if ok {
            self.mtu = mtu;
        }
        ok
    }

    /// The link mode in use and its rate in units of 100 Mbit/s; zeros while the link is down.
    pub fn operational_speed(&self) -> (u32, u16) {
        (self.operational, mode::rate(self.operational))
    }

    /// Bits that the link could have carried one way until now, whatever they were.
    pub fn bits(&self, now: Time) -> u64 {
        let nanoseconds = now.0.saturating_sub(self.up_since.0);
        let rate = u64::from(mode::rate(self.operational));
        self.bits_before
            .wrapping_add((nanoseconds / 10).wrapping_mul(rate))
    }

    /// Whether the link came up by auto-negotiation.
    pub fn negotiated(&self) -> bool {
        self.link_up() && !self.came_up_forced
    }

    /// Why there is no link.
    pub fn trouble(&self) -> LinkTrouble {
        if self.link_up() {
            LinkTrouble::None
        } else if !self.admin_up {
            LinkTrouble::ClosedByCommand
        } else if self.physical_up {
            LinkTrouble::NoCommonSpeed
        } else if self.forced {
            LinkTrouble::NoPartnerForced
        } else {
            LinkTrouble::NoPartner
        }
    }

    /// What the link comes up with if it comes up now.
    fn attempt(&self) -> u32 {
        if self.physical_up && self.admin_up {
            mode::negotiate(self.modes, self.partner)
        } else {
            0
        }
    }
}

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}

/// The cable was plugged or pulled.
pub fn set_physical(core: &mut Core, up: bool) {
    if core.port.physical_up != up {
        core.port.physical_up = up;
        renew(core);
    }
}

/// The driver enables or disables the port.
pub fn set_admin(core: &mut Core, up: bool) {
    if core.port.admin_up != up {
        core.port.admin_up = up;
        renew(core);
    }
}

/// The far end of the cable is another one, which can do speeds up to `speed`.
pub fn set_partner(core: &mut Core, speed: LinkSpeed) {
    core.port.partner = mode::up_to(speed);
    // Another speed means another link.
    if core.port.attempt() != core.port.operational {
        take_down(core);
        renew(core);
    }
}

/// What a function reset leaves as it is: the cable and what is at its far end.
pub fn keep_cable(core: &mut Core, before: &Port) {
    core.port.partner = before.partner;
    set_physical(core, before.physical_up);
}

fn take_down(core: &mut Core) {
    if core.port.link_up() {
        core.port.bits_before = core.port.bits(core.now);
        core.port.operational = 0;
        core.port.counters.link_down_events = core.port.counters.link_down_events.wrapping_add(1);
        core.event(Eqe::port_change(false));
    }
}

/// Brings the link up or down, whichever is due. What is up stays as it came up.
fn renew(core: &mut Core) {
    let attempt = core.port.attempt();
    if attempt == 0 {
        take_down(core);
    } else if !core.port.link_up() {
        core.port.operational = attempt;
        core.port.up_since = core.now;
        core.port.came_up_forced = core.port.forced;
        core.port.fec.train(mode::rate(attempt));
        core.event(Eqe::port_change(true));
    }
}

#[cfg(test)]
mod tests {
    use super::super::core::{NicConfig, PortManager};
    use super::*;
    use rocinante_wire::MacAddr;

    fn core() -> Core {
        Core::new(NicConfig {
            mac: MacAddr::new(2, 0, 0, 0, 0, 1),
            name: "left".into(),
            vectors: 8,
            manager: PortManager::Always,
        })
    }

    #[test]
    fn the_link_needs_both_sides_and_the_speed_the_link() {
        let mut core = core();
        assert!(!core.port.link_up());
        assert_eq!(core.port.trouble(), LinkTrouble::NoPartner);
        set_physical(&mut core, true);
        assert!(core.port.link_up());
        assert_eq!(core.port.operational_speed(), (mode::CR4_100G, 1000));
        // Modes count from the next time on that the link comes up.
        core.port.modes = mode::CR_25G | mode::CR_10G;
        assert_eq!(core.port.operational_speed(), (mode::CR4_100G, 1000));
        set_admin(&mut core, false);
        assert_eq!(core.port.operational_speed(), (0, 0));
        assert_eq!(core.port.trouble(), LinkTrouble::ClosedByCommand);
        set_admin(&mut core, true);
        assert_eq!(core.port.operational_speed(), (mode::CR_25G, 250));
        set_physical(&mut core, false);
        assert!(!core.port.link_up());
        assert_eq!(core.port.counters.link_down_events, 2);
        assert!(!core.port.set_mtu(MAX_MTU + 1));
        assert_eq!(core.port.mtu(), DEFAULT_MTU);
    }

    #[test]
    fn the_far_end_limits_the_speed() {
        let mut core = core();
        set_physical(&mut core, true);
        set_partner(&mut core, LinkSpeed::G25);
        assert_eq!(core.port.operational_speed(), (mode::CR_25G, 250));
        assert_eq!(core.port.counters.link_down_events, 1);
        core.port.modes = mode::CR4_100G;
        core.port.forced = true;
        set_admin(&mut core, false);
        set_admin(&mut core, true);
        assert!(!core.port.link_up());
        assert_eq!(core.port.trouble(), LinkTrouble::NoCommonSpeed);
        set_partner(&mut core, LinkSpeed::G100);
        assert!(core.port.link_up() && !core.port.negotiated());
        // A reset of the function forgets what the driver set, but not the far end.
        set_partner(&mut core, LinkSpeed::G10);
        core.reset(0);
        assert_eq!(core.port.operational_speed(), (mode::CR_10G, 100));
        assert!(core.port.negotiated());
    }
}
