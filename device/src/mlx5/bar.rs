//! BAR0: the initialization segment and the UAR pages' doorbells, as registers.
//! Source: reference of the interface, "Initialization segment" and "UAR page".
//!
//! Knows where each register is and what a store to it asks for; doing it is the NIC's.

use arrayvec::ArrayVec;
use rocinante_firmware_cmd::mlx5::queue::{LOG_SIZE, LOG_STRIDE};
use rocinante_wire::time::Time;

use super::fault::{Health, Timeouts, announced};

/// Firmware version that the device reports: major 16 is a ConnectX-5.
pub const FW_VERSION: (u16, u16, u16) = (16, 35, 4030);

/// Interface revision that drivers insist on.
const CMDIF_REV: u32 = 5;

/// `nic_interface` values.
pub mod nic_interface {
    /// Full driver.
    pub const FULL: u8 = 0;
    /// Disabled.
    pub const DISABLED: u8 = 1;
    /// Software reset, requested or under way.
    pub const SW_RESET: u8 = 7;
}

/// Offsets in the initialization segment.
mod iseg {
    pub const FW_REV: u64 = 0x000;
    pub const CMDIF_REV: u64 = 0x004;
    pub const CMDQ_ADDR_HIGH: u64 = 0x010;
    pub const CMDQ_ADDR_LOW: u64 = 0x014;
    pub const COMMAND_DOORBELL: u64 = 0x018;
    pub const INITIALIZING: u64 = 0x1fc;
    pub const HEALTH_FW_VERSION: u64 = 0x230;
    pub const HEALTH_HW_ID: u64 = 0x234;
    pub const HEALTH_RFR: u64 = 0x238;
    pub const HEALTH_SYNDROME: u64 = 0x23c;
    pub const CMD_EXEC_TO: u64 = 0xff8;
    pub const CMD_Q_INIT_TO: u64 = 0xffc;
    pub const TIMER_HIGH: u64 = 0x1000;
    pub const TIMER_LOW: u64 = 0x1004;
    pub const HEALTH_COUNTER: u64 = 0x1010;
}

/// First UAR page; what is below is the initialization segment and the MSI-X table.
const UAR_BASE: u64 = 0x10000;

/// Registers of a UAR page.
mod uar {
    pub const PAGE: u64 = 0x1000;
    pub const CQ: u64 = 0x20;
    pub const EQ_ARM: u64 = 0x40;
    pub const EQ: u64 = 0x48;
    pub const SQ: u64 = 0x800;
    /// Each buffer of a BlueFlame register is a doorbell of its own.
    pub const SQ_STEP: u64 = 0x100;
}

/// Loads of the device clock and the health counter, which depend on nothing but the time. False
/// if `offset` is another register.
pub fn read_clock(now: Time, offset: u64, out: &mut [u8]) -> bool {
    let clock = matches!(
        offset,
        iseg::TIMER_HIGH..=iseg::TIMER_LOW | iseg::HEALTH_COUNTER
    );
    if clock {
        Bar::new().read(now, offset, out);
    }
    clock
}

/// What a store to BAR0 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Use the command queue at this address, in full driver mode.
    CommandQueue(u64),
    /// Change `nic_interface` to disabled (1) or software reset (7).
    NicInterface(u8),
    /// Commands are in these slots.
    Commands(u32),
    /// EQ consumer index.
    Eq {
        /// EQ number.
        eqn: u32,
        /// Consumer index.
        consumer: u32,
        /// Arm too.
        arm: bool,
    },
    /// CQ arming: the two words of the doorbell.
    Cq(u32, u32),
    /// Work was posted to this QP or SQ.
    Send(u32),
}

/// What is wrong with the registers because somebody wants it to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct BarFaults {
    /// In the health buffer.
    pub health: Option<Health>,
    /// Still initializing.
    pub initializing: bool,
    /// What the health counter reads for ever.
    counter: Option<u32>,
    /// Announced timeouts, 0 for none.
    exec_timeout: u32,
    init_timeout: u32,
}

/// Timeouts of a driver to which none are announced, in milliseconds.
const EXEC_TIMEOUT: u32 = 60_000;
const INIT_TIMEOUT: u32 = 2000;

impl BarFaults {
    /// Whether commands are not looked at.
    pub fn dead(&self) -> bool {
        self.health.is_some_and(|health| health.dead)
    }

    /// Stops the health counter at what it reads, or lets it go on.
    pub fn stop_counter(&mut self, now: Time, stopped: bool) {
        self.counter = stopped.then(|| self.counter.unwrap_or(health_counter(now)));
    }

