//! The VXLAN header (RFC 7348, section 5): what stands between UDP and the inner Ethernet frame.
//!
//! Knows the eight bytes and nothing of sockets, remotes or learning.

use std::fmt;
use std::str::FromStr;

/// The UDP port that IANA has assigned.
pub const PORT: u16 = 4789;

/// Bytes of the header.
pub const LEN: usize = 8;

/// Set when the VNI is valid; it always is.
const FLAG_I: u8 = 0x08;

/// The shortest inner frame that can be forwarded: an Ethernet header.
const INNER_MIN: usize = 14;

/// A VXLAN network identifier, 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vni(u32);

impl Vni {
    /// `None` if it has more than 24 bits.
    #[must_use]
    pub const fn new(vni: u32) -> Option<Vni> {
        if vni < 1 << 24 { Some(Vni(vni)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vni {
    type Err = String;

    fn from_str(text: &str) -> Result<Vni, String> {
        let vni = text.parse().ok().and_then(Vni::new);
        vni.ok_or_else(|| format!("'{text}' is not a VNI (0 to 16777215)"))
    }
}

/// Why a datagram is not VXLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VxlanError {
    /// Header or inner Ethernet header do not fit.
    #[error("too short")]
    Short,
    /// The I flag is not set.
    #[error("no VNI")]
    NoVni,
}

/// The header of a frame in this network.
#[must_use]
pub const fn header(vni: Vni) -> [u8; LEN] {
    let [_, a, b, c] = vni.0.to_be_bytes();
    [FLAG_I, 0, 0, 0, a, b, c, 0]
}

/// The network of a datagram; its frame begins at [`LEN`] and is at least an Ethernet header.
/// Reserved bits are ignored, as the RFC wants.
///
/// # Errors
/// See [`VxlanError`].
pub fn parse(datagram: &[u8]) -> Result<Vni, VxlanError> {
    let (&[flags, _, _, _, a, b, c, _], inner) = datagram
        .split_first_chunk::<LEN>()
        .ok_or(VxlanError::Short)?;
    if flags & FLAG_I == 0 {
        return Err(VxlanError::NoVni);
    }
    if inner.len() < INNER_MIN {
        return Err(VxlanError::Short);
    }
    Ok(Vni(u32::from_be_bytes([0, a, b, c])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_the_rfc_draws_it() {
        let vni = Vni::new(0x12_3456).unwrap();
        assert_eq!(header(vni), [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        assert_eq!(Vni::new(1 << 24), None);
        assert_eq!("16777215".parse(), Ok(Vni(0xff_ffff)));
        assert!("16777216".parse::<Vni>().is_err());
        assert!("x".parse::<Vni>().is_err());
    }

    #[test]
    fn reserved_bits_are_ignored_and_the_flag_is_not() {
        let mut datagram = [0xff; LEN + INNER_MIN];
        assert_eq!(parse(&datagram), Ok(Vni(0xff_ffff)));
        datagram[0] = !FLAG_I;
        assert_eq!(parse(&datagram), Err(VxlanError::NoVni));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(vni in 0u32..1 << 24, inner in 0usize..64) {
            let vni = Vni::new(vni).unwrap();
            let mut datagram = header(vni).to_vec();
            datagram.resize(LEN + inner, 0);
            let expected = if inner < INNER_MIN { Err(VxlanError::Short) } else { Ok(vni) };
            prop_assert_eq!(parse(&datagram), expected);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let read = parse(&bytes);
            prop_assert!(bytes.len() >= LEN + INNER_MIN || read.is_err());
        }
    }
}
