//! A way to end servers from another thread.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::sys;

/// Ends every server that was given it (or a clone), once and for all.
#[derive(Clone, Debug)]
pub struct Shutdown {
    eventfd: Arc<File>,
}

impl Shutdown {
    /// Not triggered. Fails only if the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            eventfd: Arc::new(File::from(sys::eventfd()?)),
        })
    }

    /// Ends the servers. They finish the message they are at. May be called from any thread, repeatedly, and
    /// from a signal handler's thread.
    pub fn trigger(&self) {
        // Fails only if the counter is full, that is, if it has been triggered before.
        let _ = (&*self.eventfd).write(&1u64.to_ne_bytes());
    }

    /// Whether it has been triggered.
    pub fn is_triggered(&self) -> bool {
        sys::poll(
            [(self.eventfd.as_fd(), libc::POLLIN)],
            Some(std::time::Duration::ZERO),
        )
        .is_ok_and(|[events]| events != 0)
    }
}

/// Readable from the moment it is triggered, for use with poll.
impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
