//! Inputs that no driver sends.

use std::collections::BTreeMap;

use rocinante_firmware_cmd::layout::{Kind, Layout};

use super::*;
use crate::mlx5::hca::State;

/// Xorshift: the same inputs each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn opcode(&mut self) -> u16 {
        if self.one_in(32) {
            return self.next() as u16;
        }
        loop {
            let opcode = Opcode::ALL[self.below(Opcode::ALL.len() as u64) as usize];
            let ends = matches!(opcode, Opcode::TeardownHca | Opcode::DisableHca);
            if !ends || self.one_in(8) {
                return opcode.code();
            }
        }
    }

    fn input(&mut self, code: u16) -> Vec<u8> {
        let command = Opcode::from_u16(code).and_then(Opcode::command);
        let (least, size) = command.map_or((16, 64), |c| (c.min_input_len, c.input.size));
        let len = match self.below(8) {
            0 => self.below(0x400) as usize,
            1 => least,
            _ => size + 8 * self.below(64) as usize,
        };
        let mut input = vec![0; len];
        match (command, self.below(8)) {
            (Some(command), 2..) => self.plausible(command.input, &mut input),
            (_, 0) => input.iter_mut().for_each(|byte| *byte = self.next() as u8),
            _ => self.scatter(&mut input),
        }
        input
    }

    /// Some words of an input set to something.
    fn scatter(&mut self, input: &mut [u8]) {
        for _ in 0..self.below(24) {
            let at = self.below(input.len() as u64 + 1) as usize & !3;
            let value = match self.below(3) {
                0 => self.next() as u32,
                1 => self.below(0x100) as u32,
                _ => 1 << self.below(32),
            };
            if let Some(word) = input.get_mut(at..at + 4) {
                word.copy_from_slice(&value.to_be_bytes());
            }
        }
    }

    /// Most fields set to something that makes sense, so that the command gets far.
    fn plausible(&mut self, layout: &'static Layout, bytes: &mut [u8]) {
        for field in layout.fields {
            let start = (field.bit_offset as usize / 8).min(bytes.len());
            let end = match field.bits {
                0 => bytes.len(),
                bits => (start + bits as usize / 8).min(bytes.len()),
            };
            match field.kind {
                Kind::Int => field.set_int(bytes, self.value(field.name)),
                Kind::Struct(inner) => self.plausible(inner, &mut bytes[start..end]),
                Kind::Array(inner) => {
                    for element in bytes[start..end].chunks_exact_mut(inner.size.max(1)) {
                        self.plausible(inner, element);
                    }
                }
                Kind::Bytes if field.bits == 0 => {
                    for element in bytes[start..end].chunks_exact_mut(8) {
                        let page = MEMORY + self.below(256) * 0x1000;
                        element.copy_from_slice(&page.to_be_bytes());
                    }
                }
                Kind::Bytes => bytes[start..end]
                    .iter_mut()
                    .for_each(|byte| *byte = self.value("") as u8),
            }
        }
    }

    fn value(&mut self, name: &str) -> u64 {
        if self.one_in(24) {
            return self.next();
        }
        match name {
            "opcode" | "uid" | "op_mod" => 0,
            "uar_page" => 16,
            "c_eqn" | "wq_type" | "tis_lst_sz" => 1,
            "pd" | "xrcd" | "transport_domain" => 1 + self.below(5),
            "cqn" | "cqn_snd" | "cqn_rcv" => 0x80 + self.below(5),
            "qpn" | "sqn" | "rqn" | "rmpn" | "srqn" | "xrc_srqn" | "inline_rqn" | "rq_num"
            | "srqn_rmpn_xrqn" => 0x40 + self.below(24),
            "mkey_index" => 0x100 + self.below(24),
            "tisn" | "tis_num_0" | "tirn" | "rqtn" | "indirect_table" | "table_id" | "group_id"
            | "destination_id" => 1 + self.below(8),
            "dbr_addr" | "db_record_addr_l" => MEMORY + 8 * self.below(1000),
            "st" => [0, 1, 2, 3, 8, 0xc][self.below(6) as usize],
            "mtu" => 1 + self.below(5),
            "log_wq_stride" => 6,
            "rqt_max_size" | "rqt_actual_size" => 1 << self.below(6),
            "translations_octword_actual_size" | "destination_list_size" => self.below(3),
            _ if name.starts_with("log_page") || name.ends_with("pg_sz") => 0,
            _ if name.starts_with("log_") => self.below(7),
            _ if self.one_in(3) => self.below(4),
            _ => 0,
        }
    }
}

/// Objects for random commands to hit.
fn populate(driver: &mut Driver) {
    let uar = driver.uar();
    let eqn = driver.eq(uar, 0, u64::MAX);
    for _ in 0..4 {
        driver.cq(uar, eqn);
        driver.pd();
        driver.xrcd();
        driver.bare(Opcode::AllocTransportDomain);
        driver.bare(Opcode::AllocQCounter);
    }
}

#[test]
fn no_input_to_any_command_does_harm() {
    let mut driver = Driver::new();
    let mut random = Random(0x5eed_0fc0_ffee_1234);
    let mut accepted = BTreeMap::<u16, u32>::new();
    for round in 0..100_000 {
        if driver.nic.core.hca.state != State::Initialized && !random.one_in(8) {
            driver.nic.drop_objects();
            driver.nic.core.reset(0);
            driver.next_page = MEMORY;
            driver.lent.clear();
            driver.initialize();
            populate(&mut driver);
        }
        let opcode = random.opcode();
        let input = random.input(opcode);
        let op_mod = if random.one_in(4) {
            random.next()
        } else {
            random.below(4)
        } as u16;
        let mut output = vec![0; 16];
        match execute(&mut driver.nic, opcode, op_mod, &input, &mut output) {
            Ok(()) => *accepted.entry(opcode).or_default() += 1,
            Err(error) => {
                assert_ne!(error.status, Status::Ok, "round {round}: {error}");
                assert_eq!(
                    error.syndrome >> 16,
                    u32::from(opcode),
                    "round {round}: {error}"
                );
            }
        }
        assert!(
            (16..1 << 20).contains(&output.len()),
            "round {round}: {opcode:#x}"
        );
    }
    // Commands that were refused each time were not really tried.
    let names: Vec<_> = Opcode::ALL
        .iter()
        .filter(|opcode| opcode.command().is_some() && !accepted.contains_key(&opcode.code()))
        .map(|opcode| opcode.name())
        .collect();
    println!("never accepted: {names:?}");
    assert!(accepted.len() > 70, "{} commands accepted", accepted.len());
}
