//! The lab: prepares a QEMU and a guest image, boots guests with emulated NICs, and runs tools in them.
//!
//! Everything it prepares lies in a cache folder and is reused. Works as root and as an ordinary user, installs nothing on the
//! host but tools it says it lacks, and names no mirror: the host's own is used.

mod base64;
mod cache;
mod cpio;
mod debian;
mod guest;
mod host;
mod image;
mod kernel;
mod progress;
mod qemu;
mod sources;
mod tree;

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use cache::Cache;
pub use guest::{Guest, GuestConfig, Job, Output};
pub use host::{Host, display};
pub use kernel::{Kernel, Series};
pub use progress::Progress;
pub use qemu::{Accelerator, Qemu};
pub use tree::Tree;

use sources::Mirror;

/// What a lab is asked for.
#[derive(Clone, Debug, Default)]
pub struct LabConfig {
    /// The guests' kernel.
    pub kernel: Series,
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
pub struct Lab {
    qemu: Qemu,
    kernel: Kernel,
    root: PathBuf,
    accelerator: Accelerator,
    logs: PathBuf,
}

impl Lab {
    /// Finds in the cache, or makes, all that a guest needs.
    pub fn prepare(config: &LabConfig, progress: &Progress) -> Result<Self> {
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
        let kernel = kernel::prepare(config.kernel, &cache, &tree, mirror, &host, progress)
            .context("no guest kernel")?;
        let logs = match &config.logs {
            Some(folder) => folder.clone(),
            None => cache
                .root()
                .join("runs")
                .join(format!("{}", std::process::id())),
        };
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Self {
            qemu,
            kernel,
            root,
            accelerator: config.accelerator.unwrap_or(Accelerator::Tcg),
            logs,
        })
    }

    /// Boots a guest.
    pub fn boot(&self, config: &GuestConfig) -> Result<Guest> {
        Guest::boot(config, &self.parts(), Duration::from_secs(120))
    }

    /// The QEMU that guests run in.
    pub fn qemu(&self) -> &Qemu {
        &self.qemu
    }

    /// The guests' kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The guests' root, an initramfs archive.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Root and modules as one archive, in the folder of logs, for those who start QEMU by themselves.
    pub fn initrd(&self) -> Result<PathBuf> {
        let path = self.logs.join("initrd");
        guest::concatenate(&[&self.root, &self.kernel.modules], &path)?;
        Ok(path)
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
            root: &self.root,
            accelerator: self.accelerator,
            logs: &self.logs,
        }
    }
}
