//! A small vfio-user client, for tests and measurements: what a monitor does, step by step, with every error
//! that the server answers.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::protocol::*;
use crate::sys;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, with this errno.
    #[error("errno {0}")]
    Errno(i32),
    /// The connection failed or ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The reply does not fit the request.
    #[error("malformed reply to command {0}")]
    Malformed(u16),
}

impl ClientError {
    /// The errno the server answered with, if it answered.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Errno(errno) => Some(*errno),
            _ => None,
        }
    }
}

/// A reply: body and descriptors.
#[derive(Debug)]
pub struct Reply {
    /// Bytes after the header.
    pub body: Vec<u8>,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// What a region is.
#[derive(Debug)]
pub struct RegionDescription {
    /// VFIO_REGION_INFO_FLAG_*.
    pub flags: u32,
    /// Bytes.
    pub size: u64,
    /// Areas that can be mapped: offset and length in bytes.
    pub areas: Vec<(u64, u64)>,
    /// The memory to map.
    pub fd: Option<OwnedFd>,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    next_id: u16,
}

impl Client {
    /// Connects without a word.
    pub fn connect_raw(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, next_id: 0 })
    }

    /// Connects and introduces itself with the capabilities of QEMU.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let mut client = Self::connect_raw(path)?;
        client.version("{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"write_multiple\":true}}")?;
        Ok(client)
    }

    /// Negotiates the version; the result is the server's capabilities.
    pub fn version(&mut self, capabilities: &str) -> Result<String, ClientError> {
        let mut body = Version { major: 0, minor: 0 }.as_bytes().to_vec();
        body.extend_from_slice(capabilities.as_bytes());
        body.push(0);
        let reply = self.request(command::VERSION, &body, &[])?;
        reply
            .body
            .get(size_of::<Version>()..)
            .and_then(|json| String::from_utf8(json.strip_suffix(&[0])?.to_vec()).ok())
            .ok_or(ClientError::Malformed(command::VERSION))
    }

    /// The stream, to send what no client should.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    fn header(&mut self, command: u16, len: usize, flags: u32) -> Header {
        self.next_id = self.next_id.wrapping_add(1);
        Header {
            message_id: self.next_id,
            command,
            size: (HEADER_LEN + len) as u32,
            flags,
            error: 0,
        }
    }

    fn send(&mut self, header: Header, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let message = [header.as_bytes(), body].concat();
        let mut rest = &message[..];
        let mut fds = fds;
        while !rest.is_empty() {
            match sys::send(&self.stream, rest, fds) {
                Ok(n) => (rest, fds) = (rest.get(n..).unwrap_or_default(), &[]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    sys::poll([(self.stream.as_fd(), libc::POLLOUT)], Some(PATIENCE))?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends any command and waits for its reply.
    pub fn request(
        &mut self,
        command: u16,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, ClientError> {
        let header = self.header(command, body.len(), 0);
        self.send(header, body, fds)?;
        self.reply(header)
    }

    /// Sends a command that wants no reply.
    pub fn post(&mut self, command: u16, body: &[u8]) -> io::Result<()> {
        let header = self.header(command, body.len(), flags::NO_REPLY);
        self.send(header, body, &[])
    }

    fn reply(&mut self, to: Header) -> Result<Reply, ClientError> {
        let malformed = ClientError::Malformed(to.command);
        let mut bytes = [0; HEADER_LEN];
        let mut fds = Vec::new();
        sys::poll([(self.stream.as_fd(), libc::POLLIN)], Some(PATIENCE))?;
        let n = sys::recv(&self.stream, &mut bytes, &mut fds)?;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.stream
            .read_exact(bytes.get_mut(n..).unwrap_or_default())?;
        let header = Header::read_from_bytes(&bytes).unwrap_or_default();
        let fits = header.message_id == to.message_id && header.flags & flags::TYPE == flags::REPLY;
        let len = (header.size as usize).checked_sub(HEADER_LEN);
        let Some(len) = len.filter(|len| fits && *len <= MAX_MESSAGE as usize) else {
            return Err(malformed);
        };
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        if header.flags & flags::ERROR != 0 {
            return Err(ClientError::Errno(header.error as i32));
        }
        Ok(Reply { body, fds })
    }

    fn call<T: IntoBytes + Immutable, R: FromBytes>(
        &mut self,
        command: u16,
        body: &T,
    ) -> Result<(R, Vec<u8>, Vec<OwnedFd>), ClientError> {
        let reply = self.request(command, body.as_bytes(), &[])?;
        match R::read_from_prefix(&reply.body) {
            Ok((fixed, rest)) => Ok((fixed, rest.to_vec(), reply.fds)),
            Err(_) => Err(ClientError::Malformed(command)),
        }
    }

    /// Flags (VFIO_DEVICE_FLAGS_*), number of regions, number of interrupt kinds.
    pub fn device_info(&mut self) -> Result<(u32, u32, u32), ClientError> {
        let asked = DeviceInfo {
            argsz: size_of::<DeviceInfo>() as u32,
            ..Default::default()
        };
        let (info, _, _) = self.call::<_, DeviceInfo>(command::DEVICE_GET_INFO, &asked)?;
        Ok((info.flags, info.num_regions, info.num_irqs))
    }

    /// What a region is, with its capability if it has one.
    pub fn region_info(&mut self, index: u32) -> Result<RegionDescription, ClientError> {
        let malformed = || ClientError::Malformed(command::DEVICE_GET_REGION_INFO);
        let mut asked = RegionInfo {
            argsz: size_of::<RegionInfo>() as u32,
            index,
            ..Default::default()
        };
        let (mut info, mut caps, mut fds) =
            self.call::<_, RegionInfo>(command::DEVICE_GET_REGION_INFO, &asked)?;
        if info.argsz > asked.argsz {
            asked.argsz = info.argsz;
            (info, caps, fds) = self.call(command::DEVICE_GET_REGION_INFO, &asked)?;
        }
        let mut areas = Vec::new();
        if !caps.is_empty() {
            let (sparse, mut rest) =
                SparseMmap::read_from_prefix(&caps).map_err(|_| malformed())?;
            for _ in 0..sparse.nr_areas {
                let (area, tail) = SparseArea::read_from_prefix(rest).map_err(|_| malformed())?;
                areas.push((area.offset, area.size));
                rest = tail;
            }
        }
        Ok(RegionDescription {
            flags: info.flags,
            size: info.size,
            areas,
            fd: fds.pop(),
        })
    }

    /// Flags (VFIO_IRQ_INFO_*) and number of vectors of a kind of interrupt.
    pub fn irq_info(&mut self, index: u32) -> Result<(u32, u32), ClientError> {
        let asked = IrqInfo {
            argsz: size_of::<IrqInfo>() as u32,
            index,
            ..Default::default()
        };
        let (info, _, _) = self.call::<_, IrqInfo>(command::DEVICE_GET_IRQ_INFO, &asked)?;
        Ok((info.flags, info.count))
    }

    /// Reads from a region.
    pub fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        let access = RegionAccess {
            offset,
            region,
            count: data.len() as u32,
        };
        let (_, bytes, _) = self.call::<_, RegionAccess>(command::REGION_READ, &access)?;
        if bytes.len() != data.len() {
            return Err(ClientError::Malformed(command::REGION_READ));
        }
        data.copy_from_slice(&bytes);
        Ok(())
    }

    /// Writes to a region and waits for the reply.
    pub fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let body = write_body(region, offset, data);
        self.request(command::REGION_WRITE, &body, &[]).map(|_| ())
    }

    /// Writes to a region without waiting.
    pub fn post_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.post(command::REGION_WRITE, &write_body(region, offset, data))
    }

    /// Writes several times, without waiting, in one message: region, offset, up to 8 bytes.
    pub fn post_writes(&mut self, writes: &[(u32, u64, &[u8])]) -> io::Result<()> {
        let mut body = (writes.len() as u64).as_bytes().to_vec();
        for (region, offset, bytes) in writes {
            let mut one = WriteOne {
                offset: *offset,
                region: *region,
                count: bytes.len() as u32,
                data: [0; 8],
            };
            for (to, from) in one.data.iter_mut().zip(*bytes) {
                *to = *from;
            }
            body.extend_from_slice(one.as_bytes());
        }
        self.post(command::REGION_WRITE_MULTI, &body)
    }

    /// Maps memory; `write` allows the device to write to it.
    pub fn dma_map(
        &mut self,
        iova: u64,
        len: u64,
        fd: Option<BorrowedFd<'_>>,
        offset: u64,
        write: bool,
    ) -> Result<(), ClientError> {
        let map = DmaMap {
            argsz: size_of::<DmaMap>() as u32,
            flags: if write {
                DMA_READ | DMA_WRITE
            } else {
                DMA_READ
            },
            offset,
            address: iova,
            size: len,
        };
        self.request(command::DMA_MAP, map.as_bytes(), fd.as_slice())
            .map(|_| ())
    }

    /// Takes memory away.
    pub fn dma_unmap(&mut self, iova: u64, len: u64) -> Result<(), ClientError> {
        let unmap = DmaUnmap {
            argsz: size_of::<DmaUnmap>() as u32,
            flags: 0,
            address: iova,
            size: len,
        };
        self.call::<_, DmaUnmap>(command::DMA_UNMAP, &unmap)
            .map(|_| ())
    }

    /// SET_IRQS with these flags (VFIO_IRQ_SET_*), for `count` vectors from `start` on.
    pub fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        data: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let set = SetIrqsHeader {
            argsz: (size_of::<SetIrqsHeader>() + data.len()) as u32,
            flags,
            index,
            start,
            count,
        };
        let body = [set.as_bytes(), data].concat();
        self.request(command::DEVICE_SET_IRQS, &body, fds)
            .map(|_| ())
    }

    /// Resets the device.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.request(command::DEVICE_RESET, &[], &[]).map(|_| ())
    }
}

fn write_body(region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let access = RegionAccess {
        offset,
        region,
        count: data.len() as u32,
    };
    [access.as_bytes(), data].concat()
}
