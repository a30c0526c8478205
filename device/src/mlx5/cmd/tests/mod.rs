//! Commands driven as a driver does, without a command queue.

mod attach;
mod counters;
mod cq;
mod eq;
mod hca;
mod hostile;
mod mkey;
mod pages;
mod resources;
mod roce;
mod srq;
mod vport;

use std::cell::RefCell;
use std::sync::{Arc, Once};

use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::command::Input;
use rocinante_firmware_cmd::mlx5::cq::{CreateCqIn, CreateCqOut};
use rocinante_firmware_cmd::mlx5::eq::{CreateEqIn, CreateEqOut};
use rocinante_firmware_cmd::mlx5::hca::{ManagePagesIn, ManagePagesOut, QueryPagesOut};
use rocinante_firmware_cmd::mlx5::resources::{AllocPdOut, AllocUarOut, AllocXrcdOut};
use rocinante_wire::MacAddr;

use super::{CmdError, Opcode, Status, execute};
use crate::mlx5::core::{NicConfig, PortManager};
use crate::mlx5::nic::Nic;

/// Guest memory of a test.
const MEMORY: u64 = 0x10_0000;
const MEMORY_SIZE: u64 = 64 << 20;

/// A driver that has the NIC in its hands.
struct Driver {
    nic: Nic,
    next_page: u64,
    /// Pages that the device holds, as far as this driver knows.
    lent: Vec<u64>,
}

impl Driver {
    fn new() -> Driver {
        let mut nic = Nic::new(NicConfig {
            mac: MacAddr::new(0x02, 0, 0, 0, 0, 1),
            name: "nic0".into(),
            vectors: 8,
            manager: PortManager::Always,
        });
        nic.core.mem = MemoryMap::anonymous(MEMORY, MEMORY_SIZE).unwrap();
        nic.core.bus_master = true;
        Driver {
            nic,
            next_page: MEMORY,
            lent: Vec::new(),
        }
    }

    /// A driver that has come as far as INIT_HCA.
    fn initialized() -> Driver {
        let mut driver = Driver::new();
        driver.initialize();
        driver
    }

    fn initialize(&mut self) {
        self.bare(Opcode::EnableHca);
        self.give_wanted(1);
        self.give_wanted(2);
        self.bare(Opcode::InitHca);
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
        assert!(output.len() >= 16);
        Ok(output)
    }

    #[track_caller]
    fn ok(&mut self, input: &[u8]) -> Vec<u8> {
        match self.command(input) {
            Ok(output) => output,
            Err(error) => panic!("{:#x} refused: {error}", Input::new(input).opcode()),
        }
    }

    /// A command without parameters.
    #[track_caller]
    fn bare(&mut self, opcode: Opcode) -> Vec<u8> {
        self.ok(&input(opcode, 0, 16))
    }

    /// The status and the number of the check that refuse a command.
    #[track_caller]
    fn refused(&mut self, input: &[u8]) -> (Status, u16) {
        match self.command(input) {
            Ok(_) => panic!("{:#x} not refused", Input::new(input).opcode()),
            Err(error) => {
                assert_eq!(error.syndrome >> 16, u32::from(Input::new(input).opcode()));
                (error.status, error.syndrome as u16)
            }
        }
    }

    /// A fresh page of guest memory.
    fn page(&mut self) -> u64 {
        self.next_page += 0x1000;
        assert!(self.next_page <= MEMORY + MEMORY_SIZE);
        self.next_page - 0x1000
    }

    /// Asks how many pages are wanted at this stage and gives them, as FreeBSD does even if none.
    fn give_wanted(&mut self, stage: u16) -> usize {
        let output = self.ok(&input(Opcode::QueryPages, stage, 16));
        let n = QueryPagesOut::new(&output).num_pages() as usize;
        self.give(n);
        n
    }

    fn give(&mut self, n: usize) {
        let pages: Vec<u64> = (0..n).map(|_| self.page()).collect();
        self.ok(&give(&pages));
        self.lent.extend(pages);
    }

