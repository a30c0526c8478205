//! A small mlx5 driver of our own: what a guest driver does, step by step, without a guest.
//!
//! It drives a device through nothing but the interface that a guest driver has: loads and stores
//! of BAR 0, and memory with queues in it ([`Function`]). Behind that is a NIC in the same process and in virtual
//! time ([`Local`], and [`fabric`] for several of them), or one served on a vfio-user socket ([`vfio::Attached`]).
//! It writes the formats of the interface itself, from the drivers' definitions, so that a misreading in the
//! device is not repeated here.
//!
//! Verbs without comfort: objects are numbers, and who uses them keeps the order in which they go away.

pub mod command;
mod cq;
mod eq;
mod error;
pub mod fabric;
mod function;
mod memory;
mod mr;
mod pages;
mod qp;
mod queue;
mod receive;
mod roce;
mod send;
pub mod vfio;

use std::collections::VecDeque;
use std::sync::Arc;

use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::caps::CapType;
use rocinante_firmware_cmd::mlx5::caps::general::GeneralCaps;
use rocinante_firmware_cmd::mlx5::caps::rdma::AtomicCaps;
use rocinante_firmware_cmd::mlx5::hca::{QueryHcaCapOut, SetHcaCapIn, TeardownHcaIn};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::resources::{
    AllocPdOut, AllocQCounterOut, AllocUarOut, AllocXrcdOut, QueryQCounterIn, QueryQCounterOut,
};
use rocinante_firmware_cmd::mlx5::vport::{ModifyNicVportContextIn, QueryNicVportContextOut};
use rocinante_wire::MacAddr;

use command::{Commands, by_number, input};
use cq::Cq;
use eq::Eq;
use qp::Qp;
use queue::Numbered;
use receive::Srq;

pub use cq::{Completion, syndrome};
pub use eq::Event;
pub use error::{Error, Result};
pub use function::{Function, Local};
pub use memory::{Buffer, PAGE, Pages};
pub use mr::{Access, Mr, Umr, UmrPages};
pub use qp::{Connection, Mtu, QpConfig, Service};
pub use receive::{Sge, SrqKind};
pub use roce::{GidEntry, RoceType, mapped_gid};
pub use send::{Av, Data, SendOp, SendWr};

/// Offsets in BAR 0.
mod bar {
    pub const CMDIF_REV: u64 = 0x04;
    pub const CMDQ_HIGH: u64 = 0x10;
    pub const CMDQ_LOW: u64 = 0x14;
    pub const INITIALIZING: u64 = 0x1fc;
    /// Bytes of a UAR page.
    pub const UAR_PAGE: u64 = 0x1000;
}

/// Vectors that the driver uses.
pub mod vector {
    /// Asynchronous events and page requests.
    pub const ASYNC: u16 = 0;
    /// Completion events.
    pub const COMPLETION: u16 = 1;
}

/// A driver attached to a device.
pub struct Driver<F: Function> {
    /// The device.
    pub function: F,
    /// Memory.
    pub pages: Pages,
    commands: Commands,
    /// Pages that the device holds.
    lent: Vec<Buffer>,
    /// Pages given on request of the device, beside those for boot and initialization.
    requested_pages: u64,
    uar: u32,
    async_eq: Eq,
    completion_eq: Eq,
    events: VecDeque<Event>,
    cqs: Numbered<Cq>,
    qps: Numbered<Qp>,
    srqs: Numbered<Srq>,
    next_variant: u8,
}

impl<F: Function> Driver<F> {
    /// Attaches: from bus mastering to event queues and RoCE switched on. `pages` is memory of `function`.
    pub fn attach(mut function: F, mut pages: Pages) -> Result<Driver<F>> {
        function.bus_master(true)?;
        let mut commands = start(&mut function, &mut pages)?;
        let mut lent = Vec::new();
        let uar;
        {
            let mut hca = Bare {
                function: &mut function,
                pages: &mut pages,
                commands: &mut commands,
                lent: &mut lent,
            };
            hca.initialize()?;
            uar = AllocUarOut::new(&hca.bare(Opcode::AllocUar)?).uar();
        }
        let mut bare = Bare {
            function: &mut function,
            pages: &mut pages,
            commands: &mut commands,
            lent: &mut lent,
        };
        let async_eq = Eq::create(&mut bare, uar, vector::ASYNC, eq::ASYNC_EVENTS)?;
        let completion_eq = Eq::create(&mut bare, uar, vector::COMPLETION, 0)?;
        let mut driver = Driver {
            function,
            pages,
            commands,
            lent,
            requested_pages: 0,
            uar,
            async_eq,
            completion_eq,
            events: VecDeque::new(),
            cqs: Numbered::default(),
            qps: Numbered::default(),
            srqs: Numbered::default(),
            next_variant: 0,
        };
        driver.set_roce(true)?;
        Ok(driver)
    }

