//! A network interface of the host (AF_PACKET): guests are on the network that it is plugged into.
//!
//! What arrives at the interface, guests receive, whomever it is for (promiscuous); what guests send
//! leaves through it. The host itself is not on this cable: what it sends through the interface is
//! not seen here, and what guests send does not reach it. The kernel hands over what it would leave
//! to hardware: unfinished checksums and large segments ([`super::offload`]), and VLAN tags beside
//! their frames; here they become the frames that a cable would carry.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, SetSockOpt, recvmsg};
use rocinante_wire::buf::FRAME_BUF_SIZE;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::offload::{Segments, VnetHeader, complete_checksum};
use super::{Backend, HEADROOM, Received, Sent, Trouble, interface};

/// Bytes that may wait in the socket.
const SOCKET_BUFFER: usize = 8 << 20;

/// Room for a VLAN tag before each frame.
const TAG: usize = 4;

/// The largest thing that the kernel hands over in one piece (without BIG TCP), beyond a frame.
const LARGE: usize = 64 << 10;

/// What the sockets of this kind can be told; the `unsafe` of it is in nix.
mod options {
    use nix::{setsockopt_impl, sockopt_impl};

    sockopt_impl!(
        /// A `struct virtio_net_hdr` goes before each frame, in both directions.
        VnetHdr,
        SetOnly,
        libc::SOL_PACKET,
        libc::PACKET_VNET_HDR,
        bool
    );
    sockopt_impl!(
        /// A `struct tpacket_auxdata` comes beside each frame.
        Auxdata,
        SetOnly,
        libc::SOL_PACKET,
        libc::PACKET_AUXDATA,
        bool
    );
    sockopt_impl!(
        /// What the host sends is not received.
        IgnoreOutgoing,
        SetOnly,
        libc::SOL_PACKET,
        libc::PACKET_IGNORE_OUTGOING,
        bool
    );
}

/// Control messages of one frame: `struct cmsghdr`, then `struct tpacket_auxdata`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
struct Control {
    len: u64,
    level: i32,
    kind: i32,
    status: u32,
    wire_len: u32,
    snap_len: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
    _pad: u32,
}

impl Control {
    /// The tag that was taken out of the frame.
    fn tag(&self) -> Option<[u8; TAG]> {
        let auxdata = self.level == libc::SOL_PACKET && self.kind == libc::PACKET_AUXDATA;
        if !auxdata || self.status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let tpid = match self.status & libc::TP_STATUS_VLAN_TPID_VALID {
            0 => 0x8100,
            _ => self.vlan_tpid,
        };
        let ([a, b], [c, d]) = (tpid.to_be_bytes(), self.vlan_tci.to_be_bytes());
        Some([a, b, c, d])
    }
}

/// A host interface.
pub(super) struct Packet {
    name: String,
    socket: Option<OwnedFd>,
    segments: Segments,
    /// What is in force of the last large piece: it begins here.
    large: Vec<u8>,
}

fn bind(name: &str) -> Result<OwnedFd> {
    let interface = interface::find(name).with_context(|| format!("no interface {name}"))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol yet: nothing is received before it is bound.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
        .with_context(|| format!("packet socket for {name} (needs CAP_NET_RAW)"))?;
    options::VnetHdr
        .set(&socket, &true)
        .context("PACKET_VNET_HDR")?;
    options::Auxdata
        .set(&socket, &true)
        .context("PACKET_AUXDATA")?;
    options::IgnoreOutgoing
        .set(&socket, &true)
        .context("PACKET_IGNORE_OUTGOING (Linux 4.20)")?;
    for size in [
        sockopt::set_socket_recv_buffer_size_force,
        sockopt::set_socket_send_buffer_size_force,
    ] {
        // Needs CAP_NET_ADMIN; without it, as much as everybody gets.
        let _ = size(&socket, SOCKET_BUFFER);
    }
    // Binds it and makes the interface promiscuous, as long as the socket is there. The channel's own buffers and its copies of
    // frames are not for us: it gets a descriptor of its own, and goes.
    let config = pnet_datalink::Config {
        socket_fd: Some(rustix::io::fcntl_dupfd_cloexec(&socket, 0)?.into_raw_fd()),
        promiscuous: true,
        ..pnet_datalink::Config::default()
    };
    pnet_datalink::channel(&interface, config).with_context(|| format!("interface {name}"))?;
    Ok(socket)
}

impl Packet {
    pub(super) fn open(name: &str) -> Result<Packet> {
        Ok(Packet {
            name: name.to_owned(),
            socket: Some(bind(name)?),
            segments: Segments::default(),
            large: vec![0; FRAME_BUF_SIZE + LARGE],
        })
    }

