//! The lab: prepares a QEMU and a guest image, boots guests with emulated NICs, and runs tools in them.
//!
//! ```no_run
//! use rocinante_harness::lab::{Emulated, Fabric, GuestConfig, Lab, LabConfig, Progress};
//! use std::time::Duration;
//!
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::prepare(&LabConfig::default(), &Progress::shown())?;
//! let nics = Emulated::start(1, None)?;
//! let guest = lab.boot(&nics.attach(0, GuestConfig::new("alice")))?;
//! nics.load(&guest)?;
//! print!("{}", guest.check("ibv_devinfo", Duration::from_secs(30))?);
//! # Ok(())
//! # }
//! ```
//!
//! Everything it prepares lies in a cache folder and is reused. Works as root and as an ordinary user, installs nothing on the
//! host but tools it says it lacks, and names no mirror: the host's own is used.

mod base64;
pub mod bench;
mod cache;
mod console;
mod cpio;
mod debian;
pub mod demo;
mod dmesg;
mod emulated;
mod endpoint;
pub mod freebsd;
mod guest;
mod host;
mod image;
mod kernel;
mod kvm;
mod log_sink;
mod own;
mod program;
mod progress;
mod qemu;
pub mod qmp;
mod report;
mod rxe;
mod signals;
mod sources;
pub mod tools;
mod tree;
mod wireshark;

use std::cell::OnceCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use cache::Cache;
pub use console::attach as attach_console;
pub use demo::Fabric;
pub use dmesg::{alarms, complaints};
pub use emulated::Emulated;
pub(crate) use emulated::leftovers;
pub use endpoint::{Endpoint, configure, find_gid, load_mlx5, unload_mlx5};
pub(crate) use guest::excerpt;
pub use guest::{Guest, GuestConfig, Job, Output};
pub use host::{Host, display};
pub use kernel::{Kernel, Series};
pub use log_sink::{LogSink, log_to};
pub use own::OwnKernel;
pub use progress::Progress;
pub use qemu::{Accelerator, Qemu};
pub use report::{Figure, Report, TestResult};
pub use rxe::{Rxe, load_rxe};
pub use signals::end_guests_on_signals;
pub(crate) use signals::{
    Deadline, Program, Scratch, end_by_itself, interrupted, interrupted_status, nothing_more_to_say,
};
pub use tree::Tree;

use sources::Mirror;

/// What a lab is asked for.
#[derive(Clone, Debug, Default)]
pub struct LabConfig {
    /// The guests' kernel.
    pub kernel: Series,
    /// A kernel of the user's instead.
    pub own_kernel: Option<OwnKernel>,
    /// A folder whose files are laid over the guests' root.
    pub files: Option<PathBuf>,
    /// Cache folder; the user's when `None`.
    pub cache: Option<PathBuf>,
    /// Debian mirror; the host's when `None`.
    pub mirror: Option<String>,
    /// How guests are run; found out when `None`.
    pub accelerator: Option<Accelerator>,
    /// Where logs go; a new folder in the cache when `None`.
    pub logs: Option<PathBuf>,
}

/// A prepared lab: guests can be booted.
#[derive(Clone, Debug)]
pub struct Lab {
    qemu: Qemu,
    kernel: Kernel,
    initrd: PathBuf,
    accelerator: Accelerator,
    logs: PathBuf,
}

/// A guest that has not answered by then will not.
const BOOT: Duration = Duration::from_secs(180);

