//! Ethernet frames from a send queue of one NIC to a receive queue of the other.

use rocinante_firmware_cmd::mlx5::command::Input;
use rocinante_firmware_cmd::mlx5::eth::{CreateTirIn, CreateTirOut, CreateTisIn, CreateTisOut};
use rocinante_firmware_cmd::mlx5::flow::{
    CreateFlowGroupIn, CreateFlowGroupOut, CreateFlowTableIn, CreateFlowTableOut,
    SetFlowTableEntryIn,
};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::resources::AllocTransportDomainOut;
use rocinante_firmware_cmd::mlx5::wq::{
    CreateRqIn, CreateRqOut, CreateSqIn, CreateSqOut, ModifyRqIn, ModifySqIn,
};
use rocinante_harness::driver::fabric::{mac, power_on};
use rocinante_harness::driver::{Access, Driver, Function, Local};

use super::{MEMORY, WINDOW, allocates_nothing};

/// log2 of the entries of both queues.
const LOG_SIZE: u8 = 6;

/// Bytes of a WQE of the send queue, and of one of the receive queue.
const SEND_WQE: u64 = 64;
const RECEIVE_WQE: u64 = 16;

/// Bytes of the header that is in the WQE itself.
const INLINE: usize = 18;

/// A NIC with what Ethernet needs.
struct End {
    pd: u32,
    td: u32,
    cqn: u32,
    lkey: u32,
    /// Number, ring and doorbell record of the queue, and the memory of its frames.
    queue: u32,
    ring: u64,
    record: u64,
    buffer: u64,
    posted: u32,
}

fn input(opcode: Opcode, op_mod: u16, len: usize) -> Vec<u8> {
    let mut input = vec![0; len];
    Input::new(&mut input)
        .set_opcode(opcode.code())
        .set_op_mod(op_mod);
    input
}

impl End {
    fn new(driver: &mut Driver<Local>) -> End {
        let pd = driver.alloc_pd().unwrap();
        let td = driver.bare(Opcode::AllocTransportDomain).unwrap();
        let page = |driver: &mut Driver<Local>| driver.pages.zeroed(4096).unwrap().iova;
        End {
            pd,
            td: AllocTransportDomainOut::new(&td).transport_domain(),
            cqn: driver.create_cq(10).unwrap(),
            lkey: driver.reg_all(pd, Access::ALL).unwrap().key,
            queue: 0,
            ring: page(driver),
            record: driver.pages.record().unwrap(),
            buffer: driver.pages.zeroed(WINDOW << 12).unwrap().iova,
            posted: 0,
        }
    }

    /// A send queue that is ready.
    fn sender(driver: &mut Driver<Local>) -> End {
        let mut end = End::new(driver);
        let mut tis = input(Opcode::CreateTis, 0, CreateTisIn::SIZE);
        CreateTisIn::new(&mut tis)
            .tisc_mut()
            .set_transport_domain(end.td);
        let tisn = CreateTisOut::new(&driver.execute(&tis, 16).unwrap()).tisn();
        let mut create = input(Opcode::CreateSq, 0, CreateSqIn::SIZE + 8);
        let mut view = CreateSqIn::new(&mut create);
        let mut sqc = view.sqc_mut();
        sqc.set_cqn(end.cqn).set_tis_lst_sz(1).set_tis_num_0(tisn);
        let mut wq = sqc.wq_mut();
        wq.set_wq_type(1)
            .set_log_wq_stride(6)
            .set_log_wq_sz(LOG_SIZE)
            .set_pd(end.pd);
        wq.set_uar_page(driver.uar().0).set_dbr_addr(end.record);
        wq.pas_mut().set(0, end.ring);
        end.queue = CreateSqOut::new(&driver.execute(&create, 16).unwrap()).sqn();
        let mut ready = input(Opcode::ModifySq, 0, ModifySqIn::SIZE);
        let mut view = ModifySqIn::new(&mut ready);
        view.set_sqn(end.queue).sqc_mut().set_state(1);
        driver.execute(&ready, 16).unwrap();
        end
    }

