//! The capabilities a driver reads with QUERY_HCA_CAP, and the few it may change with SET_HCA_CAP.
//!
//! Knows which values make the drivers take which paths; the values of [`HcaCaps::connectx5`] are those of a
//! ConnectX-5 reduced to what the device model does.

pub mod eswitch;
pub mod ethernet;
pub mod flow;
pub mod general;
pub mod rdma;
mod values;

use eswitch::{EswitchCaps, FlowTableEswitchCaps};
use ethernet::EthernetCaps;
use flow::FlowTableNicCaps;
use general::GeneralCaps;
use rdma::{AtomicCaps, QosCaps, RoceCaps};

use crate::layout::Layout;

/// A kind of capabilities, op_mod bits 15:1 of QUERY_HCA_CAP and SET_HCA_CAP. Others exist but are not announced, and
/// drivers query only what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CapType {
    /// [`GeneralCaps`].
    General = 0,
    /// [`EthernetCaps`].
    Ethernet = 1,
    /// [`AtomicCaps`].
    Atomic = 3,
    /// [`RoceCaps`].
    Roce = 4,
    /// [`FlowTableNicCaps`].
    FlowTableNic = 7,
    /// [`FlowTableEswitchCaps`].
    FlowTableEswitch = 8,
    /// [`EswitchCaps`].
    Eswitch = 9,
    /// [`QosCaps`].
    Qos = 12,
}

/// What is asked for, op_mod bit 0 of QUERY_HCA_CAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapMode {
    /// What SET_HCA_CAP could make of them.
    Max = 0,
    /// What they are.
    Current = 1,
}

/// Splits the op_mod of QUERY_HCA_CAP; `None` for a type that is not announced.
#[must_use]
pub const fn query_op_mod(op_mod: u16) -> Option<(CapType, CapMode)> {
    let mode = if op_mod & 1 == 0 {
        CapMode::Max
    } else {
        CapMode::Current
    };
    match CapType::from_u16(op_mod >> 1) {
        Some(cap_type) => Some((cap_type, mode)),
        None => None,
    }
}

impl CapType {
    const ALL: [CapType; 8] = [
        CapType::General,
        CapType::Ethernet,
        CapType::Atomic,
        CapType::Roce,
        CapType::FlowTableNic,
        CapType::FlowTableEswitch,
        CapType::Eswitch,
        CapType::Qos,
    ];

    /// The type of that number.
    #[must_use]
    pub const fn from_u16(number: u16) -> Option<CapType> {
        Some(match number {
            0 => CapType::General,
            1 => CapType::Ethernet,
            3 => CapType::Atomic,
            4 => CapType::Roce,
            7 => CapType::FlowTableNic,
            8 => CapType::FlowTableEswitch,
            9 => CapType::Eswitch,
            12 => CapType::Qos,
            _ => return None,
        })
    }

    /// Name, size and fields.
    #[must_use]
    pub const fn layout(self) -> &'static Layout {
        match self {
            CapType::General => GeneralCaps::LAYOUT,
            CapType::Ethernet => EthernetCaps::LAYOUT,
            CapType::Atomic => AtomicCaps::LAYOUT,
            CapType::Roce => RoceCaps::LAYOUT,
            CapType::FlowTableNic => FlowTableNicCaps::LAYOUT,
            CapType::FlowTableEswitch => FlowTableEswitchCaps::LAYOUT,
            CapType::Eswitch => EswitchCaps::LAYOUT,
            CapType::Qos => QosCaps::LAYOUT,
        }
    }

    /// Fields that SET_HCA_CAP changes, up to their maximum. Drivers send the whole structure with a few fields
    /// changed, so that all others are ignored rather than refused.
    const fn writable(self) -> &'static [&'static str] {
        match self {
            // Further fields that drivers write have a maximum of 0, which they respect: uar_4k, cache_line_128byte,
            // dct, num_vhca_ports, release_all_pages, mkey_by_name. Those of roce_rw_supported and
            // log_max_current_uc_list_wr_supported are read-only as long as these are 0.
            CapType::General => &[
                "pkey_table_size",
                "log_max_qp",
                "cmdif_checksum",
                "drain_sigerr",
                "log_uar_page_sz",
            ],
            CapType::Atomic => &["atomic_req_8b_endianness_mode"],
            CapType::Roce => &["sw_r_roce_src_udp_port"],
            CapType::Ethernet
            | CapType::FlowTableNic
            | CapType::FlowTableEswitch
            | CapType::Eswitch
            | CapType::Qos => &[],
        }
    }
}