    /// Guest memory.
    #[inline]
    pub fn memory(&self) -> &Arc<MemoryMap> {
        self.function.memory()
    }

    /// Writes to memory.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.memory().write(iova, bytes)?)
    }

    /// Reads memory.
    pub fn read(&self, iova: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.memory().read(iova, &mut bytes)?;
        Ok(bytes)
    }

    /// Executes any command: input with header, as many bytes of output as wanted.
    pub fn execute(&mut self, input: &[u8], output_len: usize) -> Result<Vec<u8>> {
        let output = self.commands.execute(
            &mut self.function,
            &mut self.pages,
            command::SLOT,
            input,
            output_len,
        )?;
        self.poll_async_events()?;
        Ok(output)
    }

    /// A command without parameters and with a short output.
    pub fn bare(&mut self, opcode: Opcode) -> Result<Vec<u8>> {
        self.execute(&input(opcode, 0, 16), 16)
    }

    /// A command about the object of this number.
    pub fn about(&mut self, opcode: Opcode, number: u32) -> Result<Vec<u8>> {
        self.execute(&by_number(opcode, number), 16)
    }

    /// Pages that the device holds now, and how many of those it asked for with events.
    pub fn pages_lent(&self) -> (usize, u64) {
        (self.lent.len(), self.requested_pages)
    }

    /// The UAR page for doorbells, and its offset in BAR 0.
    pub fn uar(&self) -> (u32, u64) {
        (self.uar, u64::from(self.uar) * bar::UAR_PAGE)
    }

    /// ALLOC_PD.
    pub fn alloc_pd(&mut self) -> Result<u32> {
        Ok(AllocPdOut::new(&self.bare(Opcode::AllocPd)?).pd())
    }

    /// DEALLOC_PD.
    pub fn dealloc_pd(&mut self, pd: u32) -> Result<()> {
        self.about(Opcode::DeallocPd, pd).map(drop)
    }

    /// ALLOC_XRCD.
    pub fn alloc_xrcd(&mut self) -> Result<u32> {
        Ok(AllocXrcdOut::new(&self.bare(Opcode::AllocXrcd)?).xrcd())
    }

    /// DEALLOC_XRCD.
    pub fn dealloc_xrcd(&mut self, xrcd: u32) -> Result<()> {
        self.about(Opcode::DeallocXrcd, xrcd).map(drop)
    }

    /// ALLOC_Q_COUNTER.
    pub fn alloc_q_counter(&mut self) -> Result<u8> {
        Ok(AllocQCounterOut::new(&self.bare(Opcode::AllocQCounter)?).counter_set_id())
    }

    /// DEALLOC_Q_COUNTER.
    pub fn dealloc_q_counter(&mut self, set: u8) -> Result<()> {
        self.about(Opcode::DeallocQCounter, set.into()).map(drop)
    }

    /// QUERY_Q_COUNTER; the counters are left as they are.
    pub fn query_q_counter(&mut self, set: u8) -> Result<QueryQCounterOut<Vec<u8>>> {
        let mut query = input(Opcode::QueryQCounter, 0, QueryQCounterIn::SIZE);
        QueryQCounterIn::new(&mut query).set_counter_set_id(set);
        let output = self.execute(&query, QueryQCounterOut::SIZE)?;
        Ok(QueryQCounterOut::new(output))
    }

    /// Switches RoCE on or off in the NIC vport context.
    pub fn set_roce(&mut self, enabled: bool) -> Result<()> {
        let mut modify = input(
            Opcode::ModifyNicVportContext,
            0,
            ModifyNicVportContextIn::SIZE,
        );
        let mut view = ModifyNicVportContextIn::new(&mut modify);
        view.field_select_mut().set_roce_en(true);
        view.nic_vport_context_mut().set_roce_en(enabled);
        self.execute(&modify, 16).map(drop)
    }

    /// The permanent MAC address.
    pub fn mac(&mut self) -> Result<MacAddr> {
        let query = input(Opcode::QueryNicVportContext, 0, 16);
        let output = self.execute(&query, QueryNicVportContextOut::SIZE)?;
        let context = QueryNicVportContextOut::new(&output);
        let mac = context.nic_vport_context().permanent_address().mac_addr();
        Ok(MacAddr::from(mac))
    }

    /// Detaches: whatever was created must be gone. Takes all pages back and returns function and memory, of which
    /// nothing is in use any more but what was taken from it directly.
    pub fn detach(mut self) -> Result<(F, Pages)> {
        self.set_roce(false)?;
        for eqn in [self.completion_eq.eqn, self.async_eq.eqn] {
            self.commands.execute(
                &mut self.function,
                &mut self.pages,
                command::SLOT,
                &by_number(Opcode::DestroyEq, eqn),
                16,
            )?;
        }
        self.pages.release(self.completion_eq.buffer);
        self.pages.release(self.async_eq.buffer);
        let mut bare = Bare {
            function: &mut self.function,
            pages: &mut self.pages,
            commands: &mut self.commands,
            lent: &mut self.lent,
        };
        bare.execute(&by_number(Opcode::DeallocUar, self.uar), 16)?;
        bare.goodbye()?;
        self.commands.release(&mut self.pages);
        self.pages.release_records();
        Ok((self.function, self.pages))
    }

    /// Drops the driver as a crash does: nothing is said to the device.
    pub fn abandon(self) -> F {
        self.function
    }
}

