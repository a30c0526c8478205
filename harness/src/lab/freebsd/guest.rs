//! A FreeBSD guest: its QEMU process, its consoles, and the shell by which commands are run in it.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::boot::{self, Login};
use super::image::{Image, Kind};
use crate::lab::console::{Console, Shell};
use crate::lab::guest::{Output, excerpt};
use crate::lab::host::display;
use crate::lab::qemu;
use crate::lab::signals::{self, Scratch};
use crate::lab::{Accelerator, Lab};

/// An emulated processor takes minutes to the login of a whole system; the first boot of an official image does a few things more.
const BOOT: Duration = Duration::from_secs(1200);
/// QEMU has made its sockets by then.
const START: Duration = Duration::from_secs(60);
/// For commands that hardly do anything.
const SHORT: Duration = Duration::from_secs(120);
/// The address of the second serial port, as SeaBIOS wants it told.
const FIRMWARE_PORT: u64 = 0x2f8;

/// What a FreeBSD guest is made of.
#[derive(Clone, Debug)]
pub struct FreeBsdConfig {
    /// The name of its files and in reports.
    pub name: String,
    /// What it boots.
    pub image: Image,
    /// How to get in.
    pub login: Login,
    /// vfio-user socket of its NIC.
    pub nic: PathBuf,
    /// Memory in MiB.
    pub memory: u32,
    /// Virtual processors.
    pub processors: u32,
}

/// A running FreeBSD guest. Dropped, it is ended.
pub struct FreeBsd {
    name: String,
    login: Login,
    process: Mutex<Child>,
    firmware: Console,
    shell: Shell,
    console: PathBuf,
    jobs: AtomicU32,
    transcript: Mutex<File>,
    // Holds the sockets.
    _folder: Scratch,
}

impl FreeBsd {
    /// Starts QEMU and waits for a root shell.
    pub fn boot(config: &FreeBsdConfig, lab: &Lab) -> Result<Self> {
        let folder = Scratch::new()?;
        let log = |kind: &str| lab.logs().join(format!("{}.{kind}", config.name));
        let mut command = lab.qemu().command();
        // As QEMU's snapshots go to the folder for temporary files, which may be small.
        command.env("TMPDIR", lab.logs());
        let port = folder.path().join("sercon-port");
        std::fs::write(&port, FIRMWARE_PORT.to_le_bytes())?;
        arguments(&mut command, config, lab.accelerator(), folder.path());
        let line = display(&command);
        let said = File::create(log("qemu"))?;
        writeln!(&said, "{line}")?;
        let process = command
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("cannot start {line}"))?;
        signals::adopt(process.id());
        let mut running = Running(Some(process));

