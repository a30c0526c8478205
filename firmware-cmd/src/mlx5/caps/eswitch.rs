//! Capabilities of the embedded switch.

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
}
