//! What a well-behaved monitor does with a function over a real socket.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use rocinante_pci::{ResetKind, SharedAreas};

#[test]
fn a_monitor_finds_a_connectx_5() {
    let server = Server::start();
    let mut client = server.client();
    let (flags, regions, irqs) = client.device_info().unwrap();
    assert_eq!(
        (flags, regions, irqs),
        (0b11, 9, 5),
        "resettable PCI device"
    );
    for index in 0..9 {
        let region = client.region_info(index).unwrap();
        let expected = match index {
            0 => (0b011, BAR0_SIZE),
            CONFIG => (0b011, 4096),
            _ => (0, 0),
        };
        assert_eq!((region.flags, region.size), expected, "region {index}");
        assert!(region.areas.is_empty() && region.fd.is_none());
    }
    assert_eq!(
        client.region_info(9).unwrap_err().errno(),
        Some(libc::EINVAL)
    );
    let irqs: Vec<_> = (0..5).map(|i| client.irq_info(i).unwrap()).collect();
    // INTx: eventfd, maskable, automasked. MSI-X: eventfd, and not NORESIZE. Errors: eventfd.
    assert_eq!(
        irqs,
        [(0b0111, 1), (0, 0), (0b0001, 64), (0b0001, 1), (0, 0)]
    );
    assert_eq!(client.irq_info(5).unwrap_err().errno(), Some(libc::EINVAL));

    assert_eq!(client.r32(0), 0x1017_15b3);
    let mut all = [0xaa; 4096];
    client.read(CONFIG, 0, &mut all).unwrap();
    assert_eq!(all[..4], [0xb3, 0x15, 0x17, 0x10]);
    client.w32(0x10, u32::MAX);
    client.w32(0x14, u32::MAX);
    let size = !(u64::from(client.r32(0x14)) << 32 | u64::from(client.r32(0x10) & !0xf)) + 1;
    assert_eq!(size, BAR0_SIZE);
}

#[test]
fn capabilities_are_json_with_the_limits_that_hold() {
    let server = Server::start();
    let mut client = rocinante_pci::client::Client::connect_raw(&server.path).unwrap();
    assert_eq!(
        client.version("{}").unwrap(),
        r#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":4096,"write_multiple":true}}"#
    );
}

#[test]
fn the_client_of_another_implementation_attaches() {
    let server = Server::start();
    let memory = memfd(Path::new("guest"), 0x10000);
    memory.write_all_at(&41u64.to_ne_bytes(), 0x1008).unwrap();
    let event = eventfd();

    let mut client = vfio_user::Client::new(&server.path).unwrap();
    assert_eq!(client.region(0).unwrap().size, BAR0_SIZE);
    assert_eq!(client.region(1).unwrap().size, 0);
    let mut id = [0; 4];
    client.region_read(CONFIG, 0, &mut id).unwrap();
    assert_eq!(id, [0xb3, 0x15, 0x17, 0x10]);
    assert_eq!(client.get_irq_info(MSIX).unwrap().count, 64);
    client
        .set_irqs(MSIX, EVENTFD | TRIGGER, 3, 1, &[event.as_raw_fd()])
        .unwrap();
    client
        .dma_map(0x1000, 0x10_0000, 0x1000, memory.as_raw_fd())
        .unwrap();
    client
        .region_write(0, INCREMENT, &0x10_0008u64.to_le_bytes())
        .unwrap();
    client.region_write(0, FIRE, &3u64.to_le_bytes()).unwrap();
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, 0x1008).unwrap();
    assert_eq!(u64::from_ne_bytes(word), 42);
    assert_eq!(count(&event), 1);
    client.dma_unmap(0x10_0000, 0x1000).unwrap();
    client.reset().unwrap();
    client.shutdown().unwrap();
    drop(client);
    server.wait_for("the client's end", |s| {
        s.resets == [ResetKind::PowerOn, ResetKind::Device, ResetKind::ClientGone]
    });
    assert_eq!(server.seen.lock().unwrap().memory, [(1, false), (0, true)]);
}

