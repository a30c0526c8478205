//! What a user brings: a kernel that they have built, with its modules, and files to be laid over the guests' root.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::BufWriter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::cpio::Archive;
use super::host::run;
use super::kernel::{self, Kernel};
use super::progress::Progress;
use super::tree::Tree;

/// Change it when what is made of these things changes.
const LAYOUT: &str = "2";
/// Where modules that do not come with their kernel are installed.
const FOREIGN: &[&str] = &["updates/", "extra/", "weak-updates/"];

/// A kernel of the user's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnKernel {
    /// A bzImage (`arch/x86/boot/bzImage`) or a vmlinux with a PVH entry.
    pub image: PathBuf,
    /// What `make modules_install INSTALL_MOD_PATH=…` has filled, or one `lib/modules/<release>`; `None` if all is built in.
    pub modules: Option<PathBuf>,
}

/// Makes it ready to boot.
pub fn prepare(
    own: &OwnKernel,
    cache: &Cache,
    tools: &Tree,
    progress: &Progress,
) -> Result<Kernel> {
    let folder = match &own.modules {
        Some(modules) => Some(modules_folder(modules)?),
        None => None,
    };
    let mut recipe = format!(
        "{LAYOUT} {} {:?}",
        fingerprint(&own.image)?,
        kernel::MODULES
    );
    if let Some((folder, _)) = &folder {
        recipe += &fingerprint(folder)?;
    }
    let place = cache.entry("kernel-own", &recipe, |place| {
        let _step = progress.step(format!("kernel {}", own.image.display()));
        let image =
            fs::read(&own.image).with_context(|| format!("cannot read {}", own.image.display()))?;
        let unpacked = kernel::unpack_image(&image, tools)?;
        check(
            &image,
            &unpacked,
            folder.as_ref().map(|(_, release)| release.as_str()),
        )?;
        let image = if has_pvh_entry(&unpacked) {
            unpacked
        } else {
            image
        };
        fs::write(place.join("image"), image)?;
        match &folder {
            Some((folder, release)) => {
                pack(folder, release, place, tools)?;
                fs::remove_dir_all(place.join("scratch"))?;
            }
            None => {
                let out = BufWriter::new(File::create(place.join("modules.cpio"))?);
                Archive::new(out).finish()?;
            }
        }
        Ok(())
    })?;
    Ok(Kernel {
        image: place.join("image"),
        modules: place.join("modules.cpio"),
        release: folder.map_or_else(|| own.image.display().to_string(), |(_, release)| release),
    })
}

/// What would be found out only by a guest that does not come up, or has no drivers.
fn check(image: &[u8], unpacked: &[u8], release: Option<&str>) -> Result<()> {
    let is_elf = image.starts_with(b"\x7fELF");
    if !is_elf && image.get(0x202..0x206) != Some(b"HdrS") {
        bail!(
            "not a Linux kernel for x86-64: neither a bzImage (arch/x86/boot/bzImage) nor a vmlinux"
        );
    }
    if is_elf && !has_pvh_entry(image) {
        bail!("a vmlinux that QEMU cannot enter: build it with CONFIG_PVH, or give the bzImage");
    }
    if let (Some(release), Some(version)) = (release, version(unpacked).or(version(image)))
        && version != release
    {
        bail!("it is Linux {version}, and the modules are those of {release}");
    }
    Ok(())
}

/// The release that a kernel image says it is: `uname -r`.
fn version(image: &[u8]) -> Option<&str> {
    let text = match image.get(0x202..0x206) {
        // Documentation/arch/x86/boot.rst: where the version is, less 0x200.
        Some(b"HdrS") => {
            let at = image.get(0x20e..0x210)?;
            image.get(usize::from(u16::from_le_bytes(at.try_into().ok()?)) + 0x200..)?
        }
        _ => {
            // What the kernel says first; `%s` in its place is another string.
            let banner = b"Linux version ";
            let mut rest = image;
            loop {
                let at = memmem(rest, banner)? + banner.len();
                rest = rest.get(at..)?;
                if rest.first().is_some_and(u8::is_ascii_digit) {
                    break rest;
                }
            }
        }
    };
    let end = text.iter().position(|byte| matches!(byte, b' ' | 0))?;
    str::from_utf8(text.get(..end)?).ok()
}

fn memmem(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        from += rest.iter().position(|byte| *byte == first)?;
        if text.get(from..)?.starts_with(wanted) {
            return Some(from);
        }
        from += 1;
    }
}

