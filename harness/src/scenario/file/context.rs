//! What the steps that have been read so far have brought about, which says what the next one may name.

use std::collections::{BTreeMap, BTreeSet};

use super::super::faults::FaultSets;
use super::super::model::{Action, Labels, Machines, System};
use super::super::source::Wrong;
use super::super::template::Template;
use super::Value;

/// What the steps so far have brought about.
pub(super) struct Context<'a> {
    pub machines: &'a Machines,
    pub sets: &'a FaultSets,
    /// Variables that steps have set.
    pub saved: BTreeSet<String>,
    /// Names of steps.
    pub labels: Labels,
    /// Jobs under way, with their guests, and where they were started.
    pub jobs: BTreeMap<String, (usize, std::ops::Range<usize>)>,
    /// The guests of all jobs there ever were.
    pub job_guests: BTreeMap<String, usize>,
    /// Names of the rules that have been in force by now.
    pub rules: BTreeSet<String>,
    /// Guests that run.
    pub running: Vec<bool>,
    /// Whether a capture is under way.
    pub capturing: bool,
    /// The step being read.
    pub step: usize,
}

/// What NICs give variables to.
const OF_NICS: &[&str] = &["ip", "device", "interface", "gid", "gid_v1", "mac", "mtu"];

impl<'a> Context<'a> {
    /// Before the first step.
    pub fn new(machines: &'a Machines, sets: &'a FaultSets, capturing: bool) -> Self {
        Self {
            machines,
            sets,
            saved: BTreeSet::new(),
            labels: Labels::new(),
            jobs: BTreeMap::new(),
            job_guests: BTreeMap::new(),
            rules: BTreeSet::new(),
            running: vec![true; machines.guests.len()],
            capturing,
            step: 0,
        }
    }

    /// Whether there is such a variable.
    pub fn knows(&self, name: &str) -> bool {
        self.saved.contains(name)
            || name.split_once('.').is_some_and(|(nic, part)| {
                self.machines.nic(nic).is_some() && OF_NICS.contains(&part)
            })
    }

    /// A text with variables that there are.
    pub fn template(&self, value: &Value<'_>) -> Result<Template, Wrong> {
        Template::new(&value.words()?, |name| self.knows(name)).map_err(|error| value.wrong(error))
    }

    /// The number of the guest that is named.
    pub fn guest(&self, value: &Value<'_>) -> Result<usize, Wrong> {
        let name = value.text()?;
        self.machines.guest(&name).ok_or_else(|| {
            let known: Vec<_> = self
                .machines
                .guests
                .iter()
                .map(|guest| guest.name.as_str())
                .collect();
            value.wrong(format!("there is no guest '{name}' ({})", known.join(", ")))
        })
    }

    /// The number of the NIC that is named.
    pub fn nic(&self, value: &Value<'_>, name: &str) -> Result<usize, Wrong> {
        self.machines.nic(name).ok_or_else(|| {
            let known: Vec<_> = self
                .machines
                .nics
                .iter()
                .map(|nic| nic.name.as_str())
                .collect();
            value.wrong(format!("there is no NIC '{name}' ({})", known.join(", ")))
        })
    }

    /// The number of the NIC that is the key of an entry.
    pub fn nic_of_key(&self, entry: &Value<'_>) -> Result<usize, Wrong> {
        self.nic(entry, entry.key)
            .map_err(|wrong| entry.wrong_key(wrong.message))
    }

    /// The job that is named, which is not under way any more.
    pub fn job(&mut self, value: &Value<'_>) -> Result<String, Wrong> {
        let name = value.text()?;
        match self.jobs.remove(&name) {
            Some(_) => Ok(name),
            None if self.job_guests.contains_key(&name) => Err(value.wrong(format!(
                "job '{name}' is not under way here: it has been waited for, ended, or went with its guest"
            ))),
            None => Err(value.wrong(format!("no step before this starts a job '{name}'"))),
        }
    }

    /// Whether a rule, or another fault that counts, has been in force by now.
    pub fn check_rule(&self, name: &str) -> Result<(), String> {
        if self.rules.contains(name) {
            return Ok(());
        }
        let known: Vec<_> = self.rules.iter().map(String::as_str).collect();
        Err(format!(
            "no rule '{name}' has been in force by then ({})",
            if known.is_empty() {
                "there were none".to_owned()
            } else {
                known.join(", ")
            }
        ))
    }

    /// Whether the command of an action runs in a guest with Linux.
    pub fn in_linux(&self, action: &Action) -> bool {
        let guest = match action {
            Action::Wait { job } | Action::Kill { job } => self.job_guests.get(job).copied(),
            _ => action.guest(),
        };
        guest
            .and_then(|guest| self.machines.guests.get(guest))
            .is_some_and(|guest| matches!(guest.system, System::Linux { .. }))
    }

    /// Notes that these sets are in force.
    pub fn take_up(&mut self, sets: &[String]) {
        self.rules.extend(self.sets.counted(sets));
    }
}
