//! Flow steering capabilities.

use crate::layout::layout;

layout! {
    /// Which header fields a table can match.
    pub context FlowTableFields[0x10] {
        0x00[31] outer_dmac;
        0x00[30] outer_smac;
        0x00[29] outer_ether_type;
        0x00[28] outer_ip_version;
        0x00[27] outer_first_prio;
        0x00[26] outer_first_cfi;
        0x00[25] outer_first_vid;
        0x00[24] outer_ipv4_ttl;
        0x00[23] outer_second_prio;
        0x00[22] outer_second_cfi;
        0x00[21] outer_second_vid;
        0x00[19] outer_sip;
        0x00[18] outer_dip;
        0x00[17] outer_frag;
        0x00[16] outer_ip_protocol;
        0x00[15] outer_ip_ecn;
        0x00[14] outer_ip_dscp;
        0x00[13] outer_udp_sport;
        0x00[12] outer_udp_dport;
        0x00[11] outer_tcp_sport;
        0x00[10] outer_tcp_dport;
        0x00[9] outer_tcp_flags;
        0x00[8] outer_gre_protocol;
        0x00[7] outer_gre_key;
        0x00[6] outer_vxlan_vni;
        0x00[5] outer_geneve_vni;
        0x00[4] outer_geneve_oam;
        0x00[3] outer_geneve_protocol_type;
        0x00[2] outer_geneve_opt_len;
        0x00[1] source_vhca_port;
        0x00[0] source_eswitch_port;
        0x04[31] inner_dmac;
        0x04[30] inner_smac;
        0x04[29] inner_ether_type;
        0x04[28] inner_ip_version;
        0x04[27] inner_first_prio;
        0x04[26] inner_first_cfi;
        0x04[25] inner_first_vid;
        0x04[23] inner_second_prio;
        0x04[22] inner_second_cfi;
        0x04[21] inner_second_vid;
        0x04[19] inner_sip;
        0x04[18] inner_dip;
        0x04[17] inner_frag;
        0x04[16] inner_ip_protocol;
        0x04[15] inner_ip_ecn;
        0x04[14] inner_ip_dscp;
        0x04[13] inner_udp_sport;
        0x04[12] inner_udp_dport;
        0x04[11] inner_tcp_sport;
        0x04[10] inner_tcp_dport;
        0x04[9] inner_tcp_flags;
        0x08[31] geneve_tlv_option_0_data;
        0x08[30] geneve_tlv_option_0_exist;
        0x08[26:23] outer_first_mpls_over_udp;
        0x08[22:19] outer_first_mpls_over_gre;
        0x08[18:15] inner_first_mpls;
        0x08[14:11] outer_first_mpls;
        0x08[8] outer_esp_spi;
        0x08[5] bth_dst_qp;
        0x0c[7] metadata_reg_c_7;
        0x0c[6] metadata_reg_c_6;
        0x0c[5] metadata_reg_c_5;
        0x0c[4] metadata_reg_c_4;
        0x0c[3] metadata_reg_c_3;
        0x0c[2] metadata_reg_c_2;
        0x0c[1] metadata_reg_c_1;
        0x0c[0] metadata_reg_c_0;
    }

    /// What a kind of table can do.
    pub context FlowTableProperties[0x40] {
        0x00[31] ft_support;
        0x00[29] flow_counter;
        0x00[28] flow_modify_en;
        0x00[27] modify_root;
        0x00[26] identified_miss_table_mode;
        0x00[25] flow_table_modify;
        0x00[24] reformat;
        0x00[23] decap;
        0x00[22] reset_root_to_default;
        0x00[21] pop_vlan;
        0x00[20] push_vlan;
        0x00[18] pop_vlan_2;
        0x00[17] push_vlan_2;
        0x00[16] reformat_and_vlan_action;
        0x00[14] sw_owner;
        0x00[13] reformat_l3_tunnel_to_l2;
        0x00[12] reformat_l2_to_l3_tunnel;
        0x00[11] reformat_and_modify_action;
        0x00[10] ignore_flow_level;
        0x00[8] table_miss_action_domain;
        0x00[7] termination_table;
        0x00[6] reformat_and_fwd_to_table;
        0x00[3] ipsec_encrypt;
        0x00[2] ipsec_decrypt;
        0x00[1] sw_owner_v2;
        0x04[31] termination_table_raw_traffic;
        0x04[29:24] log_max_ft_size;
        0x04[23:16] log_max_modify_header_context;
        0x04[15:8] max_modify_header_actions;
        0x04[7:0] max_ft_level;
        0x08[31] reformat_add_esp_trasport;
        0x08[30] reformat_l2_to_l3_esp_tunnel;
        0x08[29] reformat_add_esp_transport_over_udp;
        0x08[28] reformat_del_esp_trasport;
        0x08[27] reformat_l3_esp_tunnel_to_l2;
        0x08[26] reformat_del_esp_transport_over_udp;
        0x08[25] execute_aso;
        0x0c[29] reformat_insert;
        0x0c[28] reformat_remove;
        0x0c[27] macsec_encrypt;
        0x0c[26] macsec_decrypt;
        0x0c[23] reformat_add_macsec;
        0x0c[22] reformat_remove_macsec;
        0x0c[21] reparse;
        0x0c[19] cross_vhca_object;
        0x0c[18] reformat_l2_to_l3_audp_tunnel;
        0x0c[17] reformat_l3_audp_tunnel_to_l2;
        0x0c[16] ignore_flow_level_rtc_valid;
        0x0c[7:0] log_max_ft_num;
        0x10[15:8] log_max_flow_counter;
        0x10[7:0] log_max_destination;
        0x14[7:0] log_max_flow;
        0x20 ft_field_support: FlowTableFields;
        0x30 ft_field_bitmask_support: FlowTableFields;
    }

    /// NIC flow tables, type 7.
    pub context FlowTableNicCaps[0x1000] {
        0x00[31] nic_rx_multi_path_tirs;
        0x00[30] nic_rx_multi_path_tirs_fts;
        0x00[29] allow_sniffer_and_nic_rx_shared_tir;
        0x00[24] sw_owner_reformat_supported;
        0x04[31] encap_general_header;
        0x04[20:16] log_max_packet_reformat_context;
        0x04[9:0] max_encap_header_size;
        0x40 flow_table_properties_nic_receive: FlowTableProperties;
        0x80 flow_table_properties_nic_receive_rdma: FlowTableProperties;
        0xc0 flow_table_properties_nic_receive_sniffer: FlowTableProperties;
        0x100 flow_table_properties_nic_transmit: FlowTableProperties;
        0x140 flow_table_properties_nic_transmit_rdma: FlowTableProperties;
        0x180 flow_table_properties_nic_transmit_sniffer: FlowTableProperties;
        0x400 sw_steering_nic_rx_action_drop_icm_address: u64;
        0x408 sw_steering_nic_tx_action_drop_icm_address: u64;
        0x410 sw_steering_nic_tx_action_allow_icm_address: u64;
    }
}
