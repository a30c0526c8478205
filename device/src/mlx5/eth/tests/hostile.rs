//! Random WQEs, frames and commands. Nothing may panic, everything must end.

use super::*;
use crate::mlx5::eth::headers::protocol;
use crate::mlx5::eth::headers::tests::ipv4;
use crate::mlx5::eth::tir::Disposition;

/// xorshift64*: the same from one seed on every machine.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Mostly plausible: a valid byte string with a few bytes changed.
    fn mutate(&mut self, bytes: &mut [u8]) {
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len() as u64) as usize;
            bytes[at] = match self.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ 1 << self.below(8),
                _ => self.next() as u8,
            };
        }
    }
}

#[test]
fn random_send_wqes() {
    let mut random = Random(0x5eed_0001);
    let mut host = Host::new(1);
    let mut sq = host.sq();
    let header = ipv4(None, protocol::TCP, (5, 6), &[]);
    let data = host.data_seg(&pattern(60_000));
    let (mut frames, mut errors) = (0, 0);
    for _ in 0..20_000 {
        let mut segments = match random.below(3) {
            0 => {
                let units = random.below(12) as usize;
                random.bytes(16 * units)
            }
            1 => eth_seg(0xc0, 1448, &header),
            _ => eth_seg(random.next() as u8, random.next() as u16, &header[..14]),
        };
        segments.extend(&data);
        if random.below(2) == 0 {
            random.mutate(&mut segments);
        }
        let opcode = [0, 0xa, 0xe, 0xe, 0x25, random.next() as u8][random.below(6) as usize];
        let index = host.post(&mut sq, opcode, random.below(2) == 0, &segments);
        if random.below(8) == 0 {
            let at = sq.ring + u64::from(index % 64) * 64;
            host.write(at, &random.bytes(16));
        }
        if random.below(50) == 0 {
            sq.producer = random.next() as u16;
        }
        host.ring_doorbell(&sq);
        frames += host.frames().len();
        while let Some(cqe) = host.poll(&mut sq.cq) {
            errors += u32::from(cqe[63] >> 4 == 0xd);
        }
        let state = host.nic.core.eth.sqs.get(sq.sqn).unwrap().state as u8;
        if state == 3 {
            host.ok(&modify_sq(sq.sqn, 3, 0));
            host.ok(&modify_sq(sq.sqn, 0, 1));
            sq.producer = 0;
            host.write(sq.record + 4, &[0; 4]);
        }
    }
    assert!(
        frames > 10_000 && errors > 1_000,
        "{frames} frames, {errors} errors: too tame"
    );
}

#[test]
fn random_frames() {
    let mut random = Random(0x5eed_0002);
    let mut host = Host::new(1);
    let mut rq = host.rq(true);
    let rqtn = host.rqt(&[rq.rqn, rq.rqn]);
    let tirn = host.tir(Disposition::Indirect(rqtn));
    host.all_to(&[tirn]);
    let mut posted = 0u32;
    let mut received = 0;
    for _ in 0..20_000 {
        if random.below(4) == 0 {
            host.fill(&rq, random.below(u64::from(BUFFER)) as u32 + 200);
            posted += 1 << LOG_RQ_SIZE;
            host.write(rq.record, &posted.to_be_bytes());
        }
        let len = random.below(1600) as usize;
        let mut frame = match random.below(3) {
            0 => random.bytes(len),
            1 => ipv4(Some((0x8100, 5)), protocol::TCP, (5, 6), &pattern(len)),
            _ => eth::headers::tests::ipv6(protocol::UDP, (5, 6), &pattern(len)),
        };
        if !frame.is_empty() {
            let head = frame.len().min(60);
            random.mutate(&mut frame[..head]);
        }
        host.receive(&frame);
        while let Some(cqe) = host.poll(&mut rq.cq) {
            received += u32::from(cqe[63] >> 4 == 2);
        }
        if host.nic.core.eth.rqs.get(rq.rqn).unwrap().state as u8 == 3 {
            host.ok(&modify_rq(rq.rqn, 3, 0));
            host.ok(&modify_rq(rq.rqn, 0, 1));
            posted = 0;
            host.write(rq.record, &[0; 4]);
        }
    }
    assert!(received > 5_000, "{received} received: too tame");
}

#[test]
fn random_commands() {
    let mut random = Random(0x5eed_0003);
    let mut host = Host::new(1);
    let sq = host.sq();
    let rq = host.receiver(false);
    let rqtn = host.rqt(&[rq.rqn]);
    let tirn = host.tir(Disposition::Indirect(rqtn));
    let tisn = host.tis();
    let table = host.flow_table(9);
    let group = host.flow_group(table);
    let (ring, record) = (host.alloc(0x1000), host.alloc(64));
    let good = [
        host.create_sq(sq.cq.cqn, tisn, ring, record),
        host.create_rq(rq.cq.cqn, true, 5, ring, record),
        modify_sq(sq.sqn, 1, 1),
        modify_rq(rq.rqn, 1, 1),
        set_entry(table, group, 3, 2, &[tirn]),
        set_entry(table, group, 3, 1, &[table]),
    ];
    let opcodes: Vec<u16> = (0x900..=0x918)
        .chain(0x92f..=0x93c)
        .chain([0x805])
        .collect();
    let mut accepted = 0;
    for round in 0..30_000 {
        let mut command = match random.below(3) {
            0 => good[random.below(good.len() as u64) as usize].clone(),
            _ => {
                let mut command = vec![0; 0x110 + random.below(0x400) as usize];
                command[..2].copy_from_slice(
                    &opcodes[random.below(opcodes.len() as u64) as usize].to_be_bytes(),
                );
                // Small numbers hit objects.
                command[11] = random.below(16) as u8;
                command[0x17] = random.below(4) as u8;
                command[0x20 + random.below(0xe0) as usize] = random.next() as u8;
                command
            }
        };
        let opcode = command[..2].to_vec();
        random.mutate(&mut command);
        command[..2].copy_from_slice(&opcode);
        command[6] = 0;
        if random.below(10) == 0 {
            command.truncate(16 + random.below(command.len() as u64 - 16) as usize);
        }
        accepted += u32::from(host.command(&command).is_ok());
        if round % 64 == 0 {
            host.receive(&ipv4(None, protocol::TCP, (5, 6), b"data"));
            host.ring_doorbell(&sq);
            host.frames();
        }
    }
    assert!(accepted > 3_000, "{accepted} accepted: too tame");
}
