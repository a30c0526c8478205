//! Writes initramfs archives: the "newc" cpio format, as the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst` gives it.
//!
//! Knows the format only. What goes into an archive is [`super::image`]'s business.

use std::collections::BTreeSet;
use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive under construction. Names are relative to the root, without a leading slash.
pub struct Archive<W: Write> {
    out: W,
    next_inode: u32,
    seen: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An archive that is written to `out` as it grows.
    pub fn new(out: W) -> Self {
        Self {
            out,
            next_inode: 1,
            seen: BTreeSet::new(),
        }
    }

    /// Whether an entry of this name has been written.
    pub fn contains(&self, name: &str) -> bool {
        self.seen.contains(name)
    }

    /// A directory, and those above it. One that is there already is left alone.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        if name.is_empty() || self.contains(name) {
            return Ok(());
        }
        self.parents(name)?;
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// A file of the permission bits `mode`.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.parents(name)?;
        self.entry(name, REGULAR | (mode & 0o7777), (0, 0), content)
    }

    /// A symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.parents(name)?;
        self.entry(name, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device node.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.parents(name)?;
        self.entry(name, CHARACTER | 0o600, (major, minor), &[])
    }

    /// Writes the trailer and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, name: &str) -> io::Result<()> {
        match name.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{name}: over 4 GiB do not fit newc"),
            )
        })?;
        let inode = self.next_inode;
        self.next_inode += 1;
        self.seen.insert(name.to_owned());
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let fields = [
            inode,
            mode,
            0, // uid
            0, // gid
            links,
            0, // mtime: equal trees give equal archives
            size,
            0, // device major of the file system
            0, // and minor
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // checksum, unused in newc
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(content)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let gap = bytes.len().next_multiple_of(4) - bytes.len();
        self.out.write_all(&[0; 3][..gap])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_laid_out_as_newc_says() {
        let mut archive = Archive::new(Vec::new());
        archive.file("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        // Header of 110 bytes, the name with its NUL padded to a multiple of 4 from the start.
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081ed");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[94..102], b"00000005");
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.windows(11).any(|w| w == b"TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn parents_come_first_and_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b/c", 0o644, b"").unwrap();
        archive.file("a/b/d", 0o644, b"").unwrap();
        let text = String::from_utf8_lossy(&archive.finish().unwrap()).into_owned();
        assert_eq!(text.matches("a/b\0").count(), 1);
        assert!(text.find("a\0").unwrap() < text.find("a/b\0").unwrap());
        assert!(text.find("a/b\0").unwrap() < text.find("a/b/c\0").unwrap());
    }

    #[test]
    fn a_console_node_has_its_numbers() {
        let mut archive = Archive::new(Vec::new());
        archive.character_device("console", 5, 1).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[14..22], b"00002180");
        assert_eq!(&bytes[78..94], b"0000000500000001");
    }
}
