//! What file a user has given us: told by its first bytes, whatever its name.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What to get, where, and how to make it ready.
const ADVICE: &str = "\
get FreeBSD-<release>-RELEASE-amd64.qcow2.xz or .raw.xz (or FreeBSD-<release>-RELEASE-amd64-ufs.qcow2.xz, as newer releases call it) \
from the VM-IMAGES area of the FreeBSD project's download site, unpack it with `unxz FILE.xz`, and pass the result: \
--image FreeBSD-<release>-RELEASE-amd64.qcow2";

/// How a file is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk in QEMU's format.
    Qcow2,
    /// A disk as it is, with a partition table.
    Raw,
    /// A CD-ROM.
    Iso,
}

impl Kind {
    /// QEMU's name of the format.
    pub fn format(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw | Self::Iso => "raw",
        }
    }
}

/// A file that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// Why there is nothing to boot. Its text is one message with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoImage(String);

impl fmt::Display for NoImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoImage {}

impl Image {
    /// Looks at the file at `path`, or explains what is wanted.
    pub fn open(path: Option<&Path>) -> Result<Self, NoImage> {
        let Some(path) = path else {
            return Err(NoImage(format!(
                "FreeBSD guests need an image, which is not ours to hand out: {ADVICE}"
            )));
        };
        let no = |what: String| NoImage(format!("{}: {what}; {ADVICE}", path.display()));
        let mut head = Vec::new();
        let file = File::open(path).map_err(|error| no(error.to_string()))?;
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(no("this is a folder".to_owned()));
        }
        (&file)
            .take(1024)
            .read_to_end(&mut head)
            .map_err(|error| no(error.to_string()))?;
        // The volume descriptor lies behind 16 sectors of 2048 bytes (ECMA-119, 6.7).
        let mut volume = Vec::new();
        let mut file = file;
        if file.seek(SeekFrom::Start(0x8000)).is_ok() {
            // A pipe or a short file has none.
            let _ = file.take(6).read_to_end(&mut volume);
        }
        let kind = kind(&head, &volume).map_err(|what| no(what.to_owned()))?;
        let path = path.canonicalize().map_err(|error| no(error.to_string()))?;
        Ok(Self { path, kind })
    }
}

fn kind(head: &[u8], volume: &[u8]) -> Result<Kind, &'static str> {
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    if head.is_empty() {
        return Err("the file is empty");
    }
    if at(0, b"QFI\xfb") {
        return Ok(Kind::Qcow2);
    }
    if at(0, b"\xfd7zXZ\0") {
        return Err("the file is packed with xz: unpack it first");
    }
    if at(0, b"\x1f\x8b") || at(0, b"BZh") || at(0, b"\x28\xb5\x2f\xfd") || at(0, b"PK\x03\x04") {
        return Err("the file is packed: unpack it first");
    }
    if at(0, b"\x7fELF") {
        // A FreeBSD kernel wants what its loader hands over: the metadata with memory map, hints and root (stand/common/metadata.c).
        return Err(
            "this is a kernel or another program in ELF, which QEMU cannot boot alone: FreeBSD's kernel has to be started by its \
             loader, and needs a root file system; pass a disk image or an ISO that has all three",
        );
    }
    if at(0, b"KDMV") || at(0, b"# Disk DescriptorFile") || at(0, b"conectix") || at(0, b"vhdxfile")
    {
        return Err(
            "this is a disk for another monitor; convert it first: qemu-img convert -O qcow2 FILE disk.qcow2",
        );
    }
    // Hybrid images have a partition table too, but are made to be a CD-ROM first.
    if volume
        .get(1..)
        .is_some_and(|rest| rest.starts_with(b"CD001"))
    {
        return Ok(Kind::Iso);
    }
    if at(510, b"\x55\xaa") || at(512, b"EFI PART") {
        return Ok(Kind::Raw);
    }
    if head
        .iter()
        .all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..))
        && std::str::from_utf8(head).is_ok()
    {
        return Err("this is text, no disk image");
    }
    Err(
        "this is no disk image that we know: neither qcow2, nor a disk with a partition table, nor an ISO 9660 CD-ROM",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn open(pieces: &[(usize, &[u8])]) -> Result<Kind, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (offset, bytes) in pieces {
            file.seek(SeekFrom::Start(*offset as u64)).unwrap();
            file.write_all(bytes).unwrap();
        }
        Image::open(Some(file.path()))
            .map(|image| image.kind)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn images_are_known_by_their_contents() {
        assert_eq!(open(&[(0, b"QFI\xfb\0\0\0\x03")]), Ok(Kind::Qcow2));
        assert_eq!(
            open(&[(510, b"\x55\xaa"), (512, b"EFI PART")]),
            Ok(Kind::Raw)
        );
        assert_eq!(
            open(&[(0, b"\xfc1\xc0"), (510, b"\x55\xaa")]),
            Ok(Kind::Raw)
        );
        assert_eq!(open(&[(0x8000, b"\x01CD001\x01")]), Ok(Kind::Iso));
        // grub-mkrescue's, which a USB stick can hold too.
        assert_eq!(
            open(&[(510, b"\x55\xaa"), (0x8000, b"\x01CD001\x01")]),
            Ok(Kind::Iso)
        );
    }

    #[test]
    fn others_are_refused_with_what_to_do() {
        let cases: [(&[u8], &str); 6] = [
            (b"\xfd7zXZ\0\0\x04", "unpack it first"),
            (b"\x7fELF\x02\x01\x01\x09", "loader"),
            (b"KDMV\x01", "qemu-img convert"),
            (b"<html>not found</html>", "this is text"),
            (b"", "is empty"),
            (b"\x01\x02\x03", "no disk image that we know"),
        ];
        for (bytes, wanted) in cases {
            let error = open(&[(0, bytes)]).unwrap_err();
            assert!(error.contains(wanted), "{error}");
            assert!(
                error.contains("VM-IMAGES") && error.contains("unxz"),
                "{error}"
            );
            assert!(!error.contains('\n') && !error.contains("://"), "{error}");
        }
    }

    #[test]
    fn no_file_is_explained_too() {
        let error = Image::open(None).unwrap_err().to_string();
        assert!(error.contains("--image FreeBSD-"), "{error}");
        let error = Image::open(Some(Path::new("/no/such.qcow2"))).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
        let error = Image::open(Some(Path::new("/"))).unwrap_err();
        assert!(error.to_string().contains("folder"), "{error}");
    }
}
