//! Captures of faults, as an independent dissector reads them; and captures that have no room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use rocinante_tests::tshark;
use rocinante_wire::capture::Capture;

use crate::bench::Bench;

/// What is asked of each packet.
const FIELDS: [&str; 7] = [
    "frame.interface_name",
    "frame.time_epoch",
    "frame.comment",
    "frame.packet_flags_direction",
    "_ws.malformed",
    "infiniband.bth.psn",
    "infiniband.invariant.crc",
];

/// A packet as tshark sees it.
struct Packet {
    interface: String,
    /// Nanoseconds.
    time: u128,
    comment: String,
    direction: String,
    malformed: bool,
    psn: String,
    icrc: String,
}

fn read(capture: &Path) -> Vec<Packet> {
    let packets = tshark::fields(capture, "frame", &FIELDS)
        .into_iter()
        .map(|fields| {
            let [interface, time, comment, direction, malformed, psn, icrc] =
                fields.try_into().expect("as many as were asked for");
            let (seconds, nanoseconds) = time.split_once('.').expect("a time");
            assert_eq!(nanoseconds.len(), 9, "{time}");
            let whole: u128 = seconds.parse().expect("seconds");
            let rest: u128 = nanoseconds.parse().expect("nanoseconds");
            Packet {
                interface,
                time: whole * 1_000_000_000 + rest,
                comment,
                direction,
                malformed: !malformed.is_empty(),
                psn,
                icrc,
            }
        });
    packets.collect()
}

/// Each port is an interface, its times do not go back, and both directions are there.
fn assert_sound(packets: &[Packet]) {
    let mut last = BTreeMap::new();
    let mut directions = BTreeSet::new();
    for packet in packets {
        directions.insert((packet.interface.as_str(), packet.direction.as_str()));
        let before = last.insert(packet.interface.as_str(), packet.time);
        assert!(
            before.is_none_or(|before| before <= packet.time),
            "{}: {before:?}, then {}",
            packet.interface,
            packet.time
        );
    }
    // 1 is inbound, 2 outbound.
    let all = ["link0/nic0", "link0/nic1"]
        .map(|interface| ["0x00000001", "0x00000002"].map(|direction| (interface, direction)));
    let all: BTreeSet<_> = all.into_iter().flatten().collect();
    if directions != all {
        panic!("{directions:?}");
    }
}

/// The capture of what rules did to packets; `hits` says how often each has.
pub fn explained(capture: &Path, hits: &BTreeMap<String, u64>) {
    let packets = read(capture);
    assert_sound(&packets);
    let with = |verb: &str, name: &str| -> Vec<&Packet> {
        let start = format!("{verb}; rule '{name}'");
        packets
            .iter()
            .filter(|packet| packet.comment.starts_with(&start))
            .collect()
    };
    // Each one that was touched, as it was sent.
    for (name, hits) in hits {
        assert_eq!(with("sent", name).len() as u64, *hits, "{name}");
    }
    let commented = packets
        .iter()
        .filter(|packet| !packet.comment.is_empty())
        .count();
    println!(
        "             {} packets, {commented} with a comment",
        packets.len()
    );
    // What became of it.
    for name in [
        "third response of a READ lost",
        "given up after 7 retries",
        "chosen",
    ] {
        assert!(with("delivered", name).is_empty(), "{name}");
    }
    for name in [
        "ICRC corrupted",
        "payload corrupted",
        "payload corrupted, nobody notices",
        "wrong P_Key",
        "truncated",
        "packet overtaken by the rest",
    ] {
        assert_eq!(with("delivered", name).len(), 1, "{name}");
    }
    assert_eq!(with("delivered", "packet doubled").len(), 3);
    let forged = with("forged", "forged nak-remote-access");
    assert_eq!(forged.len(), 1);
    assert_eq!(
        forged[0].direction, "0x00000001",
        "to the one who has asked"
    );
    let [sent, delivered] = ["sent", "delivered"].map(|verb| with(verb, "ICRC corrupted"));
    assert_eq!(sent[0].psn, delivered[0].psn);
    assert_ne!(sent[0].icrc, delivered[0].icrc);
    let [sent, delivered] = ["sent", "delivered"].map(|verb| with(verb, "wrong P_Key"));
    assert_ne!(sent[0].icrc, delivered[0].icrc, "made right");

    // Only what we mangled is malformed, here and where it arrives, at the other port.
    let (ours, others): (Vec<&Packet>, Vec<&Packet>) = packets
        .iter()
        .filter(|packet| packet.malformed)
        .partition(|packet| !packet.comment.is_empty());
    for packet in &ours {
        let mangled = ["truncated", "READ response corrupted"];
        assert!(
            mangled.iter().any(|name| packet
                .comment
                .starts_with(&format!("delivered; rule '{name}'"))),
            "malformed: {}",
            packet.comment
        );
    }
    for packet in others {
        assert!(
            packet.direction == "0x00000001"
                && ours
                    .iter()
                    .any(|sent| sent.psn == packet.psn && sent.interface != packet.interface),
            "malformed: PSN {} at {}",
            packet.psn,
            packet.interface
        );
    }
}

