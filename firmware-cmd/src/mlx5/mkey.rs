//! Memory keys.

use crate::layout::layout;

layout! {
    /// Memory key context.
    pub context Mkc[0x40] {
        0x00[30] free;
        0x00[28:26] access_mode_4_2;
        0x00[18] relaxed_ordering_write;
        0x00[16] small_fence_on_rdma_read_response;
        0x00[15] umr_en;
        0x00[14] a;
        0x00[13] rw;
        0x00[12] rr;
        0x00[11] lw;
        0x00[10] lr;
        0x00[9:8] access_mode_1_0;
        0x00[5:4] ma_translation_mode;
        0x04[31:8] qpn;
        0x04[7:0] mkey_7_0;
        0x0c[31] length64;
        0x0c[30] bsf_en;
        0x0c[29] sync_umr;
        0x0c[26] expected_sigerr_count;
        0x0c[24] en_rinval;
        0x0c[23:0] pd;
        0x10 start_addr: u64;
        0x18 len: u64;
        0x20 bsf_octword_size;
        0x30[31:16] crossing_target_vhca_id;
        0x34 translations_octword_size;
        0x38[6] relaxed_ordering_read;
        0x38[5:0] log_page_size;
    }

    /// Input of CREATE_MKEY; translation entries follow, 16 byte KLMs or 8 byte page addresses.
    pub input CreateMkeyIn[0x110] {
        0x0c[31] pg_access;
        0x0c[30] mkey_umem_valid;
        0x0c[29] data_direct;
        0x10 mkc: Mkc;
        0x60 translations_octword_actual_size;
        0x110 klm_pas_mtt: [u8];
    }

    /// Output of CREATE_MKEY.
    pub output CreateMkeyOut[0x10] {
        0x08[23:0] mkey_index;
    }

    /// Input of DESTROY_MKEY.
    pub input DestroyMkeyIn[0x10] {
        0x08[23:0] mkey_index;
    }

    /// Input of QUERY_MKEY.
    pub input QueryMkeyIn[0x10] {
        0x08[23:0] mkey_index;
        0x0c[31] pg_access;
    }

    /// Output of QUERY_MKEY.
    pub output QueryMkeyOut[0x130] {
        0x10 mkc: Mkc;
        0x110 bsf_klm_pas_mtt: [u8; 0x20];
    }
}
