use std::fs::File;

use proptest::prelude::*;
use virtio_bindings::bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use vm_memory::{Bytes, GuestAddress};

use super::net::{Counters, Delivery, Device, FEATURES, MAX_FRAME, Taken};
use super::ring::{Memory, Ring};

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// Buffers of the tests' guest.
const BUFFERS: u64 = 0x10_0000;

/// A driver's side of a ring of 16 descriptors, which begins at `at`. (That of virtio-queue's mock has its parts overlap.)
#[derive(Clone, Copy)]
struct Driver<'m> {
    memory: &'m Memory,
    at: u64,
}

impl Driver<'_> {
    fn desc_addr(&self) -> u64 {
        self.at
    }

    fn avail_addr(&self) -> u64 {
        self.at + 0x100
    }

    fn used_addr(&self) -> u64 {
        self.at + 0x200
    }

    fn load(&self, at: u64) -> u16 {
        u16::from_le(self.memory.read_obj(GuestAddress(at)).unwrap())
    }

    fn store(&self, at: u64, value: u16) {
        let at = GuestAddress(at);
        self.memory.write_obj(value.to_le(), at).unwrap();
    }

    fn avail_idx(&self) -> u16 {
        self.load(self.avail_addr() + 2)
    }

    fn set_avail_idx(&self, idx: u16) {
        self.store(self.avail_addr() + 2, idx);
    }

    fn used_idx(&self) -> u16 {
        self.load(self.used_addr() + 2)
    }

    fn set_used_idx(&self, idx: u16) {
        self.store(self.used_addr() + 2, idx);
    }

    /// Head and length of a used element.
    fn used(&self, idx: u16) -> (u16, u32) {
        let at = self.used_addr() + 4 + 8 * u64::from(idx % 16);
        let [id, len]: [u32; 2] = self.memory.read_obj(GuestAddress(at)).unwrap();
        (u32::from_le(id) as u16, u32::from_le(len))
    }

    fn desc(&self, n: u16) -> Descriptor {
        let at = self.at + 16 * u64::from(n);
        let raw: RawDescriptor = self.memory.read_obj(GuestAddress(at)).unwrap();
        Descriptor::from(raw)
    }

    fn set_desc(&self, n: u16, (address, len, flags, next): (u64, u32, u16, u16)) {
        let at = GuestAddress(self.at + 16 * u64::from(n));
        let raw = RawDescriptor::from(Descriptor::new(address, len, flags, next));
        self.memory.write_obj(raw, at).unwrap();
    }
}

/// A guest with rings of 16 descriptors.
struct Guest {
    memory: Memory,
}

impl Guest {
    fn new() -> Guest {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x100_0000)]).unwrap();
        Guest { memory }
    }

    fn queue(&self, at: u64) -> Driver<'_> {
        Driver {
            memory: &self.memory,
            at,
        }
    }

    /// The device, its transmit ring at 0 and its receive ring at 0x10000.
    fn device(&self, features: u64) -> Device {
        let mut device = Device::new().unwrap();
        device.set_features(features);
        for (ring, at) in [(&mut device.tx, 0), (&mut device.rx, 0x1_0000)] {
            start(ring, &self.queue(at), &self.memory);
        }
        device
    }
}

fn start(ring: &mut Ring, queue: &Driver<'_>, memory: &Memory) {
    ring.set_size(16).unwrap();
    ring.set_addresses(queue.desc_addr(), queue.avail_addr(), queue.used_addr())
        .unwrap();
    ring.set_base(0);
    ring.enabled = true;
    ring.start(memory);
}

/// Makes descriptors, each of `(address, length, flags, next)`, and one chain available that begins at `head`.
fn offer(queue: &Driver<'_>, descs: &[(u64, u32, u16, u16)], at: u16, head: u16) {
    for (n, desc) in (at..).zip(descs) {
        queue.set_desc(n, *desc);
    }
    let idx = queue.avail_idx();
    queue.store(queue.avail_addr() + 4 + 2 * u64::from(idx % 16), head);
    queue.set_avail_idx(idx.wrapping_add(1));
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + len) as u8).collect()
}

