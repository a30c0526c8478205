//! The virtual port: state, counters, context, RoCE addresses, P_Keys, multicast groups.

use crate::layout::layout;

layout! {
    /// Input of QUERY_VPORT_STATE.
    pub input QueryVportStateIn[0x10] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
    }

    /// Output of QUERY_VPORT_STATE.
    pub output QueryVportStateOut[0x10] {
        0x0c[7:4] admin_state;
        0x0c[3:0] state;
    }

    /// Input of MODIFY_VPORT_STATE.
    pub input ModifyVportStateIn[0x10] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x0c[7:4] admin_state;
    }

    /// Input of QUERY_VPORT_COUNTER.
    pub input QueryVportCounterIn[0x20] {
        0x08[31] other_vport;
        0x08[19:16] port_num;
        0x08[15:0] vport_number;
        0x18[31] clear;
    }

    /// Packets and octets.
    pub context TrafficCounter[0x10] {
        0x00 packets: u64;
        0x08 octets: u64;
    }

    /// Output of QUERY_VPORT_COUNTER.
    pub output QueryVportCounterOut[0x210] {
        0x10 received_errors: TrafficCounter;
        0x20 transmit_errors: TrafficCounter;
        0x30 received_ib_unicast: TrafficCounter;
        0x40 transmitted_ib_unicast: TrafficCounter;
        0x50 received_ib_multicast: TrafficCounter;
        0x60 transmitted_ib_multicast: TrafficCounter;
        0x70 received_eth_broadcast: TrafficCounter;
        0x80 transmitted_eth_broadcast: TrafficCounter;
        0x90 received_eth_unicast: TrafficCounter;
        0xa0 transmitted_eth_unicast: TrafficCounter;
        0xb0 received_eth_multicast: TrafficCounter;
        0xc0 transmitted_eth_multicast: TrafficCounter;
        0xd0 local_loopback: TrafficCounter;
    }

    /// Counters of QUERY_VNIC_ENV.
    pub context VnicDiagnosticStatistics[0x200] {
        0x00 counter_error_queues;
        0x04 total_error_queues;
        0x08 send_queue_priority_update_flow;
        0x10 nic_receive_steering_discard: u64;
        0x18 receive_discard_vport_down: u64;
        0x20 transmit_discard_vport_down: u64;
        0x28 async_eq_overrun;
        0x2c comp_eq_overrun;
        0x34 invalid_command;
        0x38 quota_exceeded_command;
        0x3c internal_rq_out_of_buffer;
        0x40 cq_overrun;
        0x44 eth_wqe_too_small;
        0x60 generated_pkt_steering_fail: u64;
        0x68 handled_pkt_steering_fail: u64;
    }

    /// Input of QUERY_VNIC_ENV.
    pub input QueryVnicEnvIn[0x10] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
    }

    /// Output of QUERY_VNIC_ENV.
    pub output QueryVnicEnvOut[0x210] {
        0x10 vport_env: VnicDiagnosticStatistics;
    }

    /// A MAC address in two words.
    pub context MacAddress[0x8] {
        0x02 mac_addr: [u8; 6];
    }

    /// An entry of the VLAN list.
    pub context VlanEntry[0x8] {
        0x00[11:0] vlan;
    }

    /// NIC vport context; list entries of `allowed_list_type` follow.
    pub context NicVportContext[0x100] {
        0x00[26:24] min_wqe_inline_mode;
        0x00[2] disable_mc_local_lb;
        0x00[1] disable_uc_local_lb;
        0x00[0] roce_en;
        0x04[31] arm_change_event;
        0x04[4] event_on_mtu;
        0x04[3] event_on_promisc_change;
        0x04[2] event_on_vlan_change;
        0x04[1] event_on_mc_address_change;
        0x04[0] event_on_uc_address_change;
        0x08[31] vhca_id_type;
        0x08[19:16] affiliation_criteria;
        0x08[15:0] affiliated_vhca_id;
        0x20[30:28] sd_group;
        0x24[15:0] mtu;
        0x28 system_image_guid: u64;
        0x30 port_guid: u64;
        0x38 node_guid: u64;
        0x68[31:16] qkey_violation_counter;
        0xf0[31] promisc_uc;
        0xf0[30] promisc_mc;
        0xf0[29] promisc_all;
        0xf0[26:24] allowed_list_type;
        0xf0[11:0] allowed_list_size;
        0xf4 permanent_address: MacAddress;
        0x100 mac_list: [MacAddress];
        0x100 vlan_list: [VlanEntry];
    }

    /// Input of QUERY_NIC_VPORT_CONTEXT.
    pub input QueryNicVportContextIn[0x10] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x0c[26:24] allowed_list_type;
    }

    /// Output of QUERY_NIC_VPORT_CONTEXT.
    pub output QueryNicVportContextOut[0x110] {
        0x10 nic_vport_context: NicVportContext;
    }

    /// Which fields of the context MODIFY_NIC_VPORT_CONTEXT is to set.
    pub context NicVportFieldSelect[0x4] {
        0x00[13] affiliation;
        0x00[11] disable_uc_local_lb;
        0x00[10] disable_mc_local_lb;
        0x00[9] node_guid;
        0x00[8] port_guid;
        0x00[7] min_inline;
        0x00[6] mtu;
        0x00[5] change_event;
        0x00[4] promisc;
        0x00[3] permanent_address;
        0x00[2] addresses_list;
        0x00[1] roce_en;
    }

    /// Input of MODIFY_NIC_VPORT_CONTEXT.
    pub input ModifyNicVportContextIn[0x200] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x0c field_select: NicVportFieldSelect;
        0x100 nic_vport_context: NicVportContext;
    }

    /// Input of SET_L2_TABLE_ENTRY.
    pub input SetL2TableEntryIn[0x40] {
        0x14[23:0] table_index;
        0x1c[15] silent_mode_valid;
        0x1c[14] silent_mode;
        0x1c[12] vlan_valid;
        0x1c[11:0] vlan;
        0x20 mac_address: MacAddress;
    }

    /// Input of QUERY_L2_TABLE_ENTRY.
    pub input QueryL2TableEntryIn[0x40] {
        0x14[23:0] table_index;
    }

    /// Output of QUERY_L2_TABLE_ENTRY.
    pub output QueryL2TableEntryOut[0x40] {
        0x1c[12] vlan_valid;
        0x1c[11:0] vlan;
        0x20 mac_address: MacAddress;
    }

    /// Input of DELETE_L2_TABLE_ENTRY.
    pub input DeleteL2TableEntryIn[0x40] {
        0x14[23:0] table_index;
    }

    /// An entry of the RoCE address table.
    pub context RoceAddress[0x20] {
        0x00 source_l3_address: [u8; 0x10];
        0x10[28] vlan_valid;
        0x10[27:16] vlan_id;
        0x12 source_mac: [u8; 6];
        0x18[11:8] roce_l3_type;
        0x18[7:0] roce_version;
    }

    /// Input of SET_ROCE_ADDRESS.
    pub input SetRoceAddressIn[0x30] {
        0x08[31:16] roce_address_index;
        0x08[3:0] vhca_port_num;
        0x10 roce_address: RoceAddress;
    }

    /// Input of QUERY_ROCE_ADDRESS.
    pub input QueryRoceAddressIn[0x10] {
        0x08[31:16] roce_address_index;
        0x08[3:0] vhca_port_num;
    }

    /// Output of QUERY_ROCE_ADDRESS.
    pub output QueryRoceAddressOut[0x30] {
        0x10 roce_address: RoceAddress;
    }

    /// An entry of the P_Key table.
    pub context Pkey[0x4] {
        0x00[15:0] pkey;
    }

    /// Input of QUERY_HCA_VPORT_PKEY.
    pub input QueryHcaVportPkeyIn[0x10] {
        0x08[31] other_vport;
        0x08[19:16] port_num;
        0x08[15:0] vport_number;
        0x0c[15:0] pkey_index;
    }

    /// Output of QUERY_HCA_VPORT_PKEY.
    pub output QueryHcaVportPkeyOut[0x10] {
        0x10 pkey: [Pkey];
    }

    /// Input of QUERY_HCA_VPORT_CONTEXT.
    pub input QueryHcaVportContextIn[0x10] {
        0x08[31] other_vport;
        0x08[19:16] port_num;
        0x08[15:0] vport_number;
    }

    /// Input of ATTACH_TO_MCG.
    pub input AttachToMcgIn[0x20] {
        0x08[23:0] qpn;
        0x10 multicast_gid: [u8; 0x10];
    }

    /// Input of DETACH_FROM_MCG.
    pub input DetachFromMcgIn[0x20] {
        0x08[23:0] qpn;
        0x10 multicast_gid: [u8; 0x10];
    }
}
