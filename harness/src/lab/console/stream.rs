//! A console's text as it arrives, to wait for something in it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::clean::Cleaner;

/// So much text is kept; of more, the newest.
const KEPT: usize = 1 << 20;

/// One end of a serial line. A thread reads it to its end; dropped, it hangs up.
pub struct Console {
    name: String,
    stream: UnixStream,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    text: String,
    /// How many bytes of text were dropped in front of `text`.
    dropped: u64,
    last: Instant,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn since(&self, position: u64) -> &str {
        let start = position.saturating_sub(self.dropped);
        usize::try_from(start)
            .ok()
            .and_then(|start| self.text.get(start..))
            .unwrap_or("")
    }

    fn end(&self) -> u64 {
        self.dropped + self.text.len() as u64
    }

    fn trim(&mut self) {
        if self.text.len() <= KEPT {
            return;
        }
        let mut cut = self.text.len() - KEPT / 2;
        while !self.text.is_char_boundary(cut) {
            cut += 1;
        }
        self.text.drain(..cut);
        self.dropped += cut as u64;
    }
}

impl Console {
    /// Takes over `stream`. All bytes that come go to `transcript` as they are.
    pub fn new(name: &str, stream: UnixStream, mut transcript: File) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                text: String::new(),
                dropped: 0,
                last: Instant::now(),
                ended: false,
            }),
            arrived: Condvar::new(),
        });
        let mut from = stream.try_clone()?;
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("console {name}"))
            .spawn(move || {
                let mut cleaner = Cleaner::default();
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = from.read(&mut bytes) {
                    let read = bytes.get(..length).unwrap_or_default();
                    // A full disk must not end a run.
                    let _ = transcript.write_all(read);
                    let mut state = writer.lock();
                    cleaner.feed(read, &mut state.text);
                    state.trim();
                    state.last = Instant::now();
                    writer.arrived.notify_all();
                }
                writer.lock().ended = true;
                writer.arrived.notify_all();
            })?;
        Ok(Self {
            name: name.to_owned(),
            stream,
            shared,
        })
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Types `bytes`.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        (&self.stream)
            .write_all(bytes)
            .with_context(|| format!("the console of {} is gone", self.name))
    }

    /// The place behind all text so far.
    pub fn position(&self) -> u64 {
        self.shared.lock().end()
    }

    /// The text behind `position`, as far as it is kept.
    pub fn since(&self, position: u64) -> String {
        self.shared.lock().since(position).to_owned()
    }

    /// Whether the other end has hung up.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().ended
    }

    /// For how long nothing has come.
    pub fn silence(&self) -> Duration {
        self.shared.lock().last.elapsed()
    }

    /// Waits until `find` finds something in the text behind `position`; `None` at `deadline`.
    pub fn look<T>(
        &self,
        position: u64,
        deadline: Instant,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = find(state.since(position)) {
                return Ok(Some(found));
            }
            if state.ended {
                drop(state);
                bail!("the console of {} has hung up{}", self.name, self.tail());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state = self
                .shared
                .arrived
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until `wanted` is in the text behind `position`.
    pub fn expect(&self, position: u64, wanted: &str, patience: Duration) -> Result<()> {
        self.look(position, Instant::now() + patience, |text| {
            text.contains(wanted).then_some(())
        })?
        .ok_or_else(|| {
            anyhow!(
                "no {wanted:?} on the console of {} within {patience:?}{}",
                self.name,
                self.tail()
            )
        })
    }

    /// Leaves the line, that somebody else may take it.
    pub fn hang_up(&self) {
        // One that has ended is no news.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Its last lines, to be put behind an error.
    pub fn tail(&self) -> String {
        let text = self.since(0);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        let last = lines.get(lines.len().saturating_sub(15)..).unwrap_or(&[]);
        if last.is_empty() {
            "; it has said nothing".to_owned()
        } else {
            format!("; it ends with:\n{}", last.join("\n"))
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Wakes the reader.
        self.hang_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Console, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let console = Console::new("fake", ours, tempfile::tempfile().unwrap()).unwrap();
        (console, theirs)
    }

    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn what_is_awaited_may_come_in_pieces() {
        let (console, mut guest) = pair();
        for piece in ["\r\nlo", "g\x1b[", "0min", ": "] {
            guest.write_all(piece.as_bytes()).unwrap();
        }
        console.expect(0, "login: ", SOON).unwrap();
    }

    #[test]
    fn what_came_before_is_not_found_again() {
        let (console, mut guest) = pair();
        guest.write_all(b"login: ").unwrap();
        console.expect(0, "login: ", SOON).unwrap();
        let seen = console.position();
        let error = console
            .expect(seen, "login: ", Duration::from_millis(20))
            .unwrap_err();
        assert!(
            error.to_string().contains("it ends with:\nlogin:"),
            "{error}"
        );
    }

    #[test]
    fn a_hang_up_is_told_at_once() {
        let (console, mut guest) = pair();
        guest.write_all(b"Shutting down\r\n").unwrap();
        drop(guest);
        let started = Instant::now();
        let error = console.expect(0, "login: ", SOON).unwrap_err().to_string();
        assert!(
            error.contains("hung up") && error.contains("Shutting down"),
            "{error}"
        );
        assert!(started.elapsed() < SOON && console.has_ended());
    }

    #[test]
    fn the_transcript_has_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = Console::new("fake", ours, File::create(&path).unwrap()).unwrap();
        theirs.write_all(b"\x1b[1ma\r\n\xff.").unwrap();
        console.expect(0, ".", SOON).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\x1b[1ma\r\n\xff.");
    }

    #[test]
    fn a_flood_is_forgotten_from_its_beginning() {
        let (console, mut guest) = pair();
        let line = [b'x'; 1023];
        for _ in 0..3 * KEPT / 1024 {
            guest.write_all(&line).unwrap();
            guest.write_all(b"\n").unwrap();
        }
        guest.write_all(b"the end").unwrap();
        console.expect(0, "the end", SOON).unwrap();
        assert!(console.since(0).len() <= KEPT);
        assert_eq!(console.position(), (3 * KEPT + 7) as u64);
        assert_eq!(console.since(console.position() - 3), "end");
    }
}
