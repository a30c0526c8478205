//! Random work for one direction of a connection, with everything it must lead to.

use super::super::*;

/// splitmix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// Every message and every piece of memory has a pattern of its own.
fn pattern(id: u32, at: u32) -> u8 {
    (id.wrapping_mul(0x9e37_79b1) ^ at.wrapping_mul(0x85eb_ca6b)).to_be_bytes()[1]
}

pub fn bytes(id: u32, range: std::ops::Range<u32>) -> Vec<u8> {
    range.map(|at| pattern(id, at)).collect()
}

pub const BASE: u64 = 0x7f00_0000_0000;
pub const RKEY: u32 = 0xbeef;
const SOURCE: u32 = 0xffff_0000;
const SOURCE_LEN: u32 = 1 << 16;
/// Two words for atomics behind the source of READs, then a slot for each WRITE.
const WORDS: u32 = SOURCE_LEN;
const SLOTS: u32 = SOURCE_LEN + 16;
/// What a slot holds before it is written.
const UNWRITTEN: u32 = 0xeeee_0000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Nothing,
    Data(Vec<u8>),
    Original(u64),
}

/// One direction's work, planned in advance together with all its effects.
#[derive(Default)]
pub struct Plan {
    pub work: Vec<SendWr>,
    pub expected: Vec<Expected>,
    pub receives: Vec<(RecvDone, Vec<u8>)>,
    /// The peer's memory in the end.
    pub memory: Vec<u8>,
    pub initial: Vec<u8>,
    pub written: u64,
    pub atomics: u64,
    pub locals: Vec<u32>,
}

impl Plan {
    pub fn random(rng: &mut Rng, ops: u32, mtu: u32) -> Plan {
        let mut plan = Plan {
            initial: bytes(SOURCE, 0..SOURCE_LEN),
            ..Plan::default()
        };
        plan.initial.resize(SLOTS as usize, 0);
        plan.memory = plan.initial.clone();
        let mut words = [0u64; 2];
        while (plan.work.len() as u32) < ops {
            let cookie = plan.work.len() as u32;
            let len = match rng.below(6) {
                0 => 0,
                1 => mtu,
                2 => rng.below(8) as u32,
                3 => mtu * rng.below(24) as u32,
                _ => rng.below(u64::from(mtu) * 6) as u32,
            }
            .min(SOURCE_LEN);
            let fence =
                [Fence::None, Fence::None, Fence::None, Fence::ReadAtomic][rng.below(4) as usize];
            let solicited = rng.percent(50);
            let mut wr = SendWr {
                op: SendOp::Send,
                len,
                cookie,
                solicited,
                fence,
                xrc_srqn: Some(5),
            };
            let mut expected = Expected::Nothing;
            let mut receive = None;
            match rng.below(10) {
                0..3 => {
                    (wr.op, receive) = match rng.below(3) {
                        0 => (SendOp::Send, Some(RecvKind::Send)),
                        1 => (SendOp::SendImm(cookie), Some(RecvKind::SendImm(cookie))),
                        _ => (SendOp::SendInv(cookie), Some(RecvKind::SendInv(cookie))),
                    };
                }
                3..6 => {
                    let va = plan.slot(len);
                    plan.memory.truncate(plan.memory.len() - len as usize);
                    plan.memory.extend(bytes(cookie, 0..len));
                    plan.written += u64::from(len);
                    wr.op = SendOp::Write { va, rkey: RKEY };
                    if rng.percent(40) {
                        wr.op = SendOp::WriteImm {
                            va,
                            rkey: RKEY,
                            imm: cookie,
                        };
                        receive = Some(RecvKind::WriteImm(cookie));
                    }
                }
                6 => {
                    let at = rng.below(u64::from(SOURCE_LEN - len) + 1) as u32;
                    wr.op = SendOp::Read {
                        va: BASE + u64::from(at),
                        rkey: RKEY,
                    };
                    expected = Expected::Data(bytes(SOURCE, at..at + len));
                }
                7 => {
                    // READ, then overwrite under a fence: the READ must see the old bytes.
                    let va = plan.slot(len);
                    plan.memory.truncate(plan.memory.len() - len as usize);
                    plan.memory.extend(bytes(cookie + 1, 0..len));
                    plan.written += u64::from(len);
                    wr.op = SendOp::Read { va, rkey: RKEY };
                    plan.work.push(wr);
                    plan.expected.push(Expected::Data(bytes(UNWRITTEN, 0..len)));
                    wr.op = SendOp::Write { va, rkey: RKEY };
                    wr.cookie += 1;
                    wr.fence = Fence::ReadAtomic;
                }
                8 => {
                    let word = rng.below(2) as usize;
                    let va = BASE + u64::from(WORDS) + 8 * word as u64;
                    let value = rng.next();
                    let compare = if rng.percent(60) { words[word] } else { value };
                    expected = Expected::Original(words[word]);
                    if rng.percent(50) {
                        wr.op = SendOp::FetchAdd {
                            va,
                            rkey: RKEY,
                            add: value,
                        };
                        words[word] = words[word].wrapping_add(value);
                    } else {
                        wr.op = SendOp::CompareSwap {
                            va,
                            rkey: RKEY,
                            compare,
                            swap: value,
                        };
                        if compare == words[word] {
                            words[word] = value;
                        }
                    }
                    plan.atomics += 1;
                }
                _ => {
                    wr.op = SendOp::Local;
                    wr.fence = [Fence::None, Fence::All][rng.below(2) as usize];
                    plan.locals.push(cookie);
                }
            }
            if let Some(kind) = receive {
                let placed = match kind {
                    RecvKind::WriteImm(_) => Vec::new(),
                    _ => bytes(cookie, 0..len),
                };
                plan.receives.push((
                    RecvDone {
                        byte_len: len,
                        kind,
                        solicited,
                    },
                    placed,
                ));
            }
            plan.work.push(wr);
            plan.expected.push(expected);
        }
        for (word, value) in words.iter().enumerate() {
            let at = WORDS as usize + 8 * word;
            plan.memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        plan
    }

    fn slot(&mut self, len: u32) -> u64 {
        let va = BASE + self.initial.len() as u64;
        for memory in [&mut self.initial, &mut self.memory] {
            memory.extend(bytes(UNWRITTEN, 0..len));
        }
        va
    }
}
