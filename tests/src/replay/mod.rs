//! A driver made of a recording: sends recorded commands as they are, but for the numbers that devices assign, and
//! keeps the queues that they make, at the recorded addresses.
//!
//! Knows nothing of what the commands are for. Where the device answers otherwise than it did when recorded, that is an
//! error ([`meaning`] says what counts as otherwise).

pub mod meaning;
pub mod numbers;
pub mod pair;
mod queues;
mod rings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rocinante_device::mlx5::{Input, Nic, NicConfig, PortManager};
use rocinante_dma::MemoryMap;
use rocinante_firmware_cmd::mlx5::command::Input as CommandInput;
use rocinante_firmware_cmd::mlx5::hca::{ManagePagesIn, ManagePagesOut, QueryPagesOut};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_harness::driver::command::{Commands, PAGE_SLOT, SLOT};
use rocinante_harness::driver::{Function, Local, Pages};
use rocinante_wire::MacAddr;

use crate::vectors::Record;
use numbers::Numbers;
pub use queues::Event;
use queues::EventQueue;
pub use rings::Completion;
use rings::{Cq, Ring};

/// The guest's memory: what the recording uses is below, what the replay needs beside it above.
const OWN: u64 = 0x2000_0000;
const END: u64 = 0x2800_0000;

const PAGE: u64 = 0x1000;

/// Command queue address in the initialization segment.
const CMDQ_HIGH: u64 = 0x10;
const CMDQ_LOW: u64 = 0x14;

/// `op_mod` of MANAGE_PAGES.
const GIVE: u16 = 1;
const TAKE: u16 = 2;

/// Most pages that one MANAGE_PAGES of the driver takes back.
const TAKEN_AT_ONCE: usize = 0x300;

/// A NIC and the recorded driver on it.
pub struct Session {
    /// The device.
    pub function: Local,
    /// Which numbers were given.
    pub numbers: Numbers,
    /// Numbers of the other end of connections.
    pub peer: Numbers,
    /// Bytes in recorded inputs that are another's here: addresses.
    pub identity: Vec<(Vec<u8>, Vec<u8>)>,
    /// Events that were not consumed by the session itself.
    pub events: Vec<Event>,
    pages: Pages,
    commands: Commands,
    lent: BTreeSet<u64>,
    /// What the last QUERY_PAGES asked for.
    wanted: usize,
    /// By recorded number.
    eqs: BTreeMap<u32, EventQueue>,
    cqs: BTreeMap<u32, Cq>,
    rings: BTreeMap<(rings::Owner, u32), Ring>,
    /// Numbers of the keys made by repeated commands, in order.
    cache: Vec<u32>,
    /// MSI-X vectors that fired.
    interrupts: Vec<u16>,
    /// Current capabilities as recorded and as they are, by type.
    caps: BTreeMap<u16, (Vec<u8>, Vec<u8>)>,
}

impl Session {
    /// A NIC at power-on, link up, with the address of the recorded one if `mac` is.
    ///
    /// # Panics
    ///
    /// Without memory.
    #[must_use]
    pub fn new(mac: MacAddr, identity: Vec<(Vec<u8>, Vec<u8>)>) -> Session {
        let map = MemoryMap::anonymous(0, END).expect("memory");
        let nic = Nic::new(NicConfig {
            mac,
            name: "a".into(),
            vectors: 16,
            manager: PortManager::Always,
        });
        let mut function = Local::new(nic, Arc::clone(&map));
        function.handle(Input::Link(true));
        function.bus_master(true).expect("a local function");
        let mut pages = Pages::new(map, OWN, END - OWN);
        let commands = Commands::new(&mut pages).expect("memory");
        let base = commands.base();
        for (at, word) in [(CMDQ_HIGH, base >> 32), (CMDQ_LOW, base)] {
            let stored = function.store(at, &(word as u32).to_be_bytes());
            stored.expect("a local function");
        }
        Session {
            function,
            numbers: Numbers::default(),
            peer: Numbers::default(),
            identity,
            events: Vec::new(),
            pages,
            commands,
            lent: BTreeSet::new(),
            wanted: 0,
            eqs: BTreeMap::new(),
            cqs: BTreeMap::new(),
            rings: BTreeMap::new(),
            cache: Vec::new(),
            interrupts: Vec::new(),
            caps: BTreeMap::new(),
        }
    }