fn take(device: &mut Device, memory: &Memory) -> Option<Vec<u8>> {
    let mut buf = vec![0xaa; MAX_FRAME + 12];
    match device.take(memory, &mut buf) {
        Taken::Frame(at) => Some(buf[at].to_vec()),
        _ => None,
    }
}

#[test]
fn frames_come_out_of_chains_of_all_shapes() {
    let guest = Guest::new();
    let mut device = guest.device(FEATURES);
    let tx = guest.queue(0);
    let sent = frame(9014);
    let mut bytes = vec![0; 12];
    bytes.extend(&sent);
    guest
        .memory
        .write_slice(&bytes, GuestAddress(BUFFERS))
        .unwrap();
    assert_eq!(take(&mut device, &guest.memory), None);
    // All in one; header apart; in odd pieces.
    let whole = bytes.len() as u32;
    offer(&tx, &[(BUFFERS, whole, 0, 0)], 0, 0);
    assert_eq!(take(&mut device, &guest.memory), Some(sent.clone()));
    offer(
        &tx,
        &[(BUFFERS, 12, NEXT, 2), (BUFFERS + 12, whole - 12, 0, 0)],
        1,
        1,
    );
    assert_eq!(take(&mut device, &guest.memory), Some(sent.clone()));
    offer(
        &tx,
        &[
            (BUFFERS, 5, NEXT, 4),
            (BUFFERS + 5, 20, NEXT, 5),
            (BUFFERS + 25, 0, NEXT, 6),
            (BUFFERS + 25, whole - 25, 0, 0),
        ],
        3,
        3,
    );
    assert_eq!(take(&mut device, &guest.memory), Some(sent.clone()));
    // By an indirect table.
    let table = BUFFERS + 0x8000;
    for (n, (at, len, flags)) in [(BUFFERS, 12, NEXT), (BUFFERS + 12, whole - 12, 0)]
        .into_iter()
        .enumerate()
    {
        let desc = RawDescriptor::from(Descriptor::new(at, len, flags, 1));
        let at = GuestAddress(table + 16 * n as u64);
        guest.memory.write_obj(desc, at).unwrap();
    }
    offer(&tx, &[(table, 32, INDIRECT, 0)], 7, 7);
    assert_eq!(take(&mut device, &guest.memory), Some(sent));
    assert_eq!(tx.used_idx(), 4);
    assert_eq!(device.counters, Counters::default());
}

