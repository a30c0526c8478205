//! `rocinante lab …`, which `cargo lab …` stands for.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::lab::{GuestConfig, Lab, LabConfig, Progress, Series};

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
    /// Folder for logs and captures [default: a new one in the cache folder]
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
}

/// Does what was asked for.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let progress = Progress::shown();
    let config = LabConfig {
        kernel: arguments.common.kernel,
        cache: arguments.common.cache.clone(),
        mirror: arguments.common.mirror.clone(),
        logs: arguments.common.logs.clone(),
        accelerator: None,
    };
    let lab = Lab::prepare(&config, &progress)?;
    match &arguments.command {
        Command::Prepare { shell: true } => {
            let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
            println!(
                "QEMU={}",
                quote(&crate::lab::display(&lab.qemu().command()))
            );
            println!("KERNEL={}", quote(&lab.kernel().image.to_string_lossy()));
            println!("INITRD={}", quote(&lab.initrd()?.to_string_lossy()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Prepare { shell: false } => {
            println!("QEMU    {}", crate::lab::display(&lab.qemu().command()));
            println!("        {}", lab.qemu().version()?);
            println!("kernel  {}", lab.kernel().image.display());
            println!("root    {}", lab.root().display());
            println!("modules {}", lab.kernel().modules.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Exec {
            nic,
            deadline,
            command,
        } => {
            let mut guest = GuestConfig::new("guest");
            guest.nics.clone_from(nic);
            let guest = lab.boot(&guest)?;
            let output = guest.exec(command, Duration::from_secs(*deadline))?;
            print!("{}", output.text);
            guest.power_off(Duration::from_secs(20))?;
            Ok(ExitCode::from(output.status.clamp(0, 255) as u8))
        }
    }
}