    /// Forgets all that was made: the driver is gone, and comes again.
    pub fn restart(&mut self) {
        self.numbers = Numbers::default();
        self.events.clear();
        self.eqs.clear();
        self.cqs.clear();
        self.rings.clear();
        self.cache.clear();
        self.caps.clear();
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<MemoryMap> {
        self.function.memory()
    }

    /// Reads memory.
    ///
    /// # Panics
    ///
    /// Outside of it.
    #[must_use]
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory().read(at, &mut bytes).expect("memory");
        bytes
    }

    /// Writes memory.
    ///
    /// # Panics
    ///
    /// Outside of it.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.memory().write(at, bytes).expect("memory");
    }

    /// Pages that the device holds.
    #[must_use]
    pub fn pages_lent(&self) -> usize {
        self.lent.len()
    }

    /// Sends all commands of a recording; how many.
    pub fn commands(&mut self, records: &[Record]) -> Result<usize, String> {
        let mut sent = 0;
        for record in records {
            self.command(record)?;
            sent += record.times;
        }
        Ok(sent)
    }

    /// Sends a command as often as it was sent.
    pub fn command(&mut self, record: &Record) -> Result<(), String> {
        let mut record = record.clone();
        let say = |error| format!("line {}, {}: {error}", record.line, record.name);
        let opcode = opcode(&record.input).map_err(say)?;
        for time in 0..record.times {
            let say = |error| format!("line {}, {}: {error}", record.line, record.name);
            let given = self
                .once(opcode, &record, (record.times > 1).then_some(time))
                .map_err(say)?;
            if record.times > 1 && opcode == Opcode::CreateMkey {
                self.cache.push(given.unwrap_or(0));
            }
            if let Some(byte) = record.step.and_then(|at| record.input.get_mut(at)) {
                *byte = byte.wrapping_add(1);
            }
        }
        Ok(())
    }

    /// Sends a command once: the `repeated`th time, if it is one of many. The number that it gave, if any.
    fn once(
        &mut self,
        opcode: Opcode,
        record: &Record,
        repeated: Option<usize>,
    ) -> Result<Option<u32>, String> {
        let layouts = opcode.command().ok_or("not laid out")?;
        let op_mod = CommandInput::new(&record.input[..]).op_mod();
        if opcode == Opcode::ManagePages && op_mod == TAKE {
            return self.take_pages(&record.input).map(|()| None);
        }
        let mut input = record.input.clone();
        match (opcode, repeated) {
            // The keys of the cache go in the order they came.
            (Opcode::DestroyMkey, Some(time)) => {
                let index = self.cache.get(time).ok_or("more than were made")?;
                input[8..12].copy_from_slice(&index.to_be_bytes());
            }
            (Opcode::SetHcaCap, _) => self.set_caps(op_mod, &mut input)?,
            (Opcode::ManagePages, _) if op_mod == GIVE => input = self.give_input(&input)?,
            _ => {
                self.numbers
                    .translate(&self.peer, layouts.input, &mut input)?;
                for (from, to) in &self.identity {
                    replace(&mut input, from, to);
                }
            }
        }
        self.prepare(opcode, &record.input)?;
        let eqn = u32::from(record.input.get(11).copied().unwrap_or(0));
        if opcode == Opcode::DestroyEq && self.command_eq() == Some(eqn) {
            // The driver polls from here on.
            self.eqs.remove(&eqn);
        }
        let slot = if opcode == Opcode::ManagePages {
            PAGE_SLOT
        } else {
            SLOT
        };
        let output = self.execute(slot, &input, record.output.len())?;
        meaning::same(opcode, record, &output, &self.identity)?;
        let mut number = None;
        if record.name.starts_with("CREATE_") || record.name.starts_with("ALLOC_") {
            number = self
                .numbers
                .learn(layouts.output, &record.output, &output)?;
        }
        match opcode {
            Opcode::QueryPages => {
                self.wanted = usize::try_from(QueryPagesOut::new(&output).num_pages() as i32)
                    .unwrap_or_default();
            }
            Opcode::QueryHcaCap if op_mod & 1 == 1 => {
                self.caps
                    .insert(op_mod & !1, (record.output.clone(), output));
            }
            _ => {}
        }
        self.made(opcode, record)?;
        if opcode == Opcode::DestroyEq {
            self.eqs.remove(&eqn);
        }
        Ok(number)
    }

    /// A command of the replay's own, or one that is ready to be sent.
    pub fn execute(
        &mut self,
        slot: u8,
        input: &[u8],
        output_len: usize,
    ) -> Result<Vec<u8>, String> {
        let by_events = self.command_eq().is_some();
        let output = self
            .commands
            .execute(
                &mut self.function,
                &mut self.pages,
                slot,
                input,
                output_len.max(16),
            )
            .map_err(|error| error.to_string())?;
        let completed = self.poll_events()?;
        // The command that removes the command EQ is polled for.
        if by_events && self.command_eq().is_some() && completed & 1 << slot == 0 {
            return Err("no event says that it is complete".into());
        }
        Ok(output)
    }

    /// The driver sends current capabilities back, with changes: those of this device, with the recorded changes.
    fn set_caps(&self, op_mod: u16, input: &mut [u8]) -> Result<(), String> {
        let Some((recorded, current)) = self.caps.get(&op_mod) else {
            return Err("capabilities set that were not read".into());
        };
        let parts = input[16..].iter_mut().zip(&recorded[16..]);
        // FreeBSD sends back everything of the general ones, and nothing but the change of the others.
        let sends_back = op_mod == 0;
        for ((byte, old), new) in parts.zip(&current[16..]) {
            if sends_back && byte == old {
                *byte = *new;
            }
        }
        Ok(())
    }

    /// MANAGE_PAGES with as many pages as this device wants, the recorded ones first.
    fn give_input(&mut self, recorded: &[u8]) -> Result<Vec<u8>, String> {
        let list: Vec<u64> = ManagePagesIn::new(recorded).pas().iter().collect();
        let mut input = recorded[..ManagePagesIn::SIZE.min(recorded.len())].to_vec();
        input.resize(ManagePagesIn::SIZE + 8 * self.wanted, 0);
        let mut view = ManagePagesIn::new(&mut input);
        view.set_input_num_entries(self.wanted as u32);
        for index in 0..self.wanted {
            let page = match list.get(index) {
                Some(page) => *page,
                None => {
                    self.pages
                        .alloc(PAGE)
                        .map_err(|error| error.to_string())?
                        .iova
                }
            };
            if !self.lent.insert(page) {
                return Err(format!("page {page:#x} is lent already"));
            }
            view.pas_mut().set(index, page);
        }
        Ok(input)
    }

    /// Takes all pages back.
    fn take_pages(&mut self, input: &[u8]) -> Result<(), String> {
        while !self.lent.is_empty() {
            let output = self.execute(PAGE_SLOT, input, 16 + 8 * TAKEN_AT_ONCE)?;
            let view = ManagePagesOut::new(&output);
            let n = view.output_num_entries() as usize;
            if n == 0 || n > TAKEN_AT_ONCE {
                return Err(format!("{n} pages back, {} still lent", self.lent.len()));
            }
            for page in view.pas().iter().take(n) {
                if !self.lent.remove(&page) {
                    return Err(format!("page {page:#x} was not lent"));
                }
            }
        }
        Ok(())
    }

    /// MSI-X vectors that fired since the last call.
    pub fn take_interrupts(&mut self) -> Vec<u16> {
        while let Some(vector) = self.function.interrupt() {
            self.interrupts.push(vector);
        }
        std::mem::take(&mut self.interrupts)
    }
}

/// The opcode of an input.
pub fn opcode(input: &[u8]) -> Result<Opcode, String> {
    let code = CommandInput::new(input).opcode();
    Opcode::from_u16(code).ok_or_else(|| format!("{code:#x} is no opcode"))
}

/// Replaces `from` by `to`, which is as long, wherever it is.
pub(crate) fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
}