#[test]
fn the_device_reaches_what_is_mapped_and_nothing_else() {
    let server = Server::start();
    let mut client = server.client();
    let memory = memfd(Path::new("guest"), 0x3000);
    let increment = |client: &mut rocinante_pci::client::Client, iova| {
        client.bar_w64(INCREMENT, iova);
        client.bar_r64(OUTCOME)
    };
    let word = |at| {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, at).unwrap();
        u64::from_ne_bytes(word)
    };
    assert_eq!(increment(&mut client, 0x1000), 2);
    client
        .dma_map(0x1000, 0x1000, Some(memory.as_fd()), 0x2000, true)
        .unwrap();
    // Read-only, as firmware does with shadowed ROMs; and without memory, as monitors do with device memory.
    client
        .dma_map(0xc0000, 0x1000, Some(memory.as_fd()), 0, false)
        .unwrap();
    client.dma_map(0xa0000, 0x20000, None, 0, true).unwrap();
    assert_eq!(increment(&mut client, 0x1ff8), 1);
    assert_eq!(word(0x2ff8), 1);
    assert_eq!(increment(&mut client, 0xc0000), 2);
    assert_eq!(increment(&mut client, 0xa0000), 2);
    assert_eq!(
        increment(&mut client, 0x1ffc),
        2,
        "beyond the map, and not aligned"
    );
    // A chunk as intel-iommu unmaps it.
    client.dma_unmap(0, 1 << 63).unwrap();
    client.dma_unmap(1 << 63, 1 << 63).unwrap();
    assert_eq!(increment(&mut client, 0x1000), 2);
    // More than the file has would raise SIGBUS.
    let refused = client.dma_map(0, 0x4000, Some(memory.as_fd()), 0, true);
    assert_eq!(refused.unwrap_err().errno(), Some(libc::EINVAL));
    let refused = client.dma_map(u64::MAX - 0xfff, 0x2000, Some(memory.as_fd()), 0, true);
    assert_eq!(refused.unwrap_err().errno(), Some(libc::EINVAL));
    client
        .dma_map(u64::MAX - 0xfff, 0x1000, Some(memory.as_fd()), 0, true)
        .unwrap();
    assert_eq!(increment(&mut client, u64::MAX - 7), 1);
    assert_eq!(word(0xff8), 1);
}

