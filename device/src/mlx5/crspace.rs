//! The CR space behind the vendor-specific capability: what dumps of the adapter read.
//! Sources: Linux `diag/crdump.c`, FreeBSD `mlx5_fwdump.c`, mstflint's `mtcr` (`HW_ID_ADDR`).
//!
//! Knows which registers there are, so that a scan finds its way past the holes. There is one: who
//! we are. It does not know how registers are reached: see [`crate::mlx5::vsc`].

/// Bytes. Beyond the last register, with a hole in between: FreeBSD takes where the scan ends for a
/// register too, keeps (address, length) of each run without an entry that ends the list, and
/// relies on what the allocator adds to it. Three runs are 24 of 32 bytes.
pub const SIZE: u32 = 0x10_0000;

/// What a read of nothing gives, as on real adapters; Linux fills holes of a dump with it.
pub const BAD_ACCESS: u32 = 0xbada_cce5;

/// Address and value, ascending. Device ID [15:0] of a ConnectX-5, revision [23:16].
const REGISTERS: [(u32, u32); 1] = [(0xf_0014, 0x20d)];

/// The register at `address`.
pub fn register(address: u32) -> Option<u32> {
    REGISTERS
        .iter()
        .find_map(|&(at, value)| (at == address).then_some(value))
}

/// Where a scan goes on after `address`: the next register, then the end, where it stays.
pub fn next(address: u32) -> u32 {
    REGISTERS
        .iter()
        .map(|&(at, _)| at)
        .find(|&at| at > address)
        .unwrap_or(SIZE.max(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_visits_each_register_and_ends() {
        let mut at = 0;
        let mut seen = Vec::new();
        while at < SIZE {
            seen.push((at, register(at)));
            assert!(next(at) > at);
            at = next(at);
        }
        assert_eq!(seen, [(0, None), (0xf_0014, Some(0x20d))]);
        assert_eq!((at, next(at)), (SIZE, SIZE));
        assert_eq!(next(0x3fff_ffff), 0x3fff_ffff);
    }

    #[test]
    fn the_table_is_ascending_and_within_the_size() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(
            REGISTERS
                .iter()
                .all(|r| r.0 > 0 && r.0 % 4 == 0 && r.0 < SIZE - 4)
        );
    }
}
