//! A running guest: its QEMU process, its console log, and the agent port through which jobs are run in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::base64;
use super::host::display;
use super::kernel::Kernel;
use super::qemu::{Accelerator, Qemu};
use super::signals::{self, Scratch};

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// Its host name, and the name of its files.
    pub name: String,
    /// Memory in MiB.
    pub memory: u32,
    /// Virtual processors. One is fastest where the host has few.
    pub processors: u32,
    /// vfio-user sockets of the NICs it gets, in slot order.
    pub nics: Vec<PathBuf>,
    /// Further arguments for QEMU.
    pub qemu_arguments: Vec<String>,
    /// Further words for the kernel's command line.
    pub kernel_arguments: Vec<String>,
}

impl GuestConfig {
    /// A guest of 1 GiB and one processor.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            memory: 1024,
            processors: 1,
            nics: Vec::new(),
            qemu_arguments: Vec::new(),
            kernel_arguments: Vec::new(),
        }
    }

    /// The same with one more NIC, served at `socket`.
    pub fn nic(mut self, socket: impl Into<PathBuf>) -> Self {
        self.nics.push(socket.into());
        self
    }
}

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

/// The things a guest is booted with.
pub(super) struct Parts<'a> {
    pub qemu: &'a Qemu,
    pub kernel: &'a Kernel,
    pub initrd: &'a Path,
    pub accelerator: Accelerator,
    /// Where console logs and transcripts go.
    pub logs: &'a Path,
}

/// A running guest. Dropped, it is ended.
pub struct Guest {
    name: String,
    process: Mutex<Child>,
    agent: Arc<Agent>,
    console: PathBuf,
    console_log: PathBuf,
    command_line: String,
    // Holds the sockets.
    _folder: Scratch,
}

/// The host's end of the agent port.
struct Agent {
    port: Mutex<UnixStream>,
    waiting: Mutex<Waiting>,
    transcript: Mutex<File>,
    console_log: PathBuf,
    started: Instant,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    gone: bool,
    jobs: BTreeMap<u64, Sender<Output>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    /// Starts QEMU and waits until the guest's agent answers.
    pub(super) fn boot(
        config: &GuestConfig,
        parts: &Parts<'_>,
        deadline: Duration,
    ) -> Result<Self> {
        let started = Instant::now();
        let folder = Scratch::new()?;
        let port = folder.path().join("agent");
        let listener = UnixListener::bind(&port)?;
        listener.set_nonblocking(true)?;
        let console = folder.path().join("console");
        let logs = unused(parts.logs, &config.name);
        let console_log = logs("console");

        let mut command = parts.qemu.command();
        let said = File::create(logs("qemu"))?;
        arguments(&mut command, config, parts, folder.path(), &console_log);
        let command_line = display(&command);
        writeln!(&said, "{command_line}")?;
        let mut process = command
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("cannot start {command_line}"))?;
        signals::adopt(process.id());

