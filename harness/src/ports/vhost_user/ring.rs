//! A virtqueue with its eventfds: chains out of it, used buffers back in, and who is told of it.
//!
//! Wraps virtio-queue where a network device needs more: a frame that fills several buffers has to
//! become visible as one, and a kick is wanted for buffers beyond those already seen. Knows nothing
//! of frames.

use std::fs::File;
use std::io::{Read, Write};
use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The guest's memory, as far as the monitor shares it.
pub type Memory = GuestMemoryMmap<()>;

/// The largest queue that QEMU makes.
pub const QUEUE_SIZE: u16 = 1024;

/// A chain of descriptors of the guest.
pub type Chain<'m> = DescriptorChain<&'m Memory>;

/// Why a ring cannot be used any more, until the driver starts it anew.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// More buffers than the ring has, or addresses outside of memory.
    #[error("the ring is not sane: {0}")]
    Queue(#[from] Error),
    /// A part of it is not in memory.
    #[error("the ring is not in memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// Its address and length pass the end of all addresses.
    #[error("the ring is beyond all addresses")]
    Address,
}

/// A virtqueue of the guest.
pub struct Ring {
    queue: Queue,
    /// The monitor has enabled it.
    pub enabled: bool,
    kick: Option<File>,
    call: Option<File>,
    err: Option<File>,
    event_idx: bool,
    /// The used index when the guest was last told, or found not to want it.
    told: Wrapping<u16>,
    /// Set when the driver broke it.
    failed: bool,
}

impl Ring {
    /// Without size, addresses and eventfds.
    pub fn new() -> Result<Ring, Error> {
        Ok(Ring {
            queue: Queue::new(QUEUE_SIZE)?,
            enabled: false,
            kick: None,
            call: None,
            err: None,
            event_idx: false,
            told: Wrapping(0),
            failed: false,
        })
    }

    /// Sets the number of descriptors.
    pub fn set_size(&mut self, size: u32) -> Result<(), Error> {
        let size = u16::try_from(size).map_err(|_| Error::InvalidSize)?;
        self.queue.try_set_size(size)
    }

    /// Sets the guest addresses of descriptors, available and used ring.
    pub fn set_addresses(&mut self, desc: u64, avail: u64, used: u64) -> Result<(), Error> {
        self.queue.try_set_desc_table_address(GuestAddress(desc))?;
        self.queue.try_set_avail_ring_address(GuestAddress(avail))?;
        self.queue.try_set_used_ring_address(GuestAddress(used))
    }

    /// Sets the next available index to look at.
    pub fn set_base(&mut self, base: u16) {
        self.queue.set_next_avail(base);
    }

    /// Whether the driver uses the indices of the next events instead of flags.
    pub fn set_event_idx(&mut self, event_idx: bool) {
        self.event_idx = event_idx;
        self.queue.set_event_idx(event_idx);
    }

    /// Where the guest's kicks come from.
    pub fn set_kick(&mut self, kick: Option<File>) {
        self.kick = kick.map(nonblocking);
    }

    /// Where the guest is interrupted.
    pub fn set_call(&mut self, call: Option<File>) {
        self.call = call.map(nonblocking);
    }

    /// Where the monitor is told that the ring is broken.
    pub fn set_err(&mut self, err: Option<File>) {
        self.err = err.map(nonblocking);
    }

    /// Starts it, where the driver left off.
    pub fn start(&mut self, memory: &Memory) {
        self.failed = false;
        self.queue.set_ready(true);
        self.check(memory);
        match self.queue.used_idx(memory, Ordering::Acquire) {
            Ok(used) => {
                self.queue.set_next_used(used.0);
                self.told = used;
            }
            Err(error) => self.fail(&error.into()),
        }
    }

    /// Stops it; the available index that it was to look at next.
    pub fn stop(&mut self) -> u16 {
        self.queue.set_ready(false);
        self.kick = None;
        self.call = None;
        self.queue.next_avail()
    }

    /// Whether it has been started.
    pub fn started(&self) -> bool {
        self.queue.ready()
    }

    /// Whether frames may pass.
    pub fn active(&self) -> bool {
        self.started() && self.enabled && !self.failed
    }

    /// The eventfd of kicks, while it is started.
    pub fn kick(&self) -> Option<&File> {
        self.kick.as_ref().filter(|_| self.started())
    }

    /// Takes the kicks so far.
    pub fn take_kick(&self) {
        if let Some(mut kick) = self.kick.as_ref() {
            // Someone may have been faster; there is always something to be seen in the ring.
            let _ = kick.read(&mut [0; 8]);
        }
    }

