//! What the lab needs from the host: programs, and who we are. A missing program is installed where that is ours to do,
//! else named with the command that installs it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::progress::Progress;

/// The host, as far as the lab cares.
#[derive(Clone, Debug)]
pub struct Host {
    /// `ID` of os-release, such as `debian`.
    pub id: String,
    /// `ID_LIKE` of os-release, such as `debian` on Ubuntu.
    pub like: String,
    /// `VERSION_CODENAME` of os-release, such as `bookworm`; may be empty.
    pub codename: String,
    /// Whether we are root.
    pub root: bool,
}

impl Host {
    /// Looks at the host.
    pub fn detect() -> Self {
        let release = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let mut host = Self::from_os_release(&release);
        host.root = rustix::process::geteuid().is_root();
        host
    }

    fn from_os_release(text: &str) -> Self {
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .map(|(key, value)| (key, value.trim_matches(['"', '\''])))
            .collect();
        let field = |key| fields.get(key).copied().unwrap_or_default().to_owned();
        Self {
            id: field("ID"),
            like: field("ID_LIKE"),
            codename: field("VERSION_CODENAME"),
            root: false,
        }
    }

    fn has_apt(&self) -> bool {
        self.id == "debian" || self.like.split_whitespace().any(|word| word == "debian")
    }

    /// The command by which this host installs `package`, or `None` where we do not know its packages.
    fn install_command(&self, package: &str) -> Option<String> {
        let family =
            |name| self.id == name || self.like.split_whitespace().any(|word| word == name);
        let install = if self.has_apt() {
            "apt-get install"
        } else if family("fedora") || family("rhel") {
            "dnf install"
        } else if family("arch") {
            "pacman -S"
        } else if family("suse") || family("opensuse") {
            "zypper install"
        } else {
            return None;
        };
        let sudo = if self.root { "" } else { "sudo " };
        Some(format!("{sudo}{install} {package}"))
    }

    /// One line that names what is missing and how it is installed.
    fn missing(&self, what: &str, package: &str) -> String {
        match self.install_command(package) {
            Some(command) => format!("{what} is missing; install it with: {command}"),
            None => format!("{what} is missing; install the package {package}"),
        }
    }

    /// Makes sure that `present` holds: if not, `package` is installed where we are root on Debian or its kin, after
    /// saying so. Else the error names the command.
    pub fn ensure(
        &self,
        what: &str,
        package: &str,
        progress: &Progress,
        present: impl Fn() -> bool,
    ) -> Result<()> {
        if present() {
            return Ok(());
        }
        if !(self.root && self.has_apt()) {
            bail!(self.missing(what, package));
        }
        progress.say(&format!(
            "{what} is missing: installing the package {package}"
        ));
        for arguments in [
            vec!["-qq", "update"],
            vec!["-qq", "-y", "--no-install-recommends", "install", package],
        ] {
            let mut apt = Command::new("apt-get");
            apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
            run(&mut apt).with_context(|| self.missing(what, package))?;
        }
        if !present() {
            bail!("{what} is still missing after the package {package} was installed");
        }
        Ok(())
    }

    /// The path of `program`, which `package` brings if it is missing.
    pub fn program(&self, program: &str, package: &str, progress: &Progress) -> Result<PathBuf> {
        self.ensure(program, package, progress, || which(program).is_some())?;
        which(program).with_context(|| self.missing(program, package))
    }
}

/// Where `program` is: on the search path, or in the folders of administration that an ordinary user's path leaves out.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a command to its end and gives its standard output. A failure names the command and quotes what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", display(command)))?;
    if !output.status.success() {
        let said = [&output.stderr[..], &output.stdout[..]].concat();
        bail!(
            "{} failed ({}): {}",
            display(command),
            output.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one line, for logs and errors.
pub fn display(command: &Command) -> String {
    let quoted = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,.:/@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UBUNTU: &str = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=\"noble\"\n";

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        let host = Host::from_os_release(UBUNTU);
        assert_eq!(
            (&*host.id, &*host.like, &*host.codename),
            ("ubuntu", "debian", "noble")
        );
    }

    #[test]
    fn what_is_missing_is_one_line_with_its_command() {
        let mut host = Host::from_os_release(UBUNTU);
        assert_eq!(
            host.missing("dpkg-deb", "dpkg"),
            "dpkg-deb is missing; install it with: sudo apt-get install dpkg"
        );
        host.root = true;
        assert_eq!(host.install_command("x").unwrap(), "apt-get install x");
        let fedora = Host::from_os_release("ID=fedora\n");
        assert_eq!(
            fedora.install_command("apt").unwrap(),
            "sudo dnf install apt"
        );
        assert_eq!(Host::from_os_release("").install_command("apt"), None);
    }

    #[test]
    fn a_user_is_told_and_nothing_is_installed() {
        let host = Host::from_os_release(UBUNTU);
        let error = host
            .ensure(
                "no-such-tool",
                "no-such-package",
                &Progress::silent(),
                || false,
            )
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("sudo apt-get install no-such-package")
        );
    }

    #[test]
    fn a_failing_command_is_named_and_quoted() {
        let error = run(Command::new("sh").args(["-c", "echo bad luck >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("bad luck") && text.contains("sh -c 'echo bad"),
            "{text}"
        );
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-anywhere").is_none());
    }
}
