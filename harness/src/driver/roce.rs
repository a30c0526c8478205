//! RoCE addresses and multicast groups.

use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::vport::{AttachToMcgIn, SetRoceAddressIn};
use rocinante_wire::MacAddr;

use super::Driver;
use super::command::input;
use super::error::Result;
use super::function::Function;

/// Encapsulation of packets that use an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum RoceType {
    V1,
    V2Ipv4,
    V2Ipv6,
}

/// An entry of the RoCE address table.
#[derive(Clone, Copy, Debug)]
pub struct GidEntry {
    /// Encapsulation.
    pub kind: RoceType,
    /// GID; IPv4 in mapped form.
    pub gid: [u8; 16],
    /// Source MAC.
    pub mac: MacAddr,
    /// VLAN id.
    pub vlan: Option<u16>,
}

/// ::ffff:a.b.c.d.
pub fn mapped_gid(ipv4: [u8; 4]) -> [u8; 16] {
    let mut gid = [0; 16];
    gid[10..12].fill(0xff);
    gid[12..].copy_from_slice(&ipv4);
    gid
}

impl<F: Function> Driver<F> {
    /// SET_ROCE_ADDRESS; `None` empties the entry.
    pub fn set_gid(&mut self, index: u8, entry: Option<&GidEntry>) -> Result<()> {
        let mut set = input(Opcode::SetRoceAddress, 0, SetRoceAddressIn::SIZE);
        let mut view = SetRoceAddressIn::new(&mut set);
        view.set_roce_address_index(index.into());
        if let Some(entry) = entry {
            let (version, l3) = match entry.kind {
                RoceType::V1 => (0, 0),
                RoceType::V2Ipv4 => (2, 0),
                RoceType::V2Ipv6 => (2, 1),
            };
            view.roce_address_mut()
                .set_source_l3_address(&entry.gid)
                .set_source_mac(&entry.mac.octets())
                .set_vlan_valid(entry.vlan.is_some())
                .set_vlan_id(entry.vlan.unwrap_or(0))
                .set_roce_version(version)
                .set_roce_l3_type(l3);
        }
        self.execute(&set, 16).map(drop)
    }

    /// ATTACH_TO_MCG, or DETACH_FROM_MCG.
    pub fn multicast(&mut self, qpn: u32, gid: &[u8; 16], attach: bool) -> Result<()> {
        let opcode = if attach {
            Opcode::AttachToMcg
        } else {
            Opcode::DetachFromMcg
        };
        let mut command = input(opcode, 0, AttachToMcgIn::SIZE);
        AttachToMcgIn::new(&mut command)
            .set_qpn(qpn)
            .set_multicast_gid(gid);
        self.execute(&command, 16).map(drop)
    }
}
