//! Priorities and traffic classes: what QPTS, QPDPM, QPDP, QTCT, QETCR and DCBX_PARAM remember.
//!
//! The priority of a received frame decides on what it is counted as. Traffic classes share the
//! link by weights which never matter here: the link is never the bottleneck.

/// `trust_state`: the priority is that of the VLAN tag.
pub const TRUST_PCP: u8 = 1;
/// `trust_state`: the priority is that of the DSCP.
pub const TRUST_DSCP: u8 = 2;

/// One traffic class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficClass {
    /// Group that shares bandwidth; 15 and down are strict priority in the use of drivers.
    pub group: u8,
    /// Percent of the group's bandwidth.
    pub bandwidth: u8,
    /// Units of the limit: 0 none, 3 100 Mbit/s, 4 1 Gbit/s.
    pub limit_units: u8,
    /// The limit.
    pub limit: u8,
}

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qos {
    /// What decides on the priority of a received frame.
    pub trust: u8,
    /// From DSCP to priority.
    pub dscp: [u8; 64],
    /// Priority of frames that say none.
    pub default_priority: u8,
    /// From priority to traffic class.
    pub class: [u8; 8],
    /// Traffic classes.
    pub classes: [TrafficClass; 8],
    /// All of them together.
    pub all: TrafficClass,
    /// Who runs DCBX: 0 the host, 3 the adapter.
    pub dcbx_version: u8,
    /// DCBX: `willing_admin`, `pfc_cap_admin`, `num_of_tc_admin`.
    pub dcbx: (bool, u8, u8),
}

impl Default for Qos {
    fn default() -> Self {
        let mut dscp = [0; 64];
        for (at, priority) in dscp.iter_mut().enumerate() {
            *priority = (at >> 3) as u8;
        }
        Qos {
            trust: TRUST_PCP,
            dscp,
            default_priority: 0,
            class: [0; 8],
            // Each a group of its own with all of its bandwidth.
            classes: std::array::from_fn(|n| TrafficClass {
                group: n as u8,
                bandwidth: 100,
                ..TrafficClass::default()
            }),
            all: TrafficClass::default(),
            dcbx_version: 0,
            dcbx: (false, 8, 8),
        }
    }
}

impl Qos {
    /// The priority of a received frame with that PCP and that DSCP, as far as it has them.
    #[inline]
    pub fn priority(&self, pcp: Option<u8>, dscp: impl FnOnce() -> Option<u8>) -> u8 {
        let said = if self.trust == TRUST_DSCP {
            dscp()
                .and_then(|dscp| self.dscp.get(usize::from(dscp)).copied())
                .or(pcp)
        } else {
            pcp
        };
        said.unwrap_or(self.default_priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_decides_on_the_priority() {
        let mut qos = Qos::default();
        assert_eq!(qos.priority(Some(3), || Some(46)), 3);
        assert_eq!(qos.priority(None, || Some(46)), 0);
        qos.trust = TRUST_DSCP;
        assert_eq!(qos.priority(Some(3), || Some(46)), 5);
        assert_eq!(qos.priority(Some(3), || None), 3);
        qos.dscp[46] = 6;
        qos.default_priority = 1;
        assert_eq!(qos.priority(Some(3), || Some(46)), 6);
        assert_eq!(qos.priority(None, || None), 1);
    }
}
