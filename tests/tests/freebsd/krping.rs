//! krping with `server_inv`, replayed on both sides: the connection manager's datagrams, memory registration with UMR,
//! RDMA READ and WRITE, invalidation, SEND with invalidate, disconnecting.

use std::collections::VecDeque;
use std::time::Duration;

use rocinante_tests::pattern;
use rocinante_tests::replay::pair::Pair;
use rocinante_tests::replay::{Completion, Event};
use rocinante_tests::vectors::{Kind, Record};

use super::{detach, peer_session, send, session, up, vectors};

/// The QP of the connection manager and the CQ of what it receives, as recorded.
const GSI: u32 = 0x40;
const GSI_RECEIVE_CQ: u32 = 0x81;

/// Send WQE opcodes.
const SEND_INVAL: u8 = 0x01;
const RDMA_WRITE: u8 = 0x08;
const SEND: u8 = 0x0a;
const RDMA_READ: u8 = 0x10;
const UMR: u8 = 0x25;

/// CQE opcodes.
const REQUEST: u8 = 0;
const RECEIVED: u8 = 2;
const RECEIVED_INVAL: u8 = 4;
const RECEIVE_ERROR: u8 = 0xe;
const FLUSHED: u8 = 0x05;

/// What a datagram has in front.
const GRH: u64 = 40;

const PAGE: usize = 4096;

/// Readable and writable, in the list of pages of a memory region.
const READ_WRITE: u64 = 3;

/// One side of the connection.
struct Side {
    end: usize,
    records: VecDeque<Record>,
    /// Receive WQEs of the connected QP not yet posted.
    receives: VecDeque<Record>,
    qpn: u32,
    cqn: u32,
    /// Messages received and not yet waited for, of the connected QP and of the manager's.
    arrived: VecDeque<Completion>,
    datagrams: VecDeque<Completion>,
    /// Where the pages of its memory regions are.
    memory: u64,
    /// Bytes of messages on their way to the other side.
    sent: VecDeque<Vec<u8>>,
    flushed: usize,
    done: [usize; 4],
}

/// What `done` counts.
const READS: usize = 0;
const WRITES: usize = 1;
const SENDS: usize = 2;
const INVALIDATED: usize = 3;

impl Side {
    fn new(end: usize, file: &str, qpn: u32, cqn: u32, memory: u64) -> Side {
        let records: VecDeque<Record> = vectors(file).into();
        let receives = records
            .iter()
            .filter(|record| record.kind == Kind::Receive(qpn))
            .cloned()
            .collect();
        Side {
            end,
            records,
            receives,
            qpn,
            cqn,
            arrived: VecDeque::new(),
            datagrams: VecDeque::new(),
            memory,
            sent: VecDeque::new(),
            flushed: 0,
            done: [0; 4],
        }
    }

    /// Where the page of a memory region with this virtual address is.
    fn page(&self, va: u64) -> u64 {
        self.memory + (va & 0xfff_f000)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn address(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) << 32 | u64::from(word(bytes, at + 4))
}

struct Run {
    pair: Pair,
    sides: [Side; 2],
    /// The page that is written next, and what was put into it.
    pages: [Vec<u8>; 2],
    round: u64,
}

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// Virtual addresses of krping's buffers, as recorded: what the client offers to be read and to be written, and the
/// server's.
const OFFERED: u64 = 0x061f_f000;
const WANTED: u64 = 0x3e5f_f000;
const SINK: u64 = 0x0628_0000;

impl Run {
    /// Does what `side` did next, unless that was waiting for something that has not come. Whether it did anything.
    fn step(&mut self, side: usize) -> bool {
        let Some(record) = self.sides[side].records.front().cloned() else {
            return false;
        };
        match record.kind {
            Kind::Command => {
                // It needs the number of the other side's QP.
                if record.name == "INIT2RTR_QP" && self.peer_qp(side).is_err() {
                    return false;
                }
                self.command(side, &record);
            }
            Kind::Qp(qpn) => self.send(side, qpn, &record),
            Kind::Receive(GSI) => {
                let Some(cqe) = self.sides[side].datagrams.pop_front() else {
                    return false;
                };
                assert_eq!(cqe.opcode(), RECEIVED, "{cqe:x?}");
                assert_eq!(u64::from(cqe.byte_count()), GRH + 256);
                let at = address(&record.input, 8);
                let datagram = self.pair.ends[side].read(at + GRH, 256);
                assert_eq!(Some(datagram), self.sides[1 - side].sent.pop_front());
            }
            Kind::Receive(_) => {
                let ends = self.sides[side].records.get(1);
                if ends.is_none_or(|next| next.name != "2ERR_QP") {
                    let Some(cqe) = self.sides[side].arrived.pop_front() else {
                        return false;
                    };
                    self.received(side, &record, cqe);
                }
            }
            _ => panic!("{record:?}"),
        }
        self.sides[side].records.pop_front();
        true
    }

