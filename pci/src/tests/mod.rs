//! What a driver finds out about the function by reading and writing it.

mod accesses;
mod interrupts;
mod registers;
mod removal;
mod vendor;

use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rocinante_dma::MemoryMap;

use crate::function::{ConfigError, Function, FunctionConfig};
use crate::interrupts::Interrupts;
use crate::model::{DeviceModel, ResetKind};
use crate::sys;

/// What the device was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    Reset(ResetKind),
    BusMaster(bool),
    Memory { regions: usize, quiesce: bool },
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Event>>>, Arc<AtomicU32>);

impl Recorder {
    fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl DeviceModel for Recorder {
    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        assert_eq!(bar, 0);
        self.push(Event::Read(offset, data.len()));
        data.fill(0x5a);
    }
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        assert_eq!(bar, 0);
        self.push(Event::Write(offset, data.to_vec()));
    }
    fn reset(&mut self, kind: ResetKind) {
        self.push(Event::Reset(kind));
    }
    fn bus_master(&mut self, enabled: bool) {
        self.push(Event::BusMaster(enabled));
    }
    fn memory_changed(&mut self, map: Arc<MemoryMap>, must_quiesce: bool) {
        self.push(Event::Memory {
            regions: map.region_count(),
            quiesce: must_quiesce,
        });
    }
    fn plugs(&self) -> u32 {
        self.1.load(Ordering::Relaxed)
    }
}

fn config() -> FunctionConfig {
    FunctionConfig {
        vendor_id: 0x15b3,
        device_id: 0x1017,
        subsystem_vendor_id: 0x15b3,
        subsystem_id: 0x0020,
        class_code: 0x02_00_00,
        revision_id: 0,
        bar0_size: 32 << 20,
        msix_table_offset: 0x2000,
        msix_pba_offset: 0x3000,
        shared: None,
        vendor_capability: None,
    }
}

fn function() -> (Function, Recorder, Arc<Interrupts>) {
    let recorder = Recorder::default();
    let interrupts = Interrupts::new(64);
    let f = Function::new(
        config(),
        Box::new(recorder.clone()),
        Arc::clone(&interrupts),
    )
    .unwrap();
    (f, recorder, interrupts)
}

impl Function {
    fn r8(&mut self, at: u64) -> u8 {
        let mut b = [0; 1];
        self.config_read(at, &mut b).unwrap();
        b[0]
    }
    fn r16(&mut self, at: u64) -> u16 {
        let mut b = [0; 2];
        self.config_read(at, &mut b).unwrap();
        u16::from_le_bytes(b)
    }
    fn r32(&mut self, at: u64) -> u32 {
        let mut b = [0; 4];
        self.config_read(at, &mut b).unwrap();
        u32::from_le_bytes(b)
    }
    fn w16(&mut self, at: u64, v: u16) {
        self.config_write(at, &v.to_le_bytes()).unwrap();
    }
    fn w32(&mut self, at: u64, v: u32) {
        self.config_write(at, &v.to_le_bytes()).unwrap();
    }

    /// Offset of a capability, by walking the list as a driver does.
    fn capability(&mut self, id: u8) -> Option<u64> {
        assert_ne!(self.r16(0x06) & 0x10, 0, "status says there is a list");
        let mut at = self.r8(0x34);
        for _ in 0..48 {
            if at == 0 {
                return None;
            }
            assert_eq!(at % 4, 0);
            if self.r8(u64::from(at)) == id {
                return Some(u64::from(at));
            }
            at = self.r8(u64::from(at) + 1);
        }
        panic!("the capability list has no end");
    }
}

fn table_entry(index: u64, address: u64, data: u32, masked: bool) -> (u64, Vec<u8>) {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(data.to_le_bytes());
    bytes.extend(u32::from(masked).to_le_bytes());
    (0x2000 + index * 16, bytes)
}

fn eventfd(interrupts: &Interrupts, vector: u16) -> impl Fn() -> Option<u64> {
    use std::io::Read;
    let fd = sys::eventfd().unwrap();
    interrupts
        .connect(vector, Some(fd.try_clone().unwrap()))
        .unwrap();
    let file = File::from(fd);
    move || {
        let mut count = [0; 8];
        match (&file).read_exact(&mut count) {
            Ok(()) => Some(u64::from_ne_bytes(count)),
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock);
                None
            }
        }
    }
}

fn tempfile_of(len: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}
