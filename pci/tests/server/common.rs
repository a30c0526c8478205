//! A server with a simple device behind it, in a thread of its own.

use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rocinante_dma::MemoryMap;
use rocinante_pci::client::Client;
use rocinante_pci::{
    DeviceModel, Function, FunctionConfig, Interrupts, Listener, ResetKind, ServeError, Shutdown,
};

pub const CONFIG: u32 = 7;
pub const MSIX: u32 = 2;
pub const ERRORS: u32 = 3;
pub const BAR0_SIZE: u64 = 32 << 20;
pub const MSIX_CONTROL: u64 = 0x9e;

/// A write of an IOVA here makes the device add 1 to the u64 there.
pub const INCREMENT: u64 = 0x10000;
/// A write of a number here fires that vector.
pub const FIRE: u64 = 0x10008;
/// Reads as the outcome of the last increment: 1 done, 2 failed.
pub const OUTCOME: u64 = 0x10010;
/// Plain memory.
pub const SCRATCH: u64 = 0x10018;

#[derive(Default)]
pub struct Seen {
    pub resets: Vec<ResetKind>,
    pub bus_master: Vec<bool>,
    pub memory: Vec<(usize, bool)>,
    pub writes: u64,
}

struct Device {
    seen: Arc<Mutex<Seen>>,
    interrupts: Arc<Interrupts>,
    map: Arc<MemoryMap>,
    outcome: u64,
    scratch: u64,
}

impl DeviceModel for Device {
    fn bar_read(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        let value = match offset {
            OUTCOME => self.outcome,
            SCRATCH => self.scratch,
            _ => 0,
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        self.seen.lock().unwrap().writes += 1;
        let mut bytes = [0; 8];
        bytes[..data.len()].copy_from_slice(data);
        let value = u64::from_le_bytes(bytes);
        match offset {
            INCREMENT => {
                let done = self.map.fetch_add_u64(value, 1).is_ok();
                self.outcome = if done { 1 } else { 2 };
            }
            FIRE => self.interrupts.fire(value as u16),
            SCRATCH => self.scratch = value,
            _ => {}
        }
    }

    fn reset(&mut self, kind: ResetKind) {
        self.outcome = 0;
        self.scratch = 0;
        self.seen.lock().unwrap().resets.push(kind);
    }

    fn bus_master(&mut self, enabled: bool) {
        self.seen.lock().unwrap().bus_master.push(enabled);
    }

    fn memory_changed(&mut self, map: Arc<MemoryMap>, must_quiesce: bool) {
        self.seen
            .lock()
            .unwrap()
            .memory
            .push((map.region_count(), must_quiesce));
        self.map = map;
    }
}

pub struct Server {
    pub path: PathBuf,
    pub seen: Arc<Mutex<Seen>>,
    pub shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
    _folder: tempfile::TempDir,
}

pub fn function_config() -> FunctionConfig {
    FunctionConfig {
        vendor_id: 0x15b3,
        device_id: 0x1017,
        subsystem_vendor_id: 0x15b3,
        subsystem_id: 0x0020,
        class_code: 0x02_00_00,
        revision_id: 0,
        bar0_size: BAR0_SIZE,
        msix_table_offset: 0x2000,
        msix_pba_offset: 0x3000,
        shared: None,
        vendor_capability: None,
    }
}

impl Server {
    pub fn start() -> Self {
        Self::with(function_config())
    }

    pub fn with(config: FunctionConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nic.sock");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let interrupts = Interrupts::new(64);
        let device = Device {
            seen: Arc::clone(&seen),
            interrupts: Arc::clone(&interrupts),
            map: MemoryMap::empty(),
            outcome: 0,
            scratch: 0,
        };
        let mut function =
            Function::new(config, Box::new(device), Arc::clone(&interrupts)).unwrap();
        let shutdown = Shutdown::new().unwrap();
        let listener = Listener::bind(&path).unwrap();
        let stop = shutdown.clone();
        let thread = Some(std::thread::spawn(move || {
            listener.serve(&mut function, &stop)
        }));
        Self {
            path,
            seen,
            shutdown,
            thread,
            _folder: folder,
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    /// Ends the server and says how long that took.
    pub fn stop(mut self) -> Duration {
        let start = Instant::now();
        self.shutdown.trigger();
        self.thread.take().unwrap().join().unwrap().unwrap();
        start.elapsed()
    }

    /// Waits until a condition on what the device has seen holds.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let seen = self.seen.lock().unwrap();
            if condition(&seen) {
                return;
            }
            let state = format!("{:?} {:?} {:?}", seen.resets, seen.bus_master, seen.memory);
            drop(seen);
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; seen: {state}"
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.unwrap().unwrap();
            }
        }
    }
}

/// Memory that can be mapped by two processes.
pub fn memfd(name: &Path, len: u64) -> File {
    let name = std::ffi::CString::new(name.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: `name` is a C string; the descriptor is new and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC)) };
    let file = File::from(fd);
    file.set_len(len).unwrap();
    file
}

pub fn eventfd() -> File {
    let event =
        vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).unwrap();
    // SAFETY: the descriptor is open and a copy is made.
    let fd =
        unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&event)) };
    File::from(fd.try_clone_to_owned().unwrap())
}

/// What has been counted since the last call; 0 if nothing.
pub fn count(eventfd: &File) -> u64 {
    use std::io::Read;
    let mut bytes = [0; 8];
    let mut file = eventfd;
    match file.read_exact(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(e) => {
            assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock);
            0
        }
    }
}

pub trait ClientExt {
    fn r32(&mut self, offset: u64) -> u32;
    fn w32(&mut self, offset: u64, value: u32);
    fn w16(&mut self, offset: u64, value: u16);
    fn bar_r64(&mut self, offset: u64) -> u64;
    fn bar_w64(&mut self, offset: u64, value: u64);
    fn connect_vector(&mut self, vector: u32, eventfd: &File);
}

impl ClientExt for Client {
    fn r32(&mut self, offset: u64) -> u32 {
        let mut b = [0; 4];
        self.read(CONFIG, offset, &mut b).unwrap();
        u32::from_le_bytes(b)
    }
    fn w32(&mut self, offset: u64, value: u32) {
        self.write(CONFIG, offset, &value.to_le_bytes()).unwrap();
    }
    fn w16(&mut self, offset: u64, value: u16) {
        self.write(CONFIG, offset, &value.to_le_bytes()).unwrap();
    }
    fn bar_r64(&mut self, offset: u64) -> u64 {
        let mut b = [0; 8];
        self.read(0, offset, &mut b).unwrap();
        u64::from_le_bytes(b)
    }
    fn bar_w64(&mut self, offset: u64, value: u64) {
        self.write(0, offset, &value.to_le_bytes()).unwrap();
    }
    fn connect_vector(&mut self, vector: u32, eventfd: &File) {
        self.set_irqs(MSIX, EVENTFD | TRIGGER, vector, 1, &[], &[eventfd.as_fd()])
            .unwrap();
    }
}

pub const NONE: u32 = 1;
pub const BOOL: u32 = 2;
pub const EVENTFD: u32 = 4;
pub const MASK: u32 = 8;
pub const UNMASK: u32 = 16;
pub const TRIGGER: u32 = 32;