/// Modules without which a guest cannot be reached.
const NEEDED: [(&str, &str); 2] = [
    ("virtio_pci", "CONFIG_VIRTIO_PCI"),
    ("virtio_console", "CONFIG_VIRTIO_CONSOLE"),
];

/// Whether modules that guests need are chosen, or built in as far as can be told.
fn check_modules(folder: &Path, chosen: &BTreeSet<String>) -> Result<()> {
    // A kernel that was built by hand may lack it.
    let Ok(builtin) = fs::read_to_string(folder.join("modules.builtin")) else {
        return Ok(());
    };
    for (module, option) in NEEDED {
        let files = builtin.lines().chain(chosen.iter().map(String::as_str));
        if !files
            .into_iter()
            .any(|file| kernel::module_name(file) == module)
        {
            bail!("it has no {module}, neither as a module nor built in: set {option}");
        }
    }
    Ok(())
}

/// An archive of all that is in `folder`.
pub fn files(folder: &Path, cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    let recipe = format!("{LAYOUT} {}", fingerprint(folder)?);
    let place = cache.entry("files", &recipe, |place| {
        let _step = progress.step(format!("files of {}", folder.display()));
        let out = BufWriter::new(File::create(place.join("files.cpio"))?);
        let mut archive = Archive::new(out);
        add(&mut archive, folder, "")?;
        archive.finish()?;
        Ok(())
    })?;
    Ok(place.join("files.cpio"))
}

