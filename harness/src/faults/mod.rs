//! One file of faults: those of packets and links, which are the cables', and those of firmware and devices,
//! which are the NICs'.
//!
//! Knows which part of a file is whose, and how the entries of devices are written; what they do is
//! [described](rocinante_device::mlx5::fault) where it is done.

mod layouts;
mod read;

use std::str::FromStr;
use std::sync::Arc;

use rocinante_device::mlx5::fault::{Fault, Injection, Plan};
use rocinante_wire::fault::{RuleCounters, RuleError, RuleErrors, Rules, glob};

/// A fault of devices, and of which.
#[derive(Debug)]
pub struct DeviceFault {
    /// The line of the file where it stands.
    pub line: usize,
    /// Names of NICs, with `*` and `?`; empty for all.
    pub nics: Vec<String>,
    /// What it is.
    pub fault: Arc<Fault>,
}

impl DeviceFault {
    /// Whether this NIC is meant.
    #[must_use]
    pub fn is_at(&self, nic: &str) -> bool {
        self.nics.is_empty() || self.nics.iter().any(|pattern| glob(pattern, nic))
    }
}

/// All faults.
#[derive(Debug, Default)]
pub struct Faults {
    /// Of packets and links.
    pub rules: Rules,
    /// Of firmware and devices.
    pub devices: Vec<DeviceFault>,
}

impl Faults {
    /// Those of one NIC.
    #[must_use]
    pub fn plan(&self, nic: &str) -> Plan {
        let here = self.devices.iter().filter(|fault| fault.is_at(nic));
        Plan(here.map(|fault| Arc::clone(&fault.fault)).collect())
    }

    /// Checks that every fault of devices is at one of these NICs at least.
    ///
    /// # Errors
    /// Those that are at none, with their lines.
    pub fn check_nics(&self, nics: &[&str]) -> Result<(), RuleErrors> {
        let lost = self.devices.iter();
        let lost = lost.filter(|fault| !nics.iter().any(|nic| fault.is_at(nic)));
        let errors: Vec<RuleError> = lost
            .map(|fault| RuleError {
                line: fault.line,
                column: 1,
                message: format!(
                    "'{}' is at no NIC there is ({})",
                    fault.fault.name,
                    nics.join(", ")
                ),
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(RuleErrors(errors))
        }
    }

    /// How often each fault of devices matched and hit so far.
    #[must_use]
    pub fn device_counters(&self) -> Vec<RuleCounters> {
        let faults = self.devices.iter();
        faults.map(|fault| fault.fault.counters()).collect()
    }
}

impl From<Rules> for Faults {
    fn from(rules: Rules) -> Faults {
        Faults {
            rules,
            devices: Vec::new(),
        }
    }
}

impl FromStr for Faults {
    type Err = RuleErrors;

    fn from_str(source: &str) -> Result<Faults, RuleErrors> {
        let mut reader = read::Reader::default();
        let rules = Rules::read_with(source, &mut reader)?;
        Ok(Faults {
            rules,
            devices: reader.faults,
        })
    }
}

/// What is to happen now, in the words of a file: the kind of an entry (`async`, `event`, `interrupt`, `health`,
/// `pages`, `module`, `sensor`, `removal`, or `clear`) and its keys as TOML (`syndrome = "FW_INTERNAL_ERR"`).
///
/// # Errors
/// What is wrong with it.
pub fn injection(kind: &str, keys: &str) -> Result<Injection, String> {
    if kind == "clear" {
        return Ok(Injection::Clear);
    }
    let kinds = read::INJECTABLE;
    if !kinds.contains(&kind) {
        return Err(format!(
            "'{kind}' cannot be injected ({}, clear)",
            kinds.join(", ")
        ));
    }
    let source = format!("[[{kind}]]\nname = \"injected\"\n{keys}\n");
    let mut reader = read::Reader::for_injection();
    Rules::read_with(&source, &mut reader).map_err(|errors| {
        let messages: Vec<_> = errors.0.into_iter().map(|error| error.message).collect();
        messages.join("; ")
    })?;
    reader
        .injection
        .ok_or_else(|| format!("'{kind}' says nothing that could happen now"))
}

/// As [`injection`], with the keys as a JSON object.
///
/// # Errors
/// What is wrong with it.
pub fn injection_from_json(
    kind: &str,
    keys: &serde_json::Map<String, serde_json::Value>,
) -> Result<Injection, String> {
    let mut text = String::new();
    for (key, value) in keys {
        // Strings, numbers, truth values and lists of them are written in JSON as in TOML.
        let plain = |value: &serde_json::Value| {
            value.is_string() || value.is_number() || value.is_boolean()
        };
        let fits = plain(value) || value.as_array().is_some_and(|list| list.iter().all(plain));
        if !fits {
            return Err(format!(
                "'{key}' is neither text nor number nor true or false"
            ));
        }
        text += &format!("{} = {value}\n", serde_json::Value::from(key.as_str()));
    }
    injection(kind, &text)
}

#[cfg(test)]
mod tests;
