//! Which registers the function has and where: type 0 header, PCI Express, MSI-X, vendor-specific and power
//! management capabilities, in the order and at the offsets of a ConnectX-5.
//!
//! Of the vendor-specific capability only the header is here: see [`crate::vendor`].

use crate::config::Register;
use crate::function::FunctionConfig;

/// Command register, PCI 6.2.2.
pub(crate) const COMMAND: u8 = 0x04;
/// Bus Master Enable in [`COMMAND`].
pub(crate) const COMMAND_BUS_MASTER: u16 = 1 << 2;

/// Capability list: PCI Express, MSI-X, vendor-specific if there is one, power management.
const EXPRESS: u8 = 0x60;
const MSIX: u8 = 0x9c;
const POWER: u8 = 0x40;
/// See [`EXPRESS`].
pub(crate) const VENDOR: u8 = 0xc0;

/// PCI Express Device Control, PCIe 7.5.3.4.
pub(crate) const DEVICE_CONTROL: u8 = EXPRESS + 0x08;
/// Initiate Function Level Reset in [`DEVICE_CONTROL`]; always reads as 0.
pub(crate) const INITIATE_FLR: u16 = 1 << 15;

/// MSI-X Message Control, PCI 6.8.2.3.
pub(crate) const MSIX_CONTROL: u8 = MSIX + 0x02;
/// MSI-X Enable in [`MSIX_CONTROL`].
pub(crate) const MSIX_ENABLE: u16 = 1 << 15;
/// Function Mask in [`MSIX_CONTROL`].
pub(crate) const MSIX_FUNCTION_MASK: u16 = 1 << 14;

/// Power Management Control/Status, PM 3.2.4.
pub(crate) const POWER_STATUS: u8 = POWER + 0x04;
/// Power state in [`POWER_STATUS`]: 0 is D0, 3 is D3hot.
pub(crate) const POWER_STATE: u16 = 0x3;

/// The registers of a function.
pub(crate) fn registers(config: &FunctionConfig, vectors: u16) -> Vec<Register> {
    let mut all = header(config);
    all.extend(express());
    all.extend(msix(config, vectors));
    all.extend(vendor(config));
    all.extend(power());
    all
}

fn header(c: &FunctionConfig) -> Vec<Register> {
    let ro = Register::read_only;
    let rw = Register::read_write;
    // The address bits that can be written tell the size of the BAR.
    let bar0_mask = !(c.bar0_size - 1);
    vec![
        ro(0x00, 2, c.vendor_id.into()),
        ro(0x02, 2, c.device_id.into()),
        // Memory space, bus master, parity error response, SERR#, interrupt disable.
        rw(COMMAND, 2, 0, 0x0546),
        // Status: capability list; error bits are cleared by writing 1.
        Register {
            offset: 0x06,
            len: 2,
            reset: 0x0010,
            writable: 0,
            clear_by_one: 0xf900,
        },
        ro(0x08, 1, c.revision_id.into()),
        ro(0x09, 1, c.class_code & 0xff),
        ro(0x0a, 2, c.class_code >> 8),
        // Cache line size can be written; latency timer, header type 0 and BIST are 0 on PCI Express.
        rw(0x0c, 1, 0, 0xff),
        ro(0x0d, 3, 0),
        // BAR 0: 64-bit, prefetchable memory.
        rw(0x10, 4, 0b1100, bar0_mask as u32 & !0xf),
        rw(0x14, 4, 0, (bar0_mask >> 32) as u32),
        ro(0x2c, 2, c.subsystem_vendor_id.into()),
        ro(0x2e, 2, c.subsystem_id.into()),
        ro(0x34, 1, EXPRESS.into()),
        // Interrupt line and pin INTA.
        rw(0x3c, 1, 0, 0xff),
        ro(0x3d, 1, 1),
    ]
}