    /// A receive queue that is ready and gets everything.
    fn receiver(driver: &mut Driver<Local>) -> End {
        let mut end = End::new(driver);
        let mut create = input(Opcode::CreateRq, 0, CreateRqIn::SIZE + 8);
        let mut view = CreateRqIn::new(&mut create);
        let mut rqc = view.rqc_mut();
        rqc.set_cqn(end.cqn);
        let mut wq = rqc.wq_mut();
        wq.set_wq_type(1)
            .set_log_wq_stride(4)
            .set_log_wq_sz(LOG_SIZE)
            .set_pd(end.pd);
        wq.set_dbr_addr(end.record);
        wq.pas_mut().set(0, end.ring);
        end.queue = CreateRqOut::new(&driver.execute(&create, 16).unwrap()).rqn();
        let mut ready = input(Opcode::ModifyRq, 0, ModifyRqIn::SIZE);
        let mut view = ModifyRqIn::new(&mut ready);
        view.set_rqn(end.queue).rqc_mut().set_state(1);
        driver.execute(&ready, 16).unwrap();

        let mut tir = input(Opcode::CreateTir, 0, CreateTirIn::SIZE);
        let mut view = CreateTirIn::new(&mut tir);
        let mut tirc = view.tirc_mut();
        tirc.set_transport_domain(end.td).set_inline_rqn(end.queue);
        let tirn = CreateTirOut::new(&driver.execute(&tir, 16).unwrap()).tirn();
        let mut table = input(Opcode::CreateFlowTable, 0, CreateFlowTableIn::SIZE);
        CreateFlowTableIn::new(&mut table)
            .flow_table_context_mut()
            .set_level(3)
            .set_log_size(4);
        let table = CreateFlowTableOut::new(&driver.execute(&table, 16).unwrap()).table_id();
        let mut group = input(Opcode::CreateFlowGroup, 0, CreateFlowGroupIn::SIZE);
        CreateFlowGroupIn::new(&mut group)
            .set_table_id(table)
            .set_end_flow_index(15);
        let group = CreateFlowGroupOut::new(&driver.execute(&group, 16).unwrap()).group_id();
        let mut entry = input(Opcode::SetFlowTableEntry, 0, SetFlowTableEntryIn::SIZE + 8);
        let mut view = SetFlowTableEntryIn::new(&mut entry);
        view.set_table_id(table);
        let mut context = view.flow_context_mut();
        // Forward, to one TIR.
        context
            .set_group_id(group)
            .set_action(4)
            .set_destination_list_size(1);
        let mut list = context.destination_mut();
        list.get_mut(0)
            .set_destination_type(2)
            .set_destination_id(tirn);
        driver.execute(&entry, 16).unwrap();
        end
    }

    fn data_segment(&self, len: u32, at: u64) -> [u8; 16] {
        let mut segment = [0; 16];
        segment[..4].copy_from_slice(&len.to_be_bytes());
        segment[4..8].copy_from_slice(&self.lkey.to_be_bytes());
        segment[8..].copy_from_slice(&at.to_be_bytes());
        segment
    }

    /// Posts a window of frames of `size` bytes; the doorbell is to follow.
    fn post_sends(&mut self, driver: &Driver<Local>, size: u32) {
        let mut header = [0; INLINE];
        header[..6].copy_from_slice(&mac(1).octets());
        header[6..12].copy_from_slice(&mac(0).octets());
        header[12..14].copy_from_slice(&[0x88, 0xb5]);
        for n in 0..WINDOW {
            let mut wqe = [0; SEND_WQE as usize];
            wqe[1..3].copy_from_slice(&(self.posted as u16).to_be_bytes());
            wqe[3] = 0x0a;
            // Control, Ethernet (two units, with the header) and data segment; a completion is wanted.
            wqe[4..8].copy_from_slice(&(self.queue << 8 | 4).to_be_bytes());
            wqe[11] = 8;
            wqe[28..30].copy_from_slice(&(INLINE as u16).to_be_bytes());
            wqe[30..48].copy_from_slice(&header);
            let data = self.data_segment(size - INLINE as u32, self.buffer + (n << 12));
            wqe[48..].copy_from_slice(&data);
            let at = u64::from(self.posted) % (1 << LOG_SIZE) * SEND_WQE;
            driver.write(self.ring + at, &wqe).unwrap();
            self.posted += 1;
        }
        let record = self.posted.to_be_bytes();
        driver.write(self.record + 4, &record).unwrap();
    }

    /// Posts as many buffers.
    fn post_receives(&mut self, driver: &Driver<Local>) {
        for n in 0..WINDOW {
            let wqe = self.data_segment(4096, self.buffer + (n << 12));
            let at = u64::from(self.posted) % (1 << LOG_SIZE) * RECEIVE_WQE;
            driver.write(self.ring + at, &wqe).unwrap();
            self.posted += 1;
        }
        driver
            .write(self.record, &self.posted.to_be_bytes())
            .unwrap();
    }
}

#[test]
fn ethernet() {
    for size in [60, 1514] {
        let mut ends = [0, 1].map(|node| {
            let (local, pages) = power_on(node, MEMORY).unwrap();
            Driver::attach(local, pages).unwrap()
        });
        let sender = std::cell::RefCell::new(End::sender(&mut ends[0]));
        let mut receiver = End::receiver(&mut ends[1]);
        let receiver_cqn = receiver.cqn;
        let sender_cqn = sender.borrow().cqn;
        let mut rounds = 0;
        allocates_nothing(
            &format!("Ethernet, {size} bytes"),
            &mut ends,
            |ends| {
                receiver.post_receives(&ends[1]);
                sender.borrow_mut().post_sends(&ends[0], size);
            },
            |ends| {
                let sender = sender.borrow();
                let mut doorbell = [0; 8];
                doorbell[4..].copy_from_slice(&(sender.queue << 8).to_be_bytes());
                let at = ends[0].uar().1 + 0x800;
                ends[0].function.store(at, &doorbell).unwrap();
            },
            |ends| {
                rounds += 1;
                // The CQs have room for all of the test.
                for (node, cqn) in [sender_cqn, receiver_cqn].into_iter().enumerate() {
                    let cqs = &ends[node].function.nic.core.cqs.table;
                    let producer = cqs.get(cqn).map(|cq| cq.producer());
                    assert_eq!(producer, Some(rounds * WINDOW as u32), "node {node}");
                }
            },
        );
    }
}