    /// Announces timeouts; drivers take either both of the segment's or neither.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) {
        if *timeouts != Timeouts::default() {
            self.exec_timeout = timeouts.command.map_or(EXEC_TIMEOUT, announced);
            self.init_timeout = timeouts.init.map_or(INIT_TIMEOUT, announced);
        }
    }
}

/// Ten times a second: drivers look every two seconds and after a reset want two different values, neither 0
/// nor all ones, within five.
fn health_counter(now: Time) -> u32 {
    (now.0 / 100_000_000) as u32 % 0x00ff_ffff + 1
}

/// State of the registers.
#[derive(Debug)]
pub struct Bar {
    queue_high: u32,
    queue_low: u32,
    nic_interface: u8,
    /// Health syndrome, 0 is healthy; not zero asks the driver for a reset.
    pub health_syndrome: u8,
    /// What is wrong on purpose.
    pub faults: BarFaults,
    /// First halves of doorbells from guests that store 32 bits at a time.
    halves: ArrayVec<(u64, u32), 32>,
}

impl Bar {
    /// At power-on.
    pub fn new() -> Bar {
        Bar {
            queue_high: 0,
            queue_low: 0,
            nic_interface: nic_interface::FULL,
            health_syndrome: 0,
            faults: BarFaults::default(),
            halves: ArrayVec::new(),
        }
    }

    /// Changes what `nic_interface` reads.
    pub fn set_nic_interface(&mut self, value: u8) {
        self.nic_interface = value & 7;
    }

    /// What `nic_interface` reads.
    pub fn nic_interface(&self) -> u8 {
        self.nic_interface
    }

    /// A load. `out` is 1, 2, 4 or 8 bytes (others read zeros where there is no register).
    pub fn read(&self, now: Time, offset: u64, out: &mut [u8]) {
        for (at, byte) in out.iter_mut().enumerate() {
            let position = offset.wrapping_add(at as u64);
            let word = self.word(now, position & !3).to_be_bytes();
            *byte = word[(position & 3) as usize];
        }
    }

    /// What is in the health buffer.
    pub fn health(&self) -> Health {
        self.faults.health.unwrap_or(Health {
            syndrome: self.health_syndrome,
            rfr: self.health_syndrome != 0,
            ..Health::default()
        })
    }

    fn word(&self, now: Time, offset: u64) -> u32 {
        let (major, minor, subminor) = FW_VERSION;
        match offset {
            iseg::FW_REV => u32::from(minor) << 16 | u32::from(major),
            iseg::CMDIF_REV => CMDIF_REV << 16 | u32::from(subminor),
            iseg::CMDQ_ADDR_HIGH => self.queue_high,
            iseg::CMDQ_ADDR_LOW => {
                self.queue_low
                    | u32::from(self.nic_interface) << 8
                    | u32::from(LOG_SIZE) << 4
                    | u32::from(LOG_STRIDE)
            }
            // Not initializing; software reset supported; interface modes 0 to 2 offered.
            iseg::INITIALIZING => u32::from(self.faults.initializing) << 31 | 1 << 30 | 0b111 << 24,
            iseg::HEALTH_FW_VERSION => {
                u32::from(major) << 24 | u32::from(minor) << 16 | u32::from(subminor)
            }
            iseg::HEALTH_HW_ID => 0x20d,
            iseg::HEALTH_RFR => {
                let health = self.health();
                let severity = health.severity.map_or(0, |level| 8 | u32::from(level & 7));
                u32::from(health.rfr) << 31 | severity << 24
            }
            iseg::HEALTH_SYNDROME => {
                let health = self.health();
                u32::from(health.syndrome) << 16 | u32::from(health.ext_syndrome)
            }
            iseg::CMD_EXEC_TO => self.faults.exec_timeout,
            iseg::CMD_Q_INIT_TO => self.faults.init_timeout,
            iseg::TIMER_HIGH => (now.0 >> 32) as u32,
            iseg::TIMER_LOW => now.0 as u32,
            iseg::HEALTH_COUNTER => self.faults.counter.unwrap_or(health_counter(now)),
            _ => 0,
        }
    }

