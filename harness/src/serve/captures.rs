//! The capture of a server: started and stopped at any time, by any thread. Knows where it goes and
//! what of, not what frames look like.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use log::info;
use rocinante_wire::cable::Control;
use rocinante_wire::capture::{Capture, CaptureStats};
use rocinante_wire::fault::{Direction, Place};

/// A ring of files instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureRing {
    /// Bytes of a file, about.
    pub size: u64,
    /// Files that are kept.
    pub files: usize,
}

/// The smallest file of a ring, in bytes: a few frames and the descriptions of the interfaces.
const MIN_SIZE: u64 = 64 << 10;

/// The most files of a ring.
const MAX_FILES: usize = 100_000;

impl CaptureRing {
    /// Checks that such a ring makes sense.
    pub fn new(size: u64, files: usize) -> Result<CaptureRing, String> {
        if size < MIN_SIZE {
            return Err(format!("files of less than {} KiB", MIN_SIZE >> 10));
        }
        if !(1..=MAX_FILES).contains(&files) {
            return Err(format!("a ring has 1 to {MAX_FILES} files, not {files}"));
        }
        Ok(CaptureRing { size, files })
    }
}

impl FromStr for CaptureRing {
    type Err = String;

    fn from_str(text: &str) -> Result<CaptureRing, String> {
        let (size, files) = text
            .split_once(',')
            .ok_or_else(|| format!("'{text}' is not SIZE,FILES"))?;
        let files = files
            .trim()
            .parse()
            .map_err(|_| format!("'{files}' is not a number of files"))?;
        CaptureRing::new(parse_size(size)?, files)
    }
}

/// A number of bytes, with `K`, `M` or `G` for powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, shift) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 10),
        Some('m' | 'M') => (&text[..text.len() - 1], 20),
        Some('g' | 'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let size = digits.parse::<u64>().ok();
    size.and_then(|size| size.checked_mul(1 << shift))
        .ok_or_else(|| format!("'{text}' is not a size, such as 100M"))
}

/// What to capture, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSpec {
    /// The pcapng file, or the beginning of the names of a ring's files.
    pub path: PathBuf,
    /// A ring of files.
    pub ring: Option<CaptureRing>,
    /// At which ports, and which way: frames from NICs by default, so that each is there once.
    pub place: Place,
}

impl CaptureSpec {
    /// Every frame of every link, once, to one file.
    pub fn new(path: &Path) -> CaptureSpec {
        CaptureSpec {
            path: path.to_owned(),
            ring: None,
            place: Place {
                links: Vec::new(),
                ports: Vec::new(),
                direction: Some(Direction::Tx),
            },
        }
    }
}

/// How a capture is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureStatus {
    /// One of its own for each capture of a server.
    pub number: u64,
    /// What it was asked for.
    pub spec: CaptureSpec,
    /// What has become of the frames.
    pub stats: CaptureStats,
    /// What has ended it early.
    pub error: Option<String>,
}

/// The capture that runs, if one does.
#[derive(Debug, Default)]
pub struct Captures {
    running: Mutex<Option<Running>>,
    /// So many were started.
    started: AtomicU64,
}

#[derive(Clone, Debug)]
struct Running {
    number: u64,
    spec: CaptureSpec,
    /// The file that was made: device and inode. A ring makes new ones by itself.
    file: Option<(u64, u64)>,
}

impl Running {
    fn new(number: u64, spec: CaptureSpec) -> Running {
        let file = match spec.ring {
            None => file_id(&spec.path),
            Some(_) => None,
        };
        Running { number, spec, file }
    }

    /// What is wrong with the file, though it can be written to.
    fn lost(&self) -> Option<String> {
        let there = self.file.is_none() || file_id(&self.spec.path) == self.file;
        (!there).then(|| "the file was removed or replaced".to_owned())
    }
}

/// Which file it is; a pipe is whoever's has opened it, whatever becomes of its name.
fn file_id(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((file.dev(), file.ino()))
}

