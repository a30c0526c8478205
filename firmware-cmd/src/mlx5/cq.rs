//! Completion queues.

use crate::layout::layout;

layout! {
    /// Completion queue context.
    pub context Cqc[0x40] {
        0x00[31:28] status;
        0x00[25] dbr_umem_valid;
        0x00[24] apu_cq;
        0x00[23:21] cqe_sz;
        0x00[20] cc;
        0x00[18] scqe_break_moderation_en;
        0x00[17] oi;
        0x00[16:15] cq_period_mode;
        0x00[14] cqe_comp_en;
        0x00[13:12] mini_cqe_res_format;
        0x00[11:8] st;
        0x00[1:0] cqe_compression_layout;
        0x08[11:6] page_offset;
        0x0c[28:24] log_cq_size;
        0x0c[23:0] uar_page;
        0x10[27:16] cq_period;
        0x10[15:0] cq_max_count;
        0x14 c_eqn;
        0x18[28:24] log_page_size;
        0x20[23:0] last_notified_index;
        0x24[23:0] last_solicit_index;
        0x28[23:0] consumer_counter;
        0x2c[23:0] producer_counter;
        0x38 dbr_addr: u64;
    }

    /// Input of CREATE_CQ.
    pub input CreateCqIn[0x110] {
        0x10 cqc: Cqc;
        0x5c[31] cq_umem_valid;
        0x110 pas: [u64];
    }

    /// Output of CREATE_CQ.
    pub output CreateCqOut[0x10] {
        0x08[23:0] cqn;
    }

    /// Input of DESTROY_CQ.
    pub input DestroyCqIn[0x10] {
        0x08[23:0] cqn;
    }

    /// Input of QUERY_CQ.
    pub input QueryCqIn[0x10] {
        0x08[23:0] cqn;
    }

    /// Output of QUERY_CQ.
    pub output QueryCqOut[0x110] {
        0x10 cqc: Cqc;
        0x110 pas: [u64];
    }

    /// Input of MODIFY_CQ; op_mod 0 modifies, 1 resizes, and each reads the field select in its own way.
    pub input ModifyCqIn[0x110] {
        0x08[23:0] cqn;
        0x0c field_select;
        0x10 cqc: Cqc;
        0x5c[31] cq_umem_valid;
        0x110 pas: [u64];
    }
}
