//! Waking a thread that waits in poll(2), cheap while it is awake.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Rung after something was put where the port's thread looks.
#[derive(Debug)]
pub(super) struct Bell {
    asleep: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        Ok(Bell {
            asleep: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Wakes the thread if it sleeps.
    #[inline]
    pub(super) fn ring(&self) {
        // Pairs with the fence in `sleep`: either the thread sees what was put, or this sees it
        // asleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            // Fails only when 2^64 - 1 rings have not been heard.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Sleeps until rung or until something has happened to `fd`, at most `timeout`, unless `work`
    /// says there is some after all. Returns what has happened to `fd`.
    pub(super) fn sleep(
        &self,
        fd: Option<(BorrowedFd<'_>, PollFlags)>,
        timeout: Option<Duration>,
        work: impl FnOnce() -> bool,
    ) -> PollFlags {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut seen = PollFlags::empty();
        if !work() {
            let own = PollFd::new(&self.event, PollFlags::IN);
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            let (rung, others) = match &fd {
                Some((fd, events)) => {
                    let mut fds = [own, PollFd::new(fd, *events)];
                    // Interrupted, or out of memory: the caller looks around and comes back.
                    let _ = poll(&mut fds, timeout.as_ref());
                    let [own, other] = fds;
                    (own.revents(), other.revents())
                }
                None => {
                    let mut fds = [own];
                    let _ = poll(&mut fds, timeout.as_ref());
                    let [own] = fds;
                    (own.revents(), PollFlags::empty())
                }
            };
            seen = others;
            if !rung.is_empty() {
                let _ = rustix::io::read(&self.event, &mut [0; 8]);
            }
        }
        self.asleep.store(false, Ordering::Relaxed);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    #[test]
    fn a_ring_ends_the_sleep_and_only_that_one() {
        let bell = Arc::new(Bell::new().unwrap());
        let long = Some(Duration::from_secs(60));
        let start = Instant::now();
        assert!(bell.sleep(None, long, || true).is_empty());
        let ringer = {
            let bell = Arc::clone(&bell);
            std::thread::spawn(move || {
                while !bell.asleep.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                bell.ring();
                bell.ring();
            })
        };
        bell.sleep(None, long, || false);
        ringer.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(30));
        let short = Duration::from_millis(20);
        let start = Instant::now();
        // A ring that came late is heard once.
        bell.sleep(None, Some(short), || false);
        bell.sleep(None, Some(short), || false);
        assert!(start.elapsed() >= short);
    }
}
