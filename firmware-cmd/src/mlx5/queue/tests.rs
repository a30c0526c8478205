//! A driver's side of the queue, in a few lines.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const QUEUE: u64 = 0x10_0000;
const INPUT_BLOCKS: u64 = 0x20_0000;
const OUTPUT_BLOCKS: u64 = 0x30_0000;
const TOKEN: u8 = 0x5a;
/// FreeBSD's distance between blocks: four to a page.
const STRIDE: u64 = 1024;

struct Driver {
    map: Arc<MemoryMap>,
    queue: CommandQueue,
}

impl Driver {
    fn new() -> Self {
        let map = MemoryMap::anonymous(QUEUE, 0x30_0000).expect("memory for the test");
        Driver {
            map,
            queue: CommandQueue::new(QUEUE),
        }
    }

    /// Chain of blocks for `len` bytes after the first 16, filled with `data`, last one first.
    fn chain(&self, base: u64, len: usize, data: &[u8]) -> u64 {
        let blocks = len.saturating_sub(INLINE).div_ceil(BLOCK_DATA) as u64;
        for number in 0..blocks {
            let mut bytes = [0; BLOCK];
            let start = INLINE + number as usize * BLOCK_DATA;
            let data = data.get(start..).unwrap_or(&[]);
            let data = &data[..data.len().min(BLOCK_DATA)];
            bytes[..data.len()].copy_from_slice(data);
            let mut block = Block::new(&mut bytes);
            block.set_token(TOKEN).set_block_number(number as u32);
            if number + 1 < blocks {
                block.set_next_pointer(base + (number + 1) * STRIDE);
            }
            if self.queue.checksum {
                sign(&mut bytes);
            }
            self.map.write(base + number * STRIDE, &bytes).unwrap();
        }
        if blocks == 0 { 0 } else { base }
    }

    fn post(&self, slot: u8, input: &[u8], output_len: usize) {
        self.post_with(slot, input, output_len, |_| ());
    }

    /// Write an entry as the kernel drivers do: token, ownership, then the signature over everything.
    fn post_with(
        &self,
        slot: u8,
        input: &[u8],
        output_len: usize,
        spoil: impl Fn(&mut [u8; ENTRY]),
    ) {
        let mut bytes = [0; ENTRY];
        let mut entry = Entry::new(&mut bytes);
        let mut inline = [0; INLINE];
        let head = input.len().min(INLINE);
        inline[..head].copy_from_slice(&input[..head]);
        entry
            .set_type_(7)
            .set_input_length(input.len() as u32)
            .set_output_length(output_len as u32);
        entry
            .set_command_input_inline_data(&inline)
            .set_token(TOKEN)
            .set_ownership(true);
        entry.set_input_mailbox_pointer(self.chain(INPUT_BLOCKS, input.len(), input));
        entry.set_output_mailbox_pointer(self.chain(OUTPUT_BLOCKS, output_len, &[]));
        bytes[ENTRY_SIGNATURE] = !xor(&bytes);
        spoil(&mut bytes);
        self.map
            .write(QUEUE + u64::from(slot) * 64, &bytes)
            .unwrap();
    }

    fn entry(&self, slot: u8) -> Entry<[u8; ENTRY]> {
        let mut bytes = [0; ENTRY];
        self.map
            .read(QUEUE + u64::from(slot) * 64, &mut bytes)
            .unwrap();
        Entry::new(bytes)
    }

    fn output_block(&self, number: u64) -> Block<[u8; BLOCK]> {
        let mut bytes = [0; BLOCK];
        self.map
            .read(OUTPUT_BLOCKS + number * STRIDE, &mut bytes)
            .unwrap();
        Block::new(bytes)
    }

    fn output(&self, slot: u8, len: usize) -> Vec<u8> {
        let mut output = self.entry(slot).command_output_inline_data().to_vec();
        for number in 0.. {
            if output.len() >= len {
                break;
            }
            output.extend_from_slice(&self.output_block(number).data());
        }
        output.truncate(len);
        output
    }

    fn fetch(&self, slot: u8) -> Result<(Request, Vec<u8>), FetchError> {
        let mut input = Vec::new();
        self.queue
            .fetch(&self.map, slot, &mut input)
            .map(|request| (request, input))
    }

