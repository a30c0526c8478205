//! One client of a vfio-user server: its messages, checked and answered.
//!
//! A request that makes no sense is answered with an errno. A message that makes the rest of the stream
//! meaningless ends the session. Nothing a client sends ends more than that.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rocinante_dma::{MapError, Prot};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_AUTOMASKED,
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS, VFIO_PCI_ROM_REGION_INDEX, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::config::CONFIG_SPACE_LEN;
use crate::connection::{Connection, Ended};
use crate::function::Function;
use crate::irqs::SetIrqs;
use crate::model::ResetKind;
use crate::protocol::*;
use crate::sys::MAX_FDS;

/// Why a request is refused: an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Errno(i32);

const EINVAL: Errno = Errno(libc::EINVAL);

/// What is sent back: the reply's body is in `Session::reply`, behind room for the header.
type Answer = Result<(), Errno>;

/// Serves one client until it goes, breaks the protocol, or the server is shut down.
pub(crate) fn run(connection: Connection<'_>, function: &mut Function) -> Ended {
    let mut session = Session {
        connection,
        function,
        body: Vec::new(),
        reply: Vec::new(),
        negotiated: false,
    };
    loop {
        if let Err(ended) = session.message() {
            return ended;
        }
    }
}

struct Session<'a, 'f> {
    connection: Connection<'a>,
    function: &'f mut Function,
    /// Body of the current message.
    body: Vec<u8>,
    /// Reply to the current message, from its header on.
    reply: Vec<u8>,
    negotiated: bool,
}

impl Session<'_, '_> {
    /// Receives, does and answers one message.
    fn message(&mut self) -> Result<(), Ended> {
        let mut bytes = [0; HEADER_LEN];
        let mut fds = Vec::new();
        self.connection
            .recv_header(&mut bytes, &mut fds, self.negotiated)?;
        let header = Header::read_from_bytes(&bytes).unwrap_or_default();
        if header.flags & flags::TYPE != 0 {
            return Err(Ended::Protocol("not a command"));
        }
        let len = header
            .size
            .checked_sub(HEADER_LEN as u32)
            .filter(|_| header.size <= MAX_MESSAGE)
            .ok_or(Ended::Protocol("impossible message size"))?;
        self.body.resize(len as usize, 0);
        self.connection.recv_body(&mut self.body)?;
        if header.command == command::VERSION {
            if self.negotiated || header.flags & flags::NO_REPLY != 0 {
                return Err(Ended::Protocol("unexpected VERSION"));
            }
            self.begin_reply();
            let answer = self.version();
            self.negotiated = answer.is_ok();
            self.answer(header, answer, false)?;
            return answer.map_err(|_| Ended::Protocol("malformed or incompatible VERSION"));
        }
        if !self.negotiated {
            return Err(Ended::Protocol("no VERSION"));
        }
        self.begin_reply();
        let (answer, with_fd) = self.dispatch(&header, fds);
        self.answer(header, answer, with_fd)
    }

    fn begin_reply(&mut self) {
        self.reply.clear();
        self.reply.resize(HEADER_LEN, 0);
    }

    fn answer(&mut self, header: Header, answer: Answer, with_fd: bool) -> Result<(), Ended> {
        if let Err(Errno(errno)) = answer {
            log::debug!(
                target: "pci::server",
                "{}: command {} refused, errno {errno}: {:02x?}",
                self.connection.name(),
                header.command,
                self.body.get(..32).unwrap_or(&self.body),
            );
        }
        if header.flags & flags::NO_REPLY != 0 {
            return Ok(());
        }
        let mut reply = Header {
            flags: flags::REPLY,
            ..header
        };
        reply.error = 0;
        if let Err(Errno(errno)) = answer {
            self.reply.truncate(HEADER_LEN);
            reply.flags |= flags::ERROR;
            reply.error = errno as u32;
        }
        reply.size = self.reply.len() as u32;
        if let Some(room) = self.reply.get_mut(..HEADER_LEN) {
            room.copy_from_slice(reply.as_bytes());
        }
        let shared = self.function.config().shared.as_ref();
        let fd = shared
            .filter(|_| with_fd && answer.is_ok())
            .map(|s| s.file.as_fd());
        self.connection.send(&self.reply, fd)
    }

    /// Does what a message says; the second result is whether the shared memory's descriptor goes with the reply.
    fn dispatch(&mut self, header: &Header, fds: Vec<OwnedFd>) -> (Answer, bool) {
        let mut with_fd = false;
        let answer = match header.command {
            command::REGION_WRITE => self.region_write(),
            command::REGION_READ => self.region_read(),
            command::REGION_WRITE_MULTI => self.region_write_multi(),
            command::DMA_MAP => self.dma_map(fds),
            command::DMA_UNMAP => self.dma_unmap(),
            command::DEVICE_GET_INFO => self.device_info(),
            command::DEVICE_GET_REGION_INFO => self.region_info().map(|fd| with_fd = fd),
            command::DEVICE_GET_IRQ_INFO => self.irq_info(),
            command::DEVICE_SET_IRQS => self.set_irqs(fds),
            command::DEVICE_RESET => {
                self.function.reset(ResetKind::Device);
                Ok(())
            }
            _ => Err(Errno(libc::ENOTSUP)),
        };
        (answer, with_fd)
    }