impl Lab {
    /// Finds in the cache, or makes, all that a guest needs.
    pub fn prepare(config: &LabConfig, progress: &Progress) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!("the guests' programs are x86-64, and so must the host be");
        }
        let host = Host::detect();
        let cache = Cache::open(config.cache.as_deref())?;
        let known = OnceCell::new();
        let mirror = || -> Result<Mirror> {
            if let Some(mirror) = known.get() {
                return Ok(Mirror::clone(mirror));
            }
            let mirror = debian::mirror(config.mirror.as_deref(), &host, progress)?;
            Ok(known.get_or_init(|| mirror).clone())
        };
        let qemu = Qemu::find(&cache, mirror, &host, progress).context("no QEMU")?;
        let tree = image::tree(&cache, mirror, &host, progress).context("no guest programs")?;
        let root = image::prepare(&cache, &tree, progress).context("no guest image")?;
        let kernel = match &config.own_kernel {
            Some(own) => own::prepare(own, &cache, &tree, progress)
                .with_context(|| format!("the kernel {}", own.image.display()))?,
            None => kernel::prepare(config.kernel, &cache, &tree, mirror, &host, progress)
                .context("no guest kernel")?,
        };
        let files = match &config.files {
            Some(folder) => Some(own::files(folder, &cache, progress)?),
            None => None,
        };
        let mut parts = vec![root.as_path(), kernel.modules.as_path()];
        parts.extend(files.as_deref());
        let kind = match (&config.own_kernel, &files) {
            (None, None) => format!("initrd-{}", config.kernel),
            _ => "initrd-own".to_owned(),
        };
        let initrd = cache
            .entry(&kind, &recipe_of(&parts), |place| {
                concatenate(&parts, &place.join("initrd"))
            })?
            .join("initrd");
        let accelerator = match config.accelerator {
            Some(accelerator) => accelerator,
            None => kvm::choose(&cache, &qemu, &kernel, &root, progress)?,
        };
        let logs = match &config.logs {
            Some(folder) => folder.clone(),
            None => cache.run_folder()?,
        };
        Ok(Self {
            qemu,
            kernel,
            initrd,
            accelerator,
            logs,
        })
    }

    /// The same lab with its logs elsewhere.
    pub fn with_logs(&self, logs: PathBuf) -> Self {
        Self {
            logs,
            ..self.clone()
        }
    }

    /// Boots a guest.
    pub fn boot(&self, config: &GuestConfig) -> Result<Guest> {
        fs::create_dir_all(&self.logs)
            .with_context(|| format!("cannot make {}", self.logs.display()))?;
        Guest::boot(config, &self.parts(), BOOT)
    }

    /// Boots several guests side by side.
    pub fn boot_all(&self, configs: &[GuestConfig]) -> Vec<Result<Guest>> {
        std::thread::scope(|scope| {
            let boots: Vec<_> = configs
                .iter()
                .map(|config| scope.spawn(move || self.boot(config)))
                .collect();
            boots
                .into_iter()
                .map(|boot| {
                    boot.join()
                        .unwrap_or_else(|_| bail!("booting a guest panicked"))
                })
                .collect()
        })
    }

    /// The QEMU that guests run in.
    pub fn qemu(&self) -> &Qemu {
        &self.qemu
    }

    /// The guests' kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The guests' initramfs: root and modules.
    pub fn initrd(&self) -> &Path {
        &self.initrd
    }

    /// How guests are run.
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// Where logs go.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    fn parts(&self) -> guest::Parts<'_> {
        guest::Parts {
            qemu: &self.qemu,
            kernel: &self.kernel,
            initrd: &self.initrd,
            accelerator: self.accelerator,
            logs: &self.logs,
        }
    }
}

/// A command that runs tshark: the host's, or one prepared as QEMU is.
pub fn tshark(config: &LabConfig, progress: &Progress) -> Result<Command> {
    let host = Host::detect();
    let cache = Cache::open(config.cache.as_deref())?;
    let mirror = || debian::mirror(config.mirror.as_deref(), &host, progress);
    wireshark::command(&cache, mirror, &host, progress).context("no tshark")
}

/// What an initramfs is made of.
fn recipe_of(parts: &[&Path]) -> String {
    let names: Vec<_> = parts
        .iter()
        .map(|part| part.display().to_string())
        .collect();
    names.join(" ")
}

/// A program for guests, compiled from C; it may use libibverbs.
pub fn compile(source: &str, config: &LabConfig, progress: &Progress) -> Result<PathBuf> {
    let host = Host::detect();
    let cache = Cache::open(config.cache.as_deref())?;
    let mirror = || debian::mirror(config.mirror.as_deref(), &host, progress);
    let tree = image::tree(&cache, mirror, &host, progress).context("no guest programs")?;
    program::compile(source, &cache, &tree, mirror, &host, progress)
}

/// Puts archives one behind the other, as the kernel takes them.
fn concatenate(archives: &[&Path], target: &Path) -> Result<()> {
    let mut out = File::create(target)?;
    for archive in archives {
        let mut input =
            File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        std::io::copy(&mut input, &mut out)?;
    }
    Ok(())
}