    /// Takes at most `n` pages back.
    fn take(&mut self, n: u32) -> usize {
        let mut take = input(Opcode::ManagePages, 2, 16);
        ManagePagesIn::new(&mut take).set_input_num_entries(n);
        let output = self.ok(&take);
        let out = ManagePagesOut::new(&output);
        let count = out.output_num_entries() as usize;
        assert!(count <= n as usize);
        assert_eq!(out.pas().len(), count);
        for page in out.pas() {
            let place = self.lent.iter().position(|lent| *lent == page);
            self.lent
                .swap_remove(place.expect("a page that was not lent"));
        }
        count
    }

    fn uar(&mut self) -> u32 {
        AllocUarOut::new(&self.bare(Opcode::AllocUar)).uar()
    }

    fn pd(&mut self) -> u32 {
        AllocPdOut::new(&self.bare(Opcode::AllocPd)).pd()
    }

    fn xrcd(&mut self) -> u32 {
        AllocXrcdOut::new(&self.bare(Opcode::AllocXrcd)).xrcd()
    }

    fn eq(&mut self, uar: u32, vector: u16, mask: u64) -> u32 {
        let input = create_eq(uar, vector, mask, self.page());
        u32::from(CreateEqOut::new(&self.ok(&input)).eq_number())
    }

    fn cq(&mut self, uar: u32, eqn: u32) -> u32 {
        let input = create_cq(uar, eqn, self.page(), self.page());
        CreateCqOut::new(&self.ok(&input)).cqn()
    }
}

/// An input of `len` bytes with its header.
fn input(opcode: Opcode, op_mod: u16, len: usize) -> Vec<u8> {
    let mut input = vec![0; len];
    Input::new(&mut input)
        .set_opcode(opcode.code())
        .set_op_mod(op_mod);
    input
}

/// An input whose word at 8 is an object number.
fn by_number(opcode: Opcode, number: u32) -> Vec<u8> {
    let mut input = input(opcode, 0, 16);
    input[8..12].copy_from_slice(&number.to_be_bytes());
    input
}

/// MANAGE_PAGES, give.
fn give(pages: &[u64]) -> Vec<u8> {
    let mut give = input(Opcode::ManagePages, 1, 16 + 8 * pages.len());
    let mut view = ManagePagesIn::new(&mut give);
    view.set_input_num_entries(pages.len() as u32);
    for (index, page) in pages.iter().enumerate() {
        view.pas_mut().set(index, *page);
    }
    give
}

/// CREATE_EQ with 64 entries in one page.
fn create_eq(uar: u32, vector: u16, mask: u64, page: u64) -> Vec<u8> {
    let mut create = input(Opcode::CreateEq, 0, CreateEqIn::SIZE + 8);
    let mut view = CreateEqIn::new(&mut create);
    view.eqc_mut()
        .set_log_eq_size(6)
        .set_uar_page(uar)
        .set_intr(vector);
    let mut bitmask = [0; 32];
    bitmask[..8].copy_from_slice(&mask.to_be_bytes());
    view.set_event_bitmask(&bitmask);
    view.pas_mut().set(0, page);
    create
}

/// CREATE_CQ with 64 entries of 64 bytes in one page.
fn create_cq(uar: u32, eqn: u32, page: u64, record: u64) -> Vec<u8> {
    let mut create = input(Opcode::CreateCq, 0, CreateCqIn::SIZE + 8);
    let mut view = CreateCqIn::new(&mut create);
    view.cqc_mut()
        .set_log_cq_size(6)
        .set_uar_page(uar)
        .set_c_eqn(eqn)
        .set_dbr_addr(record);
    view.pas_mut().set(0, page);
    create
}

/// The EQE at `index` of a queue in one page.
fn eqe(nic: &Nic, page: u64, index: u64) -> [u8; 64] {
    let mut eqe = [0; 64];
    Arc::clone(&nic.core.mem)
        .read(page + 64 * index, &mut eqe)
        .unwrap();
    eqe
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// What this thread logs from now on can be had from [`logged`].
fn capture_log() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Capture).expect("no other test of this crate installs a logger");
        log::set_max_level(log::LevelFilter::Info);
    });
    LINES.with_borrow_mut(Vec::clear);
}

/// Lines logged by this thread.
fn logged() -> Vec<String> {
    LINES.with_borrow(Clone::clone)
}