/// Tells the device where the command queue is.
fn start<F: Function>(function: &mut F, pages: &mut Pages) -> Result<Commands> {
    let word = |function: &mut F, offset| {
        let mut bytes = [0; 4];
        function.load(offset, &mut bytes)?;
        Ok::<_, Error>(u32::from_be_bytes(bytes))
    };
    let revision = word(function, bar::CMDIF_REV)? >> 16;
    if revision != 5 {
        return Err(Error::Device(format!(
            "command interface revision {revision}"
        )));
    }
    let sizes = word(function, bar::CMDQ_LOW)? & 0xff;
    if sizes != 0x56 {
        return Err(Error::Device(format!(
            "command queue of size and stride {sizes:#x}"
        )));
    }
    let commands = Commands::new(pages)?;
    let base = commands.base();
    function.store(bar::CMDQ_HIGH, &((base >> 32) as u32).to_be_bytes())?;
    function.store(bar::CMDQ_LOW, &(base as u32).to_be_bytes())?;
    if word(function, bar::INITIALIZING)? >> 31 != 0 {
        return Err(Error::Device("still initializing".into()));
    }
    Ok(commands)
}

/// The parts of a driver that commands need, before and after there are event queues.
struct Bare<'a, F> {
    function: &'a mut F,
    pages: &'a mut Pages,
    commands: &'a mut Commands,
    lent: &'a mut Vec<Buffer>,
}

impl<F: Function> Bare<'_, F> {
    fn execute(&mut self, input: &[u8], output_len: usize) -> Result<Vec<u8>> {
        self.commands
            .execute(self.function, self.pages, command::SLOT, input, output_len)
    }

    fn bare(&mut self, opcode: Opcode) -> Result<Vec<u8>> {
        self.execute(&input(opcode, 0, 16), 16)
    }

    /// ENABLE_HCA to INIT_HCA.
    fn initialize(&mut self) -> Result<()> {
        self.bare(Opcode::EnableHca)?;
        self.execute(&by_number(Opcode::SetIssi, 1), 16)?;
        self.give_wanted(pages::BOOT)?;
        self.change_caps(CapType::General, |caps| {
            GeneralCaps::new(caps).set_cmdif_checksum(0);
        })?;
        self.change_caps(CapType::Atomic, |caps| {
            AtomicCaps::new(caps).set_atomic_req_8b_endianness_mode(1);
        })?;
        self.give_wanted(pages::INIT)?;
        self.execute(&input(Opcode::InitHca, 0, 0x20), 16)?;
        Ok(())
    }

    /// Sends current capabilities back with a change.
    fn change_caps(&mut self, kind: CapType, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let query = input(Opcode::QueryHcaCap, (kind as u16) << 1 | 1, 16);
        let current = self.execute(&query, QueryHcaCapOut::SIZE)?;
        let mut set = input(Opcode::SetHcaCap, (kind as u16) << 1, SetHcaCapIn::SIZE);
        let mut view = SetHcaCapIn::new(&mut set);
        let capability = view.capability_mut();
        capability.copy_from_slice(QueryHcaCapOut::new(&current).capability());
        change(capability);
        self.execute(&set, 16).map(drop)
    }

    /// TEARDOWN_HCA to DISABLE_HCA.
    fn goodbye(&mut self) -> Result<()> {
        let mut teardown = input(Opcode::TeardownHca, 0, 16);
        TeardownHcaIn::new(&mut teardown).set_profile(0);
        self.execute(&teardown, 16)?;
        self.reclaim()?;
        self.bare(Opcode::DisableHca)?;
        Ok(())
    }
}
