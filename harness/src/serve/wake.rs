//! Waking a sleeping engine, cheap while it is awake.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

/// Rung after something was put where the engine looks.
#[derive(Debug, Default)]
pub struct Doorbell {
    asleep: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Doorbell {
    /// Names the thread that sleeps: the caller.
    pub fn attach(&self) {
        let _ = self.sleeper.set(std::thread::current());
    }

    /// Wakes the engine if it sleeps.
    #[inline]
    pub fn ring(&self) {
        // Pairs with the fence in `sleep`: either the engine sees what was put, or this sees it
        // asleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::AcqRel)
            && let Some(thread) = self.sleeper.get()
        {
            thread.unpark();
        }
    }

    /// Sleeps until rung, at most `timeout`, unless `work` says there is some after all.
    pub fn sleep(&self, timeout: Option<Duration>, work: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !work() {
            match timeout {
                Some(timeout) => std::thread::park_timeout(timeout),
                None => std::thread::park(),
            }
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}