    /// A store of `data` (its length says the width). `None`: nothing to do.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<Action> {
        let word = |at: usize| {
            data.get(at..at + 4)
                .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        };
        let first = word(0)?;
        if offset < UAR_BASE {
            return self.write_iseg(offset, first, word(4));
        }
        let page_offset = offset % uar::PAGE;
        match page_offset {
            uar::EQ_ARM | uar::EQ => Some(Action::Eq {
                eqn: first >> 24,
                consumer: first & 0xff_ffff,
                arm: page_offset == uar::EQ_ARM,
            }),
            uar::CQ => {
                let (word0, word1) = self.both_halves(offset, first, word(4))?;
                Some(Action::Cq(word0, word1))
            }
            0x24 => {
                let word0 = self.take_half(offset - 4)?;
                Some(Action::Cq(word0, first))
            }
            // Anything else in here is the tail of a BlueFlame copy, whose WQE is in memory too.
            _ if page_offset >= uar::SQ && page_offset.is_multiple_of(uar::SQ_STEP) => {
                let (_, word1) = self.both_halves(offset, first, word(4))?;
                Some(Action::Send(word1 >> 8))
            }
            _ if page_offset >= uar::SQ && page_offset % uar::SQ_STEP == 4 => {
                self.take_half(offset - 4)?;
                Some(Action::Send(first >> 8))
            }
            _ => None,
        }
    }

    fn write_iseg(&mut self, offset: u64, value: u32, next: Option<u32>) -> Option<Action> {
        match offset {
            iseg::CMDQ_ADDR_HIGH => {
                self.queue_high = value;
                next.and_then(|low| self.write_iseg(iseg::CMDQ_ADDR_LOW, low, None))
            }
            iseg::CMDQ_ADDR_LOW => {
                let mode = (value >> 8 & 7) as u8;
                if mode != nic_interface::FULL {
                    return Some(Action::NicInterface(mode));
                }
                self.queue_low = value & !0xfff;
                self.nic_interface = nic_interface::FULL;
                let base = u64::from(self.queue_high) << 32 | u64::from(self.queue_low);
                Some(Action::CommandQueue(base))
            }
            iseg::COMMAND_DOORBELL => Some(Action::Commands(value)),
            _ => None,
        }
    }

    /// Both words of an 8-byte doorbell; of a 4-byte store the first is kept for the second.
    fn both_halves(&mut self, offset: u64, first: u32, second: Option<u32>) -> Option<(u32, u32)> {
        if let Some(second) = second {
            return Some((first, second));
        }
        self.take_half(offset);
        if self.halves.is_full() {
            self.halves.remove(0);
        }
        self.halves.push((offset, first));
        None
    }

    fn take_half(&mut self, offset: u64) -> Option<u32> {
        let index = self.halves.iter().position(|(at, _)| *at == offset)?;
        Some(self.halves.swap_remove(index).1)
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read32(bar: &Bar, now: Time, offset: u64) -> u32 {
        let mut out = [0; 4];
        bar.read(now, offset, &mut out);
        u32::from_be_bytes(out)
    }

    #[test]
    fn the_queue_address_is_taken_and_sizes_stay() {
        let mut bar = Bar::new();
        assert_eq!(read32(&bar, Time::ZERO, 0x14), 0x56);
        assert_eq!(read32(&bar, Time::ZERO, 0x04) >> 16, 5);
        assert_eq!(bar.write(0x10, &[0, 0, 0, 1]), None);
        let action = bar.write(0x14, &[0x07, 0x18, 0x60, 0x00]);
        assert_eq!(action, Some(Action::CommandQueue(0x1_0718_6000)));
        assert_eq!(read32(&bar, Time::ZERO, 0x14), 0x0718_6056);
        assert_eq!(
            bar.write(0x14, &[0x07, 0x18, 0x67, 0x56]),
            Some(Action::NicInterface(7))
        );
    }

    #[test]
    fn the_timer_counts_nanoseconds() {
        let bar = Bar::new();
        let now = Time(0x1_2345_6789);
        assert_eq!(read32(&bar, now, 0x1000), 1);
        assert_eq!(read32(&bar, now, 0x1004), 0x2345_6789);
        assert_ne!(read32(&bar, Time::ZERO, 0x1010), 0);
    }

    #[test]
    fn doorbells_of_64_and_32_bit_guests() {
        let mut bar = Bar::new();
        let ring = [0, 0, 5, 0x0a, 0, 0x12, 0x34, 0x03];
        let send = Some(Action::Send(0x1234));
        assert_eq!(bar.write(0x10800, &ring), send);
        assert_eq!(bar.write(0x10900, &ring), send);
        assert_eq!(bar.write(0x10808, &ring), None);
        assert_eq!(bar.write(0x10904, &ring[4..]), None);
        assert_eq!(bar.write(0x10900, &ring[..4]), None);
        assert_eq!(bar.write(0x10904, &ring[4..]), send);
        assert_eq!(
            bar.write(0x11020, &[0x10, 0, 0, 7, 0, 0, 0, 9]),
            Some(Action::Cq(0x1000_0007, 9))
        );
        let arm = Action::Eq {
            eqn: 3,
            consumer: 0x10,
            arm: true,
        };
        assert_eq!(bar.write(0x11040, &[3, 0, 0, 0x10]), Some(arm));
        assert_eq!(bar.write(0x11040, &[3]), None);
    }
}
