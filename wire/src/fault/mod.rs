//! Scripted faults: rules in TOML that say which frames are lost, late, changed or answered by
//! nobody, and when a link is down.
#![doc = include_str!("rules.md")]

mod alter;
mod error;
mod field;
mod flow;
mod forge;
mod link;
mod opcodes;
mod parse;
mod rule;
mod shape;
mod term;
mod view;

pub use error::{RuleError, RuleErrors};
pub use field::{FIELDS, Field, Header, Kind, Source};
pub use link::{BitErrors, LinkFault, LinkKind, Schedule};
pub use opcodes::{glob, name as opcode_name};
pub use rule::{
    Action, Answer, Damage, Direction, Place, Repair, Rule, RuleCounters, Scope, Selection, Since,
    Target,
};
pub use shape::{Pause, Shape};

/// For other languages of the same file: how its entries are read.
pub mod reading {
    pub use super::error::Mistake;
    pub use super::parse::value::{Table, Value};
    pub use super::parse::{Entry, More, SELECTION, seed, selection};
}

pub(crate) use alter::{alter, bit_error, mark_ce};
pub(crate) use flow::Flows;
pub(crate) use forge::forge;
pub(crate) use parse::hash;
pub(crate) use view::{DEEP, FlowKey, View};

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::time::Time;

/// A checked set of rules, link faults and shapes, with its counters.
#[derive(Debug, Default)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) links: Vec<LinkFault>,
    pub(crate) shapes: Vec<Shape>,
    /// When the first cable took them up.
    pub(crate) loaded: OnceLock<Time>,
    /// Names of entries that are no longer in force. Looked at only when something changes.
    cleared: Mutex<BTreeSet<String>>,
}

impl Rules {
    /// Rules for packets, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Faults of links.
    #[must_use]
    pub fn links(&self) -> &[LinkFault] {
        &self.links
    }

    /// Rates and latencies.
    #[must_use]
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// How often each rule matched and hit so far.
    #[must_use]
    pub fn counters(&self) -> Vec<RuleCounters> {
        self.rules.iter().map(Rule::counters).collect()
    }

    /// Takes an entry out of force; false if there is none of that name. Cables have to be told,
    /// see [`Control::clear_rule`](crate::cable::Control::clear_rule).
    pub(crate) fn clear(&self, name: &str) -> bool {
        let rules = self.rules.iter().map(|rule| &rule.name);
        let links = self.links.iter().map(|link| &link.name);
        let shapes = self.shapes.iter().map(|shape| &shape.name);
        let mut names = rules.chain(links).chain(shapes);
        names.any(|other| other == name) && self.cleared().insert(name.to_owned())
    }

    /// Whether an entry was taken out of force.
    #[must_use]
    pub fn is_cleared(&self, name: &str) -> bool {
        self.cleared().contains(name)
    }

    fn cleared(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.cleared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that every entry stands at one of these ports at least, given as link and port.
    ///
    /// # Errors
    /// An entry that stands nowhere, with its line.
    pub fn check_places(&self, ports: &[(&str, &str)]) -> Result<(), RuleErrors> {
        let rules = self.rules.iter().map(|r| (r.line, &r.name, &r.place));
        let links = self.links.iter().map(|l| (l.line, &l.name, &l.place));
        let shapes = self.shapes.iter().map(|s| (s.line, &s.name, &s.place));
        let mut errors: Vec<RuleError> = rules
            .chain(links)
            .chain(shapes)
            .filter(|(_, _, place)| !ports.iter().any(|(link, port)| place.is_at(link, port)))
            .map(|(line, name, _)| RuleError {
                line,
                column: 1,
                message: format!(
                    "'{name}' is at no port there is ({})",
                    ports
                        .iter()
                        .map(|(link, port)| format!("{port} of {link}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            })
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        errors.sort_by_key(|error| error.line);
        Err(RuleErrors(errors))
    }
}

impl Rules {
    /// Reads a file that has other entries too, which `more` takes.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read_with(source: &str, more: &mut dyn reading::More) -> Result<Rules, RuleErrors> {
        parse::read_with(source, more)
    }
}

impl FromStr for Rules {
    type Err = RuleErrors;

    fn from_str(source: &str) -> Result<Rules, RuleErrors> {
        parse::read(source)
    }
}

#[cfg(test)]
mod tests;
