//! Link modes: the bits of PTYS (`eth_proto_*`), their rates, and which of them two ends agree on.
//! Source: `mlx5e_link_mode` of Linux `port.h`; PTYS of a ConnectX-5 with 100 Gbit/s ports.
//!
//! The extended modes of newer adapters (50 Gbit/s per lane) do not exist here, as on a ConnectX-5.

/// Rates the port can do, in units of 100 Mbit/s, fastest first: the rate, all modes of that rate
/// whatever the medium, and the one over copper, of which the cable is.
const RATES: [(u16, u32, u32); 6] = [
    (1000, CR4_100G | SR4_100G | KR4_100G | LR4_100G, CR4_100G),
    (500, CR2_50G | KR2_50G | SR2_50G, CR2_50G),
    (400, CR4_40G | KR4_40G | SR4_40G | LR4_40G, CR4_40G),
    (250, CR_25G | KR_25G | SR_25G, CR_25G),
    (100, CR_10G | KR_10G | SR_10G | ER_10G, CR_10G),
    (10, CX_1G | KX_1G, CX_1G),
];

macro_rules! modes {
    ($($bit:literal $NAME:ident)*) => {
        $(#[allow(missing_docs)] // the names are IEEE 802.3's
        pub const $NAME: u32 = 1 << $bit;)*
        /// `eth_proto_capability`: all of them.
        pub const ALL: u32 = $($NAME |)* 0;
    };
}

modes! {
    0 CX_1G
    1 KX_1G
    4 KR_10G
    6 CR4_40G
    7 KR4_40G
    12 CR_10G
    13 SR_10G
    14 ER_10G
    15 SR4_40G
    16 LR4_40G
    18 SR2_50G
    20 CR4_100G
    21 SR4_100G
    22 KR4_100G
    23 LR4_100G
    27 CR_25G
    28 KR_25G
    29 SR_25G
    30 CR2_50G
    31 KR2_50G
}

/// The fastest mode over copper of a rate that both ends allow; 0 if there is none. As the port
/// knows what the cable is, any mode of a rate stands for the rate.
pub fn negotiate(one: u32, other: u32) -> u32 {
    RATES
        .into_iter()
        .find(|(_, modes, _)| one & modes != 0 && other & modes != 0)
        .map_or(0, |(_, _, copper)| copper)
}

/// The rate of a mode in units of 100 Mbit/s.
pub fn rate(mode: u32) -> u16 {
    RATES
        .into_iter()
        .find(|(_, modes, _)| mode & modes != 0)
        .map_or(0, |(rate, ..)| rate)
}

/// The modes over copper up to a speed.
pub fn up_to(limit: LinkSpeed) -> u32 {
    RATES
        .into_iter()
        .filter(|(rate, ..)| *rate <= limit as u16)
        .fold(0, |modes, (_, _, copper)| modes | copper)
}

/// A speed that a link can have, in units of 100 Mbit/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)] // the names say it
pub enum LinkSpeed {
    G1 = 10,
    G10 = 100,
    G25 = 250,
    G40 = 400,
    G50 = 500,
    #[default]
    G100 = 1000,
}

impl LinkSpeed {
    /// All of them.
    pub const ALL: [LinkSpeed; 6] = [
        LinkSpeed::G1,
        LinkSpeed::G10,
        LinkSpeed::G25,
        LinkSpeed::G40,
        LinkSpeed::G50,
        LinkSpeed::G100,
    ];
}

impl std::fmt::Display for LinkSpeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}G", *self as u16 / 10)
    }
}

impl std::str::FromStr for LinkSpeed {
    type Err = String;

    fn from_str(text: &str) -> Result<LinkSpeed, String> {
        Self::ALL
            .into_iter()
            .find(|speed| speed.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("'{text}' is none of the speeds 1G, 10G, 25G, 40G, 50G, 100G"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_common_rate_wins_over_copper() {
        assert_eq!(ALL, 0xf8f5_f0d3);
        assert_eq!(up_to(LinkSpeed::G100), 0x4810_1041);
        assert_eq!(negotiate(ALL, up_to(LinkSpeed::G100)), CR4_100G);
        assert_eq!(negotiate(KR_25G | SR_10G, up_to(LinkSpeed::G100)), CR_25G);
        assert_eq!(negotiate(ALL, up_to(LinkSpeed::G40)), CR4_40G);
        assert_eq!(negotiate(CR4_100G, up_to(LinkSpeed::G25)), 0);
        assert_eq!(up_to(LinkSpeed::G1), CX_1G);
        for speed in LinkSpeed::ALL {
            assert_eq!(rate(negotiate(ALL, up_to(speed))), speed as u16);
            assert_eq!(speed.to_string().parse(), Ok(speed));
        }
        assert_eq!("25g".parse(), Ok(LinkSpeed::G25));
        assert!("20G".parse::<LinkSpeed>().is_err());
    }

    #[test]
    fn every_mode_has_a_rate() {
        for bit in 0..32 {
            let mode = 1 << bit;
            assert_eq!(rate(mode) != 0, ALL & mode != 0, "bit {bit}");
            assert_eq!(rate(negotiate(mode, ALL)), rate(mode), "bit {bit}");
        }
        assert_eq!((rate(CR4_100G), rate(CR_25G), rate(CX_1G)), (1000, 250, 10));
    }
}
