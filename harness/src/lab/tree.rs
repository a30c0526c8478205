//! A folder with unpacked amd64 Debian packages, and how its programs are run from where they lie: through its own dynamic
//! loader, so that neither chroot(8) nor root is needed, whatever C library the host has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::host::run;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// The folder.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree in `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs `program`, a path in the tree, under the name `argv0`.
    pub fn command_as(&self, program: &str, argv0: &str) -> Command {
        let mut command = Command::new(self.root.join(LOADER));
        command
            .arg("--library-path")
            .arg(self.root.join(LIBRARIES))
            .args(["--argv0", argv0])
            .arg(self.root.join(program));
        command
    }

    /// Runs `program`, a path in the tree.
    pub fn command(&self, program: &str) -> Command {
        self.command_as(program, program.rsplit('/').next().unwrap_or(program))
    }

    /// The libraries that a program or library of the tree is linked with, as paths in the tree.
    pub fn libraries_of(&self, file: &str) -> Result<Vec<String>> {
        let listed = run(Command::new(self.root.join(LOADER))
            .arg("--library-path")
            .arg(self.root.join(LIBRARIES))
            .arg("--list")
            .arg(self.root.join(file)))?;
        Ok(libraries(&listed, &self.root))
    }
}

/// Lines of `ld.so --list`: `name => path (address)`; those outside the tree (the vDSO, the loader) are not files to copy.
fn libraries(listed: &str, root: &Path) -> Vec<String> {
    listed
        .lines()
        .filter_map(|line| line.split_once("=>"))
        .filter_map(|(_, target)| target.rsplit_once('('))
        .filter_map(|(path, _)| Path::new(path.trim()).strip_prefix(root).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_libraries_are_those_in_the_tree() {
        let listed = "\tlinux-vdso.so.1 (0x7ffd)\n\
             \tlibc.so.6 => /t/usr/lib/x86_64-linux-gnu/libc.so.6 (0x7f00)\n\
             \t/lib64/ld-linux-x86-64.so.2 => /t/usr/lib64/ld-linux-x86-64.so.2 (0x7f)\n\
             \tlibx.so => /lib/libx.so (0x1)\n\
             \tlibmissing.so => not found\n";
        assert_eq!(
            libraries(listed, Path::new("/t")),
            [
                "usr/lib/x86_64-linux-gnu/libc.so.6",
                "usr/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }
}
