//! The machine that a guest runs in, as arguments for QEMU and its kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::Parts;
use crate::lab::qemu;

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
    /// Root ports without a device, below those of the NICs, for [`Guest::plug`](super::Guest::plug).
    pub free_ports: usize,
    /// Whether it starts anew when it reboots, crashes or is reset. Else QEMU ends.
    pub restarts: bool,
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
            free_ports: 0,
            restarts: false,
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

/// Room behind a free port for the memory of a NIC, which the firmware has to set aside at boot: twice its 32 MiB.
const ROOM: &str = "64M";

/// Adds all arguments. The sockets `console` and `qmp` in the folder `sockets` are QEMU's, `agent` is there already.
pub(super) fn arguments(
    command: &mut Command,
    config: &GuestConfig,
    parts: &Parts<'_>,
    sockets: &Path,
    console_log: &Path,
) {
    // QEMU's option parser takes a doubled comma as one.
    let path = |path: &Path| path.to_string_lossy().replace(',', ",,");
    let socket = |name| path(&sockets.join(name));
    qemu::q35(
        command,
        &config.name,
        parts.accelerator,
        config.processors,
        config.memory,
    );
    command
        .arg("-kernel")
        .arg(&parts.kernel.image)
        .arg("-initrd")
        .arg(parts.initrd)
        .args(["-append", &kernel_command_line(config)])
        .args([
            "-chardev",
            &format!(
                "socket,id=console,path={},server=on,wait=off,logfile={},logappend=on",
                socket("console"),
                path(console_log)
            ),
        ])
        .args(["-serial", "chardev:console"])
        .args([
            "-chardev",
            &format!("socket,id=qmp,path={},server=on,wait=off", socket("qmp")),
        ])
        .args(["-mon", "chardev=qmp,mode=control"])
        .args(["-device", "virtio-serial-pci"])
        .args([
            "-chardev",
            &format!("socket,id=agent,path={}", socket("agent")),
        ])
        .args([
            "-device",
            "virtserialport,chardev=agent,name=rocinante.agent",
        ]);
    if !config.restarts {
        command.arg("-no-reboot");
    }
    for (index, nic) in config.nics.iter().enumerate() {
        command
            .args([
                "-device",
                &format!("pcie-root-port,id=port{index},chassis={index}"),
            ])
            .args(["-device", &nic_device(index, nic).to_string()]);
    }
    for index in (config.nics.len()..).take(config.free_ports) {
        let port = format!("pcie-root-port,id=port{index},chassis={index},pref64-reserve={ROOM}");
        command.args(["-device", &port]);
    }
    command.args(&config.qemu_arguments);
}

/// The NIC behind root port `index`, as both the command line and QMP's `device_add` take it.
pub(super) fn nic_device(index: usize, socket: &Path) -> Value {
    json!({
        "driver": "vfio-user-pci",
        "id": format!("nic{index}"),
        "bus": format!("port{index}"),
        "socket": { "type": "unix", "path": socket.to_string_lossy() },
    })
}

fn kernel_command_line(config: &GuestConfig) -> String {
    let mut words = vec![
        "console=ttyS0".to_owned(),
        "panic=-1".to_owned(),
        "quiet".to_owned(),
        "loglevel=4".to_owned(),
        // An emulated processor has nothing to guard, and pays for guards dearly.
        "mitigations=off".to_owned(),
        // On a loaded host its timer may be late for the test of whether it ticks, and then it does not boot.
        "no_timer_check".to_owned(),
        // Nor is it fast enough to test each cipher at each boot.
        "cryptomgr.notests".to_owned(),
        "random.trust_cpu=on".to_owned(),
        "log_buf_len=4M".to_owned(),
        format!("rocinante.name={}", config.name),
    ];
    words.extend(config.kernel_arguments.iter().cloned());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nic_sits_behind_its_root_port() {
        let device = nic_device(1, Path::new("/run/a,b"));
        assert_eq!(device["bus"], "port1");
        assert_eq!(device["socket"]["path"], "/run/a,b");
        assert_eq!(device["driver"], "vfio-user-pci");
    }
}
