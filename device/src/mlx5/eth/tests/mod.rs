//! Ethernet from end to end, driven as a driver does: objects made by commands, WQEs and doorbell
//! records in guest memory, frames carried from one NIC to the other by hand.

mod completion;
mod counters;
mod hostile;
mod loopback;
mod lro;
mod objects;
mod offloads;
mod receive;
mod send;
mod striding;

use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::command::Input;
use rocinante_firmware_cmd::mlx5::cq::{CreateCqIn, CreateCqOut};
use rocinante_firmware_cmd::mlx5::eq::{CreateEqIn, CreateEqOut};
use rocinante_firmware_cmd::mlx5::eth::{
    CreateRqtIn, CreateRqtOut, CreateTirIn, CreateTirOut, CreateTisIn, CreateTisOut,
};
use rocinante_firmware_cmd::mlx5::flow::{
    CreateFlowGroupIn, CreateFlowGroupOut, CreateFlowTableIn, CreateFlowTableOut,
    SetFlowTableEntryIn,
};
use rocinante_firmware_cmd::mlx5::hca::{ManagePagesIn, QueryPagesOut};
use rocinante_firmware_cmd::mlx5::mkey::{CreateMkeyIn, CreateMkeyOut};
use rocinante_firmware_cmd::mlx5::resources::{AllocPdOut, AllocTransportDomainOut, AllocUarOut};
use rocinante_firmware_cmd::mlx5::wq::{
    CreateRqIn, CreateRqOut, CreateSqIn, CreateSqOut, ModifyRqIn, ModifySqIn,
};
use rocinante_wire::MacAddr;

use crate::mlx5::cmd::{CmdError, Opcode, execute};
use crate::mlx5::core::{NicConfig, NicFrame, PortManager};
use crate::mlx5::eth;
use crate::mlx5::nic::Nic;
use crate::mlx5::port;

const MEMORY: u64 = 0x10_0000;
const MEMORY_SIZE: u64 = 64 << 20;

/// An input of `len` bytes with its header.
fn input(opcode: Opcode, op_mod: u16, len: usize) -> Vec<u8> {
    let mut input = vec![0; len];
    Input::new(&mut input)
        .set_opcode(opcode.code())
        .set_op_mod(op_mod);
    input
}

fn by_number(opcode: Opcode, number: u32) -> Vec<u8> {
    let mut input = input(opcode, 0, 16);
    input[8..12].copy_from_slice(&number.to_be_bytes());
    input
}

/// A completion queue as its driver sees it.
#[derive(Clone)]
struct TestCq {
    cqn: u32,
    ring: u64,
    record: u64,
    consumer: u32,
}

const LOG_CQ_SIZE: u32 = 8;

struct TestSq {
    sqn: u32,
    ring: u64,
    record: u64,
    producer: u16,
    cq: TestCq,
}

const LOG_SQ_SIZE: u8 = 6;

struct TestRq {
    rqn: u32,
    ring: u64,
    record: u64,
    log_stride: u8,
    linked: bool,
    cq: TestCq,
    /// Buffer of each WQE.
    buffers: Vec<u64>,
}

const LOG_RQ_SIZE: u8 = 4;
const BUFFER: u32 = 2048;

/// A guest with a NIC.
struct Host {
    nic: Nic,
    next: u64,
    uar: u32,
    pd: u32,
    td: u32,
    lkey: u32,
    eqn: u32,
}

