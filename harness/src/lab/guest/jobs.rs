//! The host's end of the agent port: jobs go to the guest, their outputs come back.
//!
//! Both ways one line is one message, so that a guest that starts anew in the middle of one is understood from its next line on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::text::{excerpt, tail};
use crate::lab::base64;

/// What a job said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 plus the signal's number for one that was killed.
    pub status: i32,
    /// Standard output and error as they came.
    pub text: String,
}

impl Output {
    /// Whether the exit status is 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }
}

/// What the guest's agent says.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// It takes jobs: the guest has booted.
    Ready,
    /// A job has ended.
    Done(u64, Output),
}

/// The way to a guest's agent.
pub(super) struct Agent {
    guest: String,
    port: Mutex<UnixStream>,
    waiting: Mutex<Waiting>,
    /// Something in `waiting` has changed.
    changed: Condvar,
    transcript: Mutex<File>,
    console_log: PathBuf,
    started: Instant,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// How often the guest has booted again.
    restarts: u64,
    gone: bool,
    jobs: BTreeMap<u64, Sender<Output>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    /// Takes over `stream`, on which the agent has said that it is ready.
    pub fn new(
        guest: &str,
        stream: BufReader<UnixStream>,
        transcript: File,
        console_log: &Path,
        started: Instant,
    ) -> Result<Arc<Self>> {
        let agent = Arc::new(Self {
            guest: guest.to_owned(),
            port: Mutex::new(stream.get_ref().try_clone()?),
            waiting: Mutex::default(),
            changed: Condvar::new(),
            transcript: Mutex::new(transcript),
            console_log: console_log.to_owned(),
            started,
        });
        let reader = Arc::clone(&agent);
        std::thread::Builder::new()
            .name(format!("agent {guest}"))
            .spawn(move || reader.read(stream))?;
        Ok(agent)
    }

    /// Hands a job over.
    pub fn spawn(self: &Arc<Self>, command: &str) -> Result<Job> {
        let (sender, receiver) = mpsc::channel();
        let id = {
            let mut waiting = lock(&self.waiting);
            if waiting.gone {
                bail!("guest {} is gone", self.guest);
            }
            waiting.next += 1;
            let id = waiting.next;
            waiting.jobs.insert(id, sender);
            id
        };
        self.note(&format!("[{id}] $ {command}"));
        self.send(&format!("R {id} {}\n", base64::encode(command.as_bytes())))
            .with_context(|| format!("guest {} takes no jobs", self.guest))?;
        Ok(Job {
            command: command.to_owned(),
            agent: Arc::clone(self),
            id,
            receiver,
        })
    }

    /// How often the guest has booted again.
    pub fn restarts(&self) -> u64 {
        lock(&self.waiting).restarts
    }

    /// Waits until the guest has booted again more than `before` times.
    pub fn wait_for_restart(&self, before: u64, deadline: Duration) -> Result<()> {
        let waiting = lock(&self.waiting);
        let (waiting, _) = self
            .changed
            .wait_timeout_while(waiting, deadline, |waiting| {
                waiting.restarts <= before && !waiting.gone
            })
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.restarts > before {
            return Ok(());
        }
        let what = if waiting.gone {
            "ended instead of starting anew".to_owned()
        } else {
            format!("has not started anew within {deadline:?}")
        };
        bail!(
            "guest {} {what}; its console ends with:\n{}",
            self.guest,
            tail(&self.console_log, 15)
        )
    }

    fn send(&self, request: &str) -> Result<()> {
        Ok(lock(&self.port).write_all(request.as_bytes())?)
    }

    /// Hands answers to those who wait, until the guest hangs up.
    fn read(&self, mut stream: BufReader<UnixStream>) {
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            match message(&line) {
                Some(Message::Ready) => {
                    self.note("the guest has started anew");
                    let mut waiting = lock(&self.waiting);
                    waiting.restarts += 1;
                    // The jobs of its former life.
                    waiting.jobs.clear();
                    self.changed.notify_all();
                }
                Some(Message::Done(id, output)) => {
                    self.note(&format!(
                        "[{id}] status {}\n{}",
                        output.status,
                        output.text.trim_end()
                    ));
                    if let Some(sender) = lock(&self.waiting).jobs.remove(&id) {
                        // Nobody waits for a job whose handle was dropped.
                        let _ = sender.send(output);
                    }
                }
                None if line.trim_ascii().is_empty() => {}
                None => self.note(&format!(
                    "not understood: {}",
                    String::from_utf8_lossy(&line).trim_end()
                )),
            }
            line.clear();
        }
        let mut waiting = lock(&self.waiting);
        waiting.gone = true;
        waiting.jobs.clear();
        self.changed.notify_all();
    }

    fn note(&self, line: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        // A full disk must not end a run.
        let _ = writeln!(lock(&self.transcript), "{seconds:9.3} {line}");
    }
}

/// A job in a guest. Dropped before its end, it goes on.
pub struct Job {
    command: String,
    agent: Arc<Agent>,
    id: u64,
    receiver: Receiver<Output>,
}

impl Job {
    /// The folder in the guest with what the job has printed so far, in the file `out`.
    pub fn folder(&self) -> String {
        format!("/run/jobs/{}", self.id)
    }

    /// Kills the job and all its children.
    pub fn kill(&self) -> Result<()> {
        self.agent.send(&format!("K {}\n", self.id))
    }

