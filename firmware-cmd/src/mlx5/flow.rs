//! Flow steering: tables, groups, entries, counters.

use super::vport::TrafficCounter;
use crate::layout::layout;

layout! {
    /// Flow table context.
    pub context FlowTableContext[0x28] {
        0x00[31] reformat_en;
        0x00[30] decap_en;
        0x00[29] sw_owner;
        0x00[28] termination_table;
        0x00[27:24] table_miss_action;
        0x00[23:16] level;
        0x00[15] rtc_valid;
        0x00[7:0] log_size;
        0x04[23:0] table_miss_id;
        0x08[23:0] lag_master_next_table_id;
    }

    /// Input of CREATE_FLOW_TABLE.
    pub input CreateFlowTableIn[0x40] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x10[31:24] table_type;
        0x18 flow_table_context: FlowTableContext;
    }

    /// Output of CREATE_FLOW_TABLE.
    pub output CreateFlowTableOut[0x10] {
        0x08[23:0] table_id;
    }

    /// Input of DESTROY_FLOW_TABLE.
    pub input DestroyFlowTableIn[0x40] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x10[31:24] table_type;
        0x14[23:0] table_id;
    }

    /// Input of MODIFY_FLOW_TABLE.
    pub input ModifyFlowTableIn[0x40] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x0c[15:0] modify_field_select;
        0x10[31:24] table_type;
        0x14[23:0] table_id;
        0x18 flow_table_context: FlowTableContext;
    }

    /// Input of SET_FLOW_TABLE_ROOT.
    pub input SetFlowTableRootIn[0x40] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x10[31:24] table_type;
        0x10[16] table_of_other_vport;
        0x10[15:0] table_vport_number;
        0x14[23:0] table_id;
        0x18[23:0] underlay_qpn;
        0x1c[31] table_eswitch_owner_vhca_id_valid;
        0x1c[15:0] table_eswitch_owner_vhca_id;
    }

    /// Match on layers 2 to 4.
    pub context FteMatchSetLyr24[0x40] {
        0x00 smac: [u8; 6];
        0x04[15:0] ethertype;
        0x08 dmac: [u8; 6];
        0x0c[15:13] first_prio;
        0x0c[12] first_cfi;
        0x0c[11:0] first_vid;
        0x10[31:24] ip_protocol;
        0x10[23:18] ip_dscp;
        0x10[17:16] ip_ecn;
        0x10[15] cvlan_tag;
        0x10[14] svlan_tag;
        0x10[13] frag;
        0x10[12:9] ip_version;
        0x10[8:0] tcp_flags;
        0x14[31:16] tcp_sport;
        0x14[15:0] tcp_dport;
        0x18[31:30] l4_type;
        0x18[15:12] ipv4_ihl;
        0x18[7:0] ttl_hoplimit;
        0x1c[31:16] udp_sport;
        0x1c[15:0] udp_dport;
        0x20 src_ipv4_src_ipv6: [u8; 0x10];
        0x30 dst_ipv4_dst_ipv6: [u8; 0x10];
    }

    /// Match on other things.
    pub context FteMatchSetMisc[0x40] {
        0x00[31] gre_c_present;
        0x00[29] gre_k_present;
        0x00[28] gre_s_present;
        0x00[27:24] source_vhca_port;
        0x00[23:0] source_sqn;
        0x04[31:16] source_eswitch_owner_vhca_id;
        0x04[15:0] source_port;
        0x08[31:29] outer_second_prio;
        0x08[28] outer_second_cfi;
        0x08[27:16] outer_second_vid;
        0x08[15:13] inner_second_prio;
        0x08[12] inner_second_cfi;
        0x08[11:0] inner_second_vid;
        0x0c[31] outer_second_cvlan_tag;
        0x0c[30] inner_second_cvlan_tag;
        0x0c[29] outer_second_svlan_tag;
        0x0c[28] inner_second_svlan_tag;
        0x0c[15:0] gre_protocol;
        0x10 gre_key;
        0x14[31:8] vxlan_vni;
        0x14[7:0] bth_opcode;
        0x18[31:8] geneve_vni;
        0x18[1] geneve_tlv_option_0_exist;
        0x18[0] geneve_oam;
        0x1c[19:0] outer_ipv6_flow_label;
        0x20[19:0] inner_ipv6_flow_label;
        0x24[21:16] geneve_opt_len;
        0x24[15:0] geneve_protocol_type;
        0x28[23:0] bth_dst_qp;
        0x2c inner_esp_spi;
        0x30 outer_esp_spi;
    }

    /// What to match; the parts after `misc_parameters_2` are for protocols this device does not parse.
    pub context FteMatchParam[0x200] {
        0x00 outer_headers: FteMatchSetLyr24;
        0x40 misc_parameters: FteMatchSetMisc;
        0x80 inner_headers: FteMatchSetLyr24;
        0xc0 others: [u8; 0x140];
    }

    /// Input of CREATE_FLOW_GROUP.
    pub input CreateFlowGroupIn[0x400] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x10[31:24] table_type;
        0x10[19:16] group_type;
        0x14[23:0] table_id;
        0x18[31] source_eswitch_owner_vhca_id_valid;
        0x1c start_flow_index;
        0x24 end_flow_index;
        0x28[15:0] match_definer_id;
        0x3c[7:0] match_criteria_enable;
        0x40 match_criteria: FteMatchParam;
    }

    /// Output of CREATE_FLOW_GROUP.
    pub output CreateFlowGroupOut[0x10] {
        0x08[23:0] group_id;
    }

    /// Input of DESTROY_FLOW_GROUP.
    pub input DestroyFlowGroupIn[0x40] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x10[31:24] table_type;
        0x14[23:0] table_id;
        0x18 group_id;
    }

    /// A VLAN tag.
    pub context Vlan[0x4] {
        0x00[31:16] ethtype;
        0x00[15:13] prio;
        0x00[12] cfi;
        0x00[11:0] vid;
    }

    /// Where a flow goes.
    pub context DestFormat[0x8] {
        0x00[31:24] destination_type;
        0x00[23:0] destination_id;
        0x04[31] destination_eswitch_owner_vhca_id_valid;
        0x04[30] packet_reformat;
        0x04[23:16] destination_table_type;
        0x04[15:0] destination_eswitch_owner_vhca_id;
    }

    /// A counter of a flow.
    pub context FlowCounterList[0x8] {
        0x00 flow_counter_id;
    }

    /// Flow context; `destination_list_size` destinations follow, then `flow_counter_list_size` counters.
    pub context FlowContext[0x300] {
        0x00 push_vlan: Vlan;
        0x04 group_id;
        0x08[23:0] flow_tag;
        0x0c[15:0] action;
        0x10[31] extended_destination;
        0x10[30] uplink_hairpin_en;
        0x10[29:28] flow_source;
        0x10[27:24] encrypt_decrypt_type;
        0x10[23:0] destination_list_size;
        0x14[23:0] flow_counter_list_size;
        0x18 packet_reformat_id;
        0x1c modify_header_id;
        0x20 push_vlan_2: Vlan;
        0x24 encrypt_decrypt_obj_id;
        0x40 match_value: FteMatchParam;
        0x300 destination: [DestFormat];
    }

    /// Input of SET_FLOW_TABLE_ENTRY; op_mod 0 sets, 1 modifies.
    pub input SetFlowTableEntryIn[0x340] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x10[31:24] table_type;
        0x14[23:0] table_id;
        0x18[31] ignore_flow_level;
        0x18[7:0] modify_enable_mask;
        0x20 flow_index;
        0x40 flow_context: FlowContext;
    }

    /// Input of DELETE_FLOW_TABLE_ENTRY.
    pub input DeleteFlowTableEntryIn[0x40] {
        0x08[31] other_vport;
        0x08[15:0] vport_number;
        0x10[31:24] table_type;
        0x14[23:0] table_id;
        0x20 flow_index;
    }

    /// Input of ALLOC_FLOW_COUNTER.
    pub input AllocFlowCounterIn[0x10] {
        0x0c[12:8] flow_counter_bulk_log_size;
        0x0c[7:0] flow_counter_bulk;
    }

    /// Output of ALLOC_FLOW_COUNTER.
    pub output AllocFlowCounterOut[0x10] {
        0x08 flow_counter_id;
    }

    /// Input of DEALLOC_FLOW_COUNTER.
    pub input DeallocFlowCounterIn[0x10] {
        0x08 flow_counter_id;
    }

    /// Input of QUERY_FLOW_COUNTER.
    pub input QueryFlowCounterIn[0x20] {
        0x18[31] clear;
        0x18[15:0] num_of_counters;
        0x1c flow_counter_id;
    }

    /// Output of QUERY_FLOW_COUNTER.
    pub output QueryFlowCounterOut[0x10] {
        0x10 flow_statistics: [TrafficCounter];
    }
}