#[test]
fn what_is_no_frame_is_counted_and_given_back() {
    let guest = Guest::new();
    let mut device = guest.device(FEATURES);
    let tx = guest.queue(0);
    let good = (BUFFERS, 100, 0, 0);
    let malformed: &[&[(u64, u32, u16, u16)]] = &[
        // A loop, of one and of two.
        &[(BUFFERS, 1, NEXT, 0)],
        &[(BUFFERS, 1, NEXT, 1), (BUFFERS, 1, NEXT, 0)],
        // Out of the table, of memory, of all addresses.
        &[(BUFFERS, 100, NEXT, 16)],
        &[(0xff_ffff, 100, 0, 0)],
        &[(u64::MAX - 5, 100, 0, 0)],
        // To be written; without header; nothing at all.
        &[(BUFFERS, 100, WRITE, 0)],
        &[(BUFFERS, 11, 0, 0)],
        &[(BUFFERS, 0, 0, 0)],
        // Tables: empty, crooked, within a table.
        &[(BUFFERS, 0, INDIRECT, 0)],
        &[(BUFFERS, 17, INDIRECT, 0)],
        &[(u64::MAX - 15, 32, INDIRECT, 0)],
        &[(BUFFERS, !15, INDIRECT, 0)],
    ];
    let mut used = 0;
    for (n, descs) in malformed.iter().enumerate() {
        offer(&tx, descs, 0, 0);
        let mut buf = [0; MAX_FRAME + 12];
        assert_eq!(device.take(&guest.memory, &mut buf), Taken::Refused, "{n}");
        used += 1;
        assert_eq!(tx.used_idx(), used, "{n}");
        assert_eq!(device.counters.tx_malformed, n as u64 + 1);
    }
    // A head that there is not: nothing can be given back.
    offer(&tx, &[], 0, 16);
    assert_eq!(take(&mut device, &guest.memory), None);
    assert_eq!(tx.used_idx(), used);
    for len in [MAX_FRAME as u32 + 13, 65536, u32::MAX] {
        offer(&tx, &[(BUFFERS, len, 0, 0)], 0, 0);
        assert_eq!(take(&mut device, &guest.memory), None);
    }
    offer(
        &tx,
        &[
            (BUFFERS, 0x8000_0000, NEXT, 1),
            (BUFFERS, 0x8000_0000, 0, 0),
        ],
        0,
        0,
    );
    assert_eq!(take(&mut device, &guest.memory), None);
    assert_eq!(device.counters.tx_too_long, 4);
    for header in [[1, 0], [0, 1]] {
        guest
            .memory
            .write_slice(&header, GuestAddress(BUFFERS))
            .unwrap();
        offer(&tx, &[good], 0, 0);
        assert_eq!(take(&mut device, &guest.memory), None);
    }
    assert_eq!(device.counters.tx_offload, 2);
    guest
        .memory
        .write_slice(&[0, 0], GuestAddress(BUFFERS))
        .unwrap();
    offer(&tx, &[good], 0, 0);
    assert_eq!(
        take(&mut device, &guest.memory).map(|frame| frame.len()),
        Some(88)
    );
}

#[test]
fn a_ring_that_is_not_sane_is_given_up_until_it_is_started_anew() {
    let guest = Guest::new();
    let mut device = guest.device(FEATURES);
    let tx = guest.queue(0);
    // More chains than descriptors.
    tx.set_avail_idx(17);
    assert_eq!(take(&mut device, &guest.memory), None);
    assert!(!device.tx.active() && device.rx.active());
    assert!(!device.listen_tx(&guest.memory));
    tx.set_avail_idx(0);
    start(&mut device.tx, &tx, &guest.memory);
    offer(&tx, &[(BUFFERS, 100, 0, 0)], 0, 0);
    assert!(take(&mut device, &guest.memory).is_some());
    // Memory that loses the ring.
    let less = Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    device.rx.check(&less);
    device.tx.check(&less);
    assert!(device.tx.active() && !device.rx.active());
    assert_eq!(device.deliver(&less, &frame(60)), Delivery::Lost);
    for size in [0, 3, 2048, 65536, u32::MAX] {
        assert!(device.tx.set_size(size).is_err(), "{size}");
    }
}

/// What the guest has received: the bytes of each frame, as the buffers that its header names hold them.
fn received(guest: &Guest, rx: &Driver<'_>, seen: &mut u16) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let end = rx.used_idx();
    while *seen != end {
        let mut bytes = Vec::new();
        let mut left = 1;
        while left > 0 {
            let (head, len) = rx.used(*seen);
            let at = rx.desc(head).addr();
            let mut part = vec![0; len as usize];
            guest.memory.read_slice(&mut part, at).unwrap();
            if bytes.is_empty() {
                left = u16::from_le_bytes([part[10], part[11]]);
                assert_eq!(part[..10], [0; 10]);
            }
            bytes.extend(part);
            left -= 1;
            *seen = seen.wrapping_add(1);
        }
        frames.push(bytes[12..].to_vec());
    }
    frames
}