        let console = folder.path().join("console");
        let mut connect = |name: &str, kind: &str| -> Result<Console> {
            let stream = connect(&folder.path().join(name), &mut running)
                .with_context(|| format!("guest {}; see {}", config.name, log("qemu").display()))?;
            Console::new(&config.name, stream, File::create(log(kind))?)
        };
        let serial = connect("console", "console")?;
        let firmware = connect("firmware", "firmware")?;
        boot::boot(&firmware, &serial, (0, 0), &config.login, BOOT)
            .with_context(|| format!("guest {} did not boot", config.name))?;
        let shell = Shell::start(serial)?;
        let process = running.0.take().context("the process was just there")?;
        Ok(Self {
            name: config.name.clone(),
            login: config.login.clone(),
            process: Mutex::new(process),
            firmware,
            shell,
            console,
            jobs: AtomicU32::new(0),
            transcript: Mutex::new(File::create(log("jobs"))?),
            _folder: folder,
        })
    }

    /// The name of its files and in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The UNIX socket of its serial console, for when this program has left it.
    pub fn console(&self) -> &Path {
        &self.console
    }

    /// Runs `command` by the guest's `sh` and waits for its end.
    pub fn exec(&self, command: &str, patience: Duration) -> Result<Output> {
        let result = self.shell.run(command, patience);
        let said = match &result {
            Ok(output) => format!("status {}\n{}", output.status, output.text.trim_end()),
            Err(error) => format!("{error:#}"),
        };
        self.note(command, &said);
        result
    }

    fn note(&self, command: &str, said: &str) {
        if let Ok(mut transcript) = self.transcript.lock() {
            // A full disk must not end a run.
            let _ = writeln!(transcript, "$ {command}\n{said}");
        }
    }

    /// Like [`FreeBsd::exec`], where another exit status than 0 is an error too.
    pub fn check(&self, command: &str, patience: Duration) -> Result<String> {
        let output = self.exec(command, patience)?;
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

    /// Starts `command`, which must not read its input, in the background. What it says goes to the console: there need be no
    /// file system that can be written to.
    pub fn start(&self, command: &str) -> Result<Background<'_>> {
        let started = self.launch(command)?;
        Ok(Background {
            guest: self,
            started,
        })
    }

    /// The same; what it gives is asked for by [`FreeBsd::wait_for`] and [`FreeBsd::end`].
    pub fn launch(&self, command: &str) -> Result<Started> {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let start = self.shell.console().position();
        self.note(command, "(in the background)");
        self.shell
            // An interactive shell forgets jobs that have ended: they tell their status themselves.
            .run_here(
                &format!(
                    "({{ {command}; }} 2>&1; S=$?; echo; echo @@'J'{number}.$S@@) & J{number}=$!"
                ),
                SHORT,
            )?;
        Ok(Started {
            command: command.to_owned(),
            number,
            start,
        })
    }

    /// Waits for the end of what was started. Its text is all that the console has shown since its beginning.
    pub fn wait_for(&self, started: &Started, patience: Duration) -> Result<Output> {
        let console = self.shell.console();
        let mark = format!("@@J{}.", started.number);
        let ended = console.look(started.start, Instant::now() + patience, |text| {
            let (said, after) = text.split_once(&mark)?;
            let (status, _) = after.split_once("@@")?;
            Some((status.parse().ok()?, said.to_owned()))
        })?;
        if let Some((status, text)) = ended {
            self.note(&format!("{} (ended)", started.command), &text);
            return Ok(Output { status, text });
        }
        let text = console.since(started.start);
        self.end(started)?;
        bail!(
            "in {}: `{}` did not end within {patience:?}; so far it said: {}",
            self.name,
            started.command,
            excerpt(&text)
        )
    }

    /// Ends what was started, and what that has started where the shell keeps them together.
    pub fn end(&self, started: &Started) -> Result<()> {
        let job = started.number;
        self.shell
            .run_here(
                &format!("kill -- -$J{job} 2>/dev/null || kill $J{job} 2>/dev/null"),
                SHORT,
            )
            .map(|_| ())
    }

    /// Starts the system anew by `reboot`, and logs in again. `down` is called while no driver runs.
    pub fn reboot(&mut self, down: impl FnOnce() -> Result<()>) -> Result<()> {
        let firmware = self.firmware.position();
        let console = self.shell.console();
        // Asks init, which ends services and has drivers shut their devices down. A system without init's help does it itself.
        console.send(b"reboot || reboot -q\r")?;
        self.firmware
            .expect(firmware, "SeaBIOS", BOOT)
            .context("it does not restart")?;
        let position = console.position();
        down()?;
        boot::boot(
            &self.firmware,
            console,
            (firmware, position),
            &self.login,
            BOOT,
        )?;
        self.shell.restart()
    }

    /// Leaves the console to others.
    pub fn leave_console(&self) {
        self.shell.leave();
    }
}

impl Drop for FreeBsd {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut() {
            end(process);
        }
    }
}

/// A command under way in a guest.
pub struct Background<'a> {
    guest: &'a FreeBsd,
    started: Started,
}

/// The same, by itself.
#[derive(Debug)]
pub struct Started {
    command: String,
    number: u32,
    start: u64,
}

