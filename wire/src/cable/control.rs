//! What all cables of a process obey, and what they tell: rules, capture, carrier, counters.
//! Changed from any thread; the cables notice by a generation number.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

use crate::capture::{Capture, CaptureStats, CaptureTap};
use crate::fault::{Direction, Place, Rules};
use crate::switch::Wake;

/// What happened in one direction of a cable; frames that nothing was done to are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CableCounters {
    /// Lost by a rule.
    pub rule_drops: u64,
    /// Lost because there was no carrier, also those that were on their way.
    pub link_drops: u64,
    /// Lost in a black hole.
    pub blackhole_drops: u64,
    /// Lost because too much was on its way.
    pub queue_drops: u64,
    /// Lost because the receiver's MAC found the frame check sequence wrong.
    pub fcs_errors: u64,
    /// Lost because the memory that the payload was in was gone.
    pub unreadable: u64,
    /// Marked by the queue.
    pub ecn_marks: u64,
    /// Pause frames that the queue has sent against this direction.
    pub pauses: u64,
    /// Made by a rule.
    pub forged: u64,
    /// Not forged, since nobody knew the queue pair that sent the request.
    pub unforgeable: u64,
}

macro_rules! counts {
    ($($name:ident),*) => {
        #[derive(Debug, Default)]
        pub(super) struct Counts {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counts {
            fn get(&self) -> CableCounters {
                CableCounters {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counts!(
    rule_drops,
    link_drops,
    blackhole_drops,
    queue_drops,
    fcs_errors,
    unreadable,
    ecn_marks,
    pauses,
    forged,
    unforgeable
);

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A cable as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CableStatus {
    /// The link that it leads to.
    pub link: String,
    /// The name of what is plugged in.
    pub port: String,
    /// Plugged in, as far as the user is concerned.
    pub plugged: bool,
    /// Carrier, by plug and rules.
    pub carrier: bool,
    /// From what is plugged in.
    pub tx: CableCounters,
    /// To what is plugged in.
    pub rx: CableCounters,
}

/// What a cable shares with the control.
pub(super) struct Shared {
    pub(super) link: String,
    pub(super) port: String,
    pub(super) plugged: AtomicBool,
    pub(super) carrier: AtomicBool,
    pub(super) tx: Counts,
    pub(super) rx: Counts,
    waker: Arc<dyn Wake>,
}

impl Shared {
    pub(super) fn counts(&self, direction: Direction) -> &Counts {
        match direction {
            Direction::Tx => &self.tx,
            Direction::Rx => &self.rx,
        }
    }
}

struct Running {
    capture: Capture,
    place: Place,
    epoch: u64,
}

struct Inner {
    generation: AtomicU64,
    rules: ArcSwap<Rules>,
    cables: Mutex<Vec<Weak<Shared>>>,
    capture: Mutex<Option<Running>>,
    /// Captures so far.
    captures: AtomicU64,
}

/// The handle of all cables; clones are the same.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

impl Control {
    /// No rules, no capture.
    #[must_use]
    pub fn new() -> Control {
        Control(Arc::new(Inner {
            generation: AtomicU64::new(0),
            rules: ArcSwap::default(),
            cables: Mutex::default(),
            capture: Mutex::default(),
            captures: AtomicU64::new(0),
        }))
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        for cable in self.cables() {
            cable.waker.wake();
        }
    }

    fn cables(&self) -> Vec<Arc<Shared>> {
        let mut cables = lock(&self.0.cables);
        cables.retain(|cable| cable.strong_count() > 0);
        cables.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn plug(&self, link: &str, port: &str, waker: Arc<dyn Wake>) -> Arc<Shared> {
        let shared = Arc::new(Shared {
            link: link.to_owned(),
            port: port.to_owned(),
            plugged: AtomicBool::new(true),
            carrier: AtomicBool::new(true),
            tx: Counts::default(),
            rx: Counts::default(),
            waker,
        });
        lock(&self.0.cables).push(Arc::downgrade(&shared));
        shared
    }

    /// Replaces all rules. Frames that old ones hold still arrive when they were to. The new
    /// ones count from zero.
    pub fn set_rules(&self, rules: Rules) {
        self.0.rules.store(Arc::new(rules));
        self.changed();
    }

    /// Takes one entry out of force; the others stay as they are, with all that they have counted.
    /// What it holds still arrives when it was to. False if there is none of that name.
    pub fn clear_rule(&self, name: &str) -> bool {
        let found = self.rules().clear(name);
        if found {
            self.changed();
        }
        found
    }

    /// The rules in force, with their counters.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.0.rules.load_full()
    }

    /// Starts to capture at all cables: each frame once, where it enters the link, or where it
    /// leaves it as well (`both`); what a rule touches is always shown as sent and as delivered.
    /// Returns the capture that ran before.
    pub fn start_capture(&self, capture: Capture, both: bool) -> Option<Capture> {
        let place = Place {
            links: Vec::new(),
            ports: Vec::new(),
            direction: (!both).then_some(Direction::Tx),
        };
        self.start_capture_at(capture, place)
    }

    /// Starts to capture at some cables: what goes in the direction of `place` and, at the same
    /// cables, all that a rule touches. Returns the capture that ran before.
    pub fn start_capture_at(&self, capture: Capture, place: Place) -> Option<Capture> {
        let mut running = lock(&self.0.capture);
        let epoch = self.0.captures.fetch_add(1, Ordering::Relaxed);
        let before = running.replace(Running {
            capture,
            place,
            epoch,
        });
        drop(running);
        self.changed();
        before.map(|running| running.capture)
    }

    /// Ends the capture at all cables and hands it over to be finished.
    pub fn stop_capture(&self) -> Option<Capture> {
        let running = lock(&self.0.capture).take();
        self.changed();
        running.map(|running| running.capture)
    }

    /// What the running capture has done, and what has ended it early.
    #[must_use]
    pub fn capture_stats(&self) -> Option<(CaptureStats, Option<String>)> {
        let running = lock(&self.0.capture);
        let capture = &running.as_ref()?.capture;
        Some((capture.stats(), capture.error().map(str::to_owned)))
    }

    /// The number of the running capture.
    pub(super) fn capture_epoch(&self) -> Option<u64> {
        lock(&self.0.capture).as_ref().map(|running| running.epoch)
    }

    /// A new interface of the running capture, if it is wanted, and which directions are wanted
    /// whole.
    pub(super) fn tap(&self, shared: &Shared) -> Option<(CaptureTap, [bool; 2])> {
        let running = lock(&self.0.capture);
        let Running { capture, place, .. } = running.as_ref()?;
        if !place.is_at(&shared.link, &shared.port) {
            return None;
        }
        let name = format!("{}/{}", shared.link, shared.port);
        let wanted = [Direction::Tx, Direction::Rx].map(|direction| place.goes(direction));
        Some((capture.tap(&name), wanted))
    }

    /// Plugs a port in or pulls it out, whatever the rules say. False if there is no such port.
    pub fn set_plugged(&self, port: &str, plugged: bool) -> bool {
        let mut found = false;
        for cable in self.cables() {
            if cable.port == port {
                cable.plugged.store(plugged, Ordering::Relaxed);
                found = true;
            }
        }
        self.changed();
        found
    }

    /// All cables.
    #[must_use]
    pub fn status(&self) -> Vec<CableStatus> {
        self.cables()
            .iter()
            .map(|cable| CableStatus {
                link: cable.link.clone(),
                port: cable.port.clone(),
                plugged: cable.plugged.load(Ordering::Relaxed),
                carrier: cable.carrier.load(Ordering::Relaxed),
                tx: cable.tx.get(),
                rx: cable.rx.get(),
            })
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Control {
    fn default() -> Control {
        Control::new()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}
