//! Named links: NICs that name the same link share a switch.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Switch;
use crate::frame::Payload;

/// All links of a process, made when first named.
#[derive(Debug)]
pub struct Links<P> {
    by_name: Mutex<BTreeMap<String, Switch<P>>>,
}

impl<P: Payload + Clone> Links<P> {
    /// No links yet.
    #[must_use]
    pub fn new() -> Links<P> {
        Links {
            by_name: Mutex::new(BTreeMap::new()),
        }
    }

    /// The switch of link `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Switch<P> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.entry(name.to_owned()).or_default().clone()
    }

    /// Calls [`Switch::age`] on all of them.
    pub fn age(&self) {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.values().for_each(Switch::age);
    }
}

impl<P: Payload + Clone> Default for Links<P> {
    fn default() -> Links<P> {
        Links::new()
    }
}