#[test]
fn interrupts_arrive_through_eventfds_and_wait_while_masked() {
    let server = Server::start();
    let mut client = server.client();
    let events: Vec<_> = (0..16).map(|_| eventfd()).collect();
    client.w16(4, 0x0006);
    client.w16(MSIX_CONTROL, 0x8000);
    // Enabled without eventfd, as QEMU begins; what is fired now waits.
    client
        .set_irqs(MSIX, EVENTFD | TRIGGER, 0, 1, &[], &[])
        .unwrap();
    client.bar_w64(FIRE, 4);
    assert_eq!(client.bar_r64(0x3000), 1 << 4, "pending bit");
    // 16 in one message, the most allowed.
    let fds: Vec<_> = events.iter().map(|e| e.as_fd()).collect();
    client
        .set_irqs(MSIX, EVENTFD | TRIGGER, 0, 16, &[], &fds)
        .unwrap();
    assert_eq!(
        events.iter().map(count).collect::<Vec<_>>(),
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(client.bar_r64(0x3000), 0);

    client.set_irqs(MSIX, NONE | MASK, 2, 3, &[], &[]).unwrap();
    for vector in 1..=5 {
        client.bar_w64(FIRE, vector);
        client.bar_w64(FIRE, vector);
    }
    let seen: Vec<_> = events[..6].iter().map(count).collect();
    assert_eq!(seen, [0, 2, 0, 0, 0, 2]);
    assert_eq!(client.bar_r64(0x3000), 0b1_1100);
    client
        .set_irqs(MSIX, BOOL | UNMASK, 2, 3, &[1, 0, 1], &[])
        .unwrap();
    let seen: Vec<_> = events[..6].iter().map(count).collect();
    assert_eq!(seen, [0, 0, 1, 0, 1, 0]);
    assert_eq!(client.bar_r64(0x3000), 0b1000);

    // Triggered by the monitor itself.
    client
        .set_irqs(MSIX, NONE | TRIGGER, 6, 2, &[], &[])
        .unwrap();
    client
        .set_irqs(MSIX, BOOL | TRIGGER, 6, 2, &[0, 1], &[])
        .unwrap();
    assert_eq!((count(&events[6]), count(&events[7])), (1, 2));

    // One taken away, then all.
    client
        .set_irqs(MSIX, EVENTFD | TRIGGER, 6, 1, &[], &[])
        .unwrap();
    client.bar_w64(FIRE, 6);
    client.bar_w64(FIRE, 7);
    client
        .set_irqs(MSIX, NONE | TRIGGER, 0, 0, &[], &[])
        .unwrap();
    client.bar_w64(FIRE, 7);
    assert_eq!((count(&events[6]), count(&events[7])), (0, 1));
    // A monitor that takes all away to give more back loses nothing.
    client.connect_vector(7, &events[7]);
    client.connect_vector(6, &events[6]);
    assert_eq!((count(&events[6]), count(&events[7])), (1, 1));
    client.connect_vector(63, &events[0]);
    client.bar_w64(FIRE, 63);
    assert_eq!(count(&events[0]), 1);
}

#[test]
fn nonsensical_interrupt_requests_are_refused() {
    let server = Server::start();
    let mut client = server.client();
    let event = eventfd();
    let file = memfd(Path::new("no eventfd"), 8);
    let fd = event.as_fd();
    for (index, flags, start, count, data, fds) in [
        (MSIX, EVENTFD | TRIGGER, 64, 1, &[][..], &[fd][..]),
        (MSIX, EVENTFD | TRIGGER, 60, 5, &[], &[fd, fd, fd, fd, fd]),
        (MSIX, EVENTFD | TRIGGER, u32::MAX, u32::MAX, &[], &[]),
        (MSIX, EVENTFD | TRIGGER, 0, 2, &[], &[fd]),
        (MSIX, EVENTFD | TRIGGER, 0, 1, &[], &[fd, fd]),
        (MSIX, EVENTFD | TRIGGER, 0, 1, &[], &[file.as_fd()]),
        (MSIX, EVENTFD | MASK, 0, 1, &[], &[fd]),
        (MSIX, BOOL | TRIGGER, 0, 3, &[1, 1], &[]),
        (MSIX, NONE | TRIGGER | MASK, 0, 1, &[], &[]),
        (MSIX, NONE | BOOL | TRIGGER, 0, 1, &[1], &[]),
        (MSIX, NONE, 0, 1, &[], &[]),
        (MSIX, 1 << 31 | NONE | TRIGGER, 0, 1, &[], &[]),
        (0, EVENTFD | TRIGGER, 1, 1, &[], &[fd]),
        (1, EVENTFD | TRIGGER, 0, 1, &[], &[fd]),
        (ERRORS, EVENTFD | TRIGGER, 1, 1, &[], &[fd]),
        (77, NONE | TRIGGER, 0, 1, &[], &[]),
    ] {
        let refused = client
            .set_irqs(index, flags, start, count, data, fds)
            .unwrap_err();
        assert_eq!(
            refused.errno(),
            Some(libc::EINVAL),
            "{index} {flags:#x} {start}+{count}"
        );
    }
    // INTx is wired by every monitor, errors by QEMU, and neither is ever used.
    client
        .set_irqs(ERRORS, EVENTFD | TRIGGER, 0, 1, &[], &[fd])
        .unwrap();
    client
        .set_irqs(ERRORS, NONE | TRIGGER, 0, 0, &[], &[])
        .unwrap();
    client
        .set_irqs(0, EVENTFD | TRIGGER, 0, 1, &[], &[fd])
        .unwrap();
    client
        .set_irqs(0, EVENTFD | UNMASK, 0, 1, &[], &[fd])
        .unwrap();
    client.set_irqs(0, NONE | MASK, 0, 1, &[], &[]).unwrap();
    client.set_irqs(0, NONE | TRIGGER, 0, 0, &[], &[]).unwrap();
    client.bar_w64(FIRE, 0);
    assert_eq!(count(&event), 0);
}

#[test]
fn a_guest_can_reset_the_function_and_go_on() {
    let server = Server::start();
    let mut client = server.client();
    let event = eventfd();
    client.connect_vector(1, &event);
    client.w16(4, 0x0006);
    client.w16(MSIX_CONTROL, 0x8000);
    client.w32(0x10, 0xfe00_0000);
    client.bar_w64(SCRATCH, 7);
    client.w16(0x68, 0x2810 | 1 << 15);
    assert_eq!(client.r32(0x10), 0xc);
    assert_eq!(client.r32(4) & 0xffff, 0);
    assert_eq!(client.bar_r64(SCRATCH), 0);
    client.reset().unwrap();
    client.reset().unwrap();
    client.w16(4, 0x0006);
    client.w16(MSIX_CONTROL, 0x8000);
    client.bar_w64(FIRE, 1);
    assert_eq!(count(&event), 1);
    let seen = server.seen.lock().unwrap();
    assert_eq!(
        seen.resets,
        [
            ResetKind::PowerOn,
            ResetKind::Flr,
            ResetKind::Device,
            ResetKind::Device
        ]
    );
    assert_eq!(seen.bus_master, [true, true]);
}

#[test]
fn posted_writes_are_done_in_order_and_not_answered() {
    let server = Server::start();
    let mut client = server.client();
    for value in 0..100u64 {
        client.post_write(0, SCRATCH, &value.to_le_bytes()).unwrap();
    }
    assert_eq!(client.bar_r64(SCRATCH), 99);
    let values: Vec<[u8; 8]> = (0..200u64).map(|v| (1000 + v).to_le_bytes()).collect();
    let mut writes: Vec<(u32, u64, &[u8])> = values.iter().map(|v| (0, SCRATCH, &v[..])).collect();
    writes[7] = (0, u64::MAX, &values[7]);
    writes[8] = (55, 0, &values[8]);
    client.post_writes(&writes).unwrap();
    assert_eq!(client.bar_r64(SCRATCH), 1199);
    assert_eq!(server.seen.lock().unwrap().writes, 298);
    // A posted write that is refused is not answered, either.
    client.post_write(0, BAR0_SIZE, &[0; 8]).unwrap();
    assert_eq!(client.bar_r64(SCRATCH), 1199);
}

#[test]
fn shared_areas_come_with_their_memory() {
    let file = memfd(Path::new("bar 0"), BAR0_SIZE);
    let server = Server::with(rocinante_pci::FunctionConfig {
        shared: Some(SharedAreas {
            file: Arc::new(file.try_clone().unwrap()),
            areas: vec![(0x10000, 0x2000), (0x100_0000, 0x1000)],
        }),
        ..function_config()
    });
    let mut client = server.client();
    let region = client.region_info(0).unwrap();
    assert_eq!(region.flags, 0b1111, "read, write, mmap, capabilities");
    assert_eq!(region.areas, [(0x10000, 0x2000), (0x100_0000, 0x1000)]);
    std::fs::File::from(region.fd.unwrap())
        .write_all_at(b"doorbell", 0x11000)
        .unwrap();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0x11000).unwrap();
    assert_eq!(&bytes, b"doorbell");
    assert!(client.region_info(1).unwrap().fd.is_none());
    drop(client);
    // And for the other implementation.
    let client = vfio_user::Client::new(&server.path).unwrap();
    let region = client.region(0).unwrap();
    assert!(region.file_offset.is_some());
    assert_eq!(region.sparse_areas.len(), 2);
}
