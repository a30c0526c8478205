//! The vendor-specific capability: the gateway through which drivers reach the adapter past its BAR.
//! Sources: Linux `core/lib/pci_vsc.c`, FreeBSD `mlx5_vsc.c`, mstflint's `mtcr`.
//!
//! Knows the registers and the semaphores behind them. Of the address spaces there are that of the
//! semaphores and the two through which drivers dump the CR space, see [`crate::mlx5::crspace`];
//! selecting another tells that it is not supported. Nothing here reaches the NIC, so the gateway
//! answers while the NIC is in a reset.

use rocinante_pci::ConfigRegisters;

use crate::mlx5::crspace;

/// Bytes of the capability, header included, as a ConnectX-5 has it.
pub const LEN: u8 = 0x18;

/// Registers, from the start of the capability.
mod register {
    pub const CONTROL: u8 = 0x04;
    pub const COUNTER: u8 = 0x08;
    pub const SEMAPHORE: u8 = 0x0c;
    pub const ADDRESS: u8 = 0x10;
    pub const DATA: u8 = 0x14;
}

/// Control: the address space, [15:0].
const SPACE: u32 = 0xffff;
/// Control: status of the space, [31:29]; 0 is not supported.
const SUPPORTED: u32 = 1 << 29;
/// Control: after the space was selected, the address register reads as its size.
const SIZE_VALID: u32 = 1 << 28;
/// Control: why an access was refused, [27:24]; 3 is an address out of range.
const OUT_OF_RANGE: u32 = 3 << 24;

/// Address: 1 asks for a write and is cleared when it is done; 0 asks for a read and is set when it
/// is done.
const FLAG: u32 = 1 << 31;
/// Address: the access was refused.
const SYNDROME: u32 = 1 << 30;

/// Address space of the CR space as a function may see it.
const PROTECTED_CRSPACE: u32 = 6;
/// The same, where a read leaves the address of the next register.
const SCAN_CRSPACE: u32 = 7;
/// Address space of the semaphores that the functions of an adapter share.
const SEMAPHORES: u32 = 0xa;
/// The semaphore held by whoever dumps or resets the adapter.
const SW_RESET: u32 = 0x20;

/// Reads as the ticket of its holder, or 0. A ticket that is written while it is held is ignored, so
/// that who reads back its own ticket has it.
#[derive(Debug, Default)]
struct Semaphore(u32);

impl Semaphore {
    fn write(&mut self, ticket: u32) {
        if ticket == 0 || self.0 == 0 {
            self.0 = ticket;
        }
    }
}

/// The gateway of one function.
#[derive(Debug, Default)]
pub struct Gateway {
    space: u32,
    tickets: u32,
    /// Held by whoever uses the gateway. It is theirs to obey: nothing is refused without it.
    semaphore: Semaphore,
    /// As it reads.
    address: u32,
    data: u32,
    sw_reset: Semaphore,
}

impl Gateway {
    /// At power-on.
    pub fn new() -> Gateway {
        Gateway::default()
    }

    fn control(&self) -> u32 {
        let status = match self.space {
            SEMAPHORES | PROTECTED_CRSPACE => SUPPORTED,
            SCAN_CRSPACE => SUPPORTED | SIZE_VALID,
            _ => 0,
        };
        let refused = if self.address & SYNDROME == 0 {
            0
        } else {
            OUT_OF_RANGE
        };
        status | refused | self.space
    }

    /// 0 would free what it is to take.
    fn next_ticket(&mut self) -> u32 {
        self.tickets = self.tickets.checked_add(1).unwrap_or(1);
        self.tickets
    }

    /// A store to the address register is what starts an access.
    fn access(&mut self, command: u32) {
        let address = command & !(FLAG | SYNDROME);
        let write = command & FLAG != 0;
        self.address = if write {
            self.store(address)
        } else {
            FLAG | self.load(address)
        };
    }

    /// Returns what the address register then reads as.
    fn store(&mut self, address: u32) -> u32 {
        if (self.space, address) != (SEMAPHORES, SW_RESET) {
            return address | SYNDROME;
        }
        self.sw_reset.write(self.data);
        address
    }

    /// Returns what the address register then reads as.
    fn load(&mut self, address: u32) -> u32 {
        let value = match (self.space, address) {
            (SEMAPHORES, SW_RESET) => Some(self.sw_reset.0),
            (PROTECTED_CRSPACE, _) => crspace::register(address),
            (SCAN_CRSPACE, _) => {
                self.data = crspace::register(address).unwrap_or(crspace::BAD_ACCESS);
                return crspace::next(address);
            }
            _ => None,
        };
        self.data = value.unwrap_or(crspace::BAD_ACCESS);
        match value {
            Some(_) => address,
            None => address | SYNDROME,
        }
    }
}

