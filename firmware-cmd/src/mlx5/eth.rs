//! What connects Ethernet queues to the wire: transport interfaces (TIS, TIR) and receive queue tables.

use crate::layout::layout;

layout! {
    /// Transport interface send context.
    pub context Tisc[0xa0] {
        0x00[31] strict_lag_tx_port_affinity;
        0x00[30] tls_en;
        0x00[27:24] lag_tx_port_affinity;
        0x00[19:16] prio;
        0x24[23:0] transport_domain;
        0x28[23:0] underlay_qpn;
        0x2c[23:0] pd;
    }

    /// Input of CREATE_TIS.
    pub input CreateTisIn[0xc0] {
        0x20 tisc: Tisc;
    }

    /// Output of CREATE_TIS.
    pub output CreateTisOut[0x10] {
        0x08[23:0] tisn;
    }

    /// Which fields MODIFY_TIS is to set.
    pub context ModifyTisBitmask[0x8] {
        0x04[2] lag_tx_port_affinity;
        0x04[1] strict_lag_tx_port_affinity;
        0x04[0] prio;
    }

    /// Input of MODIFY_TIS.
    pub input ModifyTisIn[0xc0] {
        0x08[23:0] tisn;
        0x10 bitmask: ModifyTisBitmask;
        0x20 tisc: Tisc;
    }

    /// Input of DESTROY_TIS.
    pub input DestroyTisIn[0x10] {
        0x08[23:0] tisn;
    }

    /// Input of QUERY_TIS.
    pub input QueryTisIn[0x10] {
        0x08[23:0] tisn;
    }

    /// Output of QUERY_TIS.
    pub output QueryTisOut[0xb0] {
        0x10 tisc: Tisc;
    }

    /// What the receive hash is computed over.
    pub context RxHashFieldSelect[0x4] {
        0x00[31] l3_prot_type;
        0x00[30] l4_prot_type;
        0x00[29:0] selected_fields;
    }

    /// Transport interface receive context.
    pub context Tirc[0xf0] {
        0x04[31:28] disp_type;
        0x04[27] tls_en;
        0x10[27:12] lro_timeout_period_usecs;
        0x10[11:8] packet_merge_mask;
        0x10[7:0] lro_max_ip_payload_size;
        0x1c[23:0] inline_rqn;
        0x20[31] rx_hash_symmetric;
        0x20[29] tunneled_offload_en;
        0x20[23:0] indirect_table;
        0x24[31:28] rx_hash_fn;
        0x24[25:24] self_lb_block;
        0x24[23:0] transport_domain;
        0x28 rx_hash_toeplitz_key: [u8; 0x28];
        0x50 rx_hash_field_selector_outer: RxHashFieldSelect;
        0x54 rx_hash_field_selector_inner: RxHashFieldSelect;
    }

    /// Input of CREATE_TIR.
    pub input CreateTirIn[0x110] {
        0x20 tirc: Tirc;
    }

    /// Output of CREATE_TIR.
    pub output CreateTirOut[0x10] {
        0x08[23:0] tirn;
    }

    /// Which fields MODIFY_TIR is to set.
    pub context ModifyTirBitmask[0x8] {
        0x04[4] self_lb_en;
        0x04[2] hash;
        0x04[0] packet_merge;
    }

    /// Input of MODIFY_TIR.
    pub input ModifyTirIn[0x110] {
        0x08[23:0] tirn;
        0x10 bitmask: ModifyTirBitmask;
        0x20 tirc: Tirc;
    }

    /// Input of DESTROY_TIR.
    pub input DestroyTirIn[0x10] {
        0x08[23:0] tirn;
    }

    /// An entry of a receive queue table.
    pub context RqNum[0x4] {
        0x00[23:0] rq_num;
    }

    /// Receive queue table context; `rqt_actual_size` entries follow.
    pub context Rqtc[0xf0] {
        0x14[26:24] list_q_type;
        0x14[15:0] rqt_max_size;
        0x18[31] rq_vhca_id_format;
        0x18[15:0] rqt_actual_size;
        0xf0 rq_num: [RqNum];
    }

    /// Input of CREATE_RQT.
    pub input CreateRqtIn[0x110] {
        0x20 rqtc: Rqtc;
    }

    /// Output of CREATE_RQT.
    pub output CreateRqtOut[0x10] {
        0x08[23:0] rqtn;
    }

    /// Which fields MODIFY_RQT is to set.
    pub context RqtBitmask[0x8] {
        0x04[0] rqn_list;
    }

    /// Input of MODIFY_RQT.
    pub input ModifyRqtIn[0x110] {
        0x08[23:0] rqtn;
        0x10 bitmask: RqtBitmask;
        0x20 rqtc: Rqtc;
    }

    /// Input of DESTROY_RQT.
    pub input DestroyRqtIn[0x10] {
        0x08[23:0] rqtn;
    }

    /// Input of ADD_VXLAN_UDP_DPORT and DELETE_VXLAN_UDP_DPORT.
    pub input VxlanUdpDportIn[0x10] {
        0x0c[15:0] vxlan_udp_port;
    }
}
