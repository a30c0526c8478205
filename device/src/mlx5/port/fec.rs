//! Forward error correction of the link: what the driver asks for by rate, and what is in use.
//! Source: `pplm_reg` of Linux `mlx5_ifc.h`; IEEE 802.3 for what a rate can do.

/// Bits of a FEC mask: none, Firecode (clause 74), Reed-Solomon (528,514) (clause 91).
pub const NONE: u8 = 1;
/// Firecode.
pub const FIRECODE: u8 = 2;
/// Reed-Solomon.
pub const REED_SOLOMON: u8 = 4;

/// What the driver asked for, a mask for each rate with 0 for automatic, and what is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fec {
    /// For 10 and 40 Gbit/s, 25, 50, and 100, in this order.
    pub admin: [u8; 4],
    /// What the link came up with, one bit.
    active: u8,
}

/// What can be asked for, in the order of [`Fec::admin`].
pub const CAPABILITY: [u8; 4] = [
    NONE | FIRECODE,
    NONE | FIRECODE | REED_SOLOMON,
    NONE | FIRECODE | REED_SOLOMON,
    NONE | REED_SOLOMON,
];

/// What a copper cable of two metres takes by itself, in the same order.
const AUTOMATIC: [u8; 4] = [NONE, REED_SOLOMON, REED_SOLOMON, REED_SOLOMON];

impl Fec {
    /// The link comes up with that rate in units of 100 Mbit/s.
    pub fn train(&mut self, rate: u16) {
        let class = match rate {
            100 | 400 => 0,
            250 => 1,
            500 => 2,
            1000 => 3,
            _ => {
                self.active = NONE;
                return;
            }
        };
        let wish = self.admin[class] & CAPABILITY[class];
        // The weakest of what is allowed: all of it works here.
        self.active = if wish == 0 {
            AUTOMATIC[class]
        } else {
            1 << wish.trailing_zeros()
        };
    }

    /// What the link came up with, one bit.
    pub fn active(&self) -> u8 {
        self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_used_at_the_rate_it_is_asked_for() {
        let mut fec = Fec::default();
        fec.train(1000);
        assert_eq!(fec.active(), REED_SOLOMON);
        fec.admin = [0, FIRECODE, 0, NONE];
        fec.train(1000);
        assert_eq!(fec.active(), NONE);
        fec.train(250);
        assert_eq!(fec.active(), FIRECODE);
        fec.train(500);
        assert_eq!(fec.active(), REED_SOLOMON);
        fec.train(10);
        assert_eq!(fec.active(), NONE);
    }
}