    fn malformed(&self, slot: u8) -> DeliveryStatus {
        match self.fetch(slot) {
            Err(FetchError::Malformed { slot: at, status }) if at == slot => status,
            other => panic!("{other:?}"),
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn inline_command() {
    let driver = Driver::new();
    // QUERY_ISSI, as the first commands of FreeBSD's attach; then its 0x70 byte output.
    let mut input = [0; 16];
    input[..2].copy_from_slice(&[0x01, 0x0a]);
    driver.post(3, &input, 0x70);
    let (request, bytes) = driver.fetch(3).unwrap();
    assert_eq!(
        (
            request.opcode,
            request.op_mod,
            request.input_len,
            request.output_len
        ),
        (0x10a, 0, 16, 0x70)
    );
    assert_eq!(bytes, input);

    let output = pattern(0x70);
    assert_eq!(
        driver.queue.complete(&driver.map, &request, &output),
        Ok(DeliveryStatus::Ok)
    );
    let entry = driver.entry(3);
    assert!(!entry.ownership());
    assert_eq!(entry.status(), 0);
    assert_eq!(xor(entry.as_bytes()), 0xff, "the entry is signed");
    assert_eq!(driver.output(3, 0x70), output);
    assert_eq!(driver.fetch(3).unwrap_err(), FetchError::NotOwned(3));
}

#[test]
fn output_is_cut_and_control_fields_are_preserved() {
    let driver = Driver::new();
    driver.post(0, &pattern(16), 16 + 512 + 100);
    let (request, _) = driver.fetch(0).unwrap();
    let output = pattern(4096);
    assert_eq!(
        driver.queue.complete(&driver.map, &request, &output),
        Ok(DeliveryStatus::Ok)
    );
    assert_eq!(driver.output(0, 16 + 512 + 100), output[..16 + 512 + 100]);
    let (first, second) = (driver.output_block(0), driver.output_block(1));
    assert_eq!(
        second.data()[100..],
        [0; 412],
        "nothing beyond output_length"
    );
    assert_eq!(
        (first.next_pointer(), first.block_number(), first.token()),
        (OUTPUT_BLOCKS + STRIDE, 0, TOKEN)
    );
    assert_eq!(
        (second.next_pointer(), second.block_number(), second.token()),
        (0, 1, TOKEN)
    );
}

#[test]
fn a_short_output_still_overwrites_the_header() {
    let driver = Driver::new();
    driver.post_with(0, &pattern(16), 16, |bytes| bytes[0x20..0x30].fill(0xee));
    // The signature above does not cover the filling, sixteen equal bytes cancel out.
    let (request, _) = driver.fetch(0).unwrap();
    driver.queue.complete(&driver.map, &request, &[]).unwrap();
    assert_eq!(driver.entry(0).command_output_inline_data(), [0; 16]);
    assert_eq!(xor(driver.entry(0).as_bytes()), 0xff);
}

#[test]
fn malformed_entries() {
    let driver = Driver::new();
    let post = |spoil: fn(&mut [u8; ENTRY])| driver.post_with(1, &pattern(600), 600, spoil);
    let resign = |bytes: &mut [u8; ENTRY]| {
        bytes[ENTRY_SIGNATURE] = 0;
        bytes[ENTRY_SIGNATURE] = !xor(bytes);
    };
    let expect = |spoil: &dyn Fn(&mut Entry<&mut [u8; ENTRY]>), status| {
        driver.post_with(1, &pattern(600), 600, |bytes| {
            spoil(&mut Entry::new(&mut *bytes));
            resign(bytes);
        });
        assert_eq!(driver.malformed(1), status);
    };

    post(|bytes| bytes[0] = 6);
    assert_eq!(driver.malformed(1), DeliveryStatus::Type);
    post(|bytes| bytes[0x15] ^= 0x40);
    assert_eq!(driver.malformed(1), DeliveryStatus::Signature);
    post(|bytes| bytes[ENTRY_SIGNATURE] = 0);
    assert!(driver.fetch(1).is_ok(), "unsigned");
    expect(
        &|entry| {
            entry.set_input_length(7);
        },
        DeliveryStatus::InputLength,
    );
    expect(
        &|entry| {
            entry.set_input_length(u32::MAX);
        },
        DeliveryStatus::InputLength,
    );
    // One block more than there is.
    expect(
        &|entry| {
            entry.set_input_length(16 + 1024 + 1);
        },
        DeliveryStatus::InputLength,
    );
    expect(
        &|entry| {
            entry.set_output_length(7);
        },
        DeliveryStatus::OutputLength,
    );
    expect(
        &|entry| {
            entry.set_input_mailbox_pointer(0);
        },
        DeliveryStatus::InputLength,
    );
    expect(
        &|entry| {
            entry.set_input_mailbox_pointer(INPUT_BLOCKS + 256);
        },
        DeliveryStatus::InputPointer,
    );
    expect(
        &|entry| {
            entry.set_input_mailbox_pointer(0xffff_ffff_ffff_fe00);
        },
        DeliveryStatus::InputPointer,
    );
    expect(
        &|entry| {
            entry.set_input_mailbox_pointer(0x7000_0000);
        },
        DeliveryStatus::InputPointer,
    );
    expect(
        &|entry| {
            entry.set_input_mailbox_pointer(INPUT_BLOCKS + STRIDE);
        },
        DeliveryStatus::BlockNumber,
    );
    expect(
        &|entry| {
            entry.set_token(TOKEN + 1);
        },
        DeliveryStatus::Token,
    );

    driver
        .queue
        .reject(&driver.map, 1, DeliveryStatus::Token)
        .unwrap();
    let entry = driver.entry(1);
    assert_eq!((entry.ownership(), entry.status()), (false, 2));
    assert_eq!(xor(entry.as_bytes()), 0xff);
}

#[test]
fn a_chain_that_bites_its_tail_ends() {
    let driver = Driver::new();
    driver.post(0, &pattern(16 + 1024), 16);
    driver
        .map
        .write(INPUT_BLOCKS + 0x230, &INPUT_BLOCKS.to_be_bytes())
        .unwrap();
    assert_eq!(driver.malformed(0), DeliveryStatus::BlockNumber);
}

#[test]
fn output_with_nowhere_to_go() {
    let driver = Driver::new();
    for (pointer, status) in [
        (0, DeliveryStatus::OutputLength),
        (OUTPUT_BLOCKS + 8, DeliveryStatus::OutputPointer),
        (0x7000_0000, DeliveryStatus::OutputPointer),
        (OUTPUT_BLOCKS + STRIDE, DeliveryStatus::BlockNumber),
    ] {
        driver.post_with(2, &pattern(16), 1500, |bytes| {
            Entry::new(&mut *bytes)
                .set_output_mailbox_pointer(pointer)
                .set_signature(0);
        });
        let (request, _) = driver.fetch(2).unwrap();
        assert_eq!(
            driver.queue.complete(&driver.map, &request, &pattern(1500)),
            Ok(status),
            "{pointer:#x}"
        );
        let entry = driver.entry(2);
        assert_eq!((entry.ownership(), entry.status()), (false, status.code()));
    }
}

#[test]
fn slots_that_do_not_exist() {
    let driver = Driver::new();
    assert_eq!(
        driver.fetch(SLOTS).unwrap_err(),
        FetchError::NotOwned(SLOTS)
    );
    let queue = CommandQueue::new(0xffff_ffff_ffff_f000);
    let error = queue.fetch(&driver.map, 31, &mut Vec::new()).unwrap_err();
    assert!(
        matches!(error, FetchError::Unreachable { slot: 31, .. }),
        "{error}"
    );
}

#[test]
fn checksums_cover_blocks_when_switched_on() {
    let mut driver = Driver::new();
    driver.queue.set_checksum(true);
    driver.post(0, &pattern(1000), 1000);
    let (request, input) = driver.fetch(0).unwrap();
    assert_eq!(input, pattern(1000));
    assert_eq!(
        driver.queue.complete(&driver.map, &request, &pattern(1000)),
        Ok(DeliveryStatus::Ok)
    );
    assert!(signed(
        driver.output_block(0).as_bytes().try_into().unwrap()
    ));

    driver.post(0, &pattern(1000), 1000);
    driver.map.write(INPUT_BLOCKS + 17, &[0x99]).unwrap();
    assert_eq!(driver.malformed(0), DeliveryStatus::Signature);
}

proptest! {
    /// Whatever the lengths, the input arrives as sent and the output as written, cut to the room there is.
    #[test]
    fn any_length(input in 16..5000usize, room in 16..5000usize, output in 0..5000usize, slot in 0..SLOTS) {
        let driver = Driver::new();
        driver.post(slot, &pattern(input), room);
        let (request, bytes) = driver.fetch(slot).unwrap();
        prop_assert_eq!(bytes, pattern(input));
        let status = driver.queue.complete(&driver.map, &request, &pattern(output));
        prop_assert_eq!(status, Ok(DeliveryStatus::Ok));
        let mut expected = pattern(output);
        expected.resize(room.max(output), 0);
        expected.truncate(room);
        prop_assert_eq!(driver.output(slot, room), expected);
        prop_assert!(!driver.entry(slot).ownership());
    }

    /// No entry, however wild, does anything but be refused or taken; taken ones are given back.
    #[test]
    fn any_entry(bytes in proptest::array::uniform32(any::<u8>()), rest in proptest::array::uniform32(any::<u8>())) {
        let driver = Driver::new();
        driver.map.write(QUEUE, &bytes).unwrap();
        driver.map.write(QUEUE + 32, &rest).unwrap();
        driver.map.write(QUEUE, &[7]).unwrap();
        driver.map.write(QUEUE + 4, &[0, 0]).unwrap();
        driver.map.write(QUEUE + 0x3d, &[0, 0, 1]).unwrap();
        if let Ok((request, _)) = driver.fetch(0) {
            driver.queue.complete(&driver.map, &request, &pattern(2000)).unwrap();
        } else {
            driver.queue.reject(&driver.map, 0, DeliveryStatus::Reserved).unwrap();
        }
        prop_assert!(!driver.entry(0).ownership());
        prop_assert_eq!(xor(driver.entry(0).as_bytes()), 0xff);
    }
}
