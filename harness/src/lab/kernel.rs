//! Guest kernels: Debian's packages, turned into a boot image and an initramfs archive of the modules that a lab needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::cpio::Archive;
use super::debian::Apt;
use super::host::{Host, run};
use super::progress::Progress;
use super::sources::Mirror;
use super::tree::Tree;

/// Change it when what is made from the packages changes.
const LAYOUT: &str = "2";

/// Modules that guests get, with all that they depend on; folders (ending in a slash) bring all that is in them.
pub(super) const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "virtio_net",
    "virtio_blk",
    "virtio_rng",
    "drivers/infiniband/core/",
    "drivers/infiniband/hw/mlx4/",
    "drivers/infiniband/hw/mlx5/",
    "drivers/infiniband/sw/",
    "drivers/infiniband/ulp/",
    "drivers/net/ethernet/mellanox/mlx4/",
    "drivers/net/ethernet/mellanox/mlx5/",
    "drivers/nvme/",
    "net/rds/",
    "net/sunrpc/",
    "net/9p/",
    "net/smc/",
    "fs/9p/",
    "fs/nfs/",
    "fs/nfsd/",
    "fs/lockd/",
    "drivers/target/",
    "button",
    "evdev",
    "8021q",
    "act_gact",
    "act_mirred",
    "act_skbedit",
    "act_vlan",
    "cls_flower",
    "cls_matchall",
    "cls_u32",
    "sch_ingress",
    "sch_mqprio",
    "sch_prio",
    "bonding",
    "bridge",
    "veth",
    "vxlan",
    "macvlan",
    "tls",
    "null_blk",
    "brd",
    "loop",
    "ext4",
    "crc32_generic",
    "crc32-pclmul",
    "crc32c_generic",
    "crc32c-intel",
    "configs",
];

/// A series of Linux kernels that Debian packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Series {
    /// 6.1, of bookworm.
    Linux6_1,
    /// 6.12, of trixie: the one that CI runs.
    #[default]
    Linux6_12,
    /// 7.x, of trixie-backports.
    Linux7,
}

impl Series {
    /// The suite whose `linux-image-amd64` is of this series.
    fn suite(self) -> &'static str {
        match self {
            Self::Linux6_1 => "bookworm",
            Self::Linux6_12 => "trixie",
            Self::Linux7 => "trixie-backports",
        }
    }

    /// The suites that apt must know to resolve the package.
    fn suites(self) -> &'static str {
        match self {
            Self::Linux6_1 => "bookworm",
            Self::Linux6_12 => "trixie",
            Self::Linux7 => "trixie trixie-backports",
        }
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "6.1" => Ok(Self::Linux6_1),
            "6.12" => Ok(Self::Linux6_12),
            "7" => Ok(Self::Linux7),
            _ => Err(format!("{text}: the kernels are 6.1, 6.12 and 7")),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
            Self::Linux7 => "7",
        })
    }
}

/// A kernel ready to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The boot image.
    pub image: PathBuf,
    /// An initramfs archive of its modules, to be put behind the root's.
    pub modules: PathBuf,
    /// What `uname -r` says in the guest.
    pub release: String,
}

/// Finds the kernel in the cache or makes it.
pub fn prepare(
    series: Series,
    cache: &Cache,
    tools: &Tree,
    mirror: impl FnOnce() -> Result<Mirror>,
    host: &Host,
    progress: &Progress,
) -> Result<Kernel> {
    let recipe = format!("{LAYOUT} {} {MODULES:?}", series.suite());
    let place = cache.entry(&format!("kernel-{series}"), &recipe, |place| {
        let scratch = place.join("scratch");
        let apt = Apt::set_up(
            &scratch.join("apt"),
            &mirror()?,
            series.suites(),
            host,
            progress,
        )?;
        let root = scratch.join("root");
        apt.unpack_some(
            series.suite(),
            "linux-image-amd64",
            is_kernel_package,
            &root,
            &format!("kernel {series}"),
            progress,
        )?;
        let _step = progress.step(format!("modules of kernel {series}"));
        let release = build(&root, place, tools)?;
        fs::write(place.join("release"), release)?;
        fs::remove_dir_all(&scratch)?;
        Ok(())
    })?;
    Ok(Kernel {
        image: place.join("image"),
        modules: place.join("modules.cpio"),
        release: fs::read_to_string(place.join("release"))?,
    })
}

