//! The module in the cage: a passive copper cable, QSFP28 at both ends, and the memory in its plug.
//! Source: SFF-8636 Rev 2.7; SFF-8024 for the codes.

use rocinante_wire::MacAddr;

/// Bytes that the I2C address shows at a time: the lower half is always the same, the upper half
/// is that of the selected page.
const HALF: usize = 128;

/// I2C address of the module's memory.
pub const I2C_ADDRESS: u8 = 0x50;

/// `device_address` up to which, and `size` with which, the memory can be read.
pub const LIMIT: usize = 2 * HALF;

mod lower {
    pub const IDENTIFIER: usize = 0;
    pub const REVISION: usize = 1;
}

/// Bytes of upper page 00, numbered as in the standard.
mod upper {
    pub const IDENTIFIER: usize = 128;
    pub const CONNECTOR: usize = 130;
    pub const SPECIFICATION: usize = 131;
    pub const ENCODING: usize = 139;
    pub const NOMINAL_RATE: usize = 140;
    pub const LENGTH_COPPER: usize = 146;
    pub const TECHNOLOGY: usize = 147;
    pub const VENDOR: usize = 148;
    pub const OUI: usize = 165;
    pub const PART_NUMBER: usize = 168;
    pub const REVISION: usize = 184;
    pub const ATTENUATION: usize = 186;
    pub const BASE_CHECKSUM: usize = 191;
    pub const EXTENDED_SPECIFICATION: usize = 192;
    pub const OPTIONS: usize = 195;
    pub const SERIAL_NUMBER: usize = 196;
    pub const DATE: usize = 212;
    pub const NOMINAL_RATE_250: usize = 222;
    pub const EXTENDED_CHECKSUM: usize = 223;
}

const QSFP28: u8 = 0x11;

/// The memory as the I2C address shows it with a page selected: upper pages 00 (identification),
/// 02 (for the user, empty) and 03 (thresholds, of which a cable without electronics has none).
/// `None` for a page that there is not.
pub fn memory(page: u8, mac: MacAddr) -> Option<[u8; LIMIT]> {
    let mut bytes = [0; LIMIT];
    bytes[lower::IDENTIFIER] = QSFP28;
    // SFF-8636 Rev 2.5 to 2.7.
    bytes[lower::REVISION] = 7;
    match page {
        0 => identification(&mut bytes, mac),
        2 | 3 => {}
        _ => return None,
    }
    Some(bytes)
}

fn identification(bytes: &mut [u8; LIMIT], mac: MacAddr) {
    bytes[upper::IDENTIFIER] = QSFP28;
    // No separable connector.
    bytes[upper::CONNECTOR] = 0x23;
    // 40GBASE-CR4, and more in the extended specification.
    bytes[upper::SPECIFICATION] = 0x88;
    // 64B/66B.
    bytes[upper::ENCODING] = 0x05;
    // Above 25.4 Gbit/s: see the other one, in units of 250 Mbit/s.
    bytes[upper::NOMINAL_RATE] = 0xff;
    bytes[upper::NOMINAL_RATE_250] = 103;
    bytes[upper::LENGTH_COPPER] = 2;
    // Copper cable, unequalized.
    bytes[upper::TECHNOLOGY] = 0xa0;
    // Decibels at 2.5, 5, 7 and 12.9 GHz.
    put(bytes, upper::ATTENUATION, &[4, 5, 7, 10]);
    put(bytes, upper::VENDOR, b"Rocinante       ");
    put(bytes, upper::OUI, &[0x00, 0x02, 0xc9]);
    put(bytes, upper::PART_NUMBER, b"RCN1600-C002E30L");
    put(bytes, upper::REVISION, b"A1");
    // 100GBASE-CR4, or 25GBASE-CR with RS-FEC.
    bytes[upper::EXTENDED_SPECIFICATION] = 0x0b;
    // Page 02 is there.
    bytes[upper::OPTIONS] = 0x80;
    let [_, _, c, d, e, f] = mac.octets();
    let serial = format!("RCN{c:02X}{d:02X}{e:02X}{f:02X}     ");
    put(bytes, upper::SERIAL_NUMBER, serial.as_bytes());
    put(bytes, upper::DATE, b"260101  ");
    let base = sum(&bytes[upper::IDENTIFIER..upper::BASE_CHECKSUM]);
    bytes[upper::BASE_CHECKSUM] = base;
    let extended = sum(&bytes[upper::EXTENDED_SPECIFICATION..upper::EXTENDED_CHECKSUM]);
    bytes[upper::EXTENDED_CHECKSUM] = extended;
}

fn put(bytes: &mut [u8; LIMIT], at: usize, what: &[u8]) {
    for (to, from) in bytes[at..].iter_mut().zip(what) {
        *to = *from;
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cable_identifies_itself() {
        let mac = MacAddr::new(2, 0x52, 0xab, 0xcd, 0xef, 1);
        let bytes = memory(0, mac).unwrap();
        assert_eq!((bytes[0], bytes[128], bytes[130]), (0x11, 0x11, 0x23));
        assert_eq!(&bytes[148..164], b"Rocinante       ");
        assert_eq!(&bytes[196..212], b"RCNABCDEF01     ");
        // CC_BASE and CC_EXT, as SFF-8636 defines them.
        for (from, to) in [(128, 191), (192, 223)] {
            let sum: u32 = bytes[from..to].iter().map(|byte| u32::from(*byte)).sum();
            assert_eq!(u32::from(bytes[to]), sum & 0xff, "{to}");
        }
    }

    #[test]
    fn pages_share_the_lower_half() {
        let mac = MacAddr::new(2, 0, 0, 0, 0, 1);
        let first = memory(0, mac).unwrap();
        for page in [2, 3] {
            let other = memory(page, mac).unwrap();
            assert_eq!(other[..128], first[..128]);
            assert_eq!(other[128..], [0; 128]);
        }
        assert_eq!(memory(1, mac), None);
        assert_eq!(memory(0x10, mac), None);
    }
}
