//! What an access and an interrupt cost over the socket, without a guest.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rocinante_dma::MemoryMap;
use rocinante_pci::client::Client;
use rocinante_pci::{
    DeviceModel, Function, FunctionConfig, Interrupts, Listener, ResetKind, Shutdown,
};

struct Nothing;

impl DeviceModel for Nothing {
    fn bar_read(&mut self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(1);
    }
    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
    fn reset(&mut self, _kind: ResetKind) {}
    fn bus_master(&mut self, _enabled: bool) {}
    fn memory_changed(&mut self, _map: Arc<MemoryMap>, _must_quiesce: bool) {}
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

fn socket(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nic.sock");
    let mut function =
        Function::new(config(), Box::new(Nothing), Interrupts::new(64)).expect("a function");
    let shutdown = Shutdown::new().expect("an eventfd");
    let listener = Listener::bind(&path).expect("a socket");
    std::thread::scope(|s| {
        s.spawn(|| listener.serve(&mut function, &shutdown));
        let mut client = Client::connect(&path).expect("a server");
        let mut data = [0; 8];
        c.bench_function("BAR read of 8 bytes", |b| {
            b.iter(|| client.read(0, 0x10000, &mut data).expect("read"));
        });
        c.bench_function("BAR write of 8 bytes", |b| {
            b.iter(|| client.write(0, 0x10800, &[0; 8]).expect("written"));
        });
        c.bench_function("16 posted writes and a read", |b| {
            b.iter(|| {
                for _ in 0..16 {
                    client.post_write(0, 0x10800, &[0; 8]).expect("posted");
                }
                client.read(0, 0x10000, &mut data).expect("read");
            });
        });
        shutdown.trigger();
    });
}

fn interrupts(c: &mut Criterion) {
    let interrupts = Interrupts::new(64);
    c.bench_function("fire, not connected", |b| b.iter(|| interrupts.fire(1)));
    let event = vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK).expect("an eventfd");
    // SAFETY: the descriptor is open, and copied.
    let fd =
        unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&event)) };
    let fd = fd.try_clone_to_owned().expect("a copy");
    interrupts.connect(0, Some(fd)).expect("connected");
    c.bench_function("fire into an eventfd", |b| b.iter(|| interrupts.fire(0)));
}

criterion_group!(benches, socket, interrupts);
criterion_main!(benches);
