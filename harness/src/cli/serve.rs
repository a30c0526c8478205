//! `rocinante serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::serve::{NicSpec, Server};

/// Serve NICs on vfio-user sockets until SIGINT or SIGTERM.
///
/// Prints, for each NIC, the QEMU arguments that attach it. NICs on the same link are on the same
/// Ethernet switch. Set RUST_LOG=mlx5=debug for a line per firmware command.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A NIC: socket=PATH[,mac=MAC][,link=NAME][,speed=25G][,manager=on|off|linux]; may be repeated
    #[arg(long = "nic", value_name = "SPEC", required = true)]
    nics: Vec<NicSpec>,

    /// Write every frame of every link to this pcapng file
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
}

/// Serves until told to stop.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    // Before anything exists that a signal should not leave behind.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals")?;
    let server = Server::start(&arguments.nics, arguments.capture.as_deref())?;
    println!("QEMU needs shared memory: -machine q35,memory-backend=m \\");
    println!("  -object memory-backend-memfd,id=m,size=2G,share=on -m 2G");
    for (port, spec) in server.specs().enumerate() {
        println!(
            "{} (MAC {}, {}):",
            spec.socket.display(),
            spec.mac,
            spec.link
        );
        println!("  {}", spec.qemu_device(port));
    }
    println!("ready");
    signals.forever().next();
    server.stop()?;
    Ok(ExitCode::SUCCESS)
}
