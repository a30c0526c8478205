//! Which frames come back to the NIC that sent them.
//!
//! What a send queue sends to the NIC's own addresses or to a group is offered to its receive steering, unless
//! the vport forbids it (`disable_uc_local_lb`, `disable_mc_local_lb`). A TIR takes what comes from another
//! transport domain; of its own domain, only what `self_lb_block` names. Sources: `mlx5_ib_enable_lb` of Linux,
//! which lets frames back in when there are two users' transport domains, and `mlx5e_refresh_tirs`.
//!
//! Knows nothing of how frames are sent or received.

use std::collections::BTreeMap;

use super::tir::Tir;

/// `self_lb_block`. The name says the opposite of what both kernel drivers mean: Linux sets a bit to
/// let frames come back (`mlx5e_refresh_tirs`, `MLX5_QP_FLAG_TIR_ALLOW_SELF_LB_UC`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loopback {
    /// Bit 0: frames to one station.
    pub unicast: bool,
    /// Bit 1: frames to groups.
    pub multicast: bool,
}

impl Loopback {
    /// From the field.
    pub fn from_bits(bits: u8) -> Loopback {
        Loopback {
            unicast: bits & 1 != 0,
            multicast: bits & 2 != 0,
        }
    }

    /// Whether frames to groups, or to one station, come back.
    #[inline]
    pub fn wants(self, group: bool) -> bool {
        if group { self.multicast } else { self.unicast }
    }
}

/// What all TIRs together want back, so that a NIC on which nobody does need not look at each.
#[derive(Debug, Default)]
pub struct Loops {
    unicast: usize,
    multicast: usize,
    /// How many TIRs each transport domain has.
    domains: BTreeMap<u32, usize>,
}

impl Loops {
    /// A TIR was made.
    pub fn add(&mut self, tir: &Tir) {
        self.changed(Loopback::default(), tir.loopback);
        *self.domains.entry(tir.transport_domain).or_default() += 1;
    }

    /// A TIR is gone.
    pub fn remove(&mut self, tir: &Tir) {
        self.changed(tir.loopback, Loopback::default());
        if let Some(tirs) = self.domains.get_mut(&tir.transport_domain) {
            *tirs -= 1;
            if *tirs == 0 {
                self.domains.remove(&tir.transport_domain);
            }
        }
    }

    /// What a TIR wants has changed.
    pub fn changed(&mut self, before: Loopback, after: Loopback) {
        self.unicast = self.unicast + usize::from(after.unicast) - usize::from(before.unicast);
        self.multicast =
            self.multicast + usize::from(after.multicast) - usize::from(before.multicast);
    }

    /// Whether any TIR may take what a send queue of `domain` sends to a group, or to one station.
    pub fn any(&self, domain: u32, group: bool) -> bool {
        let wanted = if group { self.multicast } else { self.unicast };
        let foreign = match self.domains.len() {
            0 => false,
            1 => !self.domains.contains_key(&domain),
            _ => true,
        };
        wanted > 0 || foreign
    }
}
