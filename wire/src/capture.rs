//! Capture of frames in pcapng: one interface per link or port, in one file or in a ring of files
//! of limited size.
//!
//! A tap turns a frame into bytes in the sender's thread and queues it; a thread of its own
//! writes. The data path never waits: what finds the queue full is counted and left out. When
//! writing fails, the capture ends with one logged error, what it misses from then on is counted,
//! and traffic goes on.

mod ring;

pub use ring::Ring;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_queue::ArrayQueue;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::{DataLink, PcapError};

use crate::buf::{Buf, BufPool};
use crate::fault::Direction;
use crate::frame::{Frame, Payload};

/// Frames that may wait for the writing thread.
const QUEUE_LEN: usize = 4096;

/// Bytes of a comment: options have 16 bits for their length.
const LONGEST_COMMENT: usize = 32_000;

/// A capture that is to end is given up when nothing could be written for so long, as when the reader of a pipe has stopped.
const STALLED: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// Gives the time of a frame, since 1970-01-01 00:00 UTC.
pub type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

struct Record {
    at: Duration,
    interface: u32,
    data: Buf,
    direction: Option<Direction>,
    comment: Option<String>,
}

#[derive(Default)]
struct Interface {
    name: String,
    dropped: AtomicU64,
}

struct Shared {
    on: AtomicBool,
    /// Ended by an error, which is in `error`.
    failed: AtomicBool,
    error: OnceLock<String>,
    written: AtomicU64,
    /// Frames since then.
    missed: AtomicU64,
    stop: AtomicBool,
    sleeping: AtomicBool,
    queue: ArrayQueue<Record>,
    pool: BufPool,
    clock: Clock,
    /// Only locked when a link is added and by the writing thread when it meets a new one.
    interfaces: Mutex<Vec<Arc<Interface>>>,
    unreadable: AtomicU64,
}

impl Shared {
    fn interfaces(&self) -> Vec<Arc<Interface>> {
        self.interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What became of the frames that were to be captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// In the file.
    pub written: u64,
    /// Not in the file because the writing thread fell behind.
    pub dropped: u64,
    /// Not in the file because the sender's memory was gone.
    pub unreadable: u64,
    /// Not in the file because the capture had ended with an error.
    pub missed: u64,
}

/// A capture under way. Ends with [`Capture::finish`], or when dropped.
pub struct Capture {
    shared: Arc<Shared>,
    thread: Thread,
    writer: Option<JoinHandle<io::Result<u64>>>,
}

impl Capture {
    /// Starts a capture to a new file (an old one is overwritten), with the system's time.
    ///
    /// # Errors
    /// The file cannot be created or the thread not be started.
    pub fn create(path: &Path) -> io::Result<Capture> {
        let file = ring::open(path)?;
        let since_epoch = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        };
        Capture::start(file, Box::new(since_epoch))
    }

