//! A way to end servers from another thread.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys;

/// Ends every server that was given it (or a clone), once and for all.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What the eventfd says, without a system call.
    triggered: AtomicBool,
    eventfd: File,
}

impl Shutdown {
    /// Not triggered. Fails only if the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            triggered: AtomicBool::new(false),
            eventfd: File::from(sys::eventfd()?),
        })))
    }

    /// Ends the servers. They finish the message they are at. May be called from any thread, repeatedly, and
    /// from a signal handler's thread.
    pub fn trigger(&self) {
        self.0.triggered.store(true, Ordering::SeqCst);
        // Fails only if the counter is full, that is, if it has been triggered before.
        let _ = (&self.0.eventfd).write(&1u64.to_ne_bytes());
    }

    /// Whether it has been triggered.
    pub fn is_triggered(&self) -> bool {
        self.0.triggered.load(Ordering::SeqCst)
    }
}

/// Readable from the moment it is triggered, for use with poll.
impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}
