//! Shared receive queues: XRC, and the basic ones of ISSI 0. With ISSI 1 basic ones are receive memory pools.

use crate::layout::layout;

layout! {
    /// XRC shared receive queue context.
    pub context XrcSrqc[0x40] {
        0x00[31:28] state;
        0x00[27:24] log_xrc_srq_size;
        0x04[31] wq_signature;
        0x04[30] cont_srq;
        0x04[28] rlky;
        0x04[27] basic_cyclic_rcv_wqe;
        0x04[26:24] log_rq_stride;
        0x04[23:0] xrcd;
        0x08[31:26] page_offset;
        0x08[24] dbr_umem_valid;
        0x08[23:0] cqn;
        0x10[31] user_index_equal_xrc_srqn;
        0x10[29:24] log_page_size;
        0x10[23:0] user_index;
        0x18[23:0] pd;
        0x1c[31:16] lwm;
        0x1c[15:0] wqe_cnt;
        0x28 db_record_addr_h;
        0x2c[31:2] db_record_addr_l;
    }

    /// Input of CREATE_XRC_SRQ.
    pub input CreateXrcSrqIn[0x110] {
        0x10 xrc_srqc: XrcSrqc;
        0x5c[31] xrc_srq_umem_valid;
        0x110 pas: [u64];
    }

    /// Output of CREATE_XRC_SRQ.
    pub output CreateXrcSrqOut[0x10] {
        0x08[23:0] xrc_srqn;
    }

    /// Input of DESTROY_XRC_SRQ.
    pub input DestroyXrcSrqIn[0x10] {
        0x08[23:0] xrc_srqn;
    }

    /// Input of QUERY_XRC_SRQ.
    pub input QueryXrcSrqIn[0x10] {
        0x08[23:0] xrc_srqn;
    }

    /// Output of QUERY_XRC_SRQ.
    pub output QueryXrcSrqOut[0x110] {
        0x10 xrc_srqc: XrcSrqc;
        0x110 pas: [u64];
    }

    /// Input of ARM_XRC_SRQ.
    pub input ArmXrcSrqIn[0x10] {
        0x08[23:0] xrc_srqn;
        0x0c[15:0] lwm;
    }

    /// Shared receive queue context.
    pub context Srqc[0x40] {
        0x00[31:28] state;
        0x00[27:24] log_srq_size;
        0x04[31] wq_signature;
        0x04[30] cont_srq;
        0x04[28] rlky;
        0x04[26:24] log_rq_stride;
        0x04[23:0] xrcd;
        0x08[31:26] page_offset;
        0x08[23:0] cqn;
        0x10[29:24] log_page_size;
        0x18[23:0] pd;
        0x1c[31:16] lwm;
        0x1c[15:0] wqe_cnt;
        0x28 dbr_addr: u64;
    }

    /// Input of CREATE_SRQ.
    pub input CreateSrqIn[0x110] {
        0x10 srqc: Srqc;
        0x110 pas: [u64];
    }

    /// Output of CREATE_SRQ.
    pub output CreateSrqOut[0x10] {
        0x08[23:0] srqn;
    }

    /// Input of DESTROY_SRQ.
    pub input DestroySrqIn[0x10] {
        0x08[23:0] srqn;
    }

    /// Input of QUERY_SRQ.
    pub input QuerySrqIn[0x10] {
        0x08[23:0] srqn;
    }

    /// Output of QUERY_SRQ.
    pub output QuerySrqOut[0x110] {
        0x10 srqc: Srqc;
        0x110 pas: [u64];
    }

    /// Input of ARM_RQ.
    pub input ArmRqIn[0x10] {
        0x08[23:0] srq_number;
        0x0c[15:0] lwm;
    }
}
