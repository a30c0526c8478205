//! Where captures are written: one file, or a ring of them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Sink;

/// A single file, or whatever else it is.
pub(super) struct Single<W>(pub(super) W);

impl<W: Write> Write for Single<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Sink for Single<W> {
    fn is_due(&self) -> bool {
        false
    }

    fn rotate(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Files that are numbered, limited in size and in number.
pub struct Ring {
    path: PathBuf,
    size: u64,
    keep: usize,
    file: BufWriter<File>,
    written: u64,
    number: u64,
    files: VecDeque<PathBuf>,
}

impl Ring {
    /// Begins the first file. At least one is kept.
    pub(super) fn create(path: &Path, size: u64, keep: usize) -> io::Result<Ring> {
        let first = numbered(path, 1);
        Ok(Ring {
            path: path.to_owned(),
            size,
            keep: keep.max(1),
            file: open(&first)?,
            written: 0,
            number: 1,
            files: VecDeque::from([first]),
        })
    }
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:04}"));
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(path)?))
}

impl Write for Ring {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for Ring {
    fn is_due(&self) -> bool {
        self.written >= self.size
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        // Room first: on a full disk the oldest is what makes it.
        while self.files.len() >= self.keep {
            if let Some(oldest) = self.files.pop_front() {
                match fs::remove_file(oldest) {
                    // Somebody else has made room.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result?,
                }
            }
        }
        self.number += 1;
        let next = numbered(&self.path, self.number);
        self.file = open(&next)?;
        self.files.push_back(next);
        self.written = 0;
        Ok(())
    }
}
