//! SET_IRQS: how a monitor connects, masks and triggers interrupt vectors (VFIO_DEVICE_SET_IRQS).

use std::os::fd::OwnedFd;

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
};

use crate::interrupts::{Interrupts, Mask};

/// A request that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SET_IRQS: flags {flags:#x}, vectors {start}+{count}: invalid")]
pub(crate) struct BadSetIrqs {
    flags: u32,
    start: u32,
    count: u32,
}

/// One request, for one kind of interrupt.
pub(crate) struct SetIrqs<'a> {
    pub(crate) flags: u32,
    pub(crate) start: u32,
    pub(crate) count: u32,
    /// With DATA_BOOL one byte a vector.
    pub(crate) data: &'a [u8],
    /// With DATA_EVENTFD one a vector, or none to disconnect.
    pub(crate) fds: Vec<OwnedFd>,
}

impl SetIrqs<'_> {
    fn bad(&self) -> BadSetIrqs {
        BadSetIrqs {
            flags: self.flags,
            start: self.start,
            count: self.count,
        }
    }

    /// The vectors meant, if all of them exist.
    fn vectors(&self, available: u16) -> Result<std::ops::Range<u16>, BadSetIrqs> {
        let end = self.start.checked_add(self.count).ok_or(self.bad())?;
        if end > u32::from(available) {
            return Err(self.bad());
        }
        Ok(self.start as u16..end as u16)
    }

    /// For a kind of interrupt that this function has but never uses (INTx, errors): any valid request is accepted.
    pub(crate) fn accept(self, available: u16) -> Result<(), BadSetIrqs> {
        self.vectors(available).map(|_| ())
    }

    /// Does what is asked.
    pub(crate) fn apply(self, interrupts: &Interrupts) -> Result<(), BadSetIrqs> {
        const DATA: u32 =
            VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD;
        const ACTION: u32 =
            VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER;
        let bad = self.bad();
        let vectors = self.vectors(interrupts.count())?;
        let (data, action) = (self.flags & DATA, self.flags & ACTION);
        if self.flags & !(DATA | ACTION) != 0 {
            return Err(bad);
        }
        match (data, action) {
            // No vectors: the monitor turns all of them off.
            (VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_ACTION_TRIGGER) if self.count == 0 => {
                for vector in 0..interrupts.count() {
                    interrupts.connect(vector, None).map_err(|_| bad)?;
                }
            }
            (VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER) => {
                if !self.fds.is_empty() && self.fds.len() != vectors.len() {
                    return Err(bad);
                }
                let mut fds = self.fds.into_iter();
                for vector in vectors {
                    interrupts.connect(vector, fds.next()).map_err(|_| bad)?;
                }
            }
            (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL, action) => {
                let chosen: &[u8] = if data == VFIO_IRQ_SET_DATA_BOOL {
                    self.data.get(..vectors.len()).ok_or(bad)?
                } else {
                    &[]
                };
                for (i, vector) in vectors.enumerate() {
                    // Without data all vectors are meant.
                    if chosen.get(i) == Some(&0) {
                        continue;
                    }
                    match action {
                        VFIO_IRQ_SET_ACTION_MASK => interrupts.set_mask(vector, Mask::Action, true),
                        VFIO_IRQ_SET_ACTION_UNMASK => {
                            interrupts.set_mask(vector, Mask::Action, false)
                        }
                        VFIO_IRQ_SET_ACTION_TRIGGER => interrupts.fire(vector),
                        _ => return Err(bad),
                    }
                }
            }
            _ => return Err(bad),
        }
        Ok(())
    }
}
