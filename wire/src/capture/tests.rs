use std::sync::mpsc;

use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::frame::NoPayload;
use crate::vectors::{self, unhex};

/// A file in memory that tells when it was flushed.
struct File {
    bytes: Arc<Mutex<Vec<u8>>>,
    flushed: Option<mpsc::Sender<usize>>,
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(flushed) = &self.flushed {
            let _ = flushed.send(self.bytes.lock().unwrap().len());
        }
        Ok(())
    }
}

/// A clock that advances by a nanosecond whenever it is read.
fn clock() -> Clock {
    let now = AtomicU64::new(1_700_000_000_123_456_789);
    Box::new(move || Duration::from_nanos(now.fetch_add(1, Ordering::Relaxed)))
}

fn read(bytes: &[u8]) -> Vec<Block<'static>> {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block() {
        blocks.push(block.unwrap().into_owned());
    }
    blocks
}

fn vector_frame(vector: &vectors::Vector) -> Frame<NoPayload> {
    Frame::from_buf(Buf::from_vec(unhex(vector.frame)))
}

#[test]
fn frames_of_two_links_are_in_the_file_with_names_times_and_comments() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let file = File {
        bytes: Arc::clone(&bytes),
        flushed: None,
    };
    let capture = Capture::start(file, clock()).unwrap();
    let (a, b) = (capture.tap("a"), capture.tap("b"));
    a.record(&vector_frame(&vectors::V4_SEND), None);
    b.record(&vector_frame(&vectors::V1_SEND), Some("delayed by 5 us"));
    a.record(&vector_frame(&vectors::HW_CNP), None);
    let expected = CaptureStats {
        written: 3,
        ..CaptureStats::default()
    };
    assert_eq!(capture.finish().unwrap(), expected);
    assert!(!a.is_on());
    a.record(&vector_frame(&vectors::HW_CNP), None);

    let blocks = read(&bytes.lock().unwrap());
    let mut names = Vec::new();
    let mut packets = Vec::new();
    let mut statistics = 0;
    for block in &blocks {
        match block {
            Block::InterfaceDescription(interface) => {
                assert_eq!(interface.linktype, DataLink::ETHERNET);
                assert!(
                    interface
                        .options
                        .contains(&InterfaceDescriptionOption::IfTsResol(9))
                );
                for option in &interface.options {
                    if let InterfaceDescriptionOption::IfName(name) = option {
                        names.push(name.to_string());
                    }
                }
            }
            Block::EnhancedPacket(packet) => packets.push(packet),
            Block::InterfaceStatistics(_) => statistics += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(
        (names, statistics),
        (vec!["a".to_owned(), "b".to_owned()], 2)
    );
    let sent = [&vectors::V4_SEND, &vectors::V1_SEND, &vectors::HW_CNP];
    assert_eq!(packets.len(), sent.len());
    for (n, (packet, vector)) in packets.iter().zip(sent).enumerate() {
        assert_eq!(packet.data, unhex(vector.frame), "{}", vector.name);
        assert_eq!(packet.original_len as usize, packet.data.len());
        assert_eq!(packet.interface_id, [0, 1, 0][n]);
        let at = Duration::from_nanos(1_700_000_000_123_456_789 + n as u64);
        assert_eq!(packet.timestamp, at);
    }
    let comment = EnhancedPacketOption::Comment("delayed by 5 us".into());
    assert_eq!(packets[1].options, [comment]);
}

#[test]
fn what_has_been_sent_is_readable_before_the_end() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (flushed, flushes) = mpsc::channel();
    let file = File {
        bytes: Arc::clone(&bytes),
        flushed: Some(flushed),
    };
    let capture = Capture::start(file, clock()).unwrap();
    let tap = capture.tap("a");
    for count in 1..=20 {
        tap.record(&vector_frame(&vectors::V6_WRITE), None);
        loop {
            let len = flushes
                .recv_timeout(Duration::from_secs(20))
                .expect("a flush in 20 s");
            let blocks = read(&bytes.lock().unwrap()[..len]);
            let packets = blocks
                .iter()
                .filter(|b| matches!(b, Block::EnhancedPacket(_)))
                .count();
            assert!(packets <= count);
            if packets == count {
                break;
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A disk that hangs in its second flush (the first is that of the file's header) until it is
/// told, and then is full.
struct FullDisk {
    hangs: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
    flushes: u32,
}

impl Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        if self.flushes == 1 {
            return Ok(());
        }
        let _ = self.hangs.send(());
        let _ = self.go_on.recv_timeout(PATIENCE);
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_slow_file_costs_frames_but_no_time_and_a_full_disk_ends_the_capture() {
    let (hangs, hanging) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let disk = FullDisk {
        hangs,
        go_on,
        flushes: 0,
    };
    let capture = Capture::start(disk, clock()).unwrap();
    let tap = capture.tap("a");
    hanging
        .recv_timeout(PATIENCE)
        .expect("the writing thread flushes");
    let frame = vector_frame(&vectors::V4_SEND);
    for _ in 0..QUEUE_LEN + 5 {
        tap.record(&frame, None);
    }
    assert_eq!(tap.interface.dropped.load(Ordering::Relaxed), 5);
    go.send(()).unwrap();
    let error = capture.finish().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(!tap.is_on());
    tap.record(&frame, None);
    assert_eq!(tap.shared.queue.len(), 0);
}

/// Packets in a file that must be whole, and the names of its interfaces.
fn packets_and_names(bytes: &[u8]) -> (usize, Vec<String>) {
    let (mut packets, mut names) = (0, Vec::new());
    for block in read(bytes) {
        match block {
            Block::EnhancedPacket(packet) => {
                assert!((packet.interface_id as usize) < names.len());
                packets += 1;
            }
            Block::InterfaceDescription(interface) => {
                for option in interface.options {
                    if let InterfaceDescriptionOption::IfName(name) = option {
                        names.push(name.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    (packets, names)
}

#[test]
fn a_ring_keeps_the_newest_files_and_each_is_whole() {
    let folder = std::env::temp_dir().join(format!("rocinante-ring-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("trace.pcapng");
    let capture = Capture::create_ring(&path, 1000, 3).unwrap();
    let (a, b) = (capture.tap("a"), capture.tap("b"));
    for n in 0..100 {
        let tap = if n % 2 == 0 { &a } else { &b };
        tap.record_port(&vector_frame(&vectors::V4_SEND), Direction::Tx, None);
    }
    assert_eq!(capture.finish().unwrap().written, 100);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let mut total = 0;
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let (packets, names) = packets_and_names(&bytes);
        assert_eq!(names, ["a", "b"], "{file:?}");
        assert!(bytes.len() < 1500, "{file:?} has {} bytes", bytes.len());
        total += packets;
    }
    // About 1000 / 124 packets a file.
    assert!((10..30).contains(&total), "{total} in the last three files");
    let last = files[2].file_name().unwrap().to_string_lossy().into_owned();
    assert!(last.starts_with("trace.pcapng.00"), "{last}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_a_failed_capture_misses_is_counted() {
    let (hangs, hanging) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let disk = FullDisk {
        hangs,
        go_on,
        flushes: 0,
    };
    let capture = Capture::start(disk, clock()).unwrap();
    let tap = capture.tap("a");
    hanging
        .recv_timeout(PATIENCE)
        .expect("the writing thread flushes");
    assert_eq!(capture.missed(), None);
    go.send(()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while capture.missed().is_none() {
        assert!(Instant::now() < deadline, "the capture goes on");
        thread::yield_now();
    }
    for _ in 0..3 {
        tap.record(&vector_frame(&vectors::V4_SEND), None);
    }
    assert_eq!(capture.missed(), Some(3));
}

/// A pipe whose reader has stopped.
struct Stuck(mpsc::Receiver<()>, bool);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The first is that of the header.
        if std::mem::replace(&mut self.1, true) {
            let _ = self.0.recv();
        }
        Ok(())
    }
}

#[test]
fn a_reader_that_has_stopped_does_not_hold_up_the_end() {
    let (go, wait) = mpsc::channel();
    let capture = Capture::start(Stuck(wait, false), clock()).unwrap();
    capture
        .tap("a")
        .record(&vector_frame(&vectors::V4_SEND), None);
    let error = capture.finish().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    drop(go);
}

#[test]
fn a_fifo_has_to_have_a_reader() {
    let path = std::env::temp_dir().join(format!("rocinante-fifo-{}", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let error = Capture::create(&path).unwrap_err().to_string();
    assert!(error.starts_with("nobody reads this FIFO"), "{error}");
    let (opened, reader) = (mpsc::channel(), path.clone());
    let (tell, told) = opened;
    let reading = thread::spawn(move || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.read(true).open(reader).unwrap();
        let mut bytes = [0; 4];
        io::Read::read_exact(&mut file, &mut bytes).unwrap();
        drop(file);
        tell.send(()).unwrap();
        bytes
    });
    let deadline = Instant::now() + PATIENCE;
    let capture = loop {
        match Capture::create(&path) {
            Ok(capture) => break capture,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    // It goes away: the capture ends, and says so.
    told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(reading.join().unwrap(), [0x0a, 0x0d, 0x0d, 0x0a]);
    let tap = capture.tap("a");
    tap.record(&vector_frame(&vectors::V4_SEND), None);
    let error = capture.finish().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn comments_of_any_length_leave_the_file_whole() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let file = File {
        bytes: Arc::clone(&bytes),
        flushed: None,
    };
    let capture = Capture::start(file, clock()).unwrap();
    let tap = capture.tap("a");
    for len in [0, 1, 2, 3, 40_000, 70_000] {
        let comment = "\u{e9}".repeat(len);
        tap.record(&vector_frame(&vectors::V4_SEND), Some(&comment));
    }
    assert_eq!(capture.finish().unwrap().written, 6);
    let mut lengths = Vec::new();
    for block in read(&bytes.lock().unwrap()) {
        let Block::EnhancedPacket(packet) = block else {
            continue;
        };
        for option in &packet.options {
            if let EnhancedPacketOption::Comment(text) = option {
                lengths.push(text.len());
            }
        }
    }
    assert_eq!(lengths, [0, 2, 4, 6, LONGEST_COMMENT, LONGEST_COMMENT]);
}

#[test]
fn nothing_is_lost_between_the_files_of_a_ring() {
    let folder = std::env::temp_dir().join(format!("rocinante-whole-ring-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let capture = Capture::create_ring(&folder.join("trace"), 1000, 1000).unwrap();
    let taps = ["a", "b", "c"].map(|name| capture.tap(name));
    // Each from a thread of its own, as cables do, with its number in the comment.
    thread::scope(|scope| {
        for tap in &taps {
            scope.spawn(move || {
                for n in 0..500 {
                    tap.record(&vector_frame(&vectors::V4_SEND), Some(&n.to_string()));
                }
            });
        }
    });
    assert_eq!(capture.finish().unwrap().written, 1500);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 100, "{}", files.len());
    let mut next = [0; 3];
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let (_, names) = packets_and_names(&bytes);
        assert_eq!(names, ["a", "b", "c"], "{file:?}");
        for block in read(&bytes) {
            if let Block::EnhancedPacket(packet) = block {
                let next = &mut next[packet.interface_id as usize];
                let comment = EnhancedPacketOption::Comment(next.to_string().into());
                assert_eq!(packet.options, [comment], "{file:?}");
                *next += 1;
            }
        }
    }
    assert_eq!(next, [500; 3]);
    std::fs::remove_dir_all(&folder).unwrap();
}