fn add<W: std::io::Write>(archive: &mut Archive<W>, folder: &Path, name: &str) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let inner = format!("{name}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        // The guests' bin, lib and sbin are links into /usr, which a folder would replace.
        let inner = match inner.as_str() {
            "bin" | "sbin" | "lib" | "lib64" if kind.is_dir() => format!("usr/{inner}"),
            _ => inner,
        };
        if kind.is_dir() {
            archive.directory(&inner)?;
            add(archive, &entry.path(), &format!("{inner}/"))?;
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path())?;
            archive.symlink(&inner, &target.to_string_lossy())?;
        } else if kind.is_file() {
            let mode = entry.metadata()?.mode() & 0o777;
            archive.file(&inner, mode, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// The folder with `modules.order` or modules themselves, and the release that it is for.
fn modules_folder(given: &Path) -> Result<(PathBuf, String)> {
    let given = given
        .canonicalize()
        .with_context(|| format!("no modules in {}", given.display()))?;
    for inner in ["lib/modules", "usr/lib/modules", "."] {
        let Ok(entries) = fs::read_dir(given.join(inner)) else {
            continue;
        };
        let mut releases: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_modules(path))
            .collect();
        releases.sort();
        match &releases[..] {
            [] => {}
            [one] => {
                let release = one.file_name().unwrap_or_default().to_string_lossy();
                return Ok((one.clone(), release.into_owned()));
            }
            [one, .., other] => bail!(
                "{} has modules of several kernels, {} and {}: name the folder of one",
                given.display(),
                one.display(),
                other.display()
            ),
        }
    }
    if is_modules(&given)
        && let Some(release) = given.file_name().map(|name| name.to_string_lossy())
    {
        return Ok((given.clone(), release.into_owned()));
    }
    bail!(
        "{} has no modules: it should have lib/modules/<release>, as `make modules_install INSTALL_MOD_PATH=…` makes it",
        given.display()
    )
}

fn is_modules(folder: &Path) -> bool {
    ["modules.order", "modules.dep", "kernel"]
        .iter()
        .any(|name| folder.join(name).exists())
}

fn pack(folder: &Path, release: &str, place: &Path, tools: &Tree) -> Result<()> {
    // The user's folder is not written to.
    let base = place.join("scratch/base");
    fs::create_dir_all(base.join("lib/modules"))?;
    std::os::unix::fs::symlink(folder, base.join("lib/modules").join(release))?;
    let index = place.join("scratch/index");
    fs::create_dir_all(&index)?;
    run(tools
        .command_as("usr/bin/kmod", "depmod")
        .arg("-b")
        .arg(&base)
        .arg("-o")
        .arg(&index)
        .arg(release))?;
    let dependencies =
        fs::read_to_string(index.join("lib/modules").join(release).join("modules.dep"))?;
    let mut wanted = kernel::MODULES.to_vec();
    wanted.extend(FOREIGN);
    let chosen: BTreeSet<String> = kernel::choose(&dependencies, &wanted);
    check_modules(folder, &chosen)?;
    kernel::pack(folder, &chosen, release, place, tools)
}

/// Whether an ELF image says where QEMU may enter it: the note XEN_ELFNOTE_PHYS32_ENTRY of a kernel with CONFIG_PVH.
fn has_pvh_entry(image: &[u8]) -> bool {
    let note = |size: u8| [&[4, 0, 0, 0, size, 0, 0, 0, 18, 0, 0, 0][..], &b"Xen\0"[..]].concat();
    image.starts_with(b"\x7fELF")
        && [note(4), note(8)]
            .iter()
            .any(|note| image.windows(note.len()).any(|window| window == note))
}

/// Changes when a file at or below `path` does: names, sizes, times.
fn fingerprint(path: &Path) -> Result<String> {
    fn visit(path: &Path, hasher: &mut DefaultHasher) -> std::io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        path.hash(hasher);
        if metadata.is_dir() {
            let mut entries: Vec<PathBuf> = fs::read_dir(path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<_>>()?;
            entries.sort();
            return entries.iter().try_for_each(|path| visit(path, hasher));
        }
        (metadata.len(), metadata.mtime(), metadata.mtime_nsec()).hash(hasher);
        Ok(())
    }
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))?;
    let mut hasher = DefaultHasher::new();
    visit(&path, &mut hasher).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_where_make_puts_them() {
        let root = tempfile::tempdir().unwrap();
        let release = root.path().join("lib/modules/6.99.0-test");
        fs::create_dir_all(release.join("kernel")).unwrap();
        for given in [root.path(), &root.path().join("lib/modules"), &release] {
            let (folder, name) = modules_folder(given).unwrap();
            assert_eq!(folder, release.canonicalize().unwrap());
            assert_eq!(name, "6.99.0-test");
        }
        fs::create_dir_all(root.path().join("lib/modules/6.98.0/kernel")).unwrap();
        let error = modules_folder(root.path()).unwrap_err();
        assert!(error.to_string().contains("several kernels"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = modules_folder(empty.path()).unwrap_err();
        assert!(error.to_string().contains("modules_install"), "{error}");
    }

    #[test]
    fn a_change_of_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        let before = fingerprint(folder.path()).unwrap();
        assert_eq!(before, fingerprint(folder.path()).unwrap());
        fs::write(folder.path().join("a"), "12").unwrap();
        assert_ne!(before, fingerprint(folder.path()).unwrap());
    }

    #[test]
    fn what_cannot_boot_is_told() {
        let why = |image: &[u8], release| check(image, image, release).unwrap_err().to_string();
        assert!(why(b"text", None).contains("not a Linux kernel"));
        assert!(why(b"\x7fELF text", None).contains("CONFIG_PVH"));
        let mut image = vec![0; 0x300];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x240_u16.to_le_bytes());
        image.resize(0x500, 0);
        image[0x440..0x448].copy_from_slice(b"6.99-x (");
        assert_eq!(version(&image), Some("6.99-x"));
        assert!(check(&image, &image, Some("6.99-x")).is_ok());
        let mismatch = why(&image, Some("6.98"));
        assert!(
            mismatch.contains("6.99-x") && mismatch.contains("6.98"),
            "{mismatch}"
        );
        let elf = b"\x7fELF Linux version %s\0 Linux version 6.97-y (me)";
        assert_eq!(version(elf), Some("6.97-y"));
    }

    #[test]
    fn modules_that_guests_need_are_missed() {
        let folder = tempfile::tempdir().unwrap();
        let console = ["kernel/drivers/char/virtio_console.ko.xz".to_owned()].into();
        assert!(check_modules(folder.path(), &console).is_ok());
        let builtin = folder.path().join("modules.builtin");
        fs::write(&builtin, "kernel/fs/ext4/ext4.ko\n").unwrap();
        let error = check_modules(folder.path(), &console).unwrap_err();
        assert!(error.to_string().contains("CONFIG_VIRTIO_PCI"), "{error}");
        fs::write(&builtin, "kernel/drivers/virtio/virtio_pci.ko\n").unwrap();
        assert!(check_modules(folder.path(), &console).is_ok());
    }

    #[test]
    fn kernels_that_qemu_can_enter_are_told() {
        let mut image = b"\x7fELF....".to_vec();
        assert!(!has_pvh_entry(&image));
        image.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
        image.extend(b"Xen\0\0\0\0\x01");
        assert!(has_pvh_entry(&image));
    }
}