/// All capabilities of a function.
#[derive(Clone, Debug)]
pub struct HcaCaps {
    max: [Box<[u8]>; CapType::ALL.len()],
    current: [Box<[u8]>; CapType::ALL.len()],
}

impl HcaCaps {
    /// A ConnectX-5 with one Ethernet port: RoCE v1 and v2, RC, UC, UD, XRC, memory windows, atomics, checksum and
    /// segmentation offloads, receive side scaling, flow steering, and the management of the port, as the one physical
    /// function has it; no virtual functions, tunnels, DEVX, on-demand paging, dynamically connected transport or
    /// signatures.
    #[must_use]
    pub fn connectx5() -> Self {
        let max = CapType::ALL.map(values::connectx5_max);
        let mut caps = HcaCaps {
            current: max.clone(),
            max,
        };
        caps.reset();
        caps
    }

    /// Whether the function manages its port and the switch behind it.
    #[must_use]
    pub fn manages_port(&self) -> bool {
        GeneralCaps::new(self.get(CapType::General, CapMode::Max)).vport_group_manager()
    }

    /// Makes it the function that manages its port, or one whose port is managed by somebody else, as an adapter's
    /// processor or the host of a virtual machine may do. What drivers have read by then they keep.
    pub fn set_manages_port(&mut self, yes: bool) {
        for bytes in [
            &mut self.max[index(CapType::General)],
            &mut self.current[index(CapType::General)],
        ] {
            GeneralCaps::new(bytes)
                .set_vport_group_manager(yes)
                .set_eswitch_manager(yes)
                .set_log_max_l2_table(if yes { values::LOG_MAX_L2_TABLE } else { 0 })
                .set_nic_vport_change_event(yes);
        }
    }

    /// Forget what was set.
    pub fn reset(&mut self) {
        for cap_type in CapType::ALL {
            let bytes = &mut self.current[index(cap_type)];
            bytes.copy_from_slice(&self.max[index(cap_type)]);
            values::reset(cap_type, bytes);
        }
    }

    /// The structure, which is as long as its layout; drivers ask for 0x1000 bytes, the rest of which is zero.
    #[must_use]
    pub fn get(&self, cap_type: CapType, mode: CapMode) -> &[u8] {
        match mode {
            CapMode::Max => &self.max[index(cap_type)],
            CapMode::Current => &self.current[index(cap_type)],
        }
    }

    /// Take over the writable fields of `requested`, the structure of SET_HCA_CAP, up to their maximum.
    pub fn set(&mut self, cap_type: CapType, requested: &[u8]) {
        let layout = cap_type.layout();
        let max = &self.max[index(cap_type)];
        let current = &mut self.current[index(cap_type)];
        for field in cap_type
            .writable()
            .iter()
            .filter_map(|name| layout.field(name))
        {
            if let (Some(wish), Some(max)) = (field.int(requested), field.int(max)) {
                field.set_int(current, wish.min(max));
            }
        }
    }

    /// Current general capabilities.
    #[must_use]
    pub fn general(&self) -> GeneralCaps<&[u8]> {
        GeneralCaps::new(self.get(CapType::General, CapMode::Current))
    }

    /// Current Ethernet capabilities.
    #[must_use]
    pub fn ethernet(&self) -> EthernetCaps<&[u8]> {
        EthernetCaps::new(self.get(CapType::Ethernet, CapMode::Current))
    }

    /// Current atomic capabilities.
    #[must_use]
    pub fn atomic(&self) -> AtomicCaps<&[u8]> {
        AtomicCaps::new(self.get(CapType::Atomic, CapMode::Current))
    }

    /// Current RoCE capabilities.
    #[must_use]
    pub fn roce(&self) -> RoceCaps<&[u8]> {
        RoceCaps::new(self.get(CapType::Roce, CapMode::Current))
    }

    /// Current flow table capabilities.
    #[must_use]
    pub fn flow_table_nic(&self) -> FlowTableNicCaps<&[u8]> {
        FlowTableNicCaps::new(self.get(CapType::FlowTableNic, CapMode::Current))
    }
}

/// Place in [`CapType::ALL`].
const fn index(cap_type: CapType) -> usize {
    match cap_type {
        CapType::General => 0,
        CapType::Ethernet => 1,
        CapType::Atomic => 2,
        CapType::Roce => 3,
        CapType::FlowTableNic => 4,
        CapType::FlowTableEswitch => 5,
        CapType::Eswitch => 6,
        CapType::Qos => 7,
    }
}

#[cfg(test)]
mod tests;