/// Each file of a ring is a capture of its own, and there are no more than were wanted.
pub fn ring(bench: &Bench<'_>, folder: &Path) {
    const KEEP: usize = 3;
    const SIZE: u64 = 500_000;
    fs::create_dir_all(folder).expect("a folder");
    for old in fs::read_dir(folder).expect("the folder").flatten() {
        fs::remove_file(old.path()).expect("removed");
    }
    let capture = Capture::create_ring(&folder.join("ring.pcapng"), SIZE, KEEP).expect("a ring");
    bench.control().start_capture(capture, true);
    bench
        .run("ring", "", "op=write size=8192 count=200")
        .assert_right();
    let capture = bench.control().stop_capture().expect("the capture");
    let stats = capture.finish().expect("complete");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    assert_eq!(files.len(), KEEP, "{files:?}");
    let mut packets = 0;
    for (n, file) in files.iter().enumerate() {
        let size = fs::metadata(file).expect("a file").len();
        assert!(
            size < SIZE + 20_000 && (size > SIZE || n + 1 == KEEP),
            "{}: {size}",
            file.display()
        );
        let read = read(file);
        assert_eq!(read.iter().filter(|packet| packet.malformed).count(), 0);
        packets += read.len() as u64;
    }
    assert!(
        packets < stats.written && packets > 100,
        "{packets} {stats:?}"
    );
}

/// The errors that were logged.
#[derive(Default)]
struct Errors(Mutex<Vec<String>>);

impl log::Log for Errors {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            errors.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

static ERRORS: OnceLock<Errors> = OnceLock::new();

fn errors() -> Vec<String> {
    let errors = ERRORS.get_or_init(Errors::default);
    errors
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// A file system of one megabyte; it is gone when this is dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(folder: &'a Path) -> Small<'a> {
        fs::create_dir_all(folder).expect("a folder");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=1m", "rocinante"])
            .arg(folder);
        let mounted = mount.output().expect("mount(8)");
        assert!(
            mounted.status.success(),
            "this test has to be root, who mounts: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Small(folder)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "{}",
            self.0.display()
        );
    }
}

/// A disk that is full ends the capture with one line, and costs traffic nothing.
pub fn full_disk(bench: &Bench<'_>, folder: &Path) {
    assert!(
        Capture::create(Path::new("/dev/full")).is_err(),
        "no room for the header"
    );
    log::set_logger(ERRORS.get_or_init(Errors::default)).expect("the only logger");
    log::set_max_level(log::LevelFilter::Error);
    let small = Small::mount(folder);
    let path = folder.join("full.pcapng");
    bench
        .control()
        .start_capture(Capture::create(&path).expect("room to begin"), true);
    // Three megabytes, two times each.
    let outcome = bench.run("full disk", "", "op=write size=8192 count=400");
    outcome.assert_right();
    outcome.assert_rdma(&[], &[]);
    let outcome = bench.run("full disk, later", "", "op=read size=8192 count=20");
    outcome.assert_right();
    let capture = bench.control().stop_capture().expect("the capture");
    let missed = capture.missed();
    assert!(missed.is_some_and(|missed| missed > 20 * 9), "{missed:?}");
    let error = capture.finish().expect_err("a full disk");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    let said = errors();
    assert!(
        said.len() == 1 && said[0].contains("capture ends"),
        "{said:#?}"
    );
    println!("             {}; {missed:?} missed", said[0]);
    // What it has is still of use, up to its last block.
    assert!(fs::metadata(&path).expect("the file").len() > 900_000);
    drop(small);
    bench
        .run("after the full disk", "", "op=write size=8192")
        .assert_right();
}
