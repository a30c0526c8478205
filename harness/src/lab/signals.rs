//! Ends the guests when the program is told to end, so that neither they nor their sockets outlive it; or when a run has taken too
//! long, whatever it is that it waits for.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static PROGRAMS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static WATCH: Once = Once::new();

/// The signal that has told the program to end; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Guests are not wanted any more: those that start are ended at once.
static CONDEMNED: AtomicBool = AtomicBool::new(false);

type LastWords = Box<dyn FnOnce(i32) + Send>;
/// What is still to be said if the program does not come to its end by itself.
static LAST_WORDS: Mutex<Option<LastWords>> = Mutex::new(None);

/// So long a program that has something to say may take to end by itself after a signal: CI systems ask twice within some seconds,
/// and then do not ask any more.
const GRACE: Duration = Duration::from_secs(5);
/// An interrupt from a terminal comes to a program and to the one that has started it, which passes it on.
const SAME: Duration = Duration::from_millis(500);

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
    let mut running = running();
    running.insert(pid);
    if CONDEMNED.load(Ordering::SeqCst) {
        kill(pid, Signal::KILL);
    }
}

fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// Ends all guests, and those that are being started.
fn end_guests() {
    let running = running();
    CONDEMNED.store(true, Ordering::SeqCst);
    for pid in running.iter() {
        kill(*pid, Signal::KILL);
    }
}

/// The signal that has told the program to end, if one has.
pub(crate) fn interrupted() -> Option<&'static str> {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => None,
        SIGINT => Some("SIGINT"),
        SIGHUP => Some("SIGHUP"),
        _ => Some("SIGTERM"),
    }
}

/// The exit status of a program that such a signal has ended, as a shell reports it.
pub(crate) fn interrupted_status() -> Option<u8> {
    let signal = SIGNAL.load(Ordering::SeqCst);
    (signal != 0).then(|| 128 + signal as u8)
}

/// After a signal the program has some time to end by itself, its guests being gone; `last_words` are said, with the signal's
/// number, if it does not.
pub(crate) fn end_by_itself(last_words: impl FnOnce(i32) + Send + 'static) {
    *lock(&LAST_WORDS) = Some(Box::new(last_words));
}

/// The last words are not needed any more.
pub(crate) fn nothing_more_to_say() {
    *lock(&LAST_WORDS) = None;
}

/// Ends all guests of this program when its time is up, unless it is dropped before. One at a time.
#[derive(Debug)]
pub(crate) struct Deadline {
    /// Dropped, it wakes the thread that waits for the end.
    cancel: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Deadline {
    /// At `end`.
    pub fn at(end: Instant) -> io::Result<Self> {
        let (cancel, cancelled) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("deadline".into())
            .spawn(move || {
                let left = end.saturating_duration_since(Instant::now());
                if cancelled.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                    end_guests();
                }
            })?;
        Ok(Self {
            cancel: Some(cancel),
            thread: Some(thread),
        })
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.cancel = None;
        if let Some(thread) = self.thread.take() {
            // It has no way to panic.
            let _ = thread.join();
        }
        // The next run may have guests again, unless the program is to end.
        let running = running();
        if interrupted().is_none() {
            CONDEMNED.store(false, Ordering::SeqCst);
        }
        drop(running);
    }
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
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                // Whoever listens ends the program.
                let _ = tell.send(signal);
            }
        })?;
    std::thread::Builder::new()
        .name("end".into())
        .spawn(move || {
            if let Ok(signal) = told.recv() {
                end(signal, &told);
            }
        })?;
    Ok(())
}

/// Ends the program, upon `signal`; `others` may come.
fn end(signal: i32, others: &Receiver<i32>) -> ! {
    SIGNAL.store(signal, Ordering::SeqCst);
    end_guests();
    for pid in lock(&PROGRAMS).iter() {
        kill(*pid, Signal::TERM);
    }
    if lock(&LAST_WORDS).is_some() {
        let began = Instant::now();
        loop {
            let left = GRACE.saturating_sub(began.elapsed());
            // A second signal ends it at once.
            if others.recv_timeout(left).is_err() || began.elapsed() > SAME {
                break;
            }
        }
    }
    for folder in lock(&FOLDERS).iter() {
        // Only sockets are in there; nothing is lost if one stays.
        let _ = std::fs::remove_dir_all(folder);
    }
    let last_words = lock(&LAST_WORDS).take();
    if let Some(last_words) = last_words {
        last_words(signal);
    }
    std::process::exit(128 + signal);
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