/// PCI Express capability version 2 of an endpoint, PCIe 7.5.3.
fn express() -> Vec<Register> {
    let ro = Register::read_only;
    let rw = Register::read_write;
    vec![
        ro(EXPRESS, 1, 0x10),
        ro(EXPRESS + 0x01, 1, MSIX.into()),
        ro(EXPRESS + 0x02, 2, 0x0002),
        // Device Capabilities: payload 512 bytes, extended tags, L0s and L1 latency unlimited, role-based
        // error reporting, slot power 25 W, FLR.
        ro(
            EXPRESS + 0x04,
            4,
            2 | 1 << 5 | 7 << 6 | 7 << 9 | 1 << 15 | 25 << 18 | 1 << 28,
        ),
        // Device Control: relaxed ordering, no snoop and 512-byte read requests after reset. Phantom
        // functions and auxiliary power are not implemented; Initiate FLR reads as 0.
        rw(DEVICE_CONTROL, 2, 0x2810, 0x79ff),
        Register {
            offset: EXPRESS + 0x0a,
            len: 2,
            reset: 0,
            writable: 0,
            clear_by_one: 0x000f,
        },
        // Link Capabilities and Status: 8 GT/s, x16; no ASPM, with its optionality bit.
        ro(EXPRESS + 0x0c, 4, 3 | 16 << 4 | 1 << 22),
        // Link Control: RCB, common clock, extended synch.
        rw(EXPRESS + 0x10, 2, 0, 0x00c8),
        ro(EXPRESS + 0x12, 2, 3 | 16 << 4 | 1 << 12),
        // Device Capabilities 2: completion timeout ranges A, B, C and disable.
        ro(EXPRESS + 0x24, 4, 0x17),
        // Device Control 2: completion timeout, AtomicOp requester, IDO.
        rw(EXPRESS + 0x28, 2, 0, 0x035f),
        // Link Capabilities 2: 2.5, 5 and 8 GT/s. Link Control 2: target 8 GT/s. Link Status 2: equalised.
        ro(EXPRESS + 0x2c, 4, 0b1110),
        rw(EXPRESS + 0x30, 2, 3, 0x000f),
        ro(EXPRESS + 0x32, 2, 0x001e),
    ]
}

/// MSI-X capability, PCI 6.8.2.
fn msix(c: &FunctionConfig, vectors: u16) -> Vec<Register> {
    let ro = Register::read_only;
    let after_msix = c.vendor_capability.as_ref().map_or(POWER, |_| VENDOR);
    vec![
        ro(MSIX, 1, 0x11),
        ro(MSIX + 0x01, 1, after_msix.into()),
        Register::read_write(
            MSIX_CONTROL,
            2,
            vectors.saturating_sub(1).into(),
            (MSIX_ENABLE | MSIX_FUNCTION_MASK).into(),
        ),
        // Offset and BAR indicator (BAR 0, the low three bits) of table and pending bits.
        ro(MSIX + 0x04, 4, c.msix_table_offset),
        ro(MSIX + 0x08, 4, c.msix_pba_offset),
    ]
}

/// Header of the vendor-specific capability, PCI 6.7.
fn vendor(c: &FunctionConfig) -> Vec<Register> {
    let ro = Register::read_only;
    let header = |len: u8| {
        vec![
            ro(VENDOR, 1, 0x09),
            ro(VENDOR + 0x01, 1, POWER.into()),
            ro(VENDOR + 0x02, 1, len.into()),
        ]
    };
    let capability = c.vendor_capability.as_ref();
    capability.map_or(Vec::new(), |v| header(v.len))
}

/// Power management capability version 3, D0 and D3hot, PM 3.2. The state survives D3hot (No_Soft_Reset).
fn power() -> Vec<Register> {
    let ro = Register::read_only;
    vec![
        ro(POWER, 1, 0x01),
        ro(POWER + 0x01, 1, 0),
        ro(POWER + 0x02, 2, 0x0003),
        Register::read_write(POWER_STATUS, 2, 1 << 3, POWER_STATE.into()),
    ]
}