impl Host {
    fn new(last: u8) -> Host {
        let mac = MacAddr::new(2, 0, 0, 0, 0, last);
        let mut nic = Nic::new(NicConfig {
            mac,
            name: format!("nic{last}"),
            vectors: 8,
            manager: PortManager::Always,
        });
        nic.core.mem = MemoryMap::anonymous(MEMORY, MEMORY_SIZE).unwrap();
        nic.core.bus_master = true;
        port::set_physical(&mut nic.core, true);
        let mut host = Host {
            nic,
            next: MEMORY,
            uar: 0,
            pd: 0,
            td: 0,
            lkey: 0,
            eqn: 0,
        };
        host.ok(&input(Opcode::EnableHca, 0, 16));
        host.give(1);
        host.give(2);
        host.ok(&input(Opcode::InitHca, 0, 16));
        host.uar = AllocUarOut::new(&host.ok(&input(Opcode::AllocUar, 0, 16))).uar();
        host.pd = AllocPdOut::new(&host.ok(&input(Opcode::AllocPd, 0, 16))).pd();
        let td = host.ok(&input(Opcode::AllocTransportDomain, 0, 16));
        host.td = AllocTransportDomainOut::new(&td).transport_domain();
        let mut mkey = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE);
        let mut view = CreateMkeyIn::new(&mut mkey);
        let mut mkc = view.mkc_mut();
        mkc.set_lr(true)
            .set_lw(true)
            .set_length64(true)
            .set_qpn(0xff_ffff)
            .set_pd(host.pd);
        mkc.set_mkey_7_0(0x5a);
        host.lkey = CreateMkeyOut::new(&host.ok(&mkey)).mkey_index() << 8 | 0x5a;
        let mut eq = input(Opcode::CreateEq, 0, CreateEqIn::SIZE + 8);
        let mut view = CreateEqIn::new(&mut eq);
        view.eqc_mut()
            .set_log_eq_size(6)
            .set_uar_page(host.uar)
            .set_intr(1);
        view.pas_mut().set(0, host.alloc(0x1000));
        host.eqn = u32::from(CreateEqOut::new(&host.ok(&eq)).eq_number());
        host
    }

    fn give(&mut self, stage: u16) {
        let n = QueryPagesOut::new(&self.ok(&input(Opcode::QueryPages, stage, 16))).num_pages();
        let mut give = input(Opcode::ManagePages, 1, 16 + 8 * n as usize);
        let mut view = ManagePagesIn::new(&mut give);
        view.set_input_num_entries(n);
        for index in 0..n as usize {
            view.pas_mut().set(index, self.alloc(0x1000));
        }
        self.ok(&give);
    }

    /// Fresh memory, page aligned.
    fn alloc(&mut self, bytes: u64) -> u64 {
        let at = self.next;
        self.next += bytes.next_multiple_of(0x1000);
        assert!(
            self.next <= MEMORY + MEMORY_SIZE,
            "the test's guest has too little memory"
        );
        at
    }

    fn command(&mut self, input: &[u8]) -> Result<Vec<u8>, CmdError> {
        let header = Input::new(input);
        let mut output = vec![0; 16];
        execute(
            &mut self.nic,
            header.opcode(),
            header.op_mod(),
            input,
            &mut output,
        )?;
        Ok(output)
    }

    #[track_caller]
    fn ok(&mut self, input: &[u8]) -> Vec<u8> {
        match self.command(input) {
            Ok(output) => output,
            Err(error) => panic!("{:#x} refused: {error}", Input::new(input).opcode()),
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.nic.core.mem.write(at, bytes).unwrap();
    }

    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.nic.core.mem.read(at, &mut bytes).unwrap();
        bytes
    }

    fn cq(&mut self) -> TestCq {
        let ring = self.alloc(64 << LOG_CQ_SIZE);
        let record = self.alloc(64);
        self.write(ring, &vec![0xf1; 64 << LOG_CQ_SIZE]);
        let mut create = input(Opcode::CreateCq, 0, CreateCqIn::SIZE + 8 * 4);
        let mut view = CreateCqIn::new(&mut create);
        let mut cqc = view.cqc_mut();
        cqc.set_log_cq_size(LOG_CQ_SIZE as u8)
            .set_uar_page(self.uar);
        cqc.set_c_eqn(self.eqn).set_dbr_addr(record);
        for page in 0..4 {
            view.pas_mut().set(page, ring + 0x1000 * page as u64);
        }
        let cqn = CreateCqOut::new(&self.ok(&create)).cqn();
        TestCq {
            cqn,
            ring,
            record,
            consumer: 0,
        }
    }

    /// The next completion, if there is one.
    fn poll(&self, cq: &mut TestCq) -> Option<[u8; 64]> {
        let index = cq.consumer & ((1 << LOG_CQ_SIZE) - 1);
        let cqe: [u8; 64] = self
            .read(cq.ring + 64 * u64::from(index), 64)
            .try_into()
            .unwrap();
        let owner = (cq.consumer >> LOG_CQ_SIZE & 1) as u8;
        if cqe[63] & 1 != owner || cqe[63] >> 4 == 0xf {
            return None;
        }
        cq.consumer += 1;
        self.write(cq.record, &cq.consumer.to_be_bytes());
        Some(cqe)
    }

    fn tis(&mut self) -> u32 {
        let mut create = input(Opcode::CreateTis, 0, CreateTisIn::SIZE);
        CreateTisIn::new(&mut create)
            .tisc_mut()
            .set_transport_domain(self.td);
        CreateTisOut::new(&self.ok(&create)).tisn()
    }

    fn create_sq(&mut self, cqn: u32, tisn: u32, ring: u64, record: u64) -> Vec<u8> {
        let mut create = input(Opcode::CreateSq, 0, CreateSqIn::SIZE + 8);
        let mut view = CreateSqIn::new(&mut create);
        let mut sqc = view.sqc_mut();
        sqc.set_cqn(cqn)
            .set_tis_lst_sz(1)
            .set_tis_num_0(tisn)
            .set_flush_in_error_en(true);
        let mut wq = sqc.wq_mut();
        wq.set_wq_type(1)
            .set_log_wq_stride(6)
            .set_log_wq_sz(LOG_SQ_SIZE);
        wq.set_pd(self.pd)
            .set_uar_page(self.uar)
            .set_dbr_addr(record);
        wq.pas_mut().set(0, ring);
        create
    }

    /// A send queue that is ready.
    fn sq(&mut self) -> TestSq {
        let cq = self.cq();
        let tisn = self.tis();
        let ring = self.alloc(64 << LOG_SQ_SIZE);
        let record = self.alloc(64);
        let create = self.create_sq(cq.cqn, tisn, ring, record);
        let sqn = CreateSqOut::new(&self.ok(&create)).sqn();
        self.ok(&modify_sq(sqn, 0, 1));
        TestSq {
            sqn,
            ring,
            record,
            producer: 0,
            cq,
        }
    }

    /// Posts a WQE; its control segment gets index, number and length.
    fn post(&mut self, sq: &mut TestSq, opcode: u8, signaled: bool, segments: &[u8]) -> u16 {
        let index = sq.producer;
        let mut wqe = vec![0; 16];
        wqe[1..3].copy_from_slice(&index.to_be_bytes());
        wqe[3] = opcode;
        let ds = (16 + segments.len()).div_ceil(16) as u32;
        wqe[4..8].copy_from_slice(&(sq.sqn << 8 | ds).to_be_bytes());
        wqe[11] = if signaled { 8 } else { 0 };
        wqe.extend(segments);
        let size = 64u64 << LOG_SQ_SIZE;
        for (block, bytes) in wqe.chunks(64).enumerate() {
            let at = (u64::from(index) + block as u64) * 64 % size;
            self.write(sq.ring + at, bytes);
        }
        sq.producer = index.wrapping_add(wqe.len().div_ceil(64) as u16);
        index
    }

    fn ring_doorbell(&mut self, sq: &TestSq) {
        self.write(sq.record + 4, &u32::from(sq.producer).to_be_bytes());
        eth::run_sq(&mut self.nic.core, sq.sqn);
    }

    /// Frames on their way out, as bytes.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = self.nic.core.out.wire.pop_front() {
                let mut bytes = Vec::new();
                frame.to_bytes(&mut bytes).unwrap();
                frames.push(bytes);
            }
            if !eth::resume(&mut self.nic.core) {
                return frames;
            }
        }
    }

    fn data_seg(&mut self, bytes: &[u8]) -> Vec<u8> {
        let at = self.alloc(bytes.len() as u64);
        self.write(at, bytes);
        data_seg(bytes.len() as u32, self.lkey, at)
    }

    fn receive(&mut self, frame: &[u8]) {
        let frame = NicFrame::from_slice(frame, &self.nic.core.buffers);
        eth::receive(&mut self.nic.core, &frame);
    }

    fn create_rq(
        &mut self,
        cqn: u32,
        linked: bool,
        log_stride: u8,
        ring: u64,
        record: u64,
    ) -> Vec<u8> {
        let mut create = input(Opcode::CreateRq, 0, CreateRqIn::SIZE + 8);
        let mut view = CreateRqIn::new(&mut create);
        let mut rqc = view.rqc_mut();
        rqc.set_cqn(cqn).set_flush_in_error_en(true);
        let mut wq = rqc.wq_mut();
        wq.set_wq_type(if linked { 0 } else { 1 })
            .set_log_wq_stride(log_stride);
        wq.set_log_wq_sz(LOG_RQ_SIZE)
            .set_pd(self.pd)
            .set_dbr_addr(record);
        wq.pas_mut().set(0, ring);
        create
    }

    /// A receive queue that is ready and has nothing posted.
    fn rq(&mut self, linked: bool) -> TestRq {
        let cq = self.cq();
        let log_stride = if linked { 5 } else { 4 };
        let ring = self.alloc(1 << (LOG_RQ_SIZE + log_stride));
        let record = self.alloc(64);
        let create = self.create_rq(cq.cqn, linked, log_stride, ring, record);
        let rqn = CreateRqOut::new(&self.ok(&create)).rqn();
        self.ok(&modify_rq(rqn, 0, 1));
        let buffers = (0..1 << LOG_RQ_SIZE)
            .map(|_| self.alloc(u64::from(BUFFER)))
            .collect();
        TestRq {
            rqn,
            ring,
            record,
            log_stride,
            linked,
            cq,
            buffers,
        }
    }

    /// Posts all WQEs with buffers of `len` bytes, the list in the order `next`.
    fn fill(&mut self, rq: &TestRq, len: u32) {
        for (index, buffer) in rq.buffers.iter().enumerate() {
            let at = rq.ring + ((index as u64) << rq.log_stride);
            let mut wqe = Vec::new();
            if rq.linked {
                // Backwards, so that nobody takes the list for a ring.
                let next = (index as u16).wrapping_sub(1) % (1 << LOG_RQ_SIZE);
                wqe.extend([0, 0]);
                wqe.extend(next.to_be_bytes());
                wqe.resize(16, 0);
            }
            wqe.extend(data_seg(1 << 31 | len, self.lkey, *buffer));
            self.write(at, &wqe);
        }
        self.write(rq.record, &(1u32 << LOG_RQ_SIZE).to_be_bytes());
    }

    fn rqt(&mut self, rqns: &[u32]) -> u32 {
        let mut create = input(Opcode::CreateRqt, 0, CreateRqtIn::SIZE + 4 * rqns.len());
        let mut view = CreateRqtIn::new(&mut create);
        let mut rqtc = view.rqtc_mut();
        rqtc.set_rqt_max_size(64)
            .set_rqt_actual_size(rqns.len() as u16);
        for (index, rqn) in rqns.iter().enumerate() {
            rqtc.rq_num_mut().get_mut(index).set_rq_num(*rqn);
        }
        CreateRqtOut::new(&self.ok(&create)).rqtn()
    }

    /// A TIR with Toeplitz hash over addresses and ports.
    fn tir(&mut self, disposition: eth::tir::Disposition) -> u32 {
        let mut create = input(Opcode::CreateTir, 0, CreateTirIn::SIZE);
        let mut view = CreateTirIn::new(&mut create);
        let mut tirc = view.tirc_mut();
        tirc.set_transport_domain(self.td).set_rx_hash_fn(2);
        let mut key = [0; 40];
        for (i, byte) in key.iter_mut().enumerate() {
            *byte = (i * 37 + 11) as u8;
        }
        tirc.set_rx_hash_toeplitz_key(&key);
        tirc.rx_hash_field_selector_outer_mut()
            .set_selected_fields(15);
        match disposition {
            eth::tir::Disposition::Direct(rqn) => tirc.set_disp_type(0).set_inline_rqn(rqn),
            eth::tir::Disposition::Indirect(rqtn) => tirc.set_disp_type(1).set_indirect_table(rqtn),
        };
        CreateTirOut::new(&self.ok(&create)).tirn()
    }

    fn flow_table(&mut self, level: u8) -> u32 {
        let mut create = input(Opcode::CreateFlowTable, 0, CreateFlowTableIn::SIZE);
        let mut view = CreateFlowTableIn::new(&mut create);
        view.flow_table_context_mut()
            .set_level(level)
            .set_log_size(4);
        CreateFlowTableOut::new(&self.ok(&create)).table_id()
    }

    /// A group of all 16 entries of a table that matches everything.
    fn flow_group(&mut self, table: u32) -> u32 {
        let mut create = input(Opcode::CreateFlowGroup, 0, CreateFlowGroupIn::SIZE);
        CreateFlowGroupIn::new(&mut create)
            .set_table_id(table)
            .set_end_flow_index(15);
        CreateFlowGroupOut::new(&self.ok(&create)).group_id()
    }

    /// Everything goes to these TIRs, with flow tag 0x77.
    fn all_to(&mut self, tirns: &[u32]) {
        let table = self.flow_table(3);
        let group = self.flow_group(table);
        let entry = set_entry(table, group, 0, 2, tirns);
        self.ok(&entry);
    }

    /// A queue that gets everything, with WQEs posted.
    fn receiver(&mut self, linked: bool) -> TestRq {
        let rq = self.rq(linked);
        self.fill(&rq, BUFFER);
        let tirn = self.tir(eth::tir::Disposition::Direct(rq.rqn));
        self.all_to(&[tirn]);
        rq
    }
}

