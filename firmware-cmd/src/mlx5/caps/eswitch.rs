//! Capabilities of the embedded switch and of the quality of service.

use super::flow::FlowTableProperties;
use crate::layout::layout;

layout! {
    /// Flow tables of the embedded switch, type 8.
    pub context FlowTableEswitchCaps[0x1000] {
        0x00[31:24] fdb_to_vport_reg_c_id;
        0x00[13] fdb_multi_path_any_table;
        0x00[10] fdb_modify_header_fwd_to_table;
        0x00[8] flow_source;
        0x00[5] multi_fdb_encap;
        0x00[4] egress_acl_forward_to_vport;
        0x00[3] fdb_multi_path_to_table;
        0x40 flow_table_properties_nic_esw_fdb: FlowTableProperties;
        0x80 flow_table_properties_esw_acl_ingress: FlowTableProperties;
        0xc0 flow_table_properties_esw_acl_egress: FlowTableProperties;
    }

    /// The embedded switch, type 9.
    pub context EswitchCaps[0x100] {
        0x00[31] vport_svlan_strip;
        0x00[30] vport_cvlan_strip;
        0x00[29] vport_svlan_insert;
        0x00[28] vport_cvlan_insert_if_not_exist;
        0x00[27] vport_cvlan_insert_overwrite;
        0x00[6] esw_functions_changed;
        0x00[4] ecpf_vport_exists;
        0x00[2] merged_eswitch;
        0x00[1] nic_vport_node_guid_modify;
        0x00[0] nic_vport_port_guid_modify;
        0x04[31] vxlan_encap_decap;
        0x04[30] nvgre_encap_decap;
        0x04[28:24] log_max_fdb_encap_uplink;
        0x04[20:16] log_max_packet_reformat_context;
        0x04[9:0] max_encap_header_size;
        0x08[20:16] log_max_esw_sf;
        0x08[15:0] esw_sf_base_id;
    }

    /// Quality of service, type 12.
    pub context QosCaps[0x100] {
        0x00[31] packet_pacing;
        0x00[30] esw_scheduling;
        0x00[29] esw_bw_share;
        0x00[28] esw_rate_limit;
        0x00[26] packet_pacing_burst_bound;
        0x00[25] packet_pacing_typical_size;
        0x00[23] nic_sq_scheduling;
        0x00[22] nic_bw_share;
        0x00[21] nic_rate_limit;
        0x00[20] packet_pacing_uid;
        0x00[19:16] log_esw_max_sched_depth;
        0x04[20:16] log_max_qos_nic_queue_group;
        0x08 packet_pacing_max_rate;
        0x0c packet_pacing_min_rate;
        0x10[15:0] packet_pacing_rate_table_size;
        0x14[31:16] esw_element_type;
        0x14[15:0] esw_tsar_type;
        0x18[15:0] max_qos_para_vport;
        0x1c max_tsar_bw_share;
        0x20[31:16] nic_element_type;
        0x20[15:0] nic_tsar_type;
    }
}