    fn peer_qp(&self, side: usize) -> Result<u32, String> {
        use rocinante_tests::replay::numbers::Object;
        let qpn = self.sides[1 - side].qpn;
        self.pair.ends[1 - side].numbers.get(Object::Qp, qpn)
    }

    fn command(&mut self, side: usize, record: &Record) {
        // Keys and QPs of the other side that the WQEs and INIT2RTR name.
        self.pair.ends[side].peer = self.pair.ends[1 - side].numbers.clone();
        let end = &mut self.pair.ends[side];
        let sent = end.command(record);
        sent.unwrap_or_else(|error| panic!("side {side}: {error}"));
        if record.name == "RST2INIT_QP" {
            self.post_receive(side);
        }
        if record.name == "2ERR_QP" {
            self.collect();
            assert_eq!(self.sides[side].flushed, 1, "receives flushed");
        }
    }

    fn post_receive(&mut self, side: usize) {
        if let Some(record) = self.sides[side].receives.pop_front() {
            self.pair.ends[side].post(&record).expect("posted");
        }
    }

    /// Puts into memory what the WQE refers to, and posts it.
    fn send(&mut self, side: usize, qpn: u32, record: &Record) {
        let wqe = &record.input;
        self.round += 1;
        let fresh = |len| pattern(record.line as u64 + 1000 * self.round, len);
        match wqe[3] {
            SEND if qpn == GSI => {
                let mad = fresh(256);
                self.write(side, address(wqe, 72), &mad[..24]);
                self.write(side, address(wqe, 88), &mad[24..]);
                self.sides[side].sent.push_back(mad);
            }
            SEND | SEND_INVAL => {
                let message = fresh(16);
                self.write(side, address(wqe, 24), &message);
                self.sides[side].sent.push_back(message);
                self.sides[side].done[SENDS] += 1;
            }
            UMR if wqe.len() > 128 => {
                // The list of pages of the region.
                let va = address(wqe, 64 + 16);
                let page = self.sides[side].page(va);
                let entry = (page | READ_WRITE).to_be_bytes();
                self.write(side, address(wqe, 128 + 8), &entry);
                if va == OFFERED {
                    self.pages[CLIENT] = fresh(PAGE);
                    self.write(side, page, &self.pages[CLIENT].clone());
                }
            }
            UMR => self.sides[side].done[INVALIDATED] += 1,
            RDMA_READ => self.sides[side].done[READS] += 1,
            RDMA_WRITE => {
                self.pages[SERVER] = fresh(PAGE);
                let page = self.sides[side].page(SINK);
                self.write(side, page, &self.pages[SERVER].clone());
                self.sides[side].done[WRITES] += 1;
            }
            other => panic!("opcode {other:#x}"),
        }
        self.pair.ends[side].peer = self.pair.ends[1 - side].numbers.clone();
        let posted = self.pair.ends[side].post(record);
        posted.unwrap_or_else(|error| panic!("side {side}: {error}"));
    }

    fn write(&self, side: usize, at: u64, bytes: &[u8]) {
        self.pair.ends[side].write(at, bytes);
    }