    /// Looks whether its parts are in `memory`, which has changed.
    pub fn check(&mut self, memory: &Memory) {
        if self.started() && !self.queue.is_valid(memory) {
            self.fail(&RingError::Queue(Error::QueueNotReady));
        }
    }

    /// Gives it up until it is started anew.
    pub fn fail(&mut self, error: &RingError) {
        if !self.failed {
            self.failed = true;
            log::warn!(target: "vhost_user", "a driver's ring is given up: {error}");
            tell(self.err.as_ref());
        }
    }

    /// The available index as the driver has it.
    pub fn available(&self, memory: &Memory) -> Result<u16, RingError> {
        Ok(self.queue.avail_idx(memory, Ordering::Acquire)?.0)
    }

    /// The next chain.
    pub fn pop<'m>(&mut self, memory: &'m Memory) -> Result<Option<Chain<'m>>, RingError> {
        Ok(self.queue.iter(memory)?.next())
    }

    /// Where it stands, for [`rewind`](Self::rewind).
    pub fn position(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Goes back to a former position: chains taken since are as if they had not been.
    pub fn rewind(&mut self, position: u16) {
        self.queue.set_next_avail(position);
    }

    /// Descriptors of the ring.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Gives chains back, by their heads and the bytes written to each. The driver sees them all
    /// at once.
    pub fn publish(&mut self, memory: &Memory, used: &[(u16, u32)]) -> Result<(), RingError> {
        let Some((&(head, len), before)) = used.split_last() else {
            return Ok(());
        };
        let mut next = Wrapping(self.queue.next_used());
        for &(head, len) in before {
            let slot = u64::from(next.0.checked_rem(self.queue.size()).unwrap_or(0));
            let element = u64::from(len) << 32 | u64::from(head);
            memory.write_slice(&element.to_le_bytes(), self.used_at(4 + 8 * slot)?)?;
            next += 1;
        }
        self.queue.set_next_used(next.0);
        self.queue.add_used(memory, head, len)?;
        Ok(())
    }

    /// Interrupts the guest if it wants to be told of what was given back since the last time.
    pub fn signal(&mut self, memory: &Memory) -> Result<(), RingError> {
        let new = Wrapping(self.queue.next_used());
        let old = std::mem::replace(&mut self.told, new);
        if new == old {
            return Ok(());
        }
        // What was given back is visible before the guest's wish is read.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let at = self.avail_at(4 + 2 * u64::from(self.queue.size()))?;
            let event = Wrapping(u16::from_le(memory.load(at, Ordering::Relaxed)?));
            new - event - Wrapping(1) < new - old
        } else {
            let flags = u16::from_le(memory.load(self.avail_at(0)?, Ordering::Relaxed)?);
            u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0
        };
        if wanted {
            tell(self.call.as_ref());
        }
        Ok(())
    }

    /// Asks for a kick when there is more than was seen at the available index `seen`. True if
    /// there is by now.
    pub fn listen(&mut self, memory: &Memory, seen: u16) -> Result<bool, RingError> {
        if self.event_idx {
            let at = self.used_at(4 + 8 * u64::from(self.queue.size()))?;
            memory.store(u16::to_le(seen), at, Ordering::Relaxed)?;
        } else {
            memory.store(0u16, self.used_at(0)?, Ordering::Relaxed)?;
        }
        // The wish is visible before the ring is looked at once more.
        fence(Ordering::SeqCst);
        Ok(self.available(memory)? != seen)
    }

    fn used_at(&self, offset: u64) -> Result<GuestAddress, RingError> {
        let at = self.queue.used_ring().checked_add(offset);
        at.map(GuestAddress).ok_or(RingError::Address)
    }

    fn avail_at(&self, offset: u64) -> Result<GuestAddress, RingError> {
        let at = self.queue.avail_ring().checked_add(offset);
        at.map(GuestAddress).ok_or(RingError::Address)
    }
}

/// Neither a kick that is gone nor a full counter may hold the port up.
fn nonblocking(file: File) -> File {
    if let Ok(flags) = fcntl_getfl(&file) {
        let _ = fcntl_setfl(&file, flags | OFlags::NONBLOCK);
    }
    file
}

/// Raises an eventfd. It can only fail where it is raised already, or no eventfd.
fn tell(eventfd: Option<&File>) {
    if let Some(mut eventfd) = eventfd {
        let _ = eventfd.write(&1u64.to_ne_bytes());
    }
}
