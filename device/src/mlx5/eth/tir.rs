//! Transport interfaces (TIS, TIR) and receive queue tables. Knows which RQ a packet of a TIR goes
//! to, not what is done there.

use super::headers::Headers;
use super::loopback::Loopback;
use super::lro::Rules;
use super::rss::{Hash, Hasher};
use crate::mlx5::table::Table;

/// Transport interface, send.
pub struct Tis {
    /// `tisc`, for QUERY_TIS.
    pub context: [u8; 0xa0],
    /// Transport domain.
    pub transport_domain: u32,
    /// Protection domain, 0 for none.
    pub pd: u32,
}

/// Receive queue table: `rqt_actual_size` entries, a power of two.
pub struct Rqt {
    /// RQ numbers.
    pub rqns: Vec<u32>,
    /// `rqt_max_size`.
    pub max_size: u16,
}

/// Where a TIR sends its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// To one RQ.
    Direct(u32),
    /// By hash to an RQ of a table.
    Indirect(u32),
}

/// Transport interface, receive.
pub struct Tir {
    /// Where packets go.
    pub disposition: Disposition,
    /// How they are hashed.
    pub hasher: Hasher,
    /// Transport domain.
    pub transport_domain: u32,
    /// Which frames of its own transport domain come back to it.
    pub loopback: Loopback,
    /// Segments are merged.
    pub merging: Option<Rules>,
}

impl Tir {
    /// Whether it gets a frame, to a group or not, that a send queue of `domain` sent.
    #[inline]
    pub fn takes_looped(&self, domain: u32, group: bool) -> bool {
        self.transport_domain != domain || self.loopback.wants(group)
    }

    /// The RQ and the hash of a packet.
    #[inline]
    pub fn select(&self, headers: &Headers, rqts: &Table<Rqt>) -> Option<(u32, Hash)> {
        let hash = self.hasher.hash(headers);
        match self.disposition {
            Disposition::Direct(rqn) => Some((rqn, hash)),
            Disposition::Indirect(rqtn) => {
                let rqns = &rqts.get(rqtn)?.rqns;
                let index = hash.value as usize & rqns.len().checked_sub(1)?;
                Some((*rqns.get(index)?, hash))
            }
        }
    }
}
