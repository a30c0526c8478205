//! The monitor: finds a QEMU that speaks vfio-user on the host, or prepares one; and starts it.
//!
//! Knows QEMU's command line. What runs in the guest is [`super::guest`]'s business.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::debian::Apt;
use super::host::{Host, run, which};
use super::progress::Progress;
use super::sources::Mirror;
use super::tree::Tree;

/// The first version with the `vfio-user-pci` device.
const OLDEST: (u32, u32) = (10, 1);
const PACKAGES: &[&str] = &["qemu-system-x86"];
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";

/// A QEMU that has `vfio-user-pci`.
#[derive(Clone, Debug)]
pub enum Qemu {
    /// Installed on the host.
    Host(PathBuf),
    /// Prepared in the cache folder.
    Prepared(Tree),
}

impl Qemu {
    /// Takes the host's QEMU if it is fit, else the one in the cache, which is made if need be.
    pub fn find(
        cache: &Cache,
        mirror: impl FnOnce() -> Result<Mirror>,
        host: &Host,
        progress: &Progress,
    ) -> Result<Self> {
        for name in ["qemu-system-x86_64", "qemu-kvm"] {
            if let Some(path) = which(name) {
                let qemu = Self::Host(path);
                if qemu.check().is_ok() {
                    return Ok(qemu);
                }
            }
        }
        let place = cache.entry("qemu", &format!("1 {PACKAGES:?}"), |place| {
            progress.say(
                "no QEMU with vfio-user-pci on this host: preparing Debian's, in the cache folder",
            );
            let apt_folder = place.join("apt");
            let apt = Apt::set_up(
                &apt_folder,
                &mirror()?,
                "trixie trixie-backports",
                host,
                progress,
            )?;
            apt.unpack_closure(
                "trixie-backports",
                PACKAGES,
                &place.join("root"),
                "QEMU",
                progress,
            )?;
            std::fs::remove_dir_all(&apt_folder)?;
            Self::Prepared(Tree::new(place.join("root"))).check()
        })?;
        Ok(Self::Prepared(Tree::new(place.join("root"))))
    }

    /// Whether it is new enough and has the device.
    fn check(&self) -> Result<()> {
        let text = run(self.command().arg("--version"))?;
        let version = version(&text).with_context(|| format!("not QEMU's version: {text}"))?;
        if version < OLDEST {
            bail!(
                "QEMU {}.{} is older than {}.{}",
                version.0,
                version.1,
                OLDEST.0,
                OLDEST.1
            );
        }
        let devices = run(self.command().args(["-device", "help"]))?;
        if !devices.contains("\"vfio-user-pci\"") {
            bail!("this QEMU was built without vfio-user-pci");
        }
        Ok(())
    }

    /// A command that runs it, with no arguments of a machine yet.
    pub fn command(&self) -> Command {
        match self {
            Self::Host(path) => Command::new(path),
            Self::Prepared(tree) => {
                let mut command = tree.command(PROGRAM);
                for folder in ["usr/share/qemu", "usr/share/seabios"] {
                    command.arg("-L").arg(tree.root().join(folder));
                }
                command.env(
                    "QEMU_MODULE_DIR",
                    tree.root().join("usr/lib/x86_64-linux-gnu/qemu"),
                );
                command
            }
        }
    }

    /// What it says of its version, in a few words.
    pub fn version(&self) -> Result<String> {
        let text = run(self.command().arg("--version"))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// `QEMU emulator version 11.1.3 (Debian …)` gives (11, 1).
fn version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_once("version ")?.1.split_whitespace().next()?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// How the guest's processor is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the host's, through /dev/kvm.
    Kvm,
    /// Emulated.
    Tcg,
}

impl Accelerator {
    /// Arguments for it.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
        }
    }
}

/// What all guests' machines have in common: memory of so many MiB that a vfio-user server can map, no device that was not asked for.
pub(super) fn q35(
    command: &mut Command,
    name: &str,
    accelerator: Accelerator,
    processors: u32,
    memory: u32,
) {
    let shared = format!("memory-backend-memfd,id=memory,size={memory}M,share=on");
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-name", name])
        .args(accelerator.arguments())
        .args(["-smp", &processors.to_string()])
        .args(["-m", &format!("{memory}M")])
        .args(["-object", &shared])
        .args(["-machine", "q35,memory-backend=memory,usb=off,vmport=off"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let debian = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\nCopyright";
        assert_eq!(version(debian), Some((11, 1)));
        assert!(version("QEMU emulator version 7.2.17").unwrap() < OLDEST);
        assert!(version("QEMU emulator version 10.1.0").unwrap() >= OLDEST);
        assert!(version("QEMU emulator version 10.0.50 (v10)").unwrap() < OLDEST);
        assert_eq!(version("something else"), None);
    }
}