    /// Starts a capture to a ring of files: `PATH.0001`, `PATH.0002` and so on, of about `size`
    /// bytes each; when there are more than `keep`, the oldest is removed. With the system's time.
    ///
    /// # Errors
    /// The first file cannot be created or the thread not be started.
    pub fn create_ring(path: &Path, size: u64, keep: usize) -> io::Result<Capture> {
        let since_epoch = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        };
        let ring = Ring::create(path, size, keep)?;
        Capture::begin(ring, Box::new(since_epoch))
    }

    /// Starts a capture to any writer, with any time.
    ///
    /// # Errors
    /// The file's header cannot be written or the thread not be started.
    pub fn start(out: impl Write + Send + 'static, clock: Clock) -> io::Result<Capture> {
        Capture::begin(ring::Single(out), clock)
    }

    fn begin(sink: impl Sink + 'static, clock: Clock) -> io::Result<Capture> {
        let mut out = PcapNgWriter::new(sink).map_err(io_error)?;
        out.get_mut().flush()?;
        let shared = Arc::new(Shared {
            on: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            error: OnceLock::new(),
            written: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            queue: ArrayQueue::new(QUEUE_LEN),
            pool: BufPool::for_frames(QUEUE_LEN),
            clock,
            interfaces: Mutex::new(Vec::new()),
            unreadable: AtomicU64::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                let mut writer = Writer {
                    shared: for_thread,
                    out,
                    described: 0,
                    written: 0,
                };
                let result = writer.run();
                writer.shared.on.store(false, Ordering::Relaxed);
                if let Err(error) = &result {
                    let _ = writer.shared.error.set(error.to_string());
                    writer.shared.failed.store(true, Ordering::Relaxed);
                    log::error!(target: "wire::capture", "capture ends: {error}");
                }
                while writer.shared.queue.pop().is_some() {}
                result.map(|()| writer.written)
            })?;
        let thread = writer.thread().clone();
        Ok(Capture {
            shared,
            thread,
            writer: Some(writer),
        })
    }

    /// A new interface of the capture, for one link.
    #[must_use]
    pub fn tap(&self, link: &str) -> CaptureTap {
        let interface = Arc::new(Interface {
            name: link.to_owned(),
            dropped: AtomicU64::new(0),
        });
        let mut all = self
            .shared
            .interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&interface));
        CaptureTap {
            shared: Arc::clone(&self.shared),
            thread: self.thread.clone(),
            id: (all.len() - 1) as u32,
            interface,
        }
    }

    /// Writes what waits, closes the file and tells what became of the frames.
    ///
    /// # Errors
    /// What ended the capture early, if something did.
    pub fn finish(mut self) -> io::Result<CaptureStats> {
        self.end()
    }

    /// Frames that were not captured since the capture ended with an error; `None` while it runs.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        let failed = self.shared.failed.load(Ordering::Relaxed);
        failed.then(|| self.shared.missed.load(Ordering::Relaxed))
    }

    /// What ended the capture early, if something did.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.shared.error.get().map(String::as_str)
    }

    /// What has become of the frames up to now.
    #[must_use]
    pub fn stats(&self) -> CaptureStats {
        let shared = &self.shared;
        let dropped = |i: &Arc<Interface>| i.dropped.load(Ordering::Relaxed);
        CaptureStats {
            written: shared.written.load(Ordering::Relaxed),
            dropped: shared.interfaces().iter().map(dropped).sum(),
            unreadable: shared.unreadable.load(Ordering::Relaxed),
            missed: shared.missed.load(Ordering::Relaxed),
        }
    }

    fn end(&mut self) -> io::Result<CaptureStats> {
        let Some(writer) = self.writer.take() else {
            return Ok(CaptureStats::default());
        };
        self.shared.on.store(false, Ordering::Relaxed);
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        self.wait_for(&writer)?;
        let written = writer
            .join()
            .map_err(|_| io::Error::other("capture thread panicked"))??;
        let stats = CaptureStats {
            written,
            ..self.stats()
        };
        if stats.dropped > 0 {
            log::warn!(
                target: "wire::capture",
                "{} frames are missing from the capture: it could not be written fast enough",
                stats.dropped
            );
        }
        Ok(stats)
    }
}

