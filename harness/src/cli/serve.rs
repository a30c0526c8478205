//! `rocinante serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use rocinante_wire::fault::RuleErrors;

use crate::control::client::default_socket;
use crate::control::http::parse_address;
use crate::faults::Faults;
use crate::ports::{PortKind, PortSpec};
use crate::serve::{CaptureRing, NicSpec, Server, ServerConfig, check_all_faults};

/// Serve NICs on vfio-user sockets until SIGINT or SIGTERM.
///
/// Prints, for each NIC, the QEMU arguments that attach it. NICs on the same link are on the same
/// Ethernet switch. Set RUST_LOG=mlx5=debug for a line per firmware command.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A NIC: socket=PATH[,mac=MAC][,link=NAME][,speed=25G][,manager=on|off|linux]; may be repeated
    #[arg(long = "nic", value_name = "SPEC", required_unless_present = "ports")]
    nics: Vec<NicSpec>,

    /// A port that leaves the process; may be repeated: tap=NAME, host=IFNAME,
    /// udp=ADDR:PORT,remote=ADDR:PORT, vxlan=ADDR[:PORT],remote=ADDR[:PORT],vni=N
    /// or vhost-user=PATH[,mac=MAC] (the virtio-net card of a VM), each with [,link=NAME][,name=NAME]
    #[arg(long = "port", value_name = "SPEC")]
    ports: Vec<PortSpec>,

    /// Write every frame of every link to this pcapng file
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,

    /// Capture to a ring of files instead: so many (FILE.0001 and so on), each of about this size (100M,5)
    #[arg(long, value_name = "SIZE,FILES", requires = "capture")]
    capture_ring: Option<CaptureRing>,

    /// Let `rocinante ctl` control the server through this socket, which is only for this user
    /// [default: rocinante.sock in $XDG_RUNTIME_DIR, or in /run for root]
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "")]
    control: Option<PathBuf>,

    /// Serve metrics for Prometheus at http://ADDR/metrics, where ADDR is a port of this host or ADDRESS:PORT
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    metrics: Option<SocketAddr>,

    /// Faults of links, firmware and devices in TOML; NICs are named after their sockets (nic0.sock: nic0)
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

/// The exit code for a file of rules with mistakes, as for wrong arguments.
const BAD_RULES: u8 = 2;

/// The rules of a file. `Err` is what is wrong with them.
fn read_faults(path: &Path, arguments: &Arguments) -> Result<Result<Faults, RuleErrors>> {
    let source =
        std::fs::read_to_string(path).with_context(|| format!("faults {}", path.display()))?;
    Ok(source.parse::<Faults>().and_then(|faults| {
        check_all_faults(&arguments.nics, &arguments.ports, &faults).map(|()| faults)
    }))
}

/// Serves until told to stop.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    // Before anything exists that a signal should not leave behind.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals")?;
    let faults = match &arguments.faults {
        None => Faults::default(),
        Some(path) => match read_faults(path, arguments)? {
            Ok(faults) => faults,
            Err(errors) => {
                for error in errors.0 {
                    eprintln!(
                        "{}:{}:{}: {}",
                        path.display(),
                        error.line,
                        error.column,
                        error.message
                    );
                }
                return Ok(ExitCode::from(BAD_RULES));
            }
        },
    };
    let control = match &arguments.control {
        Some(path) if path.as_os_str().is_empty() => {
            Some(default_socket().context("--control needs a path: XDG_RUNTIME_DIR is not set")?)
        }
        path => path.clone(),
    };
    let server = Server::serve(ServerConfig {
        nics: arguments.nics.clone(),
        ports: arguments.ports.clone(),
        capture: arguments.capture.clone(),
        capture_ring: arguments.capture_ring,
        faults,
        control: control.clone(),
        metrics: arguments.metrics,
    })?;
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
    for spec in server.ports() {
        if let PortKind::Vm(vm) = &spec.kind {
            println!("{} (virtio-net, {}):", vm.socket.display(), spec.link);
            println!("  {}", vm.qemu_arguments(&spec.name));
        }
    }
    if let Some(path) = &control {
        println!("control: {}", path.display());
    }
    if let Some(address) = server.metrics_address() {
        println!("metrics: http://{address}/metrics");
    }
    println!("ready");
    let ender = server.handle().clone();
    std::thread::spawn(move || {
        let mut told = signals.forever();
        told.next();
        ender.quit();
        // Whoever says it twice does not want to wait for the rest of a capture.
        if let Some(signal) = told.next() {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    server.wait_for_quit();
    server.stop()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_rules_are_exit_code_2_before_anything_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("nic0.sock");
        let path = folder.path().join("faults.toml");
        for text in [
            "[[rule]]\nname = \"a\"\naction = \"explode\"\n",
            "[[rule]]\nname = \"a\"\nport = \"nowhere\"\naction = \"drop\"\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let arguments = Arguments {
                nics: vec![NicSpec::new(socket.clone())],
                ports: Vec::new(),
                capture: None,
                capture_ring: None,
                control: None,
                metrics: None,
                faults: Some(path.clone()),
            };
            let code = run(&arguments).unwrap();
            assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)));
            assert!(!socket.exists());
        }
    }
}