fn data_seg(len: u32, lkey: u32, at: u64) -> Vec<u8> {
    let mut seg = Vec::new();
    seg.extend(len.to_be_bytes());
    seg.extend(lkey.to_be_bytes());
    seg.extend(at.to_be_bytes());
    seg
}

/// Ethernet segment with an inline header; `checksums` are its flags.
fn eth_seg(checksums: u8, mss: u16, header: &[u8]) -> Vec<u8> {
    let mut seg = vec![0; 16];
    seg[4] = checksums;
    seg[6..8].copy_from_slice(&mss.to_be_bytes());
    seg[12..14].copy_from_slice(&(header.len() as u16).to_be_bytes());
    seg.truncate(14);
    seg.extend(header);
    seg.resize(seg.len().next_multiple_of(16).max(16), 0);
    seg
}

fn set_entry(table: u32, group: u32, index: u32, kind: u8, destinations: &[u32]) -> Vec<u8> {
    let len = SetFlowTableEntryIn::SIZE + 8 * destinations.len();
    let mut entry = input(Opcode::SetFlowTableEntry, 0, len);
    let mut view = SetFlowTableEntryIn::new(&mut entry);
    view.set_table_id(table).set_flow_index(index);
    let mut context = view.flow_context_mut();
    context.set_group_id(group).set_flow_tag(0x77).set_action(4);
    context.set_destination_list_size(destinations.len() as u32);
    for (index, id) in destinations.iter().enumerate() {
        let mut list = context.destination_mut();
        list.get_mut(index)
            .set_destination_type(kind)
            .set_destination_id(*id);
    }
    entry
}

fn modify_sq(sqn: u32, from: u8, to: u8) -> Vec<u8> {
    let mut modify = input(Opcode::ModifySq, 0, ModifySqIn::SIZE);
    let mut view = ModifySqIn::new(&mut modify);
    view.set_sqn(sqn).set_sq_state(from).sqc_mut().set_state(to);
    modify
}

fn modify_rq(rqn: u32, from: u8, to: u8) -> Vec<u8> {
    let mut modify = input(Opcode::ModifyRq, 0, ModifyRqIn::SIZE);
    let mut view = ModifyRqIn::new(&mut modify);
    view.set_rqn(rqn).set_rq_state(from).rqc_mut().set_state(to);
    modify
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Bytes that are not all alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}