impl Background<'_> {
    /// Waits for its end. Its text is all that the console has shown since its beginning.
    pub fn wait(self, patience: Duration) -> Result<Output> {
        self.guest.wait_for(&self.started, patience)
    }

    /// Ends it, and what it has started where the shell keeps them together.
    pub fn kill(&self) -> Result<()> {
        self.guest.end(&self.started)
    }
}

/// A process that is ended unless it is taken.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            end(process);
        }
    }
}

fn end(process: &mut Child) {
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
    signals::disown(process.id());
}

/// Connects to a socket that QEMU is about to make.
fn connect(socket: &Path, running: &mut Running) -> Result<UnixStream> {
    let deadline = Instant::now() + START;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => {
                return Err(anyhow!(error).context("QEMU makes no console"));
            }
            Err(_) => {}
        }
        if let Some(process) = &mut running.0
            && let Some(status) = process.try_wait()?
        {
            bail!("QEMU ended ({status})");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn arguments(
    command: &mut Command,
    config: &FreeBsdConfig,
    accelerator: Accelerator,
    folder: &Path,
) {
    // QEMU's option parser takes a doubled comma as one.
    let path = |path: &Path| path.to_string_lossy().replace(',', ",,");
    let serial = |command: &mut Command, name: &str| {
        let socket = path(&folder.join(name));
        command
            // Waits for us, so that not a word is lost.
            .args([
                "-chardev",
                &format!("socket,id={name},path={socket},server=on,wait=on"),
            ])
            .args(["-serial", &format!("chardev:{name}")]);
    };
    qemu::q35(
        command,
        &config.name,
        accelerator,
        config.processors,
        config.memory,
    );
    command.args([
        "-fw_cfg",
        &format!(
            "name=etc/sercon-port,file={}",
            path(&folder.join("sercon-port"))
        ),
    ]);
    serial(command, "console");
    serial(command, "firmware");
    let (medium, device) = match config.image.kind {
        Kind::Iso => ("media=cdrom,readonly=on", "ide-cd"),
        Kind::Qcow2 | Kind::Raw => ("media=disk,snapshot=on", "virtio-blk-pci"),
    };
    command
        .args([
            "-drive",
            &format!(
                "if=none,id=image,format={},{medium},file={}",
                config.image.kind.format(),
                path(&config.image.path)
            ),
        ])
        .args(["-device", &format!("{device},drive=image,bootindex=0")])
        .args(["-device", "pcie-root-port,id=port0,chassis=0"]);
    let nic = serde_json::json!({
        "driver": "vfio-user-pci",
        "id": "nic0",
        "bus": "port0",
        "socket": { "type": "unix", "path": config.nic.to_string_lossy() },
    });
    command.args(["-device", &nic.to_string()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(kind: Kind) -> String {
        let config = FreeBsdConfig {
            name: "alice".into(),
            image: Image {
                path: "/images/a,b.qcow2".into(),
                kind,
            },
            login: Login {
                user: "root".into(),
                password: None,
            },
            nic: "/run/nic.sock".into(),
            memory: 2048,
            processors: 2,
        };
        let mut command = Command::new("qemu");
        arguments(&mut command, &config, Accelerator::Tcg, Path::new("/run/f"));
        display(&command)
    }

    #[test]
    fn images_are_never_written_to() {
        for kind in [Kind::Qcow2, Kind::Raw] {
            let words = words(kind);
            assert!(
                words.contains("snapshot=on,file=/images/a,,b.qcow2"),
                "{words}"
            );
            assert!(words.contains(&format!("format={}", kind.format())));
        }
        let words = words(Kind::Iso);
        assert!(words.contains("media=cdrom,readonly=on,file="), "{words}");
    }

    #[test]
    fn the_console_is_the_first_port_and_the_firmwares_the_second() {
        let words = words(Kind::Qcow2);
        let console = words.find("chardev:console").unwrap();
        assert!(console < words.find("chardev:firmware").unwrap(), "{words}");
        assert!(words.contains("etc/sercon-port"));
        assert!(!words.contains("no-reboot"));
    }
}
