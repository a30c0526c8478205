//! Event queues.

use crate::layout::layout;

layout! {
    /// Event queue context.
    pub context Eqc[0x40] {
        0x00[31:28] status;
        0x00[18] ec;
        0x00[17] oi;
        0x00[11:8] st;
        0x08[11:6] page_offset;
        0x0c[28:24] log_eq_size;
        0x0c[23:0] uar_page;
        0x14[11:0] intr;
        0x18[28:24] log_page_size;
        0x28[23:0] consumer_counter;
        0x2c[23:0] producer_counter;
    }

    /// Input of CREATE_EQ.
    pub input CreateEqIn[0x110] {
        0x10 eqc: Eqc;
        0x58 event_bitmask: [u8; 0x20];
        0x110 pas: [u64];
    }

    /// Output of CREATE_EQ.
    pub output CreateEqOut[0x10] {
        0x08[7:0] eq_number;
    }

    /// Input of DESTROY_EQ.
    pub input DestroyEqIn[0x10] {
        0x08[7:0] eq_number;
    }

    /// Input of QUERY_EQ.
    pub input QueryEqIn[0x10] {
        0x08[7:0] eq_number;
    }

    /// Output of QUERY_EQ.
    pub output QueryEqOut[0x110] {
        0x10 eqc: Eqc;
        0x58 event_bitmask: u64;
        0x110 pas: [u64];
    }
}