        let ready = wait_for_agent(&listener, &mut process, started, deadline);
        let stream = match ready {
            Ok(stream) => stream,
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                signals::disown(process.id());
                let console = tail(&console_log, 15);
                let said = tail(&logs("qemu"), 5);
                return Err(error.context(format!(
                    "guest {} did not boot; its console ends with:\n{console}\nand QEMU said:\n{said}",
                    config.name
                )));
            }
        };
        let agent = Arc::new(Agent {
            port: Mutex::new(stream.get_ref().try_clone()?),
            waiting: Mutex::default(),
            transcript: Mutex::new(File::create(logs("jobs"))?),
            console_log: console_log.clone(),
            started,
        });
        let reader = Arc::clone(&agent);
        std::thread::Builder::new()
            .name(format!("agent {}", config.name))
            .spawn(move || reader.read(stream))?;
        Ok(Self {
            name: config.name.clone(),
            process: Mutex::new(process),
            agent,
            console,
            console_log,
            command_line,
            _folder: folder,
        })
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The command that started it.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// The UNIX socket of its serial console, on which a root shell runs.
    pub fn console(&self) -> &Path {
        &self.console
    }

    /// Where all that its console printed is.
    pub fn console_log(&self) -> &Path {
        &self.console_log
    }

    /// Runs `command` by the guest's `sh` and waits for its end. A job that has not ended after `deadline` is killed, and the
    /// error quotes what it had printed.
    pub fn exec(&self, command: &str, deadline: Duration) -> Result<Output> {
        self.spawn(command)?.wait(deadline)
    }

    /// Like [`Guest::exec`], where another exit status than 0 is an error too.
    pub fn check(&self, command: &str, deadline: Duration) -> Result<String> {
        let output = self.exec(command, deadline)?;
        if !output.ok() {
            bail!(
                "in {}: `{command}` ended with status {}: {}",
                self.name,
                output.status,
                excerpt(&output.text)
            );
        }
        Ok(output.text)
    }

    /// Starts `command` by the guest's `sh`.
    pub fn spawn(&self, command: &str) -> Result<Job> {
        let (sender, receiver) = mpsc::channel();
        let id = {
            let mut waiting = lock(&self.agent.waiting);
            if waiting.gone {
                bail!("guest {} is gone", self.name);
            }
            waiting.next += 1;
            let id = waiting.next;
            waiting.jobs.insert(id, sender);
            id
        };
        self.agent.note(&format!("[{id}] $ {command}"));
        self.agent
            .send(&format!("R {id} {}\n", base64::encode(command.as_bytes())))
            .with_context(|| format!("guest {} takes no jobs", self.name))?;
        Ok(Job {
            guest: self.name.clone(),
            command: command.to_owned(),
            agent: Arc::clone(&self.agent),
            id,
            receiver,
        })
    }

    /// Waits until `condition`, a shell command, holds in the guest.
    pub fn wait_until(&self, condition: &str, deadline: Duration) -> Result<()> {
        let command = format!("until {condition}; do sleep 0.05; done");
        self.check(&command, deadline).map(|_| ())
    }

    /// The kernel's messages so far, each with its syslog priority as `dmesg --raw` would give it.
    pub fn dmesg(&self) -> Result<String> {
        self.check("dmesg -r", Duration::from_secs(20))
    }

    /// Whether QEMU still runs.
    pub fn is_running(&self) -> bool {
        matches!(lock(&self.process).try_wait(), Ok(None))
    }

    /// The process id of its QEMU.
    pub fn pid(&self) -> u32 {
        lock(&self.process).id()
    }

    /// Powers the guest off in good order; ends it the hard way after `deadline`.
    pub fn power_off(&self, deadline: Duration) -> Result<()> {
        drop(self.spawn("sync; poweroff -f"));
        let end = Instant::now() + deadline;
        while self.is_running() {
            if Instant::now() >= end {
                lock(&self.process).kill()?;
                bail!("guest {} did not power off within {deadline:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut process = lock(&self.process);
        let _ = process.kill();
        let _ = process.wait();
        signals::disown(process.id());
    }
}

/// A job in a guest. Dropped before its end, it goes on.
pub struct Job {
    guest: String,
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
                        self.guest,
                        self.command,
                        excerpt(&output.text)
                    )),
                    Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
                    Err(RecvTimeoutError::Timeout) => Err(anyhow!(
                        "in {}: `{}` did not end within {deadline:?}, nor when killed",
                        self.guest,
                        self.command
                    )),
                }
            }
        }
    }

    fn gone(&self) -> anyhow::Error {
        anyhow!(
            "guest {} went away during `{}`; its console ends with:\n{}",
            self.guest,
            self.command,
            tail(&self.agent.console_log, 15)
        )
    }
}

impl Agent {
    fn send(&self, request: &str) -> Result<()> {
        Ok(lock(&self.port).write_all(request.as_bytes())?)
    }

    /// Hands answers to those who wait, until the guest hangs up.
    fn read(&self, mut stream: BufReader<UnixStream>) {
        while let Ok(Some((id, output))) = read_answer(&mut stream) {
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
        let mut waiting = lock(&self.waiting);
        waiting.gone = true;
        waiting.jobs.clear();
    }

    fn note(&self, line: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        // A full disk must not end a run.
        let _ = writeln!(lock(&self.transcript), "{seconds:9.3} {line}");
    }
}

/// Reads `D <id> <status> <length>\n` and that many bytes. `None` at the end of the stream.
fn read_answer(stream: &mut impl BufRead) -> Result<Option<(u64, Output)>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["D", id, status, length] = words[..] else {
        bail!("not an answer: {line:?}");
    };
    let mut bytes = Vec::new();
    let length: u64 = length.parse()?;
    if stream.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Ok(None);
    }
    let output = Output {
        status: status.parse()?,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    };
    Ok(Some((id.parse()?, output)))
}

fn arguments(
    command: &mut Command,
    config: &GuestConfig,
    parts: &Parts<'_>,
    sockets: &Path,
    console_log: &Path,
) {
    // QEMU's option parser takes a doubled comma as one.
    let path = |path: &Path| path.to_string_lossy().replace(',', ",,");
    let socket = |name| path(&sockets.join(name));
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ])
        .args(["-name", &config.name])
        .args(parts.accelerator.arguments())
        .args(["-smp", &config.processors.to_string()])
        .args(["-m", &format!("{}M", config.memory)])
        // vfio-user needs memory that another process can map.
        .args([
            "-object",
            &format!(
                "memory-backend-memfd,id=memory,size={}M,share=on",
                config.memory
            ),
        ])
        .args(["-machine", "q35,memory-backend=memory,usb=off,vmport=off"])
        .arg("-kernel")
        .arg(&parts.kernel.image)
        .arg("-initrd")
        .arg(parts.initrd)
        .args(["-append", &kernel_command_line(config)])
        .args([
            "-chardev",
            &format!(
                "socket,id=console,path={},server=on,wait=off,logfile={}",
                socket("console"),
                path(console_log)
            ),
        ])
        .args(["-serial", "chardev:console"])
        .args(["-device", "virtio-serial-pci"])
        .args([
            "-chardev",
            &format!("socket,id=agent,path={}", socket("agent")),
        ])
        .args([
            "-device",
            "virtserialport,chardev=agent,name=rocinante.agent",
        ]);
    for (index, nic) in config.nics.iter().enumerate() {
        command
            .args([
                "-device",
                &format!("pcie-root-port,id=port{index},chassis={index}"),
            ])
            .args(["-device", &nic_device(index, nic)]);
    }
    command.args(&config.qemu_arguments);
}