    /// Waits for its end, at most until `deadline`, when it is killed.
    pub fn wait(self, deadline: Duration) -> Result<Output> {
        match self.receiver.recv_timeout(deadline) {
            Ok(output) => Ok(output),
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
            Err(RecvTimeoutError::Timeout) => {
                self.kill()?;
                // A killed job's last words; a guest that is stuck has none.
                match self.receiver.recv_timeout(Duration::from_secs(5)) {
                    Ok(output) => Err(anyhow!(
                        "in {}: `{}` did not end within {deadline:?}; so far it said: {}",
                        self.agent.guest,
                        self.command,
                        excerpt(&output.text)
                    )),
                    Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
                    Err(RecvTimeoutError::Timeout) => Err(anyhow!(
                        "in {}: `{}` did not end within {deadline:?}, nor when killed",
                        self.agent.guest,
                        self.command
                    )),
                }
            }
        }
    }

    fn gone(&self) -> anyhow::Error {
        anyhow!(
            "guest {} went away during `{}`; its console ends with:\n{}",
            self.agent.guest,
            self.command,
            tail(&self.agent.console_log, 15)
        )
    }
}

/// `READY`, or `D <id> <status> <output in base64>`.
fn message(line: &[u8]) -> Option<Message> {
    let words: Vec<&str> = str::from_utf8(line).ok()?.split_whitespace().collect();
    let (id, status, coded) = match words[..] {
        ["READY"] => return Some(Message::Ready),
        ["D", id, status] => (id, status, ""),
        ["D", id, status, coded] => (id, status, coded),
        _ => return None,
    };
    let output = Output {
        status: status.parse().ok()?,
        text: String::from_utf8_lossy(&base64::decode(coded)?).into_owned(),
    };
    Some(Message::Done(id.parse().ok()?, output))
}

/// Waits until QEMU has connected and the guest's agent has said that it is ready.
pub(super) fn wait_for_agent(
    listener: &UnixListener,
    process: &mut Child,
    started: Instant,
    deadline: Duration,
) -> Result<BufReader<UnixStream>> {
    let mut stream: Option<BufReader<UnixStream>> = None;
    let mut line = Vec::new();
    while started.elapsed() < deadline {
        if let Some(status) = process.try_wait()? {
            bail!("QEMU ended ({status})");
        }
        match &mut stream {
            None => match listener.accept() {
                Ok((accepted, _)) => {
                    accepted.set_nonblocking(false)?;
                    accepted.set_read_timeout(Some(Duration::from_millis(50)))?;
                    stream = Some(BufReader::new(accepted));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error.into()),
            },
            Some(reader) => match reader.read_until(b'\n', &mut line) {
                Ok(0) => bail!("QEMU closed the agent port"),
                Ok(_) if message(&line) == Some(Message::Ready) => {
                    reader.get_ref().set_read_timeout(None)?;
                    return stream.context("the stream was just there");
                }
                Ok(_) => line.clear(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
    bail!("no answer within {deadline:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_line_is_a_message() {
        assert_eq!(message(b"READY\n"), Some(Message::Ready));
        let done = |id, status, text: &str| {
            let text = text.to_owned();
            Some(Message::Done(id, Output { status, text }))
        };
        assert_eq!(message(b"D 7 0 RCA4IDEK\n"), done(7, 0, "D 8 1\n"));
        assert_eq!(message(b"D 8 2 \n"), done(8, 2, ""));
        for other in [
            &b"hello\n"[..],
            b"D x 0 \n",
            b"D 7 0 RCA4ID\n",
            b"D 7 0 a b\n",
            b"\xff\n",
            b"\n",
        ] {
            assert_eq!(message(other), None);
        }
    }

    /// An agent with its port's other end, as QEMU has it.
    fn agent() -> (Arc<Agent>, BufReader<UnixStream>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let transcript = tempfile::tempfile().unwrap();
        let log = Path::new("/nonexistent");
        let agent = Agent::new(
            "alice",
            BufReader::new(ours),
            transcript,
            log,
            Instant::now(),
        );
        (agent.unwrap(), BufReader::new(theirs))
    }

    fn next(port: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        port.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn jobs_get_their_own_outputs() {
        let (agent, mut port) = agent();
        let first = agent.spawn("one").unwrap();
        let second = agent.spawn("two").unwrap();
        assert_eq!(next(&mut port), "R 1 b25l\n");
        assert_eq!(next(&mut port), "R 2 dHdv\n");
        let answers = b"D 2 5 Zm9v\nnoise\nD 9 0 \nD 1 0 YmFy\n";
        port.get_mut().write_all(answers).unwrap();
        assert_eq!(first.wait(SOON).unwrap().text, "bar");
        let second = second.wait(SOON).unwrap();
        assert_eq!((second.status, &*second.text), (5, "foo"));
    }

    #[test]
    fn a_restart_ends_jobs_and_is_waited_for() {
        let (agent, mut port) = agent();
        let lost = agent.spawn("reboot").unwrap();
        let before = agent.restarts();
        let error = agent.wait_for_restart(before, Duration::ZERO).unwrap_err();
        assert!(
            error.to_string().contains("has not started anew"),
            "{error}"
        );
        // The last answer of its former life is cut.
        port.get_mut().write_all(b"D 1 0 Zm\nREADY\n").unwrap();
        agent.wait_for_restart(before, SOON).unwrap();
        let error = lost.wait(SOON).unwrap_err();
        assert!(error.to_string().contains("went away"), "{error}");
        drop(port);
        let error = agent.wait_for_restart(before + 1, SOON).unwrap_err();
        assert!(error.to_string().contains("ended instead"), "{error}");
        assert!(agent.spawn("more").is_err());
    }
}
