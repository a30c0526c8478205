//! The physical port: its link, what its registers hold, and its counters.
//! Source: reference of the interface, "Port state machine and events", "Access registers".
//!
//! Knows nothing of how registers are laid out.

use super::core::Core;
use super::eq::Eqe;

/// Largest value of the MTU registers: with Ethernet header, VLAN tag and frame check sequence.
pub const MAX_MTU: u16 = 10218;

/// MTU before a driver sets one, for 1500 bytes of payload.
pub const DEFAULT_MTU: u16 = 1522;

/// Link modes of PTYS (`eth_proto_*`), the ones that this port can do.
pub mod speed {
    #![allow(missing_docs)] // the names are IEEE 802.3's
    pub const CR_10G: u32 = 1 << 12;
    pub const CR4_40G: u32 = 1 << 6;
    pub const CR_25G: u32 = 1 << 27;
    pub const CR2_50G: u32 = 1 << 30;
    pub const CR4_100G: u32 = 1 << 20;
    /// All of them.
    pub const ALL: u32 = CR_10G | CR4_40G | CR_25G | CR2_50G | CR4_100G;
    /// Fastest first, with the rate in units of 100 Mbit/s.
    pub const BY_RATE: [(u32, u16); 5] = [
        (CR4_100G, 1000),
        (CR2_50G, 500),
        (CR4_40G, 400),
        (CR_25G, 250),
        (CR_10G, 100),
    ];
}

/// Upper bounds of the frame length classes of RFC 2819, frame check sequence included.
const SIZE_BOUNDS: [usize; 9] = [64, 127, 255, 511, 1023, 1518, 2047, 4095, 8191];

/// Counters of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounters {
    /// Frames.
    pub frames: u64,
    /// Bytes, without frame check sequences.
    pub octets: u64,
    /// Frames to a group address that is not the broadcast address.
    pub multicast: u64,
    /// Frames to the broadcast address.
    pub broadcast: u64,
    /// Frames by length with frame check sequence: up to 64 bytes, 127, 255, 511, 1023, 1518,
    /// 2047, 4095, 8191 and longer.
    pub sizes: [u64; 10],
}

impl FrameCounters {
    /// Counts a frame of `len` bytes without frame check sequence.
    #[inline]
    pub fn count(&mut self, dmac: &[u8; 6], len: usize) {
        self.frames += 1;
        self.octets += len as u64;
        if *dmac == [0xff; 6] {
            self.broadcast += 1;
        } else if dmac[0] & 1 != 0 {
            self.multicast += 1;
        }
        let class = SIZE_BOUNDS.iter().position(|bound| len + 4 <= *bound);
        self.sizes[class.unwrap_or(SIZE_BOUNDS.len())] += 1;
    }

    /// Frames to one station.
    pub fn unicast(&self) -> u64 {
        self.frames - self.multicast - self.broadcast
    }

    /// Bytes with frame check sequences.
    pub fn octets_on_wire(&self) -> u64 {
        self.octets + 4 * self.frames
    }
}

/// Counters of the port. Whoever sends or receives RoCE frames counts them here too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received.
    pub received: FrameCounters,
    /// Frames sent.
    pub transmitted: FrameCounters,
    /// Received frames that were dropped because they were longer than the MTU.
    pub oversize: u64,
    /// Times that the link went down.
    pub link_down_events: u32,
}

/// Port 1.
pub struct Port {
    physical_up: bool,
    admin_up: bool,
    /// MTU that the driver set.
    mtu: u16,
    /// Link modes that the driver allows (`eth_proto_admin`).
    pub speeds: u32,
    /// PFCC as last written.
    pub flow_control: [u8; 0x20],
    /// NODE_DESC as last written; empty for the name of the NIC.
    pub node_description: Option<[u8; 64]>,
    /// HOST_ENDIANNESS: the host is big-endian.
    pub host_big_endian: bool,
    /// Counters.
    pub counters: PortCounters,
}

impl Port {
    /// At power-on: enabled, not connected.
    pub fn new() -> Port {
        Port {
            physical_up: false,
            admin_up: true,
            mtu: DEFAULT_MTU,
            speeds: speed::ALL,
            flow_control: [0; 0x20],
            node_description: None,
            host_big_endian: false,
            counters: PortCounters::default(),
        }
    }

    /// Whether frames pass: enabled by the driver, and connected.
    #[inline]
    pub fn link_up(&self) -> bool {
        self.physical_up && self.admin_up
    }

    /// What the driver asked for with PAOS.
    pub fn admin_up(&self) -> bool {
        self.admin_up
    }

    /// Whether it is connected.
    pub fn physical_up(&self) -> bool {
        self.physical_up
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
        if !self.link_up() {
            return (0, 0);
        }
        let found = speed::BY_RATE
            .into_iter()
            .find(|(mode, _)| self.speeds & mode != 0);
        found.unwrap_or((speed::CR4_100G, 1000))
    }
}

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}

/// The cable was plugged or pulled.
pub fn set_physical(core: &mut Core, up: bool) {
    change(core, |port| port.physical_up = up);
}

/// The driver enables or disables the port.
pub fn set_admin(core: &mut Core, up: bool) {
    change(core, |port| port.admin_up = up);
}

fn change(core: &mut Core, set: impl FnOnce(&mut Port)) {
    let before = core.port.link_up();
    set(&mut core.port);
    let after = core.port.link_up();
    if before == after {
        return;
    }
    if !after {
        core.port.counters.link_down_events = core.port.counters.link_down_events.wrapping_add(1);
    }
    core.event(Eqe::port_change(after));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_needs_both_sides_and_the_speed_the_link() {
        let mut port = Port::new();
        assert!(!port.link_up());
        port.physical_up = true;
        assert!(port.link_up());
        assert_eq!(port.operational_speed(), (speed::CR4_100G, 1000));
        port.speeds = speed::CR_25G | speed::CR_10G;
        assert_eq!(port.operational_speed(), (speed::CR_25G, 250));
        port.physical_up = false;
        assert!(!port.link_up());
        assert_eq!(port.operational_speed(), (0, 0));
        assert!(!port.set_mtu(MAX_MTU + 1));
        assert_eq!(port.mtu(), DEFAULT_MTU);
    }

    #[test]
    fn frames_are_counted_by_address_and_length() {
        let mut counters = FrameCounters::default();
        counters.count(&[0xff; 6], 60);
        counters.count(&[1, 0, 0x5e, 0, 0, 1], 61);
        counters.count(&[2, 0, 0, 0, 0, 1], 1514);
        counters.count(&[2, 0, 0, 0, 0, 1], 9000);
        assert_eq!(
            (counters.broadcast, counters.multicast, counters.unicast()),
            (1, 1, 2)
        );
        assert_eq!(counters.sizes, [1, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(counters.octets_on_wire(), 60 + 61 + 1514 + 9000 + 16);
    }
}
