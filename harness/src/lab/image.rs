//! The guests' root: an initramfs archive with a hand-picked set of Debian's programs, their libraries and our init.
//! Kept small and uncompressed, since it is unpacked at each boot, often by an emulated processor.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cache::Cache;
use super::cpio::Archive;
use super::debian::Apt;
use super::host::{Host, run};
use super::progress::Progress;
use super::sources::Mirror;
use super::tree::Tree;

/// Change it when what is made from the packages changes.
const LAYOUT: &str = "2";

const PACKAGES: &[&str] = &[
    "busybox",
    "ethtool",
    "ibverbs-providers",
    "ibverbs-utils",
    "infiniband-diags",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "kmod",
    "linuxptp",
    "pciutils",
    "perftest",
    "rdma-core",
    "rdmacm-utils",
    "socat",
    "tcpdump",
    "util-linux",
    // For the kernels and their modules, on the host.
    "xz-utils",
    "zstd",
];

/// Programs by path in the tree; a `*` at the end stands for all that begin so. Each is there as in Debian.
const PROGRAMS: &[&str] = &[
    "usr/bin/busybox",
    "usr/bin/kmod",
    "usr/bin/lsmod",
    "usr/sbin/depmod",
    "usr/sbin/insmod",
    "usr/sbin/modinfo",
    "usr/sbin/modprobe",
    "usr/sbin/rmmod",
    "usr/bin/ip",
    "usr/bin/ss",
    "usr/bin/rdma",
    "usr/sbin/devlink",
    "usr/sbin/bridge",
    "usr/sbin/dcb",
    "usr/sbin/tc",
    "usr/bin/nstat",
    "usr/bin/ping",
    "usr/sbin/ethtool",
    "usr/sbin/hwstamp_ctl",
    "usr/sbin/phc_ctl",
    "usr/sbin/ptp4l",
    "usr/bin/ib_*",
    "usr/bin/ibv_*",
    "usr/bin/raw_ethernet_*",
    "usr/bin/rping",
    "usr/bin/rstream",
    "usr/bin/riostream",
    "usr/bin/rcopy",
    "usr/bin/ucmatose",
    "usr/bin/udaddy",
    "usr/bin/udpong",
    "usr/bin/mckey",
    "usr/bin/cmtime",
    "usr/bin/rdma_*",
    "usr/sbin/ibstat",
    "usr/bin/iperf3",
    "usr/bin/socat",
    "usr/bin/tcpdump",
    "usr/bin/lspci",
    "usr/bin/setpci",
    "usr/bin/dmesg",
    "usr/bin/flock",
    "usr/bin/taskset",
];

/// Files that the programs open by themselves: libibverbs' providers and their configuration.
const DATA: &[&str] = &[
    "etc/libibverbs.d/mlx4.driver",
    "etc/libibverbs.d/mlx5.driver",
    "etc/libibverbs.d/rxe.driver",
    "usr/lib/x86_64-linux-gnu/libibverbs/libmlx4-rdma*",
    "usr/lib/x86_64-linux-gnu/libibverbs/libmlx5-rdma*",
    "usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdma*",
    // pthread_cancel and pthread_exit load it at run time.
    "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "usr/lib64/ld-linux-x86-64.so.2",
];

const INIT: &str = include_str!("guest/init");
const AGENT: &str = include_str!("guest/agent");

/// The unpacked packages that the root is made from, found in the cache or made.
pub fn tree(
    cache: &Cache,
    mirror: impl FnOnce() -> Result<Mirror>,
    host: &Host,
    progress: &Progress,
) -> Result<Tree> {
    let recipe = format!("{LAYOUT} {PACKAGES:?}");
    let place = cache.entry("guest-tree", &recipe, |place| {
        let apt_folder = place.join("apt");
        let apt = Apt::set_up(&apt_folder, &mirror()?, "trixie", host, progress)?;
        apt.unpack_closure(
            "trixie",
            PACKAGES,
            &place.join("root"),
            "guest programs",
            progress,
        )?;
        Ok(fs::remove_dir_all(&apt_folder)?)
    })?;
    Ok(Tree::new(place.join("root")))
}

/// The archive made from `tree`, found in the cache or made.
pub fn prepare(cache: &Cache, tree: &Tree, progress: &Progress) -> Result<PathBuf> {
    let recipe = format!("{LAYOUT} {PACKAGES:?} {PROGRAMS:?} {DATA:?} {INIT} {AGENT}");
    let place = cache.entry("guest-image", &recipe, |place| {
        let _step = progress.step("guest image");
        let out = BufWriter::new(File::create(place.join("root.cpio"))?);
        Builder {
            tree: tree.clone(),
            archive: Archive::new(out),
            done: BTreeSet::new(),
        }
        .build()
    })?;
    Ok(place.join("root.cpio"))
}

