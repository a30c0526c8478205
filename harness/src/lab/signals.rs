//! Ends the guests when the program is told to end, so that none outlives it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static WATCH: Once = Once::new();

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process that is ended with us.
pub(super) fn adopt(pid: u32) {
    running().insert(pid);
}

/// A child process that has been waited for: its number may be another's by now.
pub(super) fn disown(pid: u32) {
    running().remove(&pid);
}

/// From now on an interrupt, a hang-up or a request to end takes the guests along. Has an effect once in a program.
pub fn end_guests_on_signals() -> Result<()> {
    let mut result = Ok(());
    WATCH.call_once(|| result = watch());
    result
}

fn watch() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                for pid in running().iter() {
                    let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
                    if let Some(pid) = pid {
                        // It may have ended by itself.
                        let _ = kill_process(pid, Signal::KILL);
                    }
                }
                // As a shell reports a process that a signal ended.
                std::process::exit(128 + signal);
            }
        })?;
    Ok(())
}
