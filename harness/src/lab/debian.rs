//! Debian packages without becoming root: apt with a state of its own in the cache folder, and `dpkg-deb --extract`.
//! No maintainer script runs and nothing is installed on the host.
//!
//! Knows archives and packages; not what the lab does with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::host::{Host, run};
use super::progress::{Progress, Step};
use super::sources::{self, Mirror};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirror to use: `given`, the host's own if it runs Debian, else the one that mmdebstrap would take.
pub fn mirror(given: Option<&str>, host: &Host, progress: &Progress) -> Result<Mirror> {
    let mut mirror = match given {
        Some(uri) => Mirror {
            uri: uri.to_owned(),
            signed_by: None,
        },
        None => match (host.id == "debian")
            .then(|| sources::of_host(&host.codename))
            .flatten()
        {
            Some(mirror) => mirror,
            None => mmdebstrap_mirror(host, progress)?,
        },
    };
    if mirror.signed_by.as_ref().is_none_or(|path| !path.exists()) {
        host.ensure(KEYRING, "debian-archive-keyring", progress, || {
            Path::new(KEYRING).exists()
        })?;
        mirror.signed_by = Some(KEYRING.into());
    }
    Ok(mirror)
}

/// Lets mmdebstrap write its sources.list and stops it there, before it has fetched anything.
fn mmdebstrap_mirror(host: &Host, progress: &Progress) -> Result<Mirror> {
    let mmdebstrap = host.program("mmdebstrap", "mmdebstrap", progress)?;
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("list");
    let root = folder.path().join("root");
    let hook = format!(
        "cat \"$1\"/etc/apt/sources.list >{}; exit 1",
        list.display()
    );
    // Fails by design: the hook ends it.
    let _ = Command::new(mmdebstrap)
        .args([
            "--quiet",
            "--variant=custom",
            "--mode=chrootless",
            "--setup-hook",
        ])
        .arg(hook)
        .arg("trixie")
        .arg(root)
        .output()?;
    let text = fs::read_to_string(&list)
        .context("mmdebstrap names no Debian mirror; give one with --mirror")?;
    sources::one_line(&text)
        .into_iter()
        .find_map(|entry| entry.mirror_of("trixie"))
        .context("mmdebstrap names no Debian mirror; give one with --mirror")
}

/// An apt of our own, over some suites of one mirror.
pub struct Apt {
    folder: PathBuf,
    apt_get: PathBuf,
    dpkg_deb: PathBuf,
}

/// A package that apt would fetch.
struct Wanted {
    name: String,
    size: u64,
}

