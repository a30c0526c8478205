//! Interrupt vectors from the device's side: fire, and the rest is kept until it can be delivered.
//!
//! A vector is delivered by a write to the eventfd that the monitor gave for it. It stays pending while it is
//! masked or has no eventfd. Knows nothing of tables and capabilities: see [`crate::msix`].

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::ArcSwapOption;

use crate::sys;

/// Why a vector is masked: any of the bits suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// By the mask bit of its table entry.
    Table = 1,
    /// By the monitor (SET_IRQS with ACTION_MASK).
    Action = 2,
}

/// Why the whole function cannot interrupt: any of the bits suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// MSI-X Enable is off.
    Disabled = 1,
    /// MSI-X Function Mask is on.
    FunctionMask = 2,
    /// A message is a memory write: Bus Master Enable is off, or the function is in D3hot.
    NoBusMaster = 4,
}

struct Target {
    eventfd: File,
    /// A write to it never waits. Otherwise it is asked before whether it would.
    nonblocking: bool,
}

#[derive(Default)]
struct Vector {
    target: ArcSwapOption<Target>,
    mask: AtomicU8,
    pending: AtomicBool,
}

/// The interrupt vectors of one function. Shared between the device, which fires, and the function, which
/// connects, masks and resets.
pub struct Interrupts {
    vectors: Box<[Vector]>,
    gate: AtomicU8,
}

/// The most vectors MSI-X allows.
pub const MAX_VECTORS: u16 = 2048;

impl Interrupts {
    /// `vectors` vectors (at least 1, at most [`MAX_VECTORS`]), none connected.
    pub fn new(vectors: u16) -> Arc<Self> {
        let n = usize::from(vectors.clamp(1, MAX_VECTORS));
        Arc::new(Self {
            vectors: (0..n).map(|_| Vector::default()).collect(),
            gate: AtomicU8::new(0),
        })
    }

    /// Number of vectors.
    pub fn count(&self) -> u16 {
        self.vectors.len() as u16
    }

    /// Interrupts the guest. Lock-free, never waits. A vector that cannot be delivered now is pending and
    /// delivered once, when it can be. A vector that does not exist is ignored.
    #[inline]
    pub fn fire(&self, vector: u16) {
        if let Some(v) = self.vectors.get(usize::from(vector)) {
            // First pending, then deliverable; whoever opens the way does it in the other order, so one of
            // the two sees both.
            v.pending.store(true, Ordering::SeqCst);
            self.deliver(v);
        }
    }

    /// Whether `vector` has been fired and not been delivered.
    pub fn is_pending(&self, vector: u16) -> bool {
        self.vectors
            .get(usize::from(vector))
            .is_some_and(|v| v.pending.load(Ordering::SeqCst))
    }

    /// Takes the pending interrupt of a vector, if there is one: for a driver in the same process, without
    /// eventfds.
    pub fn take_pending(&self, vector: u16) -> bool {
        self.vectors
            .get(usize::from(vector))
            .is_some_and(|v| v.pending.swap(false, Ordering::SeqCst))
    }

    /// Connects a vector to an eventfd, or disconnects it. Delivers what is pending. An error, and nothing
    /// changed, if there is no such vector or the descriptor is no eventfd.
    pub fn connect(&self, vector: u16, eventfd: Option<OwnedFd>) -> io::Result<()> {
        let v = self
            .vectors
            .get(usize::from(vector))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let target = match eventfd {
            Some(fd) => {
                if !sys::is_eventfd(&fd) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                let nonblocking = sys::is_nonblocking(&fd)?;
                Some(Arc::new(Target {
                    eventfd: File::from(fd),
                    nonblocking,
                }))
            }
            None => None,
        };
        v.target.store(target);
        self.deliver(v);
        Ok(())
    }

    fn deliver(&self, v: &Vector) {
        if self.gate.load(Ordering::SeqCst) != 0 || v.mask.load(Ordering::SeqCst) != 0 {
            return;
        }
        let target = v.target.load();
        let Some(target) = target.as_deref() else {
            return;
        };
        if !v.pending.swap(false, Ordering::SeqCst) {
            return;
        }
        // A full eventfd has not been read: the interrupt that filled it stands for this one.
        if target.nonblocking || sys::is_writable(target.eventfd.as_raw_fd()) {
            let written = (&target.eventfd).write(&1u64.to_ne_bytes());
            match written {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    log::warn!(target: "pci::interrupts", "eventfd: {error}");
                }
                _ => {}
            }
        }
    }

    pub(crate) fn set_mask(&self, vector: u16, mask: Mask, on: bool) {
        if let Some(v) = self.vectors.get(usize::from(vector)) {
            if on {
                v.mask.fetch_or(mask as u8, Ordering::SeqCst);
            } else {
                v.mask.fetch_and(!(mask as u8), Ordering::SeqCst);
                self.deliver(v);
            }
        }
    }

    pub(crate) fn set_gate(&self, gate: Gate, closed: bool) {
        if closed {
            self.gate.fetch_or(gate as u8, Ordering::SeqCst);
        } else if self.gate.fetch_and(!(gate as u8), Ordering::SeqCst) & gate as u8 != 0 {
            for v in &self.vectors {
                self.deliver(v);
            }
        }
    }

    pub(crate) fn clear_pending(&self) {
        for v in &self.vectors {
            v.pending.store(false, Ordering::SeqCst);
        }
    }

    /// Unmasks everything and disconnects all eventfds, as before any client.
    pub(crate) fn disconnect(&self) {
        for v in &self.vectors {
            v.target.store(None);
            v.mask.store(0, Ordering::SeqCst);
            v.pending.store(false, Ordering::SeqCst);
        }
        self.gate.store(0, Ordering::SeqCst);
    }
}
