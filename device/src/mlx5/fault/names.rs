//! Names of the interface that faults are written in: events, syndromes, states of the module.

use rocinante_firmware_cmd::mlx5::status::{DeliveryStatus, Status};

use crate::mlx5::qp::ServiceType;

/// A table of names.
pub type Names<T> = &'static [(&'static str, T)];

/// The value of a name.
#[must_use]
pub fn find<T: Copy>(names: Names<T>, name: &str) -> Option<T> {
    names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// Event types (`MLX5_EVENT_TYPE_*`).
pub const EVENTS: Names<u8> = &[
    ("COMP", 0x00),
    ("PATH_MIG", 0x01),
    ("COMM_EST", 0x02),
    ("SQ_DRAINED", 0x03),
    ("CQ_ERROR", 0x04),
    ("WQ_CATAS_ERROR", 0x05),
    ("PATH_MIG_FAILED", 0x07),
    ("INTERNAL_ERROR", 0x08),
    ("PORT_CHANGE", 0x09),
    ("CMD", 0x0a),
    ("PAGE_REQUEST", 0x0b),
    ("PAGE_FAULT", 0x0c),
    ("NIC_VPORT_CHANGE", 0x0d),
    ("ESW_FUNCTIONS_CHANGED", 0x0e),
    ("VHCA_STATE_CHANGE", 0x0f),
    ("WQ_INVAL_REQ_ERROR", 0x10),
    ("WQ_ACCESS_ERROR", 0x11),
    ("SRQ_CATAS_ERROR", 0x12),
    ("SRQ_LAST_WQE", 0x13),
    ("SRQ_RQ_LIMIT", 0x14),
    ("GPIO_EVENT", 0x15),
    ("PORT_MODULE_EVENT", 0x16),
    ("TEMP_WARN_EVENT", 0x17),
    ("XRQ_ERROR", 0x18),
    ("REMOTE_CONFIG", 0x19),
    ("DB_BF_CONGESTION", 0x1a),
    ("STALL_EVENT", 0x1b),
    ("DCT_DRAINED", 0x1c),
    ("DCT_KEY_VIOLATION", 0x1d),
    ("FPGA_ERROR", 0x20),
    ("FPGA_QP_ERROR", 0x21),
    ("GENERAL_EVENT", 0x22),
    ("MONITOR_COUNTER", 0x24),
    ("PPS_EVENT", 0x25),
    ("DEVICE_TRACER", 0x26),
    ("OBJECT_CHANGE", 0x27),
];

/// Events of queue pairs, and whether they are errors.
pub const QP_EVENTS: &[(u8, bool)] = &[
    (0x01, false),
    (0x02, false),
    (0x03, false),
    (0x05, true),
    (0x07, false),
    (0x10, true),
    (0x11, true),
    (0x13, false),
];

/// Events of shared receive queues.
pub const SRQ_EVENTS: &[u8] = &[0x12, 0x14];

/// The event of completion queues.
pub const CQ_ERROR: u8 = 0x04;

/// Syndromes of the health buffer.
pub const HEALTH: Names<u8> = &[
    ("FW_INTERNAL_ERR", 0x01),
    ("DEAD_IRISC", 0x07),
    ("HW_FATAL_ERR", 0x08),
    ("FW_CRC_ERR", 0x09),
    ("ICM_FETCH_PCI_ERR", 0x0a),
    ("ICM_PAGE_ERR", 0x0b),
    ("ASYNCHRONOUS_EQ_BUF_OVERRUN", 0x0c),
    ("EQ_IN_ERR", 0x0d),
    ("EQ_INV", 0x0e),
    ("FFSER_ERR", 0x0f),
    ("HIGH_TEMP_ERR", 0x10),
    ("ICM_PCI_POISONED_ERR", 0x12),
];

/// Severities, as in syslog.
pub const SEVERITY: Names<u8> = &[
    ("emergency", 0),
    ("alert", 1),
    ("critical", 2),
    ("error", 3),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];

/// Syndromes of completions with errors.
pub const CQE: Names<u8> = &[
    ("LOCAL_LENGTH_ERR", 0x01),
    ("LOCAL_QP_OP_ERR", 0x02),
    ("LOCAL_PROT_ERR", 0x04),
    ("WR_FLUSH_ERR", 0x05),
    ("MW_BIND_ERR", 0x06),
    ("BAD_RESP_ERR", 0x10),
    ("LOCAL_ACCESS_ERR", 0x11),
    ("REMOTE_INVAL_REQ_ERR", 0x12),
    ("REMOTE_ACCESS_ERR", 0x13),
    ("REMOTE_OP_ERR", 0x14),
    ("TRANSPORT_RETRY_EXC_ERR", 0x15),
    ("RNR_RETRY_EXC_ERR", 0x16),
    ("REMOTE_ABORTED_ERR", 0x22),
];

/// What the module can say of itself.
pub const MODULE: Names<u8> = &[
    ("plugged", 1),
    ("unplugged", 2),
    ("error", 3),
    ("disabled", 4),
];

/// What can be wrong with the module.
pub const MODULE_ERROR: Names<u8> = &[
    ("power-budget-exceeded", 0x0),
    ("long-range", 0x1),
    ("bus-stuck", 0x2),
    ("no-eeprom", 0x3),
    ("enforce-part-number-list", 0x4),
    ("unknown-identifier", 0x5),
    ("high-temperature", 0x6),
    ("bad-cable", 0x7),
    ("pcie-power-slot-exceeded", 0xc),
];

/// How a command may not have been delivered.
pub const DELIVERY: Names<DeliveryStatus> = &[
    ("signature", DeliveryStatus::Signature),
    ("token", DeliveryStatus::Token),
    ("block-number", DeliveryStatus::BlockNumber),
    ("output-pointer", DeliveryStatus::OutputPointer),
    ("input-pointer", DeliveryStatus::InputPointer),
    ("firmware", DeliveryStatus::Internal),
    ("input-length", DeliveryStatus::InputLength),
    ("output-length", DeliveryStatus::OutputLength),
    ("reserved", DeliveryStatus::Reserved),
    ("descriptor", DeliveryStatus::Type),
];

/// Services of queue pairs.
pub const SERVICES: Names<ServiceType> = &[
    ("RC", ServiceType::Rc),
    ("UC", ServiceType::Uc),
    ("UD", ServiceType::Ud),
    ("XRC", ServiceType::Xrc),
    ("GSI", ServiceType::Gsi),
    ("REG_UMR", ServiceType::RegUmr),
];

/// Registers of DTOR by the name of their timeout.
pub const TIMEOUTS: Names<usize> = &[
    ("pcie-toggle", 0x04),
    ("health-poll", 0x14),
    ("full-crdump", 0x18),
    ("fw-reset", 0x1c),
    ("flush-on-error", 0x20),
    ("pci-sync-update", 0x24),
    ("teardown", 0x28),
    ("fsm-reactivate", 0x2c),
    ("reclaim-pages", 0x30),
    ("reclaim-vfs-pages", 0x34),
    ("reset-unload", 0x38),
];

/// The status that a command is refused with.
#[must_use]
pub fn status(name: &str) -> Option<Status> {
    let all = (1..=u8::MAX).filter_map(Status::from_u8);
    all.into_iter().find(|status| status.name() == name)
}