/// `linux-image-6.12.9+deb13-amd64` and, from 7.x, `linux-binary-…` and `linux-modules-…`; not the metapackages.
fn is_kernel_package(name: &str) -> bool {
    [
        "linux-image-",
        "linux-binary-",
        "linux-modules-",
        "linux-base-",
    ]
    .iter()
    .filter_map(|prefix| name.strip_prefix(prefix))
    .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn build(root: &Path, place: &Path, tools: &Tree) -> Result<String> {
    let all = ["usr/lib/modules", "lib/modules"]
        .map(|name| root.join(name))
        .into_iter()
        .find(|path| path.is_dir())
        .context("the kernel package has no modules")?;
    let release = fs::read_dir(&all)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .next()
        .context("the kernel package has no modules")?;
    let image = fs::read(find_image(root, &release)?)?;
    fs::write(place.join("image"), unpack_image(&image, tools)?)?;

    // depmod wants lib/modules/<release> below its base.
    let base = all
        .parent()
        .and_then(Path::parent)
        .context("modules at the root")?;
    let depmod = |base: &Path| {
        run(tools
            .command_as("usr/bin/kmod", "depmod")
            .arg("-b")
            .arg(base)
            .arg(&release))
    };
    depmod(base)?;
    let full = all.join(&release);
    let dependencies = fs::read_to_string(full.join("modules.dep"))?;
    let chosen = choose(&dependencies, MODULES);
    if chosen.is_empty() {
        bail!("none of the modules wanted are in {release}");
    }

    pack(&full, &chosen, &release, place, tools)?;
    Ok(release)
}

/// Writes an archive of some of the modules in `full`, unpacked, with an index of their own.
pub(super) fn pack(
    full: &Path,
    chosen: &BTreeSet<String>,
    release: &str,
    place: &Path,
    tools: &Tree,
) -> Result<()> {
    let reduced_base = place.join("scratch/reduced");
    let reduced = reduced_base.join("lib/modules").join(release);
    fs::create_dir_all(&reduced)?;
    for name in chosen {
        let target = reduced.join(name);
        fs::create_dir_all(target.parent().context("module without folder")?)?;
        fs::copy(full.join(name), &target)
            .with_context(|| format!("cannot copy {}", full.join(name).display()))?;
        // Done here once, not by each guest at each boot.
        if name.ends_with(".xz") {
            run(tools.command("usr/bin/xz").arg("--decompress").arg(&target))?;
        } else if name.ends_with(".zst") {
            run(tools
                .command("usr/bin/zstd")
                .args(["--quiet", "--decompress", "--rm"])
                .arg(&target))?;
        } else if name.ends_with(".gz") {
            run(tools.command_as("usr/bin/busybox", "gunzip").arg(&target))?;
        }
    }
    for name in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        // A kernel that was built by hand may lack them, and then depmod makes do.
        if full.join(name).is_file() {
            fs::copy(full.join(name), reduced.join(name))?;
        }
    }
    run(tools
        .command_as("usr/bin/kmod", "depmod")
        .arg("-b")
        .arg(&reduced_base)
        .arg(release))?;
    let mut archive = Archive::new(BufWriter::new(File::create(place.join("modules.cpio"))?));
    add_folder(
        &mut archive,
        &reduced,
        &format!("usr/lib/modules/{release}"),
    )?;
    archive.finish()?;
    Ok(())
}

fn find_image(root: &Path, release: &str) -> Result<PathBuf> {
    [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
    ]
    .iter()
    .map(|name| root.join(name))
    .find(|path| path.is_file())
    .context("the kernel package has no boot image")
}