impl Capture {
    /// Waits until all is written, as long as anything is.
    fn wait_for(&self, writer: &JoinHandle<io::Result<u64>>) -> io::Result<()> {
        let mut written = self.shared.written.load(Ordering::Relaxed);
        let mut since = Instant::now();
        while !writer.is_finished() {
            let now = self.shared.written.load(Ordering::Relaxed);
            if now != written {
                (written, since) = (now, Instant::now());
            } else if since.elapsed() > STALLED {
                // The thread is left to itself.
                let message = format!("nothing could be written for {} s", STALLED.as_secs());
                log::error!(target: "wire::capture", "capture ends: {message}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // An error has been logged by the writing thread.
        let _ = self.end();
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("waiting", &self.shared.queue.len())
            .finish()
    }
}

/// Where the frames of one link enter a capture.
#[derive(Clone)]
pub struct CaptureTap {
    shared: Arc<Shared>,
    thread: Thread,
    id: u32,
    interface: Arc<Interface>,
}

impl CaptureTap {
    /// Whether frames are still wanted.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Ordering::Relaxed)
    }

    /// Captures a frame, with a comment if something was done to it.
    #[inline]
    pub fn record<P: Payload>(&self, frame: &Frame<P>, comment: Option<&str>) {
        self.put(frame, None, comment);
    }

    /// Captures a frame at a port, where it goes one way or the other.
    #[inline]
    pub fn record_port<P: Payload>(
        &self,
        frame: &Frame<P>,
        direction: Direction,
        comment: Option<&str>,
    ) {
        self.put(frame, Some(direction), comment);
    }

    #[inline]
    fn put<P: Payload>(
        &self,
        frame: &Frame<P>,
        direction: Option<Direction>,
        comment: Option<&str>,
    ) {
        if self.is_on() {
            self.queue(frame, direction, comment);
        } else if self.shared.failed.load(Ordering::Relaxed) {
            self.shared.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn queue<P: Payload>(
        &self,
        frame: &Frame<P>,
        direction: Option<Direction>,
        comment: Option<&str>,
    ) {
        let shared = &self.shared;
        if shared.queue.is_full() {
            self.interface.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut data = shared.pool.get(frame.len_on_wire());
        if frame.write_to(&mut data).is_err() {
            shared.unreadable.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let at = (shared.clock)();
        let comment = comment.map(str::to_owned);
        if shared
            .queue
            .push(Record {
                at,
                interface: self.id,
                data,
                direction,
                comment,
            })
            .is_err()
        {
            self.interface.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Pairs with the fence of the writer: either it sees the record or we see it sleeping.
        fence(Ordering::SeqCst);
        if shared.sleeping.load(Ordering::Relaxed) {
            self.thread.unpark();
        }
    }
}

impl fmt::Debug for CaptureTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureTap")
            .field("link", &self.interface.name)
            .finish()
    }
}

/// Where blocks go; may begin a new file in between.
trait Sink: Write + Send {
    /// Whether it is time for a new file.
    fn is_due(&self) -> bool;
    /// Goes on in a new file.
    fn rotate(&mut self) -> io::Result<()>;
}

struct Writer<W: Sink> {
    shared: Arc<Shared>,
    out: PcapNgWriter<W>,
    described: usize,
    written: u64,
}

impl<W: Sink> Writer<W> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let stop = self.shared.stop.load(Ordering::SeqCst);
            while let Some(record) = self.shared.queue.pop() {
                self.write(&record)?;
            }
            if stop {
                self.write_statistics()?;
                return self.out.get_mut().flush();
            }
            // Whoever looks at the file while nothing happens, or after a crash, finds it whole.
            self.out.get_mut().flush()?;
            self.shared.sleeping.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.shared.queue.is_empty() && !self.shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            self.shared.sleeping.store(false, Ordering::Relaxed);
        }
    }

    fn describe_interfaces(&mut self) -> io::Result<()> {
        for interface in self.shared.interfaces().iter().skip(self.described) {
            let block = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(short(&interface.name).into()),
                    InterfaceDescriptionOption::IfTsResol(9),
                ],
            };
            self.out.write_pcapng_block(block).map_err(io_error)?;
            self.described += 1;
        }
        Ok(())
    }

    /// Goes on in a new file, if it is time. The old one is complete.
    fn rotate(&mut self) -> io::Result<()> {
        if !self.out.get_mut().is_due() {
            return Ok(());
        }
        self.write_statistics()?;
        self.out.get_mut().rotate()?;
        let section = self.out.section().clone();
        self.out.write_pcapng_block(section).map_err(io_error)?;
        self.described = 0;
        self.describe_interfaces()
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.rotate()?;
        if record.interface as usize >= self.described {
            self.describe_interfaces()?;
        }
        let comment = record.comment.as_deref().map(short);
        // epb_flags, bits 0 and 1.
        let flags = record.direction.map(|direction| match direction {
            Direction::Rx => 1,
            Direction::Tx => 2,
        });
        let block = EnhancedPacketBlock {
            interface_id: record.interface,
            timestamp: record.at,
            original_len: record.data.len() as u32,
            data: (&record.data[..]).into(),
            options: flags
                .map(EnhancedPacketOption::Flags)
                .into_iter()
                .chain(comment.map(|c| EnhancedPacketOption::Comment(c.into())))
                .collect(),
        };
        self.out.write_pcapng_block(block).map_err(io_error)?;
        self.written += 1;
        self.shared.written.store(self.written, Ordering::Relaxed);
        Ok(())
    }

    /// Tells readers of the file how many frames are missing from it.
    fn write_statistics(&mut self) -> io::Result<()> {
        self.describe_interfaces()?;
        let now = (self.shared.clock)();
        for (id, interface) in self.shared.interfaces().iter().enumerate() {
            let dropped = interface.dropped.load(Ordering::Relaxed);
            let block = InterfaceStatisticsBlock {
                interface_id: id as u32,
                timestamp: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
                options: vec![InterfaceStatisticsOption::IsbIfDrop(dropped)],
            };
            self.out.write_pcapng_block(block).map_err(io_error)?;
        }
        Ok(())
    }
}

/// The beginning of a text, if it is too long.
fn short(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_COMMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