    /// A message came: it and what was transferred before it are there.
    fn received(&mut self, side: usize, record: &Record, cqe: Completion) {
        assert_eq!(cqe.byte_count(), 16);
        let message = self.pair.ends[side].read(address(&record.input, 8), 16);
        assert_eq!(Some(message), self.sides[1 - side].sent.pop_front());
        if side == SERVER {
            assert_eq!(cqe.opcode(), RECEIVED);
        } else {
            // The server invalidates the client's key with each message.
            assert_eq!(cqe.opcode(), RECEIVED_INVAL);
            let given = self.pair.ends[CLIENT].numbers.mkey(cqe.imm());
            assert!(given.is_ok() || cqe.imm() != 0, "{:#x}", cqe.imm());
            // First it has read, then it has written.
            let (va, data) = if self.sides[SERVER].done[READS] > self.sides[SERVER].done[WRITES] {
                (SINK, CLIENT)
            } else {
                (WANTED, SERVER)
            };
            let owner = if va == SINK { SERVER } else { CLIENT };
            let page = self.sides[owner].page(va);
            let there = self.pair.ends[owner].read(page, PAGE);
            assert!(
                there == self.pages[data],
                "what was transferred is not there"
            );
        }
        self.post_receive(side);
    }

    /// Takes all completions.
    fn collect(&mut self) {
        for side in 0..2 {
            let end = &mut self.pair.ends[side];
            end.poll_events().expect("event queues");
            for cqn in [GSI_RECEIVE_CQ, self.sides[side].cqn] {
                // Gone, or not there yet.
                while let Ok(Some(cqe)) = end.poll(cqn) {
                    let own = &mut self.sides[side];
                    match cqe.opcode() {
                        REQUEST => {}
                        RECEIVED if cqn == GSI_RECEIVE_CQ => own.datagrams.push_back(cqe),
                        RECEIVED | RECEIVED_INVAL => own.arrived.push_back(cqe),
                        RECEIVE_ERROR if cqe.0[0x37] == FLUSHED => own.flushed += 1,
                        _ => panic!("side {side}: {cqe:x?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn recorded_krping_reads_writes_and_invalidates() {
    let mut pair = Pair::new([up(session()), up(peer_session())]);
    // From here on the client is recorded too.
    pair.ends[CLIENT].identity.clear();
    let mut run = Run {
        pair,
        sides: [
            Side::new(SERVER, "krping-server.txt", 0x46, 0x88, 0x0c00_0000),
            Side::new(CLIENT, "krping-client.txt", 0x48, 0x8a, 0x0c00_0000),
        ],
        pages: [Vec::new(), Vec::new()],
        round: 0,
    };
    for side in 0..2 {
        for record in run.sides[side].records.clone() {
            if record.kind == Kind::Receive(GSI) {
                run.pair.ends[side].post(&record).expect("posted");
            }
        }
        run.pair.ends[side].events.clear();
    }
    let mut idle = 0;
    while run.sides.iter().any(|side| !side.records.is_empty()) {
        let mut progress = false;
        for side in 0..2 {
            while run.step(side) {
                progress = true;
            }
        }
        run.pair.run(Duration::from_micros(20));
        run.collect();
        idle = if progress { 0 } else { idle + 1 };
        if idle > 100 {
            for side in &run.sides {
                println!("side {}: next {:?}", side.end, side.records.front());
            }
            panic!("nothing happens any more");
        }
    }
    let done = |side: usize| run.sides[side].done;
    assert_eq!(done(SERVER)[READS], 3);
    assert_eq!(done(SERVER)[WRITES], 3);
    assert_eq!(done(SERVER)[SENDS], 6);
    assert_eq!(done(CLIENT)[SENDS], 6);
    assert!(done(SERVER)[INVALIDATED] >= 3);
    for end in &mut run.pair.ends {
        assert!(
            end.events
                .iter()
                .any(|event| matches!(event, Event::Completion(_))),
            "completions without an event"
        );
    }
    let [server, client] = &mut run.pair.ends;
    send(server, "mtu.txt");
    send(server, "close.txt");
    detach(server);
    // The client's own addresses again.
    client.identity = peer_session().identity;
    send(client, "mtu.txt");
    send(client, "close.txt");
    detach(client);
}