    fn trouble(&mut self, error: Errno) -> Trouble {
        match error {
            Errno::NETDOWN | Errno::NXIO | Errno::NODEV => {
                self.socket = None;
                Trouble::Gone(error.into())
            }
            // EMSGSIZE: longer than the interface's MTU; ENOBUFS: its queue is full.
            _ => Trouble::Passing(error.into()),
        }
    }
}

/// Puts a tag back; the frame begins at [`TAG`] in `buf`. Returns where it begins now.
fn insert(tag: Option<[u8; TAG]>, buf: &mut [u8]) -> usize {
    match (tag, buf.first_chunk_mut::<16>()) {
        (Some(tag), Some(start)) => {
            start.copy_within(TAG.., 0);
            if let Some(place) = start.last_chunk_mut() {
                *place = tag;
            }
            0
        }
        _ => TAG,
    }
}

impl Backend for Packet {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn recv(&mut self, buf: &mut [u8]) -> Result<Received, Trouble> {
        if let Some(len) = self.segments.next(&self.large, buf) {
            return Ok(Received::Frame(0..len));
        }
        let Some(socket) = &self.socket else {
            return Ok(Received::Nothing);
        };
        let room = buf.len();
        let mut header = VnetHeader::new_zeroed();
        let mut control = Control::default();
        let (Some(frame), Some((front, rest))) =
            (buf.get_mut(TAG..), self.large.split_at_mut_checked(room))
        else {
            return Ok(Received::Nothing);
        };
        let mut pieces = [
            IoSliceMut::new(header.as_mut_bytes()),
            IoSliceMut::new(frame),
            IoSliceMut::new(rest),
        ];
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut pieces,
            Some(control.as_mut_bytes()),
            MsgFlags::MSG_DONTWAIT,
        );
        let (len, whole) = match received {
            Ok(message) => (message.bytes, !message.flags.contains(MsgFlags::MSG_TRUNC)),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {
                return Ok(Received::Nothing);
            }
            Err(error) => return Err(self.trouble(Errno::from_raw_os_error(error as i32))),
        };
        let Some(len) = len.checked_sub(size_of::<VnetHeader>()).filter(|_| whole) else {
            return Ok(Received::Refused);
        };
        let end = TAG + len;
        if header.is_large() {
            let near = end.min(room);
            if let (Some(to), Some(from)) = (front.get_mut(..near), buf.get(..near)) {
                to.copy_from_slice(from);
            }
            let start = insert(control.tag(), &mut self.large);
            let started = self.segments.start(&self.large, start..end, &header);
            return match started
                .then(|| self.segments.next(&self.large, buf))
                .flatten()
            {
                Some(len) => Ok(Received::Frame(0..len)),
                None => Ok(Received::Refused),
            };
        }
        let Some(filled) = buf.get_mut(..end) else {
            return Ok(Received::Refused);
        };
        if let Some((at, offset)) = header.unfinished()
            && !complete_checksum(filled.get_mut(TAG..).unwrap_or_default(), at, offset)
        {
            return Ok(Received::Refused);
        }
        Ok(Received::Frame(insert(control.tag(), filled)..end))
    }

    fn send(&mut self, buf: &mut [u8]) -> Result<Sent, Trouble> {
        const BEFORE: usize = HEADROOM - size_of::<VnetHeader>();
        let Some(socket) = &self.socket else {
            return Ok(Sent::Full);
        };
        if let Some(header) = buf.get_mut(BEFORE..HEADROOM) {
            header.fill(0);
        }
        let whole = buf.get(BEFORE..).unwrap_or_default();
        match rustix::net::send(socket, whole, SendFlags::DONTWAIT) {
            Ok(_) => Ok(Sent::Done),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Sent::Full),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn poll_error(&mut self) -> Result<(), Trouble> {
        // An error of the socket is what the next call returns: there is none.
        Ok(())
    }

    fn explain(&self, error: &io::Error) -> Option<&'static str> {
        Some(match Errno::from_io_error(error)? {
            Errno::NETDOWN => "the interface is down",
            Errno::NXIO | Errno::NODEV => "the interface is gone",
            Errno::MSGSIZE => "a frame is longer than the interface's MTU",
            _ => return None,
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        let there = interface::find(&self.name).is_some_and(|interface| interface.is_up());
        if !there {
            return Err(io::ErrorKind::NotFound.into());
        }
        // It may be another one of the same name.
        self.socket = Some(bind(&self.name).map_err(io::Error::other)?);
        Ok(())
    }
}