impl ConfigRegisters for Gateway {
    fn read(&mut self, offset: u8) -> u32 {
        match offset {
            register::CONTROL => self.control(),
            register::COUNTER => self.next_ticket(),
            register::SEMAPHORE => self.semaphore.0,
            register::ADDRESS => self.address,
            register::DATA => self.data,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u8, value: u32) {
        match offset {
            register::CONTROL => {
                self.space = value & SPACE;
                self.address &= !SYNDROME;
                if self.space == SCAN_CRSPACE {
                    self.address = crspace::SIZE;
                }
            }
            register::SEMAPHORE => self.semaphore.write(value),
            register::ADDRESS => self.access(value),
            register::DATA => self.data = value,
            _ => {}
        }
    }

    fn reset(&mut self) {
        *self = Gateway::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the drivers give up, so that a wait without end fails.
    const RETRIES: usize = 2048;

    /// Takes the gateway as both drivers do, in at most `RETRIES` attempts.
    fn lock(g: &mut Gateway) -> Option<u32> {
        for _ in 0..RETRIES {
            if g.read(0x0c) != 0 {
                continue;
            }
            let ticket = g.read(0x08);
            g.write(0x0c, ticket);
            if g.read(0x0c) == ticket {
                return Some(ticket);
            }
        }
        None
    }

    fn unlock(g: &mut Gateway) {
        g.write(0x0c, 0);
    }

    /// Linux reads, merges the space into what it read, writes, and takes any status but 0.
    fn linux_set_space(g: &mut Gateway, space: u32) -> bool {
        let control = g.read(0x04);
        g.write(0x04, control & !0xffff | space);
        g.read(0x04) >> 29 != 0
    }

    /// FreeBSD writes the space alone and takes status 1.
    fn freebsd_set_space(g: &mut Gateway, space: u32) -> bool {
        g.write(0x04, space);
        g.read(0x04) >> 29 == 1
    }

    fn wait_on_flag(g: &mut Gateway, expected: u32) {
        let done = (0..RETRIES).any(|_| g.read(0x10) >> 31 == expected);
        assert!(done, "flag never {expected}: {g:?}");
    }

    fn write(g: &mut Gateway, address: u32, data: u32) {
        g.write(0x14, data);
        g.write(0x10, address | 1 << 31);
        wait_on_flag(g, 0);
    }

    fn read(g: &mut Gateway, address: u32) -> u32 {
        g.write(0x10, address);
        wait_on_flag(g, 1);
        g.read(0x14)
    }

    #[test]
    fn the_gateway_is_one_driver_s_at_a_time() {
        let mut g = Gateway::new();
        let first = lock(&mut g).unwrap();
        assert_ne!(first, 0);
        assert_eq!(lock(&mut g), None, "held");
        unlock(&mut g);
        let second = lock(&mut g).unwrap();
        assert_ne!(second, first);
    }

    #[test]
    fn of_two_that_saw_it_free_the_first_has_it() {
        let mut g = Gateway::new();
        assert_eq!((g.read(0x0c), g.read(0x0c)), (0, 0));
        let (a, b) = (g.read(0x08), g.read(0x08));
        assert_ne!(a, b);
        g.write(0x0c, a);
        g.write(0x0c, b);
        assert_eq!(g.read(0x0c), a);
    }

    #[test]
    fn no_ticket_is_the_one_that_frees() {
        let mut g = Gateway::new();
        g.tickets = u32::MAX - 1;
        assert_eq!([g.read(0x08), g.read(0x08), g.read(0x08)], [u32::MAX, 1, 2]);
    }

    /// `mlx5_vsc_sem_set_space` and `mlx5_vsc_lock_addr_space`, and the other way.
    #[test]
    fn both_drivers_take_and_free_the_software_reset_semaphore() {
        for set_space in [linux_set_space, freebsd_set_space] {
            let mut g = Gateway::new();
            lock(&mut g).unwrap();
            assert!(set_space(&mut g, 0xa));
            assert_eq!(read(&mut g, 0x20), 0, "free");
            let id = g.read(0x08);
            write(&mut g, 0x20, id);
            assert_eq!(read(&mut g, 0x20), id, "taken");
            unlock(&mut g);

            // Another function of the adapter, while it is held.
            lock(&mut g).unwrap();
            assert!(set_space(&mut g, 0xa));
            let other = g.read(0x08);
            write(&mut g, 0x20, other);
            assert_eq!(read(&mut g, 0x20), id, "still the first one's");
            unlock(&mut g);

            lock(&mut g).unwrap();
            assert!(set_space(&mut g, 0xa));
            write(&mut g, 0x20, 0);
            assert_eq!(read(&mut g, 0x20), 0, "freed");
            unlock(&mut g);
        }
    }

    /// As `mlx5_crdump_fill`, which gives up if it is led backwards or not exactly to the end.
    #[test]
    fn linux_dumps_the_cr_space() {
        let mut g = Gateway::new();
        lock(&mut g).unwrap();
        assert!(linux_set_space(&mut g, 7));
        assert_eq!(g.read(0x04) >> 28 & 1, 1, "size valid");
        let size = g.read(0x10) & 0x3fff_ffff;
        let mut dump = vec![0u32; size as usize / 4];
        let mut at = 0;
        while at < size {
            dump[at as usize / 4] = read(&mut g, at);
            let next = g.read(0x10) & 0x3fff_ffff;
            assert!(next > at, "{next:#x} after {at:#x}");
            at = next;
        }
        assert_eq!(at, size);
        assert_eq!(dump[0xf_0014 / 4], 0x20d);
    }

    /// As `mlx5_fwdump_prep` and `mlx5_fwdump`: runs of registers, then the registers of each run.
    #[test]
    fn freebsd_dumps_the_cr_space() {
        let mut g = Gateway::new();
        lock(&mut g).unwrap();
        assert!(freebsd_set_space(&mut g, 7));
        let mut runs = vec![(0u32, 0u32)];
        let mut at = 0;
        loop {
            runs.last_mut().unwrap().1 += 1;
            read(&mut g, at);
            let next = g.read(0x10) & 0x3fff_ffff;
            if next == 0 || next == at {
                break;
            }
            if next != at + 4 {
                runs.push((next, 0));
            }
            at = next;
        }
        assert!(runs.len() > 1, "\"no output from scan space\"");
        // Without an entry of length 0 at the end the driver reads on into what the allocator, in
        // powers of 2, rounded up.
        assert!(!runs.len().is_power_of_two(), "{runs:x?}");

        assert!(freebsd_set_space(&mut g, 6));
        let mut dump = Vec::new();
        for (start, count) in runs {
            dump.extend((0..count).map(|n| read(&mut g, start + 4 * n)));
        }
        assert_eq!(dump, [0xbada_cce5, 0x20d, 0xbada_cce5]);
    }

    /// ICMD, CR space, and what nobody knows.
    #[test]
    fn other_spaces_are_not_supported_and_say_so() {
        for space in [0, 1, 2, 3, 5, 8, 0x10a, 0xffff] {
            let mut g = Gateway::new();
            assert!(!linux_set_space(&mut g, space), "{space:#x}");
            assert!(!freebsd_set_space(&mut g, space), "{space:#x}");
            assert_eq!(g.read(0x04), space, "no size, no syndrome");
            assert!(linux_set_space(&mut g, 0xa), "after {space:#x}");
        }
    }

    #[test]
    fn an_access_to_nothing_ends_at_once_with_a_syndrome() {
        for (space, address) in [
            (2, 0),
            (6, 0),
            (6, 0xf_0010),
            (0xa, 0),
            (0xa, 0x24),
            (0xa, 0x3fff_ffff),
        ] {
            let mut g = Gateway::new();
            g.write(0x04, space);
            g.write(0x14, 0xdead_beef);
            assert_eq!(read(&mut g, address), 0xbada_cce5);
            assert_eq!(g.read(0x10), 0xc000_0000 | address);
            assert_eq!(g.read(0x04) >> 24 & 0xf, 3, "address out of range");
            write(&mut g, address, 5);
            assert_eq!(g.read(0x10), 0x4000_0000 | address);
            g.write(0x04, 0xa);
            assert_eq!(g.read(0x04), 1 << 29 | 0xa, "the next one is not to blame");
            assert_eq!(read(&mut g, 0x20), 0, "nothing was written");
            assert_eq!(g.read(0x10), 1 << 31 | 0x20);
        }
    }

    #[test]
    fn the_cr_space_is_not_for_writing() {
        for space in [6, 7] {
            let mut g = Gateway::new();
            g.write(0x04, space);
            write(&mut g, 0xf_0014, 5);
            assert_eq!(g.read(0x10), 0x4000_0000 | 0xf_0014);
            assert_eq!(read(&mut g, 0xf_0014), 0x20d);
        }
    }

    #[test]
    fn a_reset_frees_everything() {
        let mut g = Gateway::new();
        lock(&mut g).unwrap();
        linux_set_space(&mut g, 0xa);
        write(&mut g, 0x20, 7);
        g.reset();
        assert_eq!([0x04, 0x0c, 0x10, 0x14].map(|at| g.read(at)), [0; 4]);
        lock(&mut g).unwrap();
        linux_set_space(&mut g, 0xa);
        assert_eq!(read(&mut g, 0x20), 0);
    }

    /// Every register with every kind of value in a random order: what can be read stays within
    /// what a driver can be told, and whoever holds a semaphore keeps it until 0 is written.
    #[test]
    fn hostile_accesses_neither_panic_nor_steal_a_semaphore() {
        let mut g = Gateway::new();
        g.write(0x0c, 0x1111);
        g.write(0x04, 0xa);
        write(&mut g, 0x20, 0x2222);
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..100_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let offset = (random >> 8) as u8;
            let offset = if random & 1 == 0 {
                offset
            } else {
                offset % 6 * 4
            };
            let value = match random >> 16 & 3 {
                0 => 0xa,
                1 => 0x20 | (random >> 32) as u32 & FLAG,
                _ => (random >> 32) as u32,
            };
            // What would free one is left out: 0 as ticket.
            let frees = match offset {
                0x0c => value == 0,
                0x10 => g.data == 0,
                _ => false,
            };
            if random & 2 == 0 && !frees {
                g.write(offset, value);
            } else {
                g.read(offset);
            }
        }
        assert_eq!((g.semaphore.0, g.sw_reset.0), (0x1111, 0x2222));
        assert_eq!(g.read(0x04) & 0xc0ff_0000, 0, "{:#x}", g.read(0x04));
    }
}
