//! Where captures are written: one file, or a ring of them.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

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

/// Linux' flag for not to wait, on x86 and ARM.
const O_NONBLOCK: i32 = 0o4000;

/// How long a FIFO is given to find its reader.
const READER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// A new file, or what is at that path. Opening a FIFO waits for its reader for as long as that takes; who starts a capture
/// does not.
pub(super) fn open(path: &Path) -> io::Result<BufWriter<File>> {
    let is_fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    let _reader_is_there = is_fifo.then(|| reader_of(path)).transpose()?;
    Ok(BufWriter::with_capacity(1 << 20, File::create(path)?))
}

/// A FIFO that is being read; while this is open, it opens at once.
fn reader_of(path: &Path) -> io::Result<File> {
    let since = Instant::now();
    loop {
        let mut options = OpenOptions::new();
        match options.write(true).custom_flags(O_NONBLOCK).open(path) {
            Err(error) if since.elapsed() > READER => {
                let message = format!("nobody reads this FIFO: {error}");
                return Err(io::Error::new(error.kind(), message));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
            opened => return opened,
        }
    }
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
