//! Queue pairs.

use crate::layout::layout;

layout! {
    /// Address path.
    pub context Ads[0x2c] {
        0x00[31] fl;
        0x00[30] free_ar;
        0x00[15:0] pkey_index;
        0x04[31:24] plane_index;
        0x04[23] grh;
        0x04[22:16] mlid;
        0x04[15:0] rlid;
        0x08[31:27] ack_timeout;
        0x08[23:16] src_addr_index;
        0x08[11:8] stat_rate;
        0x08[7:0] hop_limit;
        0x0c[27:20] tclass;
        0x0c[19:0] flow_label;
        0x10 rgid_rip: [u8; 0x10];
        0x20[27] f_dscp;
        0x20[26] f_ecn;
        0x20[24] f_eth_prio;
        0x20[23:22] ecn;
        0x20[21:16] dscp;
        0x20[15:0] udp_sport;
        0x24[31] dei_cfi;
        0x24[30:28] eth_prio;
        0x24[27:24] sl;
        0x24[23:16] vhca_port_num;
        0x26 rmac: [u8; 6];
    }

    /// Queue pair context.
    pub context Qpc[0xe8] {
        0x00[31:28] state;
        0x00[27:24] lag_tx_port_affinity;
        0x00[23:16] st;
        0x00[13] isolate_vl_tc;
        0x00[12:11] pm_state;
        0x00[9:8] req_e2e_credit_mode;
        0x00[7:4] offload_type;
        0x00[3:2] end_padding_mode;
        0x04[31] wq_signature;
        0x04[30] block_lb_mc;
        0x04[29] atomic_like_write_en;
        0x04[28] latency_sensitive;
        0x04[26] drain_sigerr;
        0x04[23:0] pd;
        0x08[31:29] mtu;
        0x08[28:24] log_msg_max;
        0x08[22:19] log_rq_size;
        0x08[18:16] log_rq_stride;
        0x08[15] no_sq;
        0x08[14:11] log_sq_size;
        0x08[9:8] retry_mode;
        0x08[7:6] ts_format;
        0x08[4] rlky;
        0x08[3:0] ulp_stateless_offload_mode;
        0x0c[31:24] counter_set_id;
        0x0c[23:0] uar_page;
        0x10[23:0] user_index;
        0x14[28:24] log_page_size;
        0x14[23:0] remote_qpn;
        0x18 primary_address_path: Ads;
        0x44 secondary_address_path: Ads;
        0x70[31:28] log_ack_req_freq;
        0x70[23:21] log_sra_max;
        0x70[18:16] retry_count;
        0x70[15:13] rnr_retry;
        0x70[11] fre;
        0x70[10:8] cur_rnr_retry;
        0x70[7:5] cur_retry_count;
        0x78[23:0] next_send_psn;
        0x7c[28:24] log_num_dci_stream_channels;
        0x7c[23:0] cqn_snd;
        0x80[28:24] log_num_dci_errored_streams;
        0x80[23:0] deth_sqpn;
        0x88[23:0] last_acked_psn;
        0x8c[23:0] ssn;
        0x90[23:21] log_rra_max;
        0x90[19:16] atomic_mode;
        0x90[15] rre;
        0x90[14] rwe;
        0x90[13] rae;
        0x90[11:6] page_offset;
        0x90[2] cd_slave_receive;
        0x90[1] cd_slave_send;
        0x90[0] cd_master;
        0x94[28:24] min_rnr_nak;
        0x94[23:0] next_rcv_psn;
        0x98[23:0] xrcd;
        0x9c[23:0] cqn_rcv;
        0xa0 dbr_addr: u64;
        0xa8 q_key;
        0xac[26:24] rq_type;
        0xac[23:0] srqn_rmpn_xrqn;
        0xb0[23:0] rmsn;
        0xb4[31:16] hw_sq_wqebb_counter;
        0xb4[15:0] sw_sq_wqebb_counter;
        0xb8 hw_rq_counter;
        0xbc sw_rq_counter;
        0xc4[16] cgs;
        0xc4[15:8] cs_req;
        0xc4[7:0] cs_res;
        0xc8 dc_access_key: u64;
        0xd0[28] dbr_umem_valid;
    }

    /// Input of CREATE_QP.
    pub input CreateQpIn[0x110] {
        0x08[31] qpc_ext;
        0x08[23:0] input_qpn;
        0x10 opt_param_mask;
        0x14 ece;
        0x18 qpc: Qpc;
        0x100 wq_umem_offset: u64;
        0x108 wq_umem_id;
        0x10c[31] wq_umem_valid;
        0x110 pas: [u64];
    }

    /// Output of CREATE_QP.
    pub output CreateQpOut[0x10] {
        0x08[23:0] qpn;
        0x0c ece;
    }

    /// Input of DESTROY_QP.
    pub input DestroyQpIn[0x10] {
        0x08[23:0] qpn;
    }

    /// Input of all transitions that carry a context: RST2INIT, INIT2INIT, INIT2RTR, RTR2RTS, RTS2RTS, SQERR2RTS, SQD_RTS.
    pub input ModifyQpIn[0x110] {
        0x08[23:0] qpn;
        0x10 opt_param_mask;
        0x14 ece;
        0x18 qpc: Qpc;
    }

    /// Input of 2ERR_QP.
    pub input Qp2ErrIn[0x10] {
        0x08[23:0] qpn;
    }

    /// Input of 2RST_QP.
    pub input Qp2RstIn[0x10] {
        0x08[23:0] qpn;
    }

    /// Input of QUERY_QP.
    pub input QueryQpIn[0x10] {
        0x08[31] qpc_ext;
        0x08[23:0] qpn;
    }

    /// Output of QUERY_QP.
    pub output QueryQpOut[0x110] {
        0x10 opt_param_mask;
        0x14 ece;
        0x18 qpc: Qpc;
        0x110 pas: [u64];
    }
}
