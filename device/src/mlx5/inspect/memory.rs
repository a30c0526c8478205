//! Memory keys, and the smaller objects.

use serde::Serialize;

use super::gid_text;
use crate::mlx5::eth::steering::{FlowTable, Steering};
use crate::mlx5::eth::tir::{Disposition, Tir, Tis};
use crate::mlx5::mkey::{AccessMode, Mkey, Rights, Translation};
use crate::mlx5::roce::{RoceAddress, RoceVersion};

/// A memory key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MkeyInfo {
    /// The key as queues use it: index and variant.
    pub key: u32,
    /// Not usable until a UMR says so.
    pub free: bool,
    /// Protection domain.
    pub pd: u32,
    /// The only queue pair that may use it.
    pub qpn: Option<u32>,
    /// `PA`, `MTT`, `KLM` or `KSM`.
    pub mode: &'static str,
    /// First virtual address.
    pub start: u64,
    /// Bytes; `None` for all of the address space.
    pub len: Option<u64>,
    /// Bytes of a page (MTT) or an entity (KSM).
    pub page_size: Option<u64>,
    /// Entries of its list.
    pub entries: usize,
    /// Rights: `local_read`, `local_write`, `remote_read`, `remote_write`, `atomic`.
    pub rights: Vec<&'static str>,
}

const RIGHTS: [(Rights, &str); 5] = [
    (Rights::LOCAL_READ, "local_read"),
    (Rights::LOCAL_WRITE, "local_write"),
    (Rights::REMOTE_READ, "remote_read"),
    (Rights::REMOTE_WRITE, "remote_write"),
    (Rights::ATOMIC, "atomic"),
];

impl MkeyInfo {
    pub(super) fn of(index: u32, mkey: &Mkey) -> MkeyInfo {
        let paged = matches!(mkey.mode, AccessMode::Mtt | AccessMode::Ksm);
        MkeyInfo {
            key: index << 8 | u32::from(mkey.variant),
            free: mkey.free,
            pd: mkey.pd,
            qpn: (mkey.qpn != 0xff_ffff).then_some(mkey.qpn),
            mode: match mkey.mode {
                AccessMode::Pa => "PA",
                AccessMode::Mtt => "MTT",
                AccessMode::Klm => "KLM",
                AccessMode::Ksm => "KSM",
            },
            start: mkey.start,
            len: (!mkey.length64).then_some(mkey.len),
            page_size: paged.then(|| 1 << mkey.log_page_size.min(63)),
            entries: match &mkey.list {
                Translation::None => 0,
                Translation::Mtt(pages) => pages.len(),
                Translation::Klm(entries) => entries.len(),
            },
            rights: RIGHTS
                .iter()
                .filter(|(right, _)| mkey.rights.contains(*right))
                .map(|(_, name)| *name)
                .collect(),
        }
    }
}

/// An object that is little more than its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NumberInfo {
    /// Number.
    pub number: u32,
}

/// A transport interface, receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TirInfo {
    /// Number.
    pub number: u32,
    /// Transport domain.
    pub transport_domain: u32,
    /// The receive queue that its packets go to,
    pub rqn: Option<u32>,
    /// or the table of such queues.
    pub rqt: Option<u32>,
}

impl TirInfo {
    pub(super) fn of(number: u32, tir: &Tir) -> TirInfo {
        let (rqn, rqt) = match tir.disposition {
            Disposition::Direct(rqn) => (Some(rqn), None),
            Disposition::Indirect(rqt) => (None, Some(rqt)),
        };
        TirInfo {
            number,
            transport_domain: tir.transport_domain,
            rqn,
            rqt,
        }
    }
}

/// A transport interface, send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TisInfo {
    /// Number.
    pub number: u32,
    /// Transport domain.
    pub transport_domain: u32,
    /// Protection domain, 0 for none.
    pub pd: u32,
}

impl TisInfo {
    pub(super) fn of(number: u32, tis: &Tis) -> TisInfo {
        TisInfo {
            number,
            transport_domain: tis.transport_domain,
            pd: tis.pd,
        }
    }
}

/// A flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlowTableInfo {
    /// Number.
    pub number: u32,
    /// Level.
    pub level: u8,
    /// Entries that it has room for.
    pub size: u64,
    /// Groups of entries.
    pub groups: usize,
    /// Received packets come here first.
    pub root: bool,
}

impl FlowTableInfo {
    pub(super) fn of(number: u32, table: &FlowTable, steering: &Steering) -> FlowTableInfo {
        FlowTableInfo {
            number,
            level: table.level(),
            size: table.size(),
            groups: table.group_count(),
            root: steering.is_root(number),
        }
    }
}

/// An entry of the RoCE address table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GidInfo {
    /// Index.
    pub index: u8,
    /// GID.
    pub gid: String,
    /// `v1` or `v2`.
    pub version: &'static str,
    /// MAC address.
    pub mac: String,
    /// VLAN.
    pub vlan: Option<u16>,
}

impl GidInfo {
    pub(super) fn of(index: u8, address: &RoceAddress) -> GidInfo {
        GidInfo {
            index,
            gid: gid_text(&address.gid),
            version: match address.version {
                RoceVersion::V1 => "v1",
                RoceVersion::V2Ipv4 | RoceVersion::V2Ipv6 => "v2",
            },
            mac: address.mac.to_string(),
            vlan: address.vlan,
        }
    }
}