/// The ELF image in a bzImage, which QEMU starts by the PVH entry: an emulated processor takes seconds to unpack it. A bzImage
/// that is packed in a way we do not know is booted as it is.
pub(super) fn unpack_image(image: &[u8], tools: &Tree) -> Result<Vec<u8>> {
    let Some(payload) = payload(image) else {
        return Ok(image.to_owned());
    };
    let (program, magic) = if payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        ("usr/bin/zstd", "zstd")
    } else if payload.starts_with(b"\xfd7zXZ\0") {
        ("usr/bin/xz", "xz")
    } else {
        return Ok(image.to_owned());
    };
    let mut packed = tempfile::tempfile()?;
    packed.write_all(payload)?;
    packed.rewind()?;
    let unpacked = tools
        .command(program)
        .args(["--decompress", "--stdout"])
        .stdin(packed)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !unpacked.stdout.starts_with(b"\x7fELF") {
        bail!(
            "the kernel, packed with {magic}, does not unpack: {}",
            String::from_utf8_lossy(&unpacked.stderr).trim()
        );
    }
    Ok(unpacked.stdout)
}

/// The packed kernel in a bzImage, by the fields of `Documentation/arch/x86/boot.rst`. The size of the unpacked one, which the
/// build puts behind it, is left out.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // 0 stands for 4, for compatibility with the oldest kernels.
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    let end = start.checked_add(word(0x24c)?)?.checked_sub(4)?;
    image.get(start..end)
}

/// The files of `wanted` modules and folders and of all that they depend on, from the text of `modules.dep`.
pub(super) fn choose(dependencies: &str, wanted: &[&str]) -> BTreeSet<String> {
    let graph: BTreeMap<&str, Vec<&str>> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut chosen = BTreeSet::new();
    for (file, needs) in &graph {
        let path = file.strip_prefix("kernel/").unwrap_or(file);
        let module = module_name(file);
        let is_wanted = wanted.iter().any(|want| {
            if want.ends_with('/') {
                path.starts_with(want)
            } else {
                module == want.replace('-', "_")
            }
        });
        if is_wanted {
            // modules.dep lists all dependencies, the indirect ones too.
            chosen.insert((*file).to_owned());
            chosen.extend(needs.iter().map(|need| (*need).to_owned()));
        }
    }
    chosen
}

pub(super) fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

pub(super) fn add_folder<W: Write>(
    archive: &mut Archive<W>,
    folder: &Path,
    name: &str,
) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    archive.directory(name)?;
    for entry in entries {
        let inner = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_folder(archive, &entry.path(), &inner)?;
        } else {
            archive.file(&inner, 0o644, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_packages_are_told_from_metapackages() {
        assert!(is_kernel_package("linux-image-6.12.107+deb13-amd64"));
        assert!(is_kernel_package("linux-binary-7.3.4+deb13-amd64"));
        assert!(is_kernel_package("linux-modules-7.3.4+deb13-amd64"));
        assert!(!is_kernel_package("linux-image-amd64"));
        assert!(!is_kernel_package("linux-base"));
        assert!(!is_kernel_package("initramfs-tools"));
    }

    #[test]
    fn the_packed_kernel_is_found_by_the_boot_header() {
        let mut image = vec![0; 3 * 512 + 0x10];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 0x08;
        image[0x24c] = 0x0c;
        image.extend_from_slice(b"tail");
        // One setup sector and the boot sector come first.
        image[1024 + 8..1024 + 20].copy_from_slice(b"payload!size");
        assert_eq!(payload(&image), Some(&b"payload!"[..]));
        image[0x24c..0x250].fill(0xff);
        assert_eq!(payload(&image), None);
        image[0x202] = 0;
        assert_eq!(payload(&image), None);
        assert_eq!(payload(b""), None);
    }

    #[test]
    fn modules_come_with_what_they_need() {
        let dep = "kernel/drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko.xz: kernel/net/psample/psample.ko.xz kernel/lib/x.ko.xz\n\
             kernel/net/psample/psample.ko.xz:\n\
             kernel/lib/x.ko.xz:\n\
             kernel/arch/x86/crypto/crc32c-intel.ko.xz:\n\
             kernel/sound/snd.ko.xz:\n";
        let chosen = choose(dep, &["drivers/net/ethernet/mellanox/", "crc32c_intel"]);
        let names: Vec<String> = chosen.iter().map(|f| module_name(f)).collect();
        assert_eq!(names, ["crc32c_intel", "mlx5_core", "x", "psample"]);
    }

    #[test]
    fn series_are_named_as_on_the_command_line() {
        for text in ["6.1", "6.12", "7"] {
            assert_eq!(text.parse::<Series>().unwrap().to_string(), text);
        }
        assert!("5.10".parse::<Series>().unwrap_err().contains("6.12"));
    }
}
