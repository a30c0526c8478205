//! A NIC served on a vfio-user socket, as a guest in a virtual machine has it: memory shared by descriptor,
//! BAR accesses as messages, interrupts as eventfds.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rocinante_dma::{DmaSpace, MemoryMap, Prot};
use rocinante_pci::client::{Client, ClientError};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};

use super::error::{Error, Result};
use super::function::Function;
use super::memory::Pages;

/// Regions and interrupt kinds of vfio-pci.
const BAR0: u32 = 0;
const CONFIG: u32 = 7;
const MSIX: u32 = 2;

/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER`.
const CONNECT: u32 = 4 | 32;

/// Command register in configuration space, and its bits for memory space and bus mastering.
const COMMAND: u64 = 0x04;
const MEMORY_SPACE: u16 = 2;
const BUS_MASTER: u16 = 4;

/// Start of the list of capabilities.
const CAPABILITIES: u64 = 0x34;
const CAP_MSIX: u8 = 0x11;
const MSIX_ENABLE: u16 = 1 << 15;

/// Where the guest's memory is.
pub const MEMORY: u64 = 0x1_0000_0000;

/// Vectors that are connected.
const VECTORS: u32 = 4;

/// A pause while waiting: an engine that sleeps needs some microseconds to wake up.
const PAUSE: Duration = Duration::from_micros(20);

/// A function behind a socket.
pub struct Attached {
    client: Client,
    map: Arc<MemoryMap>,
    vectors: Vec<File>,
}

impl Attached {
    /// Connects to `socket`, with `memory` bytes of memory; all of it is free for a driver.
    pub fn connect(socket: &Path, memory: u64) -> Result<(Attached, Pages)> {
        let mut client = Client::connect(socket)?;
        let file =
            File::from(memfd_create("guest", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?);
        file.set_len(memory)?;
        client.dma_map(MEMORY, memory, Some(file.as_fd()), 0, true)?;
        let map = DmaSpace::new()
            .map(MEMORY, memory, Some(file), 0, Prot::ReadWrite)
            .map_err(|error| Error::Device(error.to_string()))?;
        let mut attached = Attached {
            client,
            map: Arc::clone(&map),
            vectors: Vec::new(),
        };
        attached.enable_msix()?;
        Ok((attached, Pages::new(map, MEMORY, memory)))
    }

    /// The connection, to do what a driver does not do.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    fn config16(&mut self, offset: u64) -> Result<u16> {
        let mut bytes = [0; 2];
        self.client.read(CONFIG, offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn enable_msix(&mut self) -> Result<()> {
        for _ in 0..VECTORS {
            let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
            self.vectors
                .push(File::from(eventfd(0, flags).map_err(std::io::Error::from)?));
        }
        let fds: Vec<BorrowedFd<'_>> = self.vectors.iter().map(AsFd::as_fd).collect();
        self.client.set_irqs(MSIX, CONNECT, 0, VECTORS, &[], &fds)?;
        let mut at = u64::from(self.config16(CAPABILITIES)? & 0xff);
        while at != 0 {
            let [id, next] = self.config16(at)?.to_le_bytes();
            if id == CAP_MSIX {
                let low = self.config16(at + 4)? & !7;
                let table = u64::from(self.config16(at + 6)?) << 16 | u64::from(low);
                for vector in 0..u64::from(VECTORS) {
                    // The last word of an entry has the mask bit, which is set after reset.
                    self.client.write(BAR0, table + 16 * vector + 12, &[0; 4])?;
                }
                let control = self.config16(at + 2)? | MSIX_ENABLE;
                self.client.write(CONFIG, at + 2, &control.to_le_bytes())?;
                return Ok(());
            }
            at = next.into();
        }
        Err(Error::Device("no MSI-X capability".into()))
    }
}

impl Function for Attached {
    fn load(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        Ok(self.client.read(BAR0, offset, out)?)
    }

    fn store(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let posted = self.client.post_write(BAR0, offset, data);
        posted.map_err(|error| Error::Client(ClientError::Io(error)))
    }

    fn memory(&self) -> &Arc<MemoryMap> {
        &self.map
    }

    fn bus_master(&mut self, enabled: bool) -> Result<()> {
        let command = self.config16(COMMAND)? | MEMORY_SPACE;
        let command = if enabled {
            command | BUS_MASTER
        } else {
            command & !BUS_MASTER
        };
        Ok(self.client.write(CONFIG, COMMAND, &command.to_le_bytes())?)
    }

    fn reset(&mut self) -> Result<()> {
        self.client.reset()?;
        Ok(())
    }

    fn interrupt(&mut self) -> Option<u16> {
        for (vector, mut eventfd) in (0..).zip(&self.vectors) {
            let mut count = [0; 8];
            if matches!(eventfd.read(&mut count), Ok(8)) {
                return Some(vector);
            }
        }
        None
    }

    fn wait(&mut self) -> bool {
        std::thread::sleep(PAUSE);
        true
    }
}
