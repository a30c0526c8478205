//! The NIC vport: what the driver has told the device about addresses, filters and modes.
//!
//! Knows the values; the Ethernet receive path decides what to do with them.
//! Source: `nic_vport_context` of Linux `mlx5_ifc.h`.

use std::collections::BTreeMap;

use rocinante_wire::MacAddr;

/// Administrative state of a vport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AdminState {
    /// Down whatever the port does.
    Down = 0,
    /// Up whatever the port does.
    Up = 1,
    /// As the port.
    Auto = 2,
}

/// An entry of the table of MAC addresses (SET_L2_TABLE_ENTRY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Entry {
    /// Address.
    pub mac: MacAddr,
    /// VLAN that the address is to be in, if that matters.
    pub vlan: Option<u16>,
}

/// Bits of [`Vport::change_events`] that are acted upon: the driver wants an event, and of which
/// lists.
pub mod change_event {
    #![allow(missing_docs)] // the names are the interface's
    pub const ARMED: u32 = 1 << 31;
    pub const UNICAST: u32 = 1 << 0;
    pub const MULTICAST: u32 = 1 << 1;
    pub const VLAN: u32 = 1 << 2;
    pub const PROMISC: u32 = 1 << 3;
    pub const MTU: u32 = 1 << 4;
}

/// NIC vport context.
#[derive(Clone, Debug)]
pub struct Vport {
    /// Permanent address.
    pub permanent: MacAddr,
    /// Largest frame without FCS that the driver wants, as it wrote it.
    pub mtu: u16,
    /// `min_wqe_inline_mode`.
    pub min_inline: u8,
    /// RoCE is on.
    pub roce_en: bool,
    /// Own unicast frames are not looped back.
    pub disable_uc_local_lb: bool,
    /// Own multicast frames are not looped back.
    pub disable_mc_local_lb: bool,
    /// All unicast is wanted.
    pub promisc_uc: bool,
    /// All multicast is wanted.
    pub promisc_mc: bool,
    /// Everything is wanted.
    pub promisc_all: bool,
    /// Unicast addresses that are wanted.
    pub uc_list: Vec<MacAddr>,
    /// Multicast addresses that are wanted.
    pub mc_list: Vec<MacAddr>,
    /// VLANs that are wanted.
    pub vlan_list: Vec<u16>,
    /// System image GUID.
    pub system_image_guid: u64,
    /// Port GUID.
    pub port_guid: u64,
    /// Node GUID.
    pub node_guid: u64,
    /// Change events that the driver armed, word 1 of the context. One event disarms all.
    pub change_events: u32,
    /// Administrative state.
    pub admin_state: AdminState,
    /// Datagrams refused for their Q_Key.
    pub qkey_violations: u16,
    /// Table of MAC addresses, by index.
    pub l2_table: BTreeMap<u32, L2Entry>,
}

/// MTU before the driver sets one: 1500 bytes of payload, header and two tags.
pub const DEFAULT_MTU: u16 = 1522;

impl Vport {
    /// Defaults of an adapter with this burned-in address.
    pub fn new(permanent: MacAddr) -> Vport {
        let guid = eui64(permanent);
        Vport {
            permanent,
            mtu: DEFAULT_MTU,
            min_inline: 0,
            roce_en: false,
            disable_uc_local_lb: false,
            disable_mc_local_lb: false,
            promisc_uc: false,
            promisc_mc: false,
            promisc_all: false,
            uc_list: Vec::new(),
            mc_list: Vec::new(),
            vlan_list: Vec::new(),
            system_image_guid: guid,
            port_guid: guid,
            node_guid: guid,
            change_events: 0,
            qkey_violations: 0,
            l2_table: BTreeMap::new(),
            admin_state: AdminState::Auto,
        }
    }

    /// Whether the vport is up on a port of that state.
    pub fn is_up(&self, port_up: bool) -> bool {
        match self.admin_state {
            AdminState::Down => false,
            AdminState::Up => true,
            AdminState::Auto => port_up,
        }
    }
}

/// The EUI-64 of a MAC address.
pub fn eui64(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.octets();
    u64::from_be_bytes([a, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_made_of_the_mac() {
        let vport = Vport::new(MacAddr::new(0x02, 0x11, 0x22, 0x33, 0x44, 0x55));
        assert_eq!(vport.node_guid, 0x0211_22ff_fe33_4455);
    }
}
