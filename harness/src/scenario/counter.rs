//! Counters by name: of guests' drivers, of the switch's ports and what is plugged into them, and of rules.

use super::model::{Machines, System};
use crate::control::counters::{of_cable, of_outside, of_port};

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
    /// What passed, or happened, at a port of a switch.
    Port {
        /// The port.
        port: String,
        /// Where there.
        side: Side,
        /// Its name, as that of the control socket's `query-counters`.
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

/// Where a port has counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// At the switch.
    Switch,
    /// In its cable, on the way to the switch.
    CableTx,
    /// In its cable, on the way from the switch.
    CableRx,
    /// Beyond a port that leads elsewhere.
    Outside,
}

impl Side {
    /// The counters that are there.
    fn names(self) -> Vec<&'static str> {
        fn of<const N: usize>(counters: [(&'static str, u64); N]) -> Vec<&'static str> {
            counters.iter().map(|(name, _)| *name).collect()
        }
        match self {
            Self::Switch => of(of_port(&Default::default())),
            Self::CableTx | Self::CableRx => of(of_cable(&Default::default())),
            Self::Outside => of(of_outside(&Default::default())),
        }
    }
}

/// Names that counters begin with, so no NIC can have them.
pub const RESERVED: [&str; 7] = [
    "cable", "rule", "switch", "outside", "firmware", "link", "port",
];

impl Counter {
    /// Reads a name.
    pub fn new(text: &str, machines: &Machines) -> Result<Self, String> {
        let (head, rest) = text
            .split_once('.')
            .filter(|(_, rest)| !rest.is_empty())
            .ok_or_else(|| {
                format!(
                    "'{text}' is no counter: NIC.hw.NAME, NIC.port.NAME, NIC.net.NAME, NIC.ethtool.NAME, \
                     switch.PORT.NAME, cable.PORT.tx.NAME, cable.PORT.rx.NAME, outside.PORT.NAME, rule.NAME or rule.NAME.matches"
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
            "switch" | "cable" | "outside" => Self::of_port(text, head, rest, machines),
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

    /// One at a port: what follows `switch.`, `cable.` or `outside.`.
    fn of_port(text: &str, head: &str, rest: &str, machines: &Machines) -> Result<Self, String> {
        let (port, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let outside = machines.ports.iter().map(|port| port.name.as_str());
        let nics = machines.nics.iter().map(|nic| nic.name.as_str());
        let ports: Vec<&str> = match head {
            "outside" => outside.collect(),
            _ => nics.chain(outside).collect(),
        };
        if !ports.contains(&port) {
            let known = if ports.is_empty() {
                "there are none".to_owned()
            } else {
                ports.join(", ")
            };
            let what = match head {
                "outside" => "port that leads elsewhere",
                _ => "port",
            };
            return Err(format!("'{text}': no {what} '{port}' ({known})"));
        }
        let (side, name) = match (head, rest.split_once('.')) {
            ("switch", _) => (Side::Switch, rest),
            ("outside", _) => (Side::Outside, rest),
            (_, Some(("tx", name))) => (Side::CableTx, name),
            (_, Some(("rx", name))) => (Side::CableRx, name),
            _ => return Err(format!("'{text}': cables count in 'tx' and 'rx'")),
        };
        let names = side.names();
        let name = names
            .iter()
            .find(|known| **known == name)
            .ok_or_else(|| format!("'{text}': there are {}", names.join(", ")))?;
        Ok(Self::Port {
            port: port.to_owned(),
            side,
            name,
        })
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