fn nic_device(index: usize, socket: &Path) -> String {
    serde_json::json!({
        "driver": "vfio-user-pci",
        "id": format!("nic{index}"),
        "bus": format!("port{index}"),
        "socket": { "type": "unix", "path": socket.to_string_lossy() },
    })
    .to_string()
}

fn kernel_command_line(config: &GuestConfig) -> String {
    let mut words = vec![
        "console=ttyS0".to_owned(),
        "panic=-1".to_owned(),
        "quiet".to_owned(),
        "loglevel=4".to_owned(),
        // An emulated processor has nothing to guard, and pays for guards dearly.
        "mitigations=off".to_owned(),
        // Nor is it fast enough to test each cipher at each boot.
        "cryptomgr.notests".to_owned(),
        "random.trust_cpu=on".to_owned(),
        "log_buf_len=4M".to_owned(),
        format!("rocinante.name={}", config.name),
    ];
    words.extend(config.kernel_arguments.iter().cloned());
    words.join(" ")
}

/// Waits until QEMU has connected and the guest's agent has said that it is ready.
fn wait_for_agent(
    listener: &UnixListener,
    process: &mut Child,
    started: Instant,
    deadline: Duration,
) -> Result<BufReader<UnixStream>> {
    let mut stream: Option<BufReader<UnixStream>> = None;
    let mut line = String::new();
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
            Some(reader) => match reader.read_line(&mut line) {
                Ok(0) => bail!("QEMU closed the agent port"),
                Ok(_) if line.trim() == "READY" => {
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

/// Names for the logs of one more guest called `name`: an earlier one's are not overwritten.
fn unused(folder: &Path, name: &str) -> impl Fn(&str) -> PathBuf {
    let mut stem = folder.join(name).into_os_string();
    let file = |stem: &OsStr, kind: &str| {
        let mut file = stem.to_owned();
        file.push(".");
        file.push(kind);
        PathBuf::from(file)
    };
    let mut count = 1;
    while file(&stem, "qemu").exists() {
        count += 1;
        stem = folder.join(format!("{name}-{count}")).into_os_string();
    }
    move |kind| file(&stem, kind)
}

/// What is quoted of a job's output in an error; the transcript has it all.
pub(super) fn excerpt(text: &str) -> String {
    last_lines(text, 12)
}

fn tail(path: &Path, lines: usize) -> String {
    last_lines(
        &String::from_utf8_lossy(&fs::read(path).unwrap_or_default()),
        lines,
    )
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(count);
    let kept = lines
        .iter()
        .skip(skipped)
        .copied()
        .collect::<Vec<_>>()
        .join("\n");
    if skipped == 0 {
        kept
    } else {
        format!("…\n{kept}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_framed_by_their_length() {
        let mut stream: &[u8] = b"D 7 0 6\nD 8 1\nD 8 2 0\n";
        let (id, output) = read_answer(&mut stream).unwrap().unwrap();
        assert_eq!((id, output.status, &*output.text), (7, 0, "D 8 1\n"));
        let (id, output) = read_answer(&mut stream).unwrap().unwrap();
        assert_eq!((id, output.status, &*output.text), (8, 2, ""));
        assert!(read_answer(&mut stream).unwrap().is_none());
    }

    #[test]
    fn a_cut_or_foreign_answer_is_no_output() {
        assert!(read_answer(&mut &b"D 7 0 10\nabc"[..]).unwrap().is_none());
        assert!(read_answer(&mut &b"hello\n"[..]).is_err());
        assert!(read_answer(&mut &b"D x 0 0\n"[..]).is_err());
    }

    #[test]
    fn long_outputs_are_quoted_from_their_end() {
        assert_eq!(last_lines("a\nb\n", 2), "a\nb");
        assert_eq!(last_lines("a\nb\nc\n", 2), "…\nb\nc");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn logs_of_namesakes_are_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let first = unused(folder.path(), "alice")("qemu");
        fs::write(&first, "").unwrap();
        let second = unused(folder.path(), "alice");
        assert_eq!(first, folder.path().join("alice.qemu"));
        assert_eq!(second("console"), folder.path().join("alice-2.console"));
    }

    #[test]
    fn a_nic_sits_behind_its_root_port() {
        let device: serde_json::Value =
            serde_json::from_str(&nic_device(1, Path::new("/run/a,b"))).unwrap();
        assert_eq!(device["bus"], "port1");
        assert_eq!(device["socket"]["path"], "/run/a,b");
        assert_eq!(device["driver"], "vfio-user-pci");
    }
}
