//! Named links: NICs that name the same link share a switch.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Switch;
use crate::capture::Capture;
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

    /// The switch of link `name`. If it is new and there is a capture, it becomes an interface of
    /// that capture.
    #[must_use]
    pub fn get(&self, name: &str, capture: Option<&Capture>) -> Switch<P> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(switch) = by_name.get(name) {
            return switch.clone();
        }
        let switch = Switch::with_capture(capture.map(|capture| capture.tap(name)));
        by_name.insert(name.to_owned(), switch.clone());
        switch
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