impl Apt {
    /// Sets up the state in `folder` and fetches the lists of packages.
    pub fn set_up(
        folder: &Path,
        mirror: &Mirror,
        suites: &str,
        host: &Host,
        progress: &Progress,
    ) -> Result<Self> {
        let apt = Self {
            folder: folder.to_owned(),
            apt_get: host.program("apt-get", "apt", progress)?,
            dpkg_deb: host.program("dpkg-deb", "dpkg", progress)?,
        };
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("archives/partial"))?;
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("debian.sources"), mirror.deb822(suites))?;
        fs::write(folder.join("conf"), apt.configuration())?;
        let _step = progress.step(format!("package lists of {suites}"));
        run(apt.command().args(["-qq", "update"])).context("cannot fetch the package lists")?;
        Ok(apt)
    }

    /// Read after the host's own configuration, so proxies set there hold; its hooks do not.
    fn configuration(&self) -> String {
        let folder = self.folder.display();
        format!(
            r#"Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "{folder}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
Acquire::Languages "none";
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
"#
        )
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.apt_get);
        command
            .arg("-c")
            .arg(self.folder.join("conf"))
            .current_dir(self.folder.join("archives"));
        command
    }

    /// Unpacks `packages` from `release`, with everything they depend on, into `root`.
    pub fn unpack_closure(
        &self,
        release: &str,
        packages: &[&str],
        root: &Path,
        what: &str,
        progress: &Progress,
    ) -> Result<()> {
        let step = progress.step(what);
        let wanted = self.wanted(release, packages)?;
        let total = wanted.iter().map(|package| package.size).sum();
        self.fetch(&step, total, || {
            run(self
                .command()
                .args(["-qq", "-y", "--download-only", "-t", release, "install"])
                .args(packages))
        })?;
        self.unpack(root, &step)
    }

    /// Unpacks, of what `package` from `release` depends on, only the packages whose names `filter` picks.
    pub fn unpack_some(
        &self,
        release: &str,
        package: &str,
        filter: impl Fn(&str) -> bool,
        root: &Path,
        what: &str,
        progress: &Progress,
    ) -> Result<()> {
        let step = progress.step(what);
        let mut wanted = self.wanted(release, &[package])?;
        wanted.retain(|package| filter(&package.name));
        if wanted.is_empty() {
            bail!("{release} has no {package} of the expected make-up");
        }
        let total = wanted.iter().map(|package| package.size).sum();
        self.fetch(&step, total, || {
            run(self
                .command()
                .args(["-qq", "-t", release, "download"])
                .args(wanted.iter().map(|package| &package.name)))
        })?;
        self.unpack(root, &step)
    }

    fn wanted(&self, release: &str, packages: &[&str]) -> Result<Vec<Wanted>> {
        let text = run(self
            .command()
            .args(["-qq", "-y", "--print-uris", "-t", release, "install"])
            .args(packages))?;
        Ok(text.lines().filter_map(parse_uri).collect())
    }

    /// Runs `fetch` and shows meanwhile how much of `total` bytes has come.
    fn fetch(&self, step: &Step, total: u64, fetch: impl FnOnce() -> Result<String>) -> Result<()> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let have = self.fetched();
                    step.at(&format!(
                        "{} of {} MB fetched",
                        have / 1_000_000,
                        total / 1_000_000
                    ));
                    std::thread::park_timeout(Duration::from_millis(250));
                }
            });
            let result = fetch();
            done.store(true, Ordering::Relaxed);
            result.map(|_| ())
        })
    }

    fn fetched(&self) -> u64 {
        ["archives", "archives/partial"]
            .iter()
            .filter_map(|name| fs::read_dir(self.folder.join(name)).ok())
            .flatten()
            .filter_map(|file| file.ok()?.metadata().ok())
            .filter(fs::Metadata::is_file)
            .map(|meta| meta.len())
            .sum()
    }

    /// Unpacks what has been fetched, and removes the packages.
    fn unpack(&self, root: &Path, step: &Step) -> Result<()> {
        fs::create_dir_all(root)?;
        let mut packages: Vec<PathBuf> = fs::read_dir(self.folder.join("archives"))?
            .filter_map(|file| Some(file.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "deb"))
            .collect();
        packages.sort();
        for (index, package) in packages.iter().enumerate() {
            step.at(&format!("unpacking {} of {}", index + 1, packages.len()));
            run(Command::new(&self.dpkg_deb)
                .arg("--extract")
                .arg(package)
                .arg(root))?;
            fs::remove_file(package)?;
        }
        Ok(())
    }
}

/// One line of `--print-uris`: `'URI' file-name size hash`.
fn parse_uri(line: &str) -> Option<Wanted> {
    let mut words = line.split_whitespace();
    words.next().filter(|uri| uri.starts_with('\''))?;
    let file = words.next()?;
    let size = words.next()?.parse().ok()?;
    Some(Wanted {
        name: file.split('_').next()?.to_owned(),
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn print_uris_is_understood() {
        let line = "'http://m/pool/l/linux-image-6.12.9+deb13-amd64_6.12.9-1_amd64.deb' linux-image-6.12.9+deb13-amd64_6.12.9-1_amd64.deb 107898972 SHA256:00";
        let wanted = parse_uri(line).unwrap();
        assert_eq!(wanted.name, "linux-image-6.12.9+deb13-amd64");
        assert_eq!(wanted.size, 107_898_972);
        assert!(parse_uri("Reading package lists...").is_none());
        assert!(parse_uri("").is_none());
    }
}