    /// The fixed part of the body, and what follows.
    fn parse<T: FromBytes>(&self) -> Result<(T, &[u8]), Errno> {
        T::read_from_prefix(&self.body).map_err(|_| EINVAL)
    }

    fn version(&mut self) -> Answer {
        let (version, capabilities) = self.parse::<Version>()?;
        if version.major != 0 {
            return Err(EINVAL);
        }
        if let Some((end, json)) = capabilities.split_last() {
            let json = std::str::from_utf8(json).map_err(|_| EINVAL)?;
            if *end != 0 || json.contains('\0') {
                return Err(EINVAL);
            }
            log::debug!(target: "pci::server", "{}: client {version:?} {json}", self.connection.name());
        }
        let reply = Version { major: 0, minor: 0 };
        self.reply.extend_from_slice(reply.as_bytes());
        let capabilities = format!(
            "{{\"capabilities\":{{\"max_msg_fds\":{MAX_FDS},\"max_data_xfer_size\":{MAX_TRANSFER},\"write_multiple\":true}}}}\0"
        );
        self.reply.extend_from_slice(capabilities.as_bytes());
        Ok(())
    }

    fn dma_map(&mut self, mut fds: Vec<OwnedFd>) -> Answer {
        let (map, _) = self.parse::<DmaMap>()?;
        if fds.len() > 1 {
            return Err(EINVAL);
        }
        let prot = match map.flags & (DMA_READ | DMA_WRITE) {
            0 => None,
            DMA_READ => Some(Prot::Read),
            _ => Some(Prot::ReadWrite),
        };
        let file = fds.pop().map(File::from);
        self.function
            .dma_map(map.address, map.size, file, map.offset, prot)
            .map_err(|error| {
                log::warn!(target: "pci::server", "{}: {error}", self.connection.name());
                match error {
                    MapError::TooManyRegions { .. } => Errno(libc::ENOSPC),
                    MapError::Os { source, .. } => {
                        Errno(source.raw_os_error().unwrap_or(libc::EIO))
                    }
                    MapError::BadRange { .. } | MapError::PastEndOfFile { .. } => EINVAL,
                }
            })
    }

    fn dma_unmap(&mut self) -> Answer {
        let (unmap, _) = self.parse::<DmaUnmap>()?;
        if unmap.flags & UNMAP_GET_DIRTY != 0 {
            return Err(Errno(libc::ENOTSUP));
        }
        if unmap.flags & UNMAP_ALL != 0 {
            self.function.dma_unmap_all();
        } else {
            self.function.dma_unmap(unmap.address, unmap.size);
        }
        self.reply.extend_from_slice(unmap.as_bytes());
        Ok(())
    }

    fn device_info(&mut self) -> Answer {
        let info = DeviceInfo {
            argsz: size_of::<DeviceInfo>() as u32,
            flags: VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
            num_regions: VFIO_PCI_NUM_REGIONS,
            num_irqs: VFIO_PCI_NUM_IRQS,
        };
        self.reply.extend_from_slice(info.as_bytes());
        Ok(())
    }

    /// The result is whether the descriptor of the shared areas belongs to the reply.
    fn region_info(&mut self) -> Result<bool, Errno> {
        let (asked, _) = self.parse::<RegionInfo>()?;
        let len = size_of::<RegionInfo>();
        let size = self.region_size(asked.index)?;
        let mut info = RegionInfo {
            argsz: len as u32,
            index: asked.index,
            size,
            ..Default::default()
        };
        if size > 0 {
            info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        }
        let shared = self.function.config().shared.as_ref();
        let Some(shared) = shared.filter(|s| asked.index == 0 && !s.areas.is_empty()) else {
            self.reply.extend_from_slice(info.as_bytes());
            return Ok(false);
        };
        let caps_len = size_of::<SparseMmap>() + shared.areas.len() * size_of::<SparseArea>();
        info.argsz = (len + caps_len) as u32;
        info.flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
        // A client asks once for the size and once more with room for the capability.
        let room = asked.argsz >= info.argsz;
        // QEMU checks the offset of the capability in both replies.
        info.cap_offset = len as u32;
        self.reply.extend_from_slice(info.as_bytes());
        if room {
            let sparse = SparseMmap {
                id: VFIO_REGION_INFO_CAP_SPARSE_MMAP as u16,
                version: 1,
                nr_areas: shared.areas.len() as u32,
                ..Default::default()
            };
            self.reply.extend_from_slice(sparse.as_bytes());
            for &(offset, size) in &shared.areas {
                self.reply
                    .extend_from_slice(SparseArea { offset, size }.as_bytes());
            }
        }
        Ok(room)
    }