#[test]
fn frames_fill_as_many_buffers_as_they_need() {
    let guest = Guest::new();
    let mut device = guest.device(FEATURES);
    let rx = guest.queue(0x1_0000);
    let mut seen = 0;
    let mut next = 0;
    let mut give = |count: u16| {
        for _ in 0..count {
            let n = next % 16;
            let at = BUFFERS + 0x1000 * u64::from(n);
            offer(&rx, &[(at, 1536, WRITE, 0)], n, n);
            next += 1;
        }
    };
    assert_eq!(
        device.deliver(&guest.memory, &frame(60)),
        Delivery::Full { seen: 0 }
    );
    assert!(!device.listen_rx(&guest.memory, 0));
    give(3);
    assert!(device.listen_rx(&guest.memory, 0));
    let lens = [60, 1524, 1525, 9014, 9022, 1];
    for len in lens {
        let sent = frame(len);
        while let Delivery::Full { .. } = device.deliver(&guest.memory, &sent) {
            give(1);
        }
        assert_eq!(received(&guest, &rx, &mut seen), [sent], "{len}");
    }
    assert_eq!(device.counters, Counters::default());
}

#[test]
fn without_merging_a_frame_needs_a_buffer_that_holds_it() {
    let guest = Guest::new();
    let mut device = guest.device(FEATURES & !(1 << VIRTIO_NET_F_MRG_RXBUF));
    let rx = guest.queue(0x1_0000);
    let mut seen = 0;
    offer(&rx, &[(BUFFERS, 1536, WRITE, 0)], 0, 0);
    assert_eq!(device.deliver(&guest.memory, &frame(1525)), Delivery::Lost);
    assert_eq!(device.counters.rx_too_long, 1);
    // The buffer is still there.
    assert_eq!(device.deliver(&guest.memory, &frame(1524)), Delivery::Done);
    assert_eq!(received(&guest, &rx, &mut seen), [frame(1524)]);
    // A legacy driver's header is shorter.
    let mut device = guest.device(0);
    guest
        .memory
        .write_slice(&[0xff; 64], GuestAddress(BUFFERS))
        .unwrap();
    rx.set_avail_idx(0);
    rx.set_used_idx(0);
    start(&mut device.rx, &rx, &guest.memory);
    offer(&rx, &[(BUFFERS, 1536, WRITE, 0)], 0, 0);
    assert_eq!(device.deliver(&guest.memory, &frame(20)), Delivery::Done);
    let mut bytes = [0; 31];
    guest
        .memory
        .read_slice(&mut bytes, GuestAddress(BUFFERS))
        .unwrap();
    assert_eq!(bytes[..10], [0; 10]);
    assert_eq!(bytes[10..30], frame(20));
    assert_eq!(bytes[30], 0xff);
}

#[test]
fn buffers_that_are_none_lose_a_frame_each_and_are_counted() {
    let guest = Guest::new();
    let mut device = guest.device(FEATURES);
    let rx = guest.queue(0x1_0000);
    let bad: &[&[(u64, u32, u16, u16)]] = &[
        &[(BUFFERS, 1536, 0, 0)],
        &[(BUFFERS, 0, WRITE, 0)],
        &[(BUFFERS, 8, WRITE | NEXT, 0)],
        &[(0xff_fff0, 1536, WRITE, 0)],
        &[(u64::MAX - 100, 1536, WRITE, 0)],
        &[(BUFFERS, u32::MAX, WRITE | NEXT, 1), (BUFFERS, 16, 0, 0)],
    ];
    for (n, descs) in bad.iter().enumerate() {
        offer(&rx, descs, 0, 0);
        assert_eq!(
            device.deliver(&guest.memory, &frame(60)),
            Delivery::Lost,
            "{n}"
        );
        assert_eq!(device.counters.rx_malformed, n as u64 + 1);
        assert_eq!(usize::from(rx.used_idx()), n + 1);
    }
    // Good ones before a bad one wait for more.
    offer(&rx, &[(BUFFERS, 20, WRITE, 0)], 1, 1);
    offer(&rx, bad[0], 2, 2);
    assert!(matches!(
        device.deliver(&guest.memory, &frame(60)),
        Delivery::Full { .. }
    ));
    assert_eq!(device.deliver(&guest.memory, &frame(8)), Delivery::Done);
    assert_eq!(device.deliver(&guest.memory, &frame(60)), Delivery::Lost);
    // All that there can be, and too little: hopeless.
    for n in 0..16 {
        offer(&rx, &[(BUFFERS, 2, WRITE, 0)], n, n);
    }
    assert_eq!(device.deliver(&guest.memory, &frame(60)), Delivery::Lost);
    assert_eq!(device.counters.rx_too_long, 1);
    assert_eq!(device.deliver(&guest.memory, &frame(20)), Delivery::Done);
}

