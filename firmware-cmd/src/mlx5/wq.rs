//! Work queues, and the objects that consist of one: receive memory pools, send and receive queues.

use crate::layout::layout;

layout! {
    /// Work queue; page addresses follow.
    pub context Wq[0xc0] {
        0x00[31:28] wq_type;
        0x00[27] wq_signature;
        0x00[26:25] end_padding_mode;
        0x00[24] cd_slave;
        0x04[31] hds_skip_first_sge;
        0x04[30:28] log2_hds_buf_size;
        0x04[20:16] page_offset;
        0x04[15:0] lwm;
        0x08[23:0] pd;
        0x0c[23:0] uar_page;
        0x10 dbr_addr: u64;
        0x18 hw_counter;
        0x1c sw_counter;
        0x20[19:16] log_wq_stride;
        0x20[12:8] log_wq_pg_sz;
        0x20[4:0] log_wq_sz;
        0x24[31] dbr_umem_valid;
        0x24[30] wq_umem_valid;
        0x24[28:24] log_hairpin_num_packets;
        0x24[20:16] log_hairpin_data_sz;
        0x24[11:8] log_wqe_num_of_strides;
        0x24[7] two_byte_shift_en;
        0x24[2:0] log_wqe_stride_size;
        0x28 dbr_umem_id;
        0x2c wq_umem_id;
        0x30 wq_umem_offset: u64;
        0x38 headers_mkey;
        0x3c[31] shampo_enable;
        0x3c[26:24] log_reservation_size;
        0x3c[18:16] log_max_num_of_packets_per_reservation;
        0x3c[9:8] log_headers_entry_size;
        0x3c[3:0] log_headers_buffer_entry_num;
        0xc0 pas: [u64];
    }

    /// Receive memory pool context.
    pub context Rmpc[0xf0] {
        0x00[23:20] state;
        0x04[31] basic_cyclic_rcv_wqe;
        0x30 wq: Wq;
    }

    /// Which fields MODIFY_RMP is to set.
    pub context RmpBitmask[0x8] {
        0x04[0] lwm;
    }

    /// Input of CREATE_RMP.
    pub input CreateRmpIn[0x110] {
        0x20 rmpc: Rmpc;
    }

    /// Output of CREATE_RMP.
    pub output CreateRmpOut[0x10] {
        0x08[23:0] rmpn;
    }

    /// Input of MODIFY_RMP.
    pub input ModifyRmpIn[0x110] {
        0x08[31:28] rmp_state;
        0x08[23:0] rmpn;
        0x10 bitmask: RmpBitmask;
        0x20 rmpc: Rmpc;
    }

    /// Input of DESTROY_RMP.
    pub input DestroyRmpIn[0x10] {
        0x08[23:0] rmpn;
    }

    /// Input of QUERY_RMP.
    pub input QueryRmpIn[0x10] {
        0x08[23:0] rmpn;
    }

    /// Output of QUERY_RMP.
    pub output QueryRmpOut[0x110] {
        0x20 rmpc: Rmpc;
    }

    /// Send queue context.
    pub context Sqc[0xf0] {
        0x00[31] rlky;
        0x00[30] cd_master;
        0x00[29] fre;
        0x00[28] flush_in_error_en;
        0x00[27] allow_multi_pkt_send_wqe;
        0x00[26:24] min_wqe_inline_mode;
        0x00[23:20] state;
        0x00[19] reg_umr;
        0x00[18] allow_swp;
        0x00[17] hairpin;
        0x00[16] non_wire;
        0x00[5:4] ts_format;
        0x04[23:0] user_index;
        0x08[23:0] cqn;
        0x0c[23:0] hairpin_peer_rq;
        0x10[15:0] hairpin_peer_vhca;
        0x18[23:0] ts_cqe_to_dest_cqn;
        0x1c[15:0] packet_pacing_rate_limit_index;
        0x20[31:16] tis_lst_sz;
        0x20[15:0] qos_queue_group_id;
        0x2c[23:0] tis_num_0;
        0x30 wq: Wq;
    }

    /// Input of CREATE_SQ.
    pub input CreateSqIn[0x110] {
        0x20 sqc: Sqc;
    }

    /// Output of CREATE_SQ.
    pub output CreateSqOut[0x10] {
        0x08[23:0] sqn;
    }

    /// Input of MODIFY_SQ.
    pub input ModifySqIn[0x110] {
        0x08[31:28] sq_state;
        0x08[23:0] sqn;
        0x10 modify_bitmask: u64;
        0x20 sqc: Sqc;
    }

    /// Input of DESTROY_SQ.
    pub input DestroySqIn[0x10] {
        0x08[23:0] sqn;
    }

    /// Input of QUERY_SQ.
    pub input QuerySqIn[0x10] {
        0x08[23:0] sqn;
    }

    /// Output of QUERY_SQ.
    pub output QuerySqOut[0x110] {
        0x20 sqc: Sqc;
    }

    /// Receive queue context.
    pub context Rqc[0xf0] {
        0x00[31] rlky;
        0x00[30] delay_drop_en;
        0x00[29] scatter_fcs;
        0x00[28] vsd;
        0x00[27:24] mem_rq_type;
        0x00[23:20] state;
        0x00[18] flush_in_error_en;
        0x00[17] hairpin;
        0x00[5:4] ts_format;
        0x04[23:0] user_index;
        0x08[23:0] cqn;
        0x0c[31:24] counter_set_id;
        0x10[23:0] rmpn;
        0x14[23:0] hairpin_peer_sq;
        0x18[15:0] hairpin_peer_vhca;
        0x24[25:24] shampo_no_match_alignment_granularity;
        0x24[17:16] shampo_match_criteria_type;
        0x24[15:0] reservation_timeout;
        0x30 wq: Wq;
    }

    /// Input of CREATE_RQ.
    pub input CreateRqIn[0x110] {
        0x20 rqc: Rqc;
    }

    /// Output of CREATE_RQ.
    pub output CreateRqOut[0x10] {
        0x08[23:0] rqn;
    }

    /// Input of MODIFY_RQ.
    pub input ModifyRqIn[0x110] {
        0x08[31:28] rq_state;
        0x08[23:0] rqn;
        0x10 modify_bitmask: u64;
        0x20 rqc: Rqc;
    }

    /// Input of DESTROY_RQ.
    pub input DestroyRqIn[0x10] {
        0x08[23:0] rqn;
    }

    /// Input of QUERY_RQ.
    pub input QueryRqIn[0x10] {
        0x08[23:0] rqn;
    }

    /// Output of QUERY_RQ.
    pub output QueryRqOut[0x110] {
        0x20 rqc: Rqc;
    }
}