    fn region_size(&self, index: u32) -> Result<u64, Errno> {
        match index {
            VFIO_PCI_CONFIG_REGION_INDEX => Ok(CONFIG_SPACE_LEN),
            bar if bar < VFIO_PCI_ROM_REGION_INDEX => Ok(self.function.bar_size(bar as u8)),
            other if other < VFIO_PCI_NUM_REGIONS => Ok(0),
            _ => Err(EINVAL),
        }
    }

    fn irq_info(&mut self) -> Answer {
        let (asked, _) = self.parse::<IrqInfo>()?;
        // Without NORESIZE a monitor may connect vectors one by one while others are in use.
        let (flags, count) = match asked.index {
            VFIO_PCI_INTX_IRQ_INDEX => (
                VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
                1,
            ),
            VFIO_PCI_MSIX_IRQ_INDEX => (
                VFIO_IRQ_INFO_EVENTFD,
                self.function.interrupts().count().into(),
            ),
            // Uncorrectable errors of the link. There is none to fail, but QEMU warns of a device that
            // would not tell.
            VFIO_PCI_ERR_IRQ_INDEX => (VFIO_IRQ_INFO_EVENTFD, 1),
            index if index < VFIO_PCI_NUM_IRQS => (0, 0),
            _ => return Err(EINVAL),
        };
        let info = IrqInfo {
            argsz: size_of::<IrqInfo>() as u32,
            flags,
            index: asked.index,
            count,
        };
        self.reply.extend_from_slice(info.as_bytes());
        Ok(())
    }

    fn set_irqs(&mut self, fds: Vec<OwnedFd>) -> Answer {
        let (set, data) = self.parse::<SetIrqsHeader>()?;
        let request = SetIrqs {
            flags: set.flags,
            start: set.start,
            count: set.count,
            data,
            fds,
        };
        let done = match set.index {
            VFIO_PCI_INTX_IRQ_INDEX | VFIO_PCI_ERR_IRQ_INDEX => request.accept(1),
            VFIO_PCI_MSIX_IRQ_INDEX => request.apply(self.function.interrupts()),
            _ => request.accept(0),
        };
        done.map_err(|error| {
            log::warn!(target: "pci::server", "{}: interrupt {}: {error}", self.connection.name(), set.index);
            EINVAL
        })
    }

    fn region_read(&mut self) -> Answer {
        let (access, _) = self.parse::<RegionAccess>()?;
        if access.count > MAX_TRANSFER {
            return Err(EINVAL);
        }
        self.reply.extend_from_slice(access.as_bytes());
        let start = self.reply.len();
        self.reply.resize(start + access.count as usize, 0);
        let data = self.reply.get_mut(start..).ok_or(EINVAL)?;
        let done = match access.region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.function.config_read(access.offset, data),
            bar if bar < VFIO_PCI_ROM_REGION_INDEX => {
                self.function.bar_read(bar as u8, access.offset, data)
            }
            _ => return Err(EINVAL),
        };
        done.map_err(|_| EINVAL)
    }

    fn region_write(&mut self) -> Answer {
        let (access, data) = RegionAccess::read_from_prefix(&self.body).map_err(|_| EINVAL)?;
        if data.len() != access.count as usize || access.count > MAX_TRANSFER {
            return Err(EINVAL);
        }
        write_region(self.function, access.region, access.offset, data)?;
        self.reply.extend_from_slice(access.as_bytes());
        Ok(())
    }

    /// Several posted writes in one message; each is done or refused by itself, as if it had come alone.
    fn region_write_multi(&mut self) -> Answer {
        let (count, mut writes) = u64::read_from_prefix(&self.body).map_err(|_| EINVAL)?;
        if count != (writes.len() / size_of::<WriteOne>()) as u64 {
            return Err(EINVAL);
        }
        let mut answer = Ok(());
        while let Ok((one, rest)) = WriteOne::read_from_prefix(writes) {
            writes = rest;
            let done = match one.data.get(..one.count as usize) {
                Some(data) => write_region(self.function, one.region, one.offset, data),
                None => Err(EINVAL),
            };
            answer = answer.and(done);
        }
        self.reply.extend_from_slice(count.as_bytes());
        answer
    }
}

fn write_region(function: &mut Function, region: u32, offset: u64, data: &[u8]) -> Answer {
    let done = match region {
        VFIO_PCI_CONFIG_REGION_INDEX => function.config_write(offset, data),
        bar if bar < VFIO_PCI_ROM_REGION_INDEX => function.bar_write(bar as u8, offset, data),
        _ => return Err(EINVAL),
    };
    done.map_err(|_| EINVAL)
}
