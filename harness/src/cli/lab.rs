//! `rocinante lab …`, which `cargo lab …` stands for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use crate::lab::bench;
use crate::lab::demo::{self, Demo, Fabric, Floors};
use crate::lab::freebsd::{self, Image, Login, Machine, Peer, Plan};
use crate::lab::{self, Emulated, GuestConfig, Lab, LabConfig, Progress, Report, Rxe, Series};

/// Arguments of `lab`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// Guest kernel: 6.1, 6.12 or 7
    #[arg(long, global = true, default_value = "6.12")]
    kernel: Series,
    /// Folder that prepared things are kept in [default: rocinante in the user's cache folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Debian mirror to prepare from [default: the host's own]
    #[arg(long, global = true, value_name = "URI")]
    mirror: Option<String>,
    /// Folder for logs and capture [default: a new one in the cache folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    logs: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare QEMU and the guest image, and print where they are
    Prepare {
        /// Print shell assignments: QEMU, KERNEL and INITRD
        #[arg(long)]
        shell: bool,
    },
    /// Boot two guests with a NIC each and run the RDMA tools between them
    ///
    /// With `--guest freebsd --image FILE` the first guest is the FreeBSD of that file, and so is the second, unless
    /// `--peer linux` makes it the lab's own. FILE is an official VM image of FreeBSD, unpacked (FreeBSD-<release>-amd64.qcow2 or
    /// .raw, with UFS or ZFS), or any other disk image or ISO that comes up with a root login or a root shell on its
    /// display or on its first serial port. It is never written to. What the image lacks is skipped.
    Demo(DemoArguments),
    /// Measure the data path between two NICs in this process, without guests; fails below the floors
    Bench {
        /// Also write the figures to FILE, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Only figures with this in their names
        #[arg(long, value_name = "TEXT", default_value = "")]
        only: String,
    },
    /// Run scenarios: files that say what is booted, what is done, and what has to come of it
    Run(super::scenario::Arguments),
    /// Boot one guest, run a command in it, and print what it says
    Exec {
        /// vfio-user socket of a NIC that is served elsewhere; may be given several times
        #[arg(long, value_name = "SOCKET")]
        nic: Vec<PathBuf>,
        /// Seconds that the command may take
        #[arg(long, default_value_t = 120)]
        deadline: u64,
        /// The command, for the guest's shell
        command: String,
    },
    /// Attach this terminal to the console of a guest that `demo --keep` left running; Ctrl-] leaves it
    Console {
        /// The socket that `demo --keep` has printed
        socket: PathBuf,
    },
    /// Run tshark, prepared like QEMU where the host has none
    Tshark {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// Also write the results to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the guests running until Ctrl-C, with consoles to attach to
    #[arg(long)]
    keep: bool,
    /// Fail if 64 KiB writes average less than this many MiB/s
    #[arg(long, value_name = "MIB_PER_S")]
    write_bandwidth: Option<f64>,
    /// Fail if the median of 8-byte writes takes longer than this many microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    write_latency: Option<f64>,
    /// Which NICs the guests have
    #[arg(long, value_enum, default_value_t = Nics::Emulated)]
    nics: Nics,
    /// Which system is tried
    #[arg(long, value_enum, default_value_t = System::Linux)]
    guest: System,
    #[command(flatten)]
    freebsd: FreeBsdArguments,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "With --guest freebsd")]
