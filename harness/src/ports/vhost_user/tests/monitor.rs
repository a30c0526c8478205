//! The port against a monitor: the protocol's other end is the crate's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::super::net::FEATURES;
use super::super::ring::Memory;
use super::super::{HEADROOM, VhostUser};
use super::{BUFFERS, Driver, WRITE, frame, offer};
use crate::ports::{Backend, Received, Sent};

const SOON: Duration = Duration::from_secs(20);
const MEMORY: usize = 0x20_0000;

/// Where the monitor claims to have the guest's memory.
const CLAIM: u64 = 0x7f00_0000_0000;

/// A port in a thread of its own, as the runner has it.
struct Port {
    path: PathBuf,
    frames: Receiver<Vec<u8>>,
    send: Sender<Vec<u8>>,
    carrier: Arc<Mutex<Option<bool>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sent>>>,
    _folder: tempfile::TempDir,
}

impl Port {
    fn new() -> Port {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.sock");
        let mut port = VhostUser::bind(&path).unwrap();
        let (tell, frames) = channel();
        let (send, to_send) = channel::<Vec<u8>>();
        let stop: Arc<AtomicBool> = Arc::default();
        let carrier: Arc<Mutex<Option<bool>>> = Arc::default();
        let (stopped, changed) = (Arc::clone(&stop), Arc::clone(&carrier));
        let thread = std::thread::spawn(move || {
            let mut sent = Vec::new();
            let mut buf = vec![0; 0x2800];
            while !stopped.load(Ordering::Relaxed) {
                if let Some(up) = changed.lock().unwrap().take() {
                    port.set_carrier(up);
                }
                let received = port.recv(&mut buf).expect("no trouble");
                if let Received::Frame(at) = &received {
                    tell.send(buf[at.clone()].to_vec()).unwrap();
                }
                for frame in to_send.try_iter() {
                    let mut buf = vec![0; HEADROOM];
                    buf.extend(frame);
                    sent.push(port.send(&mut buf).expect("no trouble"));
                }
                if received == Received::Nothing {
                    let mut fds = [PollFd::from_borrowed_fd(port.fd().unwrap(), PollFlags::IN)];
                    poll(
                        &mut fds,
                        Some(&Timespec {
                            tv_sec: 0,
                            tv_nsec: 5_000_000,
                        }),
                    )
                    .unwrap();
                }
            }
            sent
        });
        Port {
            path,
            frames,
            send,
            carrier,
            stop,
            thread: Some(thread),
            _folder: folder,
        }
    }

    fn set_carrier(&self, up: bool) {
        *self.carrier.lock().unwrap() = Some(up);
    }

    fn end(&mut self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// A monitor with a guest whose driver has set up its rings.
struct Monitor {
    frontend: Frontend,
    memory: Memory,
    kick: EventFd,
    call: EventFd,
    _file: File,
}

impl Monitor {
    fn attach(path: &Path) -> Monitor {
        let mut frontend = Frontend::connect(path, 2).unwrap();
        let features = frontend.get_features().unwrap();
        assert_eq!(features & FEATURES, FEATURES);
        let protocol = frontend.get_protocol_features().unwrap();
        assert_eq!(protocol, VhostUserProtocolFeatures::REPLY_ACK);
        frontend.set_protocol_features(protocol).unwrap();
        frontend.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_owner().unwrap();
        frontend.set_features(features).unwrap();
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        ftruncate(&file, MEMORY as u64).unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY as u64,
            userspace_addr: CLAIM,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        frontend.set_mem_table(&[region]).unwrap();
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let memory =
            Memory::from_ranges_with_files([(GuestAddress(0), MEMORY, Some(offset))]).unwrap();
        let (kick, call) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        for (index, at) in [(0, 0x1_0000), (1, 0)] {
            let queue = Driver {
                memory: &memory,
                at,
            };
            frontend.set_vring_num(index, 16).unwrap();
            frontend.set_vring_base(index, 0).unwrap();
            let addresses = VringConfigData {
                queue_max_size: 16,
                queue_size: 16,
                flags: 0,
                desc_table_addr: CLAIM + queue.desc_addr(),
                used_ring_addr: CLAIM + queue.used_addr(),
                avail_ring_addr: CLAIM + queue.avail_addr(),
                log_addr: None,
            };
            frontend.set_vring_addr(index, &addresses).unwrap();
            frontend.set_vring_kick(index, &kick).unwrap();
            frontend.set_vring_call(index, &call).unwrap();
            frontend.set_vring_enable(index, true).unwrap();
        }
        Monitor {
            frontend,
            memory,
            kick,
            call,
            _file: file,
        }
    }

    fn queue(&self, at: u64) -> Driver<'_> {
        Driver {
            memory: &self.memory,
            at,
        }
    }

    /// The guest sends a frame and kicks.
    fn send(&self, frame: &[u8]) {
        let mut bytes = vec![0; 12];
        bytes.extend(frame);
        self.memory
            .write_slice(&bytes, GuestAddress(BUFFERS))
            .unwrap();
        offer(&self.queue(0), &[(BUFFERS, bytes.len() as u32, 0, 0)], 0, 0);
        self.kick.write(1).unwrap();
    }

    /// Frames pass in both directions.
    fn check(&self, port: &Port) {
        let sent = frame(9014);
        self.send(&sent);
        assert_eq!(port.frames.recv_timeout(SOON).unwrap(), sent);
        let rx = self.queue(0x1_0000);
        let before = rx.used_idx();
        rx.store(rx.avail_addr() + 4 + 2 * 16, before);
        offer(&rx, &[(BUFFERS + 0x8000, 2000, WRITE, 0)], 0, 0);
        port.send.send(frame(1000)).unwrap();
        let end = Instant::now() + SOON;
        while rx.used_idx() == before {
            assert!(Instant::now() < end, "nothing is received");
            std::thread::yield_now();
        }
        // The interrupt comes after what it is about.
        while self.call.read().is_err() {
            assert!(Instant::now() < end, "no interrupt");
            std::thread::yield_now();
        }
        let mut bytes = vec![0; 1000];
        let at = GuestAddress(BUFFERS + 0x8000 + 12);
        self.memory.read_slice(&mut bytes, at).unwrap();
        assert_eq!(bytes, frame(1000));
    }
}

fn ended(mut stream: UnixStream) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("not ended: {other:?}"),
    }
}

