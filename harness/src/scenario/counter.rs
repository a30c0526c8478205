//! Counters by name: of guests' drivers, of the cables between NICs and their switch, and of rules.

use rocinante_wire::cable::CableCounters;

use super::model::{Machines, System};

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// What a guest says of its NIC.
    Nic {
        /// The NIC.
        nic: usize,
        /// Which of its counters.
        kind: Kind,
        /// Its name there.
        name: String,
    },
    /// What happened at a NIC's cable.
    Cable {
        /// The NIC.
        nic: usize,
        /// From the NIC, not to it.
        tx: bool,
        /// Its name in [`CABLE`].
        name: &'static str,
    },
    /// What a rule did, since it was loaded.
    Rule {
        /// The rule's name.
        name: String,
        /// Matches, not hits.
        matches: bool,
    },
}

/// Where a guest has counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `hw_counters` of the RDMA device's port.
    Hw,
    /// `counters` of the RDMA device's port.
    Port,
    /// `statistics` of the interface.
    Net,
    /// `ethtool -S`.
    Ethtool,
    /// `sysctl`, of FreeBSD.
    Sysctl,
}

type OfCable = (&'static str, fn(&CableCounters) -> u64);

/// The counters of a cable.
pub const CABLE: [OfCable; 10] = [
    ("rule_drops", |c| c.rule_drops),
    ("link_drops", |c| c.link_drops),
    ("blackhole_drops", |c| c.blackhole_drops),
    ("queue_drops", |c| c.queue_drops),
    ("fcs_errors", |c| c.fcs_errors),
    ("unreadable", |c| c.unreadable),
    ("ecn_marks", |c| c.ecn_marks),
    ("pauses", |c| c.pauses),
    ("forged", |c| c.forged),
    ("unforgeable", |c| c.unforgeable),
];

/// Names that counters begin with, so no NIC can have them.
pub const RESERVED: [&str; 6] = ["cable", "rule", "switch", "firmware", "link", "port"];

impl Counter {
    /// Reads a name.
    pub fn new(text: &str, machines: &Machines) -> Result<Self, String> {
        let (head, rest) = text
            .split_once('.')
            .filter(|(_, rest)| !rest.is_empty())
            .ok_or_else(|| {
                format!(
                    "'{text}' is no counter: NIC.hw.NAME, NIC.port.NAME, NIC.net.NAME, NIC.ethtool.NAME, \
                     cable.NIC.tx.NAME, cable.NIC.rx.NAME, rule.NAME or rule.NAME.matches"
                )
            })?;
        let known = || {
            let names: Vec<_> = machines.nics.iter().map(|nic| nic.name.as_str()).collect();
            names.join(", ")
        };
        match head {
            "rule" => Ok(match rest.strip_suffix(".matches") {
                Some(name) => Self::Rule {
                    name: name.to_owned(),
                    matches: true,
                },
                None => Self::Rule {
                    name: rest.to_owned(),
                    matches: false,
                },
            }),
            "cable" => {
                let mut parts = rest.split('.');
                let (port, direction, field) = (parts.next(), parts.next(), parts.next());
                let nic = port
                    .and_then(|name| machines.nic(name))
                    .ok_or_else(|| format!("'{text}': no NIC of that name ({})", known()))?;
                let tx = match direction {
                    Some("tx") => true,
                    Some("rx") => false,
                    _ => return Err(format!("'{text}': cables count in 'tx' and 'rx'")),
                };
                let name = CABLE
                    .iter()
                    .map(|(name, _)| *name)
                    .find(|name| field == Some(*name) && parts.next().is_none())
                    .ok_or_else(|| {
                        let names: Vec<_> = CABLE.iter().map(|(name, _)| *name).collect();
                        format!("'{text}': cables have {}", names.join(", "))
                    })?;
                Ok(Self::Cable { nic, tx, name })
            }
            _ => {
                let nic = machines
                    .nic(head)
                    .ok_or_else(|| format!("'{text}': no NIC '{head}' ({})", known()))?;
                let is_linux = machines
                    .nics
                    .get(nic)
                    .and_then(|nic| machines.guests.get(nic.guest))
                    .is_some_and(|guest| matches!(guest.system, System::Linux { .. }));
                let (kind, name) = rest.split_once('.').unwrap_or((rest, ""));
                let kind = match (kind, is_linux) {
                    ("hw", true) => Kind::Hw,
                    ("port", true) => Kind::Port,
                    ("net", true) => Kind::Net,
                    ("ethtool", true) => Kind::Ethtool,
                    ("sysctl", false) => Kind::Sysctl,
                    (_, true) => {
                        return Err(format!("'{text}': Linux has hw, port, net and ethtool"));
                    }
                    (_, false) => return Err(format!("'{text}': FreeBSD has sysctl")),
                };
                let good = !name.is_empty()
                    && name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '%'));
                if !good {
                    return Err(format!("'{text}' names no counter"));
                }
                Ok(Self::Nic {
                    nic,
                    kind,
                    name: name.to_owned(),
                })
            }
        }
    }

    /// A command that prints it in a guest where the NIC is `device` and `interface`.
    pub fn command(&self, device: &str, interface: &str) -> Option<String> {
        let Self::Nic { kind, name, .. } = self else {
            return None;
        };
        Some(match kind {
            Kind::Hw => format!("cat /sys/class/infiniband/{device}/ports/1/hw_counters/{name}"),
            Kind::Port => format!("cat /sys/class/infiniband/{device}/ports/1/counters/{name}"),
            Kind::Net => format!("cat /sys/class/net/{interface}/statistics/{name}"),
            Kind::Ethtool => format!(
                "ethtool -S {interface} | while read -r name value; do if [ \"$name\" = {name}: ]; then echo $value; fi; done"
            ),
            Kind::Sysctl => format!("sysctl -n {name}"),
        })
    }
}
