//! A running guest: its QEMU process, its console log, the agent port through which jobs are run in it, and its monitor.

mod jobs;
mod machine;
mod text;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::base64;
use super::host::display;
use super::kernel::Kernel;
use super::qemu::{Accelerator, Qemu};
use super::qmp::Qmp;
use super::signals::{self, Scratch};
use jobs::{Agent, lock};
use text::tail;

pub use jobs::{Job, Output};
pub use machine::GuestConfig;
pub(crate) use text::excerpt;

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
    monitor: Mutex<Qmp>,
    console: PathBuf,
    console_log: PathBuf,
    command_line: String,
    // Holds the sockets.
    _folder: Scratch,
}

/// QEMU's monitor is served by its main loop, which a guest under emulation may keep waiting.
const MONITOR: Duration = Duration::from_secs(30);

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
        let logs = unused(parts.logs, &config.name);
        let console_log = logs("console");

        let mut command = parts.qemu.command();
        let said = File::create(logs("qemu"))?;
        machine::arguments(&mut command, config, parts, folder.path(), &console_log);
        let command_line = display(&command);
        writeln!(&said, "{command_line}")?;
        let mut process = command
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("cannot start {command_line}"))?;
        signals::adopt(process.id());

        let ready = jobs::wait_for_agent(&listener, &mut process, started, deadline)
            .and_then(|stream| {
                let transcript = File::create(logs("jobs"))?;
                Agent::new(&config.name, stream, transcript, &console_log, started)
            })
            .and_then(|agent| {
                let monitor = Qmp::connect(&folder.path().join("qmp"), MONITOR)?;
                Ok((agent, monitor))
            });
        let (agent, monitor) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                signals::disown(process.id());
                let console = tail(&console_log, 15);
                let said = tail(&logs("qemu"), 5);
                // Which begins with the command.
                let said = said.replace(&command_line, "");
                let said = said.trim();
                return Err(error.context(format!(
                    "guest {} did not boot; its console ends with:\n{console}\nand QEMU said:\n{said}",
                    config.name
                )));
            }
        };
        Ok(Self {
            name: config.name.clone(),
            process: Mutex::new(process),
            agent,
            monitor: Mutex::new(monitor),
            console: folder.path().join("console"),
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
        self.agent.spawn(command)
    }

    /// Writes a program of some ten kilobytes, or another file, to `path` in the guest. The folder must be there.
    pub fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let text = base64::encode(content);
        let command = format!("printf %s '{text}' | base64 -d >{path} && chmod 755 {path}");
        self.check(&command, Duration::from_secs(60)).map(|_| ())
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

    /// QEMU's monitor.
    pub fn monitor(&self) -> MutexGuard<'_, Qmp> {
        lock(&self.monitor)
    }

    /// Plugs the NIC served at `socket` into root port `port`, counted from the first NIC's; it must be free.
    pub fn plug(&self, port: usize, socket: &Path) -> Result<()> {
        let device = machine::nic_device(port, socket);
        self.monitor()
            .execute("device_add", device)
            .with_context(|| format!("cannot plug {} into {}", socket.display(), self.name))?;
        Ok(())
    }

    /// Waits until it has started anew, which `cause` makes it do. It must have been [configured](GuestConfig::restarts) to.
    pub fn restart(
        &self,
        cause: impl FnOnce(&Self) -> Result<()>,
        deadline: Duration,
    ) -> Result<()> {
        let before = self.agent.restarts();
        cause(self)?;
        self.agent.wait_for_restart(before, deadline)
    }

    /// Waits until QEMU has ended; ends it the hard way after `deadline`.
    pub fn wait_for_end(&self, deadline: Duration) -> Result<()> {
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

    /// Powers the guest off in good order; ends it the hard way after `deadline`.
    pub fn power_off(&self, deadline: Duration) -> Result<()> {
        drop(self.spawn("sync; poweroff -f"));
        self.wait_for_end(deadline)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_namesakes_are_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let first = unused(folder.path(), "alice")("qemu");
        std::fs::write(&first, "").unwrap();
        let second = unused(folder.path(), "alice");
        assert_eq!(first, folder.path().join("alice.qemu"));
        assert_eq!(second("console"), folder.path().join("alice-2.console"));
    }
}