struct FreeBsdArguments {
    /// Disk image or ISO with FreeBSD: an official VM image, unpacked
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The other guest
    #[arg(long, value_enum, default_value_t = System::Freebsd)]
    peer: System,
    /// Password of root, where the image has one
    #[arg(long)]
    password: Option<String>,
    /// How many times the driver is detached and attached
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    reloads: usize,
    /// How many times the guest is started anew
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    reboots: usize,
    /// Fail if pings take longer than this many microseconds on average
    #[arg(long, value_name = "MICROSECONDS")]
    ping_latency: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// The lab's own, with the kernel that `--kernel` says
    Linux,
    /// That of the image
    Freebsd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Nics {
    /// Emulated ConnectX-5 adapters
    Emulated,
    /// Linux' soft-RoCE over virtio-net, for comparison
    Rxe,
}

/// Does what was asked for.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    lab::end_guests_on_signals()?;
    let progress = Progress::shown();
    let config = LabConfig {
        kernel: arguments.common.kernel,
        cache: arguments.common.cache.clone(),
        mirror: arguments.common.mirror.clone(),
        logs: arguments.common.logs.clone(),
        ..LabConfig::default()
    };
    match &arguments.command {
        Command::Prepare { shell } => prepare(&Lab::prepare(&config, &progress)?, *shell),
        Command::Demo(arguments) if arguments.guest == System::Freebsd => {
            freebsd_demo(&config, arguments, &progress)
        }
        Command::Demo(arguments) => demo(&Lab::prepare(&config, &progress)?, arguments, &progress),
        Command::Run(arguments) => super::scenario::run(arguments, config, &progress),
        Command::Bench { json, only } => bench(only, json.as_deref()),
        Command::Exec {
            nic,
            deadline,
            command,
        } => {
            let mut guest = GuestConfig::new("guest");
            guest.nics.clone_from(nic);
            let guest = Lab::prepare(&config, &progress)?.boot(&guest)?;
            let output = guest.exec(command, Duration::from_secs(*deadline))?;
            print!("{}", output.text);
            guest.power_off(Duration::from_secs(20))?;
            Ok(exit_code(output.status))
        }
        Command::Console { socket } => {
            lab::attach_console(socket)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Tshark { arguments } => {
            let status = lab::tshark(&config, &progress)?
                .args(arguments)
                .status()
                .context("cannot run tshark")?;
            Ok(exit_code(status.code().unwrap_or(1)))
        }
    }
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}

fn prepare(lab: &Lab, shell: bool) -> Result<ExitCode> {
    let qemu = lab::display(&lab.qemu().command());
    let kernel = lab.kernel().image.display();
    let initrd = lab.initrd().display();
    if shell {
        println!("QEMU=\"{qemu}\"\nKERNEL=\"{kernel}\"\nINITRD=\"{initrd}\"");
    } else {
        println!("QEMU    {qemu}\n        {}", lab.qemu().version()?);
        println!("kernel  {kernel}\n        {}", lab.kernel().release);
        println!("initrd  {initrd}");
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(only: &str, json: Option<&Path>) -> Result<ExitCode> {
    let bench = bench::run(only)?;
    print!("{}", bench.table());
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&bench)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if bench.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn demo(lab: &Lab, arguments: &DemoArguments, progress: &Progress) -> Result<ExitCode> {
    prepare_logs(lab, progress)?;
    let fabric: Box<dyn Fabric> = match arguments.nics {
        Nics::Emulated => Box::new(Emulated::start(2, Some(&lab.logs().join("link0.pcapng")))?),
        Nics::Rxe => Box::new(Rxe::new()?),
    };
    let floors = Floors {
        write_bandwidth: arguments.write_bandwidth,
        write_latency: arguments.write_latency,
    };
    let Demo { report, guests } = demo::run(lab, fabric.as_ref(), floors, progress);
    let consoles: Vec<_> = guests
        .iter()
        .map(|guest| (guest.name(), guest.console()))
        .collect();
    finish(&report, arguments, &consoles)
}

/// Tells what was found, and leaves the guests running if asked to: those at these consoles.
fn finish(
    report: &Report,
    arguments: &DemoArguments,
    consoles: &[(&str, &Path)],
) -> Result<ExitCode> {
    print!("{}", report.table());
    println!("logs and capture: {}", report.logs);
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json()? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if arguments.keep && !consoles.is_empty() {
        println!("the guests go on running; a root shell is on each console (Ctrl-] leaves it):");
        for (name, socket) in consoles {
            println!("  {name}: cargo lab console {}", socket.display());
        }
        println!("Ctrl-C here ends them");
        loop {
            // Signals end the program, and the guests with it.
            std::thread::park();
        }
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The exit status of a command line that cannot be followed.
const USAGE: u8 = 2;

fn freebsd_demo(
    config: &LabConfig,
    arguments: &DemoArguments,
    progress: &Progress,
) -> Result<ExitCode> {
    let wanted = &arguments.freebsd;
    let image = match Image::open(wanted.image.as_deref()) {
        Ok(image) => image,
        Err(explained) => {
            eprintln!("rocinante: {explained}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let plan = Plan {
        image,
        login: Login {
            user: "root".into(),
            password: wanted.password.clone(),
        },
        peer: match wanted.peer {
            System::Linux => Peer::Linux,
            System::Freebsd => Peer::FreeBsd,
        },
        reloads: wanted.reloads,
        reboots: wanted.reboots,
        ping_latency: wanted.ping_latency,
    };
    let lab = Lab::prepare(config, progress)?;
    prepare_logs(&lab, progress)?;
    let fabric = Emulated::start(2, Some(&lab.logs().join("link0.pcapng")))?;
    let (report, machines) = freebsd::run(&plan, &lab, &fabric, progress);
    let consoles: Vec<_> = machines
        .iter()
        .map(|machine| match machine {
            Machine::FreeBsd(guest) => {
                guest.leave_console();
                (guest.name(), guest.console())
            }
            Machine::Linux(guest) => (guest.name(), guest.console()),
        })
        .collect();
    finish(&report, arguments, &consoles)
}

fn prepare_logs(lab: &Lab, progress: &Progress) -> Result<()> {
    progress.say(&format!("logs and capture: {}", lab.logs().display()));
    std::fs::create_dir_all(lab.logs())
        .with_context(|| format!("cannot make {}", lab.logs().display()))?;
    Ok(lab::log_to(&lab.logs().join("nics.log"))?)
}
