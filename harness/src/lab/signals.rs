//! Ends the guests when the program is told to end, so that neither they nor their sockets outlive it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static PROGRAMS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static WATCH: Once = Once::new();

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    lock(&RUNNING)
}

/// A folder for sockets, with a short path, removed when dropped or when a signal ends the program.
#[derive(Debug)]
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("rocinante-").tempdir()?;
        lock(&FOLDERS).insert(folder.path().to_owned());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        lock(&FOLDERS).remove(self.0.path());
    }
}

/// A child process that is ended with us.
pub(super) fn adopt(pid: u32) {
    running().insert(pid);
}

/// A child process that has been waited for: its number may be another's by now.
pub(super) fn disown(pid: u32) {
    running().remove(&pid);
}

/// A child process that cleans up by itself when it is asked to end, as this program does.
#[derive(Debug)]
pub(crate) struct Program(Child);

impl Program {
    /// Starts it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // Held, so that a signal cannot come between.
        let mut programs = lock(&PROGRAMS);
        let child = command.spawn()?;
        programs.insert(child.id());
        Ok(Self(child))
    }

    /// Waits for its end.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.0.wait();
        lock(&PROGRAMS).remove(&self.0.id());
        status
    }
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
                for pid in lock(&PROGRAMS).iter() {
                    let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
                    if let Some(pid) = pid {
                        let _ = kill_process(pid, Signal::TERM);
                    }
                }
                for folder in lock(&FOLDERS).iter() {
                    // Only sockets are in there; nothing is lost if one stays.
                    let _ = std::fs::remove_dir_all(folder);
                }
                // As a shell reports a process that a signal ended.
                std::process::exit(128 + signal);
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_goes_with_its_owner() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        assert!(path.is_dir() && lock(&FOLDERS).contains(&path));
        drop(scratch);
        assert!(!path.exists() && !lock(&FOLDERS).contains(&path));
    }
}
