//! The vendor-specific capability: where it is, and which accesses reach its registers.

use proptest::prelude::*;

use super::*;
use crate::vendor::{ConfigRegisters, VendorCapability};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Access {
    Read(u8),
    Write(u8, u32),
    Reset,
}

/// Registers that read as their offset, four times.
#[derive(Clone, Default)]
struct Registers(Arc<Mutex<Vec<Access>>>);

impl Registers {
    fn push(&self, access: Access) {
        self.0.lock().unwrap().push(access);
    }

    fn take(&self) -> Vec<Access> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl ConfigRegisters for Registers {
    fn read(&mut self, offset: u8) -> u32 {
        self.push(Access::Read(offset));
        u32::from(offset) * 0x0101_0101 + 0x0302_0100
    }
    fn write(&mut self, offset: u8, value: u32) {
        self.push(Access::Write(offset, value));
    }
    fn reset(&mut self) {
        self.push(Access::Reset);
    }
}

fn with_registers(len: u8) -> Result<(Function, Registers), ConfigError> {
    let registers = Registers::default();
    let c = FunctionConfig {
        vendor_capability: Some(VendorCapability {
            len,
            registers: Box::new(registers.clone()),
        }),
        ..config()
    };
    let f = Function::new(c, Box::new(Recorder::default()), Interrupts::new(64))?;
    Ok((f, registers))
}

#[test]
fn it_is_in_the_list_between_msi_x_and_power_management() {
    let (mut f, _) = with_registers(0x18).unwrap();
    assert_eq!(f.r32(0xc0), 0x0018_4009);
    assert_eq!(f.r8(0x9d), 0xc0);
    for (id, at) in [(0x10, 0x60), (0x11, 0x9c), (0x09, 0xc0), (0x01, 0x40)] {
        assert_eq!(f.capability(id), Some(at), "{id:#x}");
    }
    f.w32(0xc0, u32::MAX);
    assert_eq!(f.r32(0xc0), 0x0018_4009);
}

#[test]
fn dwords_reach_the_registers_and_nothing_else_does() {
    let (mut f, registers) = with_registers(0x18).unwrap();
    assert_eq!(f.r32(0xc4), 0x0706_0504);
    assert_eq!(f.r32(0xd4), 0x1716_1514);
    f.w32(0xcc, 0x1234_5678);
    assert_eq!(
        registers.take(),
        [
            Access::Read(4),
            Access::Read(0x14),
            Access::Write(0xc, 0x1234_5678)
        ]
    );
    for around in [0xbc, 0xc0, 0xd8, 0x100, 0xffc] {
        f.w32(around, u32::MAX);
        f.r32(around);
    }
    assert_eq!(registers.take(), []);
}

#[test]
fn a_part_of_a_register_can_be_read_and_not_written() {
    let (mut f, registers) = with_registers(0x18).unwrap();
    assert_eq!(f.r8(0xc7), 0x07);
    assert_eq!(f.r16(0xca), 0x0b0a);
    assert_eq!(f.r32(0xd2), 0x1514_1312, "of two registers");
    assert_eq!(f.r32(0xc2), 0x0504_0018, "of the header and a register");
    assert_eq!(f.r32(0xd6), 0x0000_1716, "beyond the end");
    assert_eq!(
        registers.take(),
        [4, 8, 0x10, 0x14, 4, 0x14].map(Access::Read)
    );
    f.w16(0xc4, 0xffff);
    f.config_write(0xc5, &[0xff; 3]).unwrap();
    assert_eq!(registers.take(), []);
    f.config_write(0xc6, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!(registers.take(), [Access::Write(8, 0x0605_0403)]);
}

#[test]
fn a_read_of_all_configuration_space_reads_each_register_once() {
    let (mut f, registers) = with_registers(0x18).unwrap();
    let mut all = [0; 4096];
    f.config_read(0, &mut all).unwrap();
    assert_eq!(registers.take(), [4, 8, 0xc, 0x10, 0x14].map(Access::Read));
    assert_eq!(all[..4], [0xb3, 0x15, 0x17, 0x10]);
    assert_eq!(all[0xc0..0xc8], [9, 0x40, 0x18, 0, 4, 5, 6, 7]);
    assert_eq!(all[0xd8..0xe0], [0; 8]);
}

#[test]
fn every_reset_of_the_function_resets_the_registers() {
    let (mut f, registers) = with_registers(8).unwrap();
    f.w16(0x68, 1 << 15);
    assert_eq!(registers.take(), [Access::Reset], "FLR");
    for kind in [ResetKind::PowerOn, ResetKind::Device, ResetKind::ClientGone] {
        f.reset(kind);
        assert_eq!(registers.take(), [Access::Reset], "{kind:?}");
    }
}

#[test]
fn what_has_no_room_is_no_capability() {
    for len in [0, 3, 0x19, 0x44, 0xff] {
        let refused = with_registers(len).map(|_| ()).unwrap_err();
        assert_eq!(refused, ConfigError::Vendor(len));
    }
    let (mut f, registers) = with_registers(0x40).unwrap();
    assert_eq!(f.r32(0xfc), 0x3f3e_3d3c);
    registers.take();
    let (mut f, registers) = with_registers(4).unwrap();
    f.w32(0xc4, 1);
    assert_eq!((f.r32(0xc0), f.r32(0xc4)), (0x0004_4009, 0));
    assert_eq!(registers.take(), []);
}

proptest! {
    /// Whatever the access, each byte is that of the register it lies in, and only whole registers are written.
    #[test]
    fn accesses_are_split_into_registers(offset in 0u64..4096, len in 0usize..64) {
        let (mut f, registers) = with_registers(0x18).unwrap();
        let mut data = vec![0xee; len];
        prop_assert_eq!(f.config_read(offset, &mut data).is_ok(), offset + len as u64 <= 4096);
        for (at, byte) in (offset..).zip(&data) {
            if (0xc4..0xd8).contains(&at) && offset + len as u64 <= 4096 {
                prop_assert_eq!(u64::from(*byte), at - 0xc0);
            }
        }
        registers.take();
        // Not a write of the register that resets everything.
        data.fill(0);
        let _ = f.config_write(offset, &data);
        let whole = (4..0x18u8).step_by(4).filter(|r| {
            let start = 0xc0 + u64::from(*r);
            offset <= start && start + 4 <= offset + len as u64 && offset + len as u64 <= 4096
        });
        let expected: Vec<Access> = whole.map(|r| Access::Write(r, 0)).collect();
        prop_assert_eq!(registers.take(), expected);
    }
}
