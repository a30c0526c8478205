//! Ethernet offload capabilities.

use crate::layout::layout;

layout! {
    /// Ethernet offloads, type 1.
    pub context EthernetCaps[0x100] {
        0x00[31] csum_cap;
        0x00[30] vlan_cap;
        0x00[29] lro_cap;
        0x00[28] lro_psh_flag;
        0x00[27] lro_time_stamp;
        0x00[24] wqe_vlan_insert;
        0x00[23] self_lb_en_modifiable;
        0x00[20:16] max_lso_cap;
        0x00[15:14] multi_pkt_send_wqe;
        0x00[13:12] wqe_inline_mode;
        0x00[11:8] rss_ind_tbl_cap;
        0x00[7] reg_umr_sq;
        0x00[6] scatter_fcs;
        0x00[5] enhanced_multi_pkt_send_wqe;
        0x00[4] tunnel_lso_const_out_ip_id;
        0x00[3] tunnel_lro_gre;
        0x00[2] tunnel_lro_vxlan;
        0x00[1] tunnel_stateless_gre;
        0x00[0] tunnel_stateless_vxlan;
        0x04[31] swp;
        0x04[30] swp_csum;
        0x04[29] swp_lso;
        0x04[28] cqe_checksum_full;
        0x04[27] tunnel_stateless_geneve_tx;
        0x04[26] tunnel_stateless_mpls_over_udp;
        0x04[25] tunnel_stateless_mpls_over_gre;
        0x04[24] tunnel_stateless_vxlan_gpe;
        0x04[23] tunnel_stateless_ipv4_over_vxlan;
        0x04[22] tunnel_stateless_ip_over_ip;
        0x04[21] insert_trailer;
        0x04[19] tunnel_stateless_ip_over_ip_rx;
        0x04[18] tunnel_stateless_ip_over_ip_tx;
        0x04[15:8] max_vxlan_udp_ports;
        0x04[7] swp_csum_l4_partial;
        0x04[1] max_geneve_opt_len;
        0x04[0] tunnel_stateless_geneve_rx;
        0x08[15:0] lro_min_mss_size;
        0x30 lro_timer_supported_periods: [u32; 4];
    }
}