struct Builder<W: Write> {
    tree: Tree,
    archive: Archive<W>,
    done: BTreeSet<String>,
}

impl<W: Write> Builder<W> {
    fn build(mut self) -> Result<()> {
        for folder in [
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "root",
            "etc",
            "mnt",
            "usr/bin",
            "usr/sbin",
            "usr/libexec",
        ] {
            self.archive.directory(folder)?;
        }
        // Merged /usr, as base-files lays it out.
        for name in ["bin", "sbin", "lib", "lib64"] {
            self.archive.symlink(name, &format!("usr/{name}"))?;
        }
        self.archive.character_device("dev/console", 5, 1)?;
        self.archive.file("init", 0o755, INIT.as_bytes())?;
        self.archive
            .file("usr/libexec/rocinante-agent", 0o755, AGENT.as_bytes())?;
        self.archive
            .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
        self.archive.file("etc/group", 0o644, b"root:x:0:\n")?;
        self.archive
            .file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
        for pattern in PROGRAMS.iter().chain(DATA) {
            let paths = expand(self.tree.root(), pattern)?;
            for path in paths {
                self.add(&path)?;
            }
        }
        self.applets()?;
        self.archive.finish()?;
        Ok(())
    }

    /// Adds a file, what it links to, and the libraries it needs.
    fn add(&mut self, path: &str) -> Result<()> {
        if !self.done.insert(path.to_owned()) {
            return Ok(());
        }
        let full = self.tree.root().join(path);
        let kind = full
            .symlink_metadata()
            .with_context(|| format!("{path} is not in the packages"))?;
        if kind.is_symlink() {
            let target = fs::read_link(&full)?;
            self.archive.symlink(path, &target.to_string_lossy())?;
            return self.add(&resolve(path, &target)?);
        }
        let content = fs::read(&full)?;
        let is_elf = content.starts_with(b"\x7fELF");
        let mode = if is_elf || content.starts_with(b"#!") {
            0o755
        } else {
            0o644
        };
        self.archive.file(path, mode, &content)?;
        if is_elf && !path.contains("ld-linux") {
            for library in self.tree.libraries_of(path)? {
                self.add(&library)?;
            }
        }
        Ok(())
    }

    /// busybox stands in for every common program that is not there.
    fn applets(&mut self) -> Result<()> {
        let list = run(self.tree.command("usr/bin/busybox").arg("--list"))?;
        for applet in list.lines() {
            let names = [format!("usr/bin/{applet}"), format!("usr/sbin/{applet}")];
            if !names.iter().any(|name| self.archive.contains(name)) {
                self.archive.symlink(&names[0], "busybox")?;
            }
        }
        Ok(())
    }
}

/// The paths below `root` that `pattern` names.
fn expand(root: &Path, pattern: &str) -> Result<Vec<String>> {
    let Some(prefix) = pattern.strip_suffix('*') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let (folder, start) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let mut names: Vec<String> = fs::read_dir(root.join(folder))
        .with_context(|| format!("{folder} is not in the packages"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(start))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    names.sort();
    Ok(names)
}

/// Where a link at `path` with `target` leads, as a path in the tree.
fn resolve(path: &str, target: &Path) -> Result<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    let target = target.to_str().context("a link's target is no text")?;
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let unmerged = ["bin", "sbin", "lib", "lib64"];
    if parts.first().is_some_and(|first| unmerged.contains(first)) {
        parts.insert(0, "usr");
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_tree() {
        let to = |path: &str, target: &str| resolve(path, Path::new(target)).unwrap();
        assert_eq!(to("usr/sbin/modprobe", "../bin/kmod"), "usr/bin/kmod");
        assert_eq!(to("usr/bin/lsmod", "kmod"), "usr/bin/kmod");
        assert_eq!(to("usr/sbin/ip", "/bin/ip"), "usr/bin/ip");
        assert_eq!(to("usr/lib/x/a.so", "./b.so"), "usr/lib/x/b.so");
    }

    #[test]
    fn patterns_name_what_begins_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        for name in ["ib_b", "ib_a", "ibv_x"] {
            fs::write(folder.path().join("usr/bin").join(name), "").unwrap();
        }
        assert_eq!(
            expand(folder.path(), "usr/bin/ib_*").unwrap(),
            ["usr/bin/ib_a", "usr/bin/ib_b"]
        );
        assert_eq!(expand(folder.path(), "usr/bin/x").unwrap(), ["usr/bin/x"]);
        assert!(expand(folder.path(), "none/x*").is_err());
    }
}
