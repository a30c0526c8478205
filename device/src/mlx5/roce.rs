//! RoCE addressing: the address table that SET_ROCE_ADDRESS fills, the paths that QPs and
//! address vectors name in it, and multicast groups.
//! Source: reference of the interface, "NIC vport context and RoCE addresses";
//! Linux `mlx5_core/lib/gid.c`, FreeBSD `mlx5_ib/mlx5_ib_main.c`.

use std::collections::HashMap;

use rocinante_wire::MacAddr;

/// `roce_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoceVersion {
    /// GRH in Ethernet, ethertype 0x8915.
    V1,
    /// UDP port 4791 over IPv4 (the address is the last four bytes).
    V2Ipv4,
    /// UDP port 4791 over IPv6.
    V2Ipv6,
}

/// One entry of the RoCE address table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoceAddress {
    /// Encapsulation.
    pub version: RoceVersion,
    /// GID. For V2Ipv4 in mapped form ::ffff:a.b.c.d whatever form the driver wrote.
    pub gid: [u8; 16],
    /// Source MAC.
    pub mac: MacAddr,
    /// VLAN id of tagged frames.
    pub vlan: Option<u16>,
}

/// Entries of the table (`roce_address_table_size`).
pub const TABLE_SIZE: usize = 256;

/// RoCE address table and multicast groups.
pub struct Roce {
    /// By `roce_address_index`; `None` is an empty entry.
    table: Vec<Option<RoceAddress>>,
    /// The entries that are not empty: few, and looked through for each datagram.
    used: Vec<RoceAddress>,
    /// QPs attached to a multicast GID (ATTACH_TO_MCG).
    pub multicast: HashMap<[u8; 16], Vec<u32>>,
}

impl Roce {
    /// Empty.
    pub fn new() -> Roce {
        Roce {
            table: vec![None; TABLE_SIZE],
            used: Vec::new(),
            multicast: HashMap::new(),
        }
    }

    /// The entry with this index.
    pub fn address(&self, index: u8) -> Option<&RoceAddress> {
        self.table.get(usize::from(index))?.as_ref()
    }

    /// Sets or empties an entry.
    pub fn set_address(&mut self, index: u8, address: Option<RoceAddress>) {
        if let Some(entry) = self.table.get_mut(usize::from(index)) {
            *entry = address;
        }
        self.used = self.table.iter().flatten().copied().collect();
    }

    /// Whether any entry has this GID (IPv4 in mapped form).
    pub fn owns(&self, gid: &[u8; 16]) -> bool {
        self.used.iter().any(|entry| entry.gid == *gid)
    }

    /// Whether any entry has this MAC.
    pub fn owns_mac(&self, mac: MacAddr) -> bool {
        self.used.iter().any(|entry| entry.mac == mac)
    }
}

impl Default for Roce {
    fn default() -> Self {
        Self::new()
    }
}

/// An IPv4 address as a GID.
pub fn mapped(ipv4: [u8; 4]) -> [u8; 16] {
    let mut gid = [0; 16];
    gid[10..12].fill(0xff);
    gid[12..].copy_from_slice(&ipv4);
    gid
}