/// An eventfd, and a second descriptor of it.
fn eventfd() -> (File, File) {
    let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let file = File::from(fd);
    (file.try_clone().unwrap(), file)
}

fn raised(file: &File) -> bool {
    std::io::Read::read(&mut &*file, &mut [0; 8]).is_ok()
}

#[test]
fn the_guest_is_told_when_it_wants_to_be() {
    let guest = Guest::new();
    for event_idx in [false, true] {
        let mut device = guest.device(FEATURES);
        device.tx.set_event_idx(event_idx);
        let tx = guest.queue(0);
        tx.set_avail_idx(0);
        tx.set_used_idx(0);
        start(&mut device.tx, &tx, &guest.memory);
        let (call, heard) = eventfd();
        device.tx.set_call(Some(call));
        let flags = tx.avail_addr();
        let event = tx.avail_addr() + 4 + 2 * 16;
        let send = |device: &mut Device, count| {
            for _ in 0..count {
                offer(&tx, &[(BUFFERS, 100, 0, 0)], 0, 0);
                assert!(take(device, &guest.memory).is_some());
            }
            device.flush(&guest.memory);
            raised(&heard)
        };
        tx.store(flags, 0);
        tx.store(event, 0);
        assert!(!send(&mut device, 0));
        assert!(send(&mut device, 1));
        if event_idx {
            // It wants to hear of the fourth.
            tx.store(event, 3);
            assert!(!send(&mut device, 2));
            assert!(send(&mut device, 2));
            assert!(!send(&mut device, 1));
        } else {
            tx.store(flags, 1);
            assert!(!send(&mut device, 2));
            tx.store(flags, 0);
            assert!(send(&mut device, 1));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever a driver writes into its rings, the device ends, and stays within its bounds.
    #[test]
    fn rings_of_garbage_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0x800),
        idx in 0u16..20,
        len in 0usize..9100,
        features in any::<u64>(),
    ) {
        let guest = Guest::new();
        let mut device = guest.device(features & FEATURES);
        for at in [0, 0x1_0000] {
            guest.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
            let queue = guest.queue(at);
            // Addresses that hit, now and then.
            for n in 0..16 {
                let desc = queue.desc(n);
                let (address, len) = (desc.addr().0 & 0x1ff_ffff, desc.len() & 0xffff);
                queue.set_desc(n, (address, len, desc.flags(), desc.next() % 20));
            }
            queue.set_avail_idx(idx);
        }
        start(&mut device.tx, &guest.queue(0), &guest.memory);
        start(&mut device.rx, &guest.queue(0x1_0000), &guest.memory);
        let mut buf = vec![0; MAX_FRAME + 12];
        for _ in 0..20 {
            if let Taken::Frame(at) = device.take(&guest.memory, &mut buf) {
                prop_assert!(at.end <= buf.len());
            }
            let _ = device.deliver(&guest.memory, &frame(len));
            device.flush(&guest.memory);
        }
        let _ = device.listen_tx(&guest.memory);
    }
}

mod monitor;
