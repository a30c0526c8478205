//! Serves a function with nothing behind it, and prints what a monitor and its guest do with it: for finding
//! out how a monitor behaves. BAR 0 is memory; a write at its last page fires the vector that it names.
//!
//! Usage: blank SOCKET [shared]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rocinante_dma::MemoryMap;
use rocinante_pci::{
    DeviceModel, Function, FunctionConfig, Interrupts, ResetKind, SharedAreas, Shutdown, serve,
};

const BAR0_SIZE: u64 = 32 << 20;
const FIRE: u64 = BAR0_SIZE - 0x1000;

struct Blank {
    words: BTreeMap<u64, u8>,
    interrupts: Arc<Interrupts>,
    accesses: u64,
}

impl DeviceModel for Blank {
    fn bar_read(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(&mut *data) {
            *byte = self.words.get(&at).copied().unwrap_or(0);
        }
        self.note(format_args!("read  {offset:#x} {data:02x?}"));
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        self.note(format_args!("write {offset:#x} {data:02x?}"));
        if offset == FIRE {
            self.interrupts
                .fire(data.first().copied().unwrap_or(0).into());
        }
        self.words.extend((offset..).zip(data.iter().copied()));
    }

    fn reset(&mut self, kind: ResetKind) {
        println!("reset {kind:?} after {} accesses", self.accesses);
        self.words.clear();
        self.accesses = 0;
    }

    fn bus_master(&mut self, enabled: bool) {
        println!("bus master {enabled}");
    }

    fn memory_changed(&mut self, map: Arc<MemoryMap>, must_quiesce: bool) {
        println!(
            "memory {map:x?}{}",
            if must_quiesce { ", quiesce" } else { "" }
        );
    }
}

impl Blank {
    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.accesses += 1;
        if self.accesses <= 100 {
            println!("{what}");
        }
    }
}

fn shared() -> SharedAreas {
    // SAFETY: the name is a C string; the descriptor is new and owned by nobody else.
    let fd =
        unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"bar0".as_ptr(), libc::MFD_CLOEXEC)) };
    let file = File::from(fd);
    file.set_len(BAR0_SIZE).expect("memfd can grow");
    SharedAreas {
        file: Arc::new(file),
        areas: vec![(0x10_0000, 0x10_0000), (0x80_0000, 0x1000)],
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().ok_or("usage: blank SOCKET [shared]")?;
    let interrupts = Interrupts::new(64);
    let model = Blank {
        words: BTreeMap::new(),
        interrupts: Arc::clone(&interrupts),
        accesses: 0,
    };
    let config = FunctionConfig {
        vendor_id: 0x15b3,
        device_id: 0x1017,
        subsystem_vendor_id: 0x15b3,
        subsystem_id: 0x0020,
        class_code: 0x02_00_00,
        revision_id: 0,
        bar0_size: BAR0_SIZE,
        msix_table_offset: 0x2000,
        msix_pba_offset: 0x3000,
        shared: arguments.next().map(|_| shared()),
        vendor_capability: None,
    };
    let mut function = Function::new(config, Box::new(model), interrupts)?;
    serve(Path::new(&socket), &mut function, &Shutdown::new()?)?;
    Ok(())
}
