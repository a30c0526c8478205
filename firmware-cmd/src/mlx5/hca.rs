//! HCA management: capabilities, pages, initialization, teardown, identity.
//! Positions of `mlx5_ifc.h`, Linux 6.12; where FreeBSD 12.1 sends less, what is missing reads as zero.

use crate::layout::layout;

layout! {
    /// Input of ENABLE_HCA.
    pub input EnableHcaIn[0x10] {
        0x08[31] embedded_cpu_function;
        0x08[15:0] function_id;
    }

    /// Input of DISABLE_HCA.
    pub input DisableHcaIn[0x10] {
        0x08[31] embedded_cpu_function;
        0x08[15:0] function_id;
    }

    /// Output of QUERY_ISSI.
    pub output QueryIssiOut[0x70] {
        0x08[15:0] current_issi;
        0x6c supported_issi_dw0;
    }

    /// Input of SET_ISSI.
    pub input SetIssiIn[0x10] {
        0x08[15:0] current_issi;
    }

    /// Input of QUERY_PAGES.
    pub input QueryPagesIn[0x10] {
        0x08[31] embedded_cpu_function;
        0x08[15:0] function_id;
    }

    /// Output of QUERY_PAGES. `num_pages` is signed: negative means that the device has pages to give back.
    pub output QueryPagesOut[0x10] {
        0x08[31] embedded_cpu_function;
        0x08[15:0] function_id;
        0x0c num_pages;
    }

    /// Input of MANAGE_PAGES; pages follow when they are given.
    pub input ManagePagesIn[0x10] {
        0x08[31] embedded_cpu_function;
        0x08[15:0] function_id;
        0x0c input_num_entries;
        0x10 pas: [u64];
    }

    /// Output of MANAGE_PAGES; pages follow when they were taken.
    pub output ManagePagesOut[0x10] {
        0x08 output_num_entries;
        0x10 pas: [u64];
    }

    /// Input of QUERY_HCA_CAP; op_mod is capability type << 1 | current.
    pub input QueryHcaCapIn[0x10] {
        0x08[31] other_function;
        0x08[30] ec_vf_function;
        0x08[15:0] function_id;
    }

    /// Output of QUERY_HCA_CAP.
    pub output QueryHcaCapOut[0x1010] {
        0x10 capability: [u8];
    }

    /// Input of SET_HCA_CAP; op_mod is capability type << 1.
    pub input SetHcaCapIn[0x1010] {
        0x08[31] other_function;
        0x08[30] ec_vf_function;
        0x08[15:0] function_id;
        0x10 capability: [u8];
    }

    /// Input of INIT_HCA.
    pub input InitHcaIn[0x20] {
        0x0c[29:16] sw_vhca_id;
        0x10 sw_owner_id: [u8; 0x10];
    }

    /// Input of TEARDOWN_HCA.
    pub input TeardownHcaIn[0x10] {
        0x08[15:0] profile;
    }

    /// Output of TEARDOWN_HCA.
    pub output TeardownHcaOut[0x10] {
        0x0c[0] state;
    }

    /// Who made the adapter.
    pub context AdapterParamBlock[0x100] {
        0x18[23:0] ieee_vendor_id;
        0x1c[15:0] vsd_vendor_id;
        0x20 vsd: [u8; 0xd0];
        0xf0 vsd_contd_psid: [u8; 0x10];
    }

    /// Output of QUERY_ADAPTER.
    pub output QueryAdapterOut[0x110] {
        0x10 adapter: AdapterParamBlock;
    }

    /// Output of QUERY_SPECIAL_CONTEXTS.
    pub output QuerySpecialContextsOut[0x20] {
        0x08 dump_fill_mkey;
        0x0c resd_lkey;
        0x10 null_mkey;
        0x14 terminate_scatter_list_mkey;
        0x18 repeated_mkey;
    }

    /// Input of SET_DRIVER_VERSION.
    pub input SetDriverVersionIn[0x50] {
        0x10 driver_version: [u8; 0x40];
    }
}
