//! Management registers: modules, sensors, timeouts, node description, firmware components, and which of them exist.

use crate::layout::layout;

layout! {
    /// Node description, ASCII.
    pub context NodeDesc[0x40] {
        0x00 node_description: [u8; 0x40];
    }

    /// Reset of the firmware: what a PCI reset that follows is to reset. Read, the levels that there are.
    pub context Mfrl[0x08] {
        0x04[15:8] reset_type;
        0x04[7:0] reset_level; // a bit each
    }

    /// Byte order of the host.
    pub context HostEndianness[0x10] {
        0x00[31:24] host_endianness; // 0 little, 0x80 big
    }

    /// Which management registers of 0x9000 to 0x907f exist.
    pub context McamRegs[0x10] {
        0x00[3] mcda;
        0x00[2] mcc;
        0x00[1] mcqi;
        0x00[0] mcqs;
        0x04[31:26] regs_95_to_90;
        0x04[25] mpir;
        0x04[24:23] regs_88_to_87;
        0x04[22] mpegc;
        0x04[21] mtutc;
        0x04[20:4] regs_84_to_68;
        0x04[3:0] tracer_registers;
        0x08[31:14] regs_63_to_46;
        0x08[13] mrtc;
        0x08[12:9] regs_44_to_41;
        0x08[8] mfrl;
        0x08[7:0] regs_39_to_32;
        0x0c[31:11] regs_31_to_11;
        0x0c[10] mtmp;
        0x0c[9:0] regs_9_to_0;
    }

    /// Which management features exist.
    pub context McamFeatures[0x10] {
        0x08[15] mtutc_freq_adj_units;
        0x08[14] mtutc_time_adjustment_extended_range;
        0x08[2] mcia_32dwords;
        0x08[1] out_pulse_duration_ns;
        0x08[0] npps_period;
        0x0c[21] reset_state;
        0x0c[20] ptpcyc2realtime_modify;
        0x0c[17] pci_status_and_power;
        0x0c[11] mark_tx_action_cnp;
        0x0c[10] mark_tx_action_cqe;
        0x0c[9] dynamic_tx_overflow;
        0x0c[4] pcie_outbound_stalled;
        0x0c[3] tx_overflow_buffer_pkt;
        0x0c[2] mtpps_enh_out_per_adj;
        0x0c[1] mtpps_fs;
        0x0c[0] pcie_performance_group;
    }

    /// Management capability and feature masks.
    pub context Mcam[0x48] {
        0x00[23:16] feature_group;
        0x00[7:0] access_reg_group;
        0x08 mng_access_reg_cap_mask: McamRegs;
        0x28 mng_feature_cap_mask: McamFeatures;
    }

    /// Module EEPROM access.
    pub context Mcia[0x90] {
        0x00[31] l;
        0x00[23:16] module;
        0x00[7:0] status;
        0x04[31:24] i2c_device_address;
        0x04[23:16] page_number;
        0x04[15:0] device_address;
        0x08[15:0] size;
        0x10 data: [u8; 0x80];
    }

    /// An item of the non-volatile configuration. Items of the adapter have type class 0.
    pub context Mnvda[0x10c] {
        0x00[31:30] valid;
        0x00[29:28] priority;
        0x00[27:26] header_type;
        0x00[25] ovr_en;
        0x00[24] rd_en;
        0x00[23:22] access_mode;
        0x00[20:16] writer_id;
        0x00[15:12] version;
        0x00[9] host_id_valid;
        0x00[8:0] length;
        0x04[31:24] type_class;
        0x04[23:0] parameter_index;
        0x08[15:0] crc16;
        0x0c data: [u8; 0x100];
    }

    /// Beacon of the port's LED: seconds, 0 off, 0xffff until it is switched off.
    pub context Mlcr[0xc] {
        0x00[23:16] local_port;
        0x04[15:0] beacon_duration;
        0x08[15:0] beacon_remain;
    }

    /// Which temperature sensors there are.
    pub context Mtcap[0x10] {
        0x00[6:0] sensor_count;
        0x08 sensor_map: u64;
    }

    /// A temperature sensor, in units of 0.125 degrees Celsius.
    pub context Mtmp[0x20] {
        0x00[11:0] sensor_index;
        0x04[15:0] temperature;
        0x08[31] mte;
        0x08[30] mtr;
        0x08[15:0] max_temperature;
        0x0c[31:30] tee;
        0x0c[15:0] temp_threshold_hi;
        0x10[15:0] temp_threshold_lo;
        0x18 sensor_name_hi;
        0x1c sensor_name_lo;
    }

    /// A component of the firmware: what it is and whether an update of it is under way.
    pub context Mcqs[0x10] {
        0x00[31] last_index_flag;
        0x00[23:16] fw_device;
        0x00[15:0] component_index;
        0x04[15:0] identifier; // 1 boot image
        0x08[8:4] component_status; // 0 not present, 1 present, 2 in use
        0x08[3:0] component_update_state; // 0 idle, 4 active after the next reset
        0x0c[31:28] last_update_state_changer_type;
        0x0c[27:24] last_update_state_changer_host_id;
    }

    /// Information about a component of the firmware: `data_size` bytes of it, from `offset`.
    pub context Mcqi[0x94] {
        0x00[31] read_pending_component;
        0x00[15:0] component_index;
        0x08[4:0] info_type; // 0 McqiCap, 1 McqiVersion
        0x0c info_size;
        0x10 offset;
        0x14[15:0] data_size;
        0x18 data: [u8; 0x7c];
    }

    /// What can be done with a component.
    pub context McqiCap[0x14] {
        0x00 supported_info_bitmask; // bit n: info_type n
        0x04 component_size;
        0x08 max_component_size;
        0x0c[31:28] log_mcda_word_size;
        0x0c[15:0] mcda_max_write_size;
        0x10[31] rd_en;
        0x10[29] match_chip_id;
        0x10[28] match_psid;
        0x10[27] check_user_timestamp;
        0x10[26] match_base_guid_mac;
    }

    /// Version of a component.
    pub context McqiVersion[0x7c] {
        0x00[29] build_time_valid;
        0x00[28] user_defined_time_valid;
        0x00[7:0] version_string_length;
        0x04 version; // major[31:24], minor[23:16], subminor[15:0]
        0x08 build_time: u64;
        0x10 user_defined_time: u64;
        0x18 build_tool_version;
        0x20 version_string: [u8; 0x5c];
    }

    /// A timeout: value times multiplier, 0 milliseconds, 1 seconds, 2 minutes, 3 hours.
    pub context DefaultTimeout[0x4] {
        0x00[31:29] to_multiplier;
        0x00[19:0] to_value;
    }

    /// Timeouts the driver is to use.
    pub context Dtor[0x40] {
        0x04 pcie_toggle_to: DefaultTimeout;
        0x14 health_poll_to: DefaultTimeout;
        0x18 full_crdump_to: DefaultTimeout;
        0x1c fw_reset_to: DefaultTimeout;
        0x20 flush_on_err_to: DefaultTimeout;
        0x24 pci_sync_update_to: DefaultTimeout;
        0x28 tear_down_to: DefaultTimeout;
        0x2c fsm_reactivate_to: DefaultTimeout;
        0x30 reclaim_pages_to: DefaultTimeout;
        0x34 reclaim_vfs_pages_to: DefaultTimeout;
        0x38 reset_unload_to: DefaultTimeout;
    }
}