#[test]
fn one_monitor_after_the_other_is_served() {
    let mut port = Port::new();
    for _ in 0..3 {
        let monitor = Monitor::attach(&port.path);
        monitor.check(&port);
        monitor.check(&port);
    }
    // A driver that stops and starts, as at a reboot, goes on where it was.
    let monitor = Monitor::attach(&port.path);
    monitor.check(&port);
    for index in [0, 1] {
        assert_eq!(monitor.frontend.get_vring_base(index).unwrap(), 1);
    }
    for index in [0, 1] {
        monitor.frontend.set_vring_base(index, 1).unwrap();
        monitor
            .frontend
            .set_vring_kick(index, &monitor.kick)
            .unwrap();
        monitor
            .frontend
            .set_vring_call(index, &monitor.call)
            .unwrap();
    }
    monitor.check(&port);
    assert!(port.end().iter().all(|sent| *sent == Sent::Done));
}

#[test]
fn monitors_that_talk_nonsense_are_sent_away() {
    let port = Port::new();
    let header =
        |request: u32, flags: u32, size: u32| [request, flags, size].map(u32::to_ne_bytes).concat();
    for bytes in [
        // Unknown requests, versions, lengths; half a message; a reply; what was not offered.
        header(0, 1, 0),
        header(1000, 1, 0),
        header(1, 0, 0),
        header(1, 1, u32::MAX),
        header(5, 1, 0x1001),
        header(2, 1, 8),
        header(2, 5, 0)[..7].to_vec(),
        header(1, 1, 8),
        header(17, 1, 0),
        [header(8, 1, 8), vec![0xff; 8]].concat(),
        [header(12, 1, 8), vec![0; 8]].concat(),
        [header(5, 1, 8), vec![1, 0, 0, 0, 0, 0, 0, 0]].concat(),
    ] {
        let mut stream = UnixStream::connect(&port.path).unwrap();
        stream.write_all(&bytes).unwrap();
        ended(stream);
    }
    Monitor::attach(&port.path).check(&port);
    // Refused, after rings were set up.
    let monitor = Monitor::attach(&port.path);
    assert!(monitor.frontend.set_vring_num(0, 2048).is_err());
    let mut monitor = Monitor::attach(&port.path);
    let flags = VhostUserConfigFlags::empty();
    assert!(
        monitor
            .frontend
            .get_config(0x100, 4, flags, &[0; 4])
            .is_err()
    );
    drop(monitor);
    Monitor::attach(&port.path).check(&port);
}

#[test]
fn a_monitor_that_does_not_read_its_answers_is_sent_away() {
    let port = Port::new();
    let mut stream = UnixStream::connect(&port.path).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    let question = [1u32, 1, 0].map(u32::to_ne_bytes).concat();
    let stubborn = (0..1_000_000).any(|_| stream.write_all(&question).is_err());
    assert!(stubborn);
    Monitor::attach(&port.path).check(&port);
}

#[test]
fn without_carrier_there_is_nobody_to_connect_to() {
    let port = Port::new();
    let monitor = Monitor::attach(&port.path);
    monitor.check(&port);
    port.set_carrier(false);
    let end = Instant::now() + SOON;
    while UnixStream::connect(&port.path).is_ok() {
        assert!(Instant::now() < end, "still listening");
        std::thread::yield_now();
    }
    assert!(!port.path.exists());
    let old = monitor;
    assert!(old.frontend.get_features().is_err());
    port.set_carrier(true);
    while UnixStream::connect(&port.path).is_err() {
        assert!(Instant::now() < end, "not listening");
        std::thread::yield_now();
    }
    Monitor::attach(&port.path).check(&port);
}

#[test]
fn a_guest_that_takes_nothing_is_not_waited_for_for_long() {
    let mut port = Port::new();
    // Nobody is there.
    port.send.send(frame(1000)).unwrap();
    let monitor = Monitor::attach(&port.path);
    for _ in 0..200 {
        port.send.send(frame(1000)).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    monitor.check(&port);
    let sent = port.end();
    let full = sent.iter().filter(|sent| **sent == Sent::Full).count();
    let lost = sent.iter().filter(|sent| **sent == Sent::Lost).count();
    assert!(full >= 1 && lost >= 1, "{sent:?}");
    assert!(full + lost < sent.len(), "{sent:?}");
}