impl Captures {
    /// Starts one, unless another runs.
    pub fn start(&self, control: &Control, spec: CaptureSpec) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            bail!("a capture to {} is running", running.spec.path.display());
        }
        let capture = match spec.ring {
            None => Capture::create(&spec.path),
            Some(ring) => Capture::create_ring(&spec.path, ring.size, ring.files),
        };
        let capture = capture.with_context(|| format!("capture {}", spec.path.display()))?;
        control.start_capture_at(capture, spec.place.clone());
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        *running = Some(Running::new(number, spec));
        Ok(())
    }

    /// Completes the one that runs; traffic goes on without. `None` if there is none.
    pub fn stop(&self, control: &Control) -> Option<CaptureStatus> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = running.take()?;
        let capture = control.stop_capture()?;
        // What is left may take as long as the disk, or the reader of a pipe: others do not wait.
        drop(running);
        let before = capture.stats();
        let (stats, error) = match capture.finish() {
            Ok(stats) => (stats, ended.lost()),
            Err(error) => (before, Some(error.to_string())),
        };
        let Running { number, spec, .. } = ended;
        info!("capture {}: {stats:?}", spec.path.display());
        Some(CaptureStatus {
            number,
            spec,
            stats,
            error,
        })
    }

    /// How the one that runs is doing.
    pub fn status(&self, control: &Control) -> Option<CaptureStatus> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.clone()?;
        let (stats, error) = control.capture_stats()?;
        Some(CaptureStatus {
            number: running.number,
            stats,
            error: error.or_else(|| running.lost()),
            spec: running.spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_of_a_size_and_a_number() {
        let ring = |text: &str| text.parse::<CaptureRing>();
        let (size, files) = (100 << 20, 5);
        assert_eq!(ring("100M,5"), Ok(CaptureRing { size, files }));
        assert_eq!(ring("102400k, 5"), Ok(CaptureRing { size, files }));
        assert_eq!(ring("1G,1").unwrap().size, 1 << 30);
        assert_eq!(ring("100M").unwrap_err(), "'100M' is not SIZE,FILES");
        assert_eq!(ring("M,5").unwrap_err(), "'M' is not a size, such as 100M");
        assert_eq!(
            ring("1é,5").unwrap_err(),
            "'1é' is not a size, such as 100M"
        );
        assert_eq!(ring("1M,x").unwrap_err(), "'x' is not a number of files");
        assert_eq!(ring("1K,5").unwrap_err(), "files of less than 64 KiB");
        assert!(ring("1M,0").unwrap_err().contains("1 to 100000"));
        assert!(ring("99999999999G,1").is_err());
    }

    #[test]
    fn one_capture_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (control, captures) = (Control::new(), Captures::default());
        assert!(captures.status(&control).is_none());
        let spec = CaptureSpec::new(&folder.path().join("one"));
        captures.start(&control, spec.clone()).unwrap();
        let error = captures.start(&control, spec.clone()).unwrap_err();
        assert!(error.to_string().ends_with("one is running"), "{error}");
        assert_eq!(captures.status(&control).unwrap().spec, spec);
        let ended = captures.stop(&control).unwrap();
        assert_eq!((ended.stats.written, ended.error), (0, None));
        assert!(captures.stop(&control).is_none());
        let nowhere = CaptureSpec::new(&folder.path().join("no/such"));
        let error = captures.start(&control, nowhere).unwrap_err();
        assert!(format!("{error:#}").contains("No such file"), "{error:#}");
        // A failed start leaves room for the next.
        captures.start(&control, spec.clone()).unwrap();
        // A file that is taken away is missed, while it runs and at the end.
        fs::remove_file(&spec.path).unwrap();
        let gone = Some("the file was removed or replaced".to_owned());
        assert_eq!(captures.status(&control).unwrap().error, gone);
        fs::write(&spec.path, "another").unwrap();
        assert_eq!(captures.stop(&control).unwrap().error, gone);
    }
}
