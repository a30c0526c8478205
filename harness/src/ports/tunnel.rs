//! Tunnels over UDP, to one remote each.
//!
//! `udp`: a datagram is an Ethernet frame as it is, from the destination address on, without frame
//! check sequence. Both ends have fixed ports. `vxlan`: the same behind a VXLAN header (RFC 7348); VLAN tags of
//! inner frames are kept. Datagrams go from the local port, and are taken from any port of the
//! remote, since others choose it by flow.
//!
//! What comes from elsewhere, is of another network or is no frame is counted and dropped. Frames
//! that are longer than the path allows go in fragments and may be fragmented further on: DF is
//! not set, so no MTU has to be agreed upon. A VXLAN end point in another namespace of the same host
//! leaves inner checksums unfinished: they are finished here. Errors that the network reports (ICMP) are told.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, SetSockOpt, recvmsg, sockopt::Ipv4RecvErr, sockopt::Ipv6RecvErr};
use rocinante_wire::vxlan::{self, Vni};
use rustix::net::sockopt;

use super::offload::finish_unmarked;
use super::{Backend, HEADROOM, Received, Sent, Trouble};

/// Bytes that may wait in the socket, as far as the kernel lets us: a window of a few connections.
const SOCKET_BUFFER: usize = 8 << 20;

/// The shortest thing that a switch forwards.
const ETHERNET_HEADER: usize = 14;

/// Reports of the network that are taken at once.
const REPORTS: usize = 64;

/// A tunnel to one remote.
pub(super) struct Tunnel {
    socket: UdpSocket,
    remote: SocketAddr,
    vni: Option<Vni>,
}

impl Tunnel {
    /// Frames as they are.
    pub(super) fn udp(local: SocketAddr, remote: SocketAddr) -> Result<Tunnel> {
        Tunnel::open(local, remote, None)
    }

    /// Frames of a VXLAN network.
    pub(super) fn vxlan(local: SocketAddr, remote: SocketAddr, vni: Vni) -> Result<Tunnel> {
        Tunnel::open(local, remote, Some(vni))
    }

    fn open(local: SocketAddr, remote: SocketAddr, vni: Option<Vni>) -> Result<Tunnel> {
        let socket = UdpSocket::bind(local).with_context(|| format!("UDP socket {local}"))?;
        socket.set_nonblocking(true)?;
        for size in [
            sockopt::set_socket_recv_buffer_size_force,
            sockopt::set_socket_send_buffer_size_force,
        ] {
            // Needs CAP_NET_ADMIN; without it, as much as everybody gets.
            let _ = size(&socket, SOCKET_BUFFER);
        }
        if local.is_ipv4() {
            sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
            Ipv4RecvErr.set(&socket, &true)?;
        } else {
            sockopt::set_ipv6_mtu_discover(&socket, sockopt::Ipv6PathMtuDiscovery::DONT)?;
            Ipv6RecvErr.set(&socket, &true)?;
        }
        Ok(Tunnel {
            socket,
            remote,
            vni,
        })
    }

    fn takes(&self, datagram: &[u8], from: SocketAddr) -> Option<usize> {
        match self.vni {
            None => (from == self.remote && datagram.len() >= ETHERNET_HEADER).then_some(0),
            Some(vni) => (from.ip() == self.remote.ip() && vxlan::parse(datagram) == Ok(vni))
                .then_some(vxlan::LEN),
        }
    }

    /// The network has reported something: poll(2) would not forget it.
    fn trouble(&self, error: io::Error) -> Trouble {
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        for _ in 0..REPORTS {
            if recvmsg::<()>(self.socket.as_raw_fd(), &mut [], None, flags).is_err() {
                break;
            }
        }
        Trouble::Passing(error)
    }
}

fn is_idle(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

impl Backend for Tunnel {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn recv(&mut self, buf: &mut [u8]) -> Result<Received, Trouble> {
        match self.socket.recv_from(buf) {
            // What fills the buffer may have lost its end.
            Ok((len, _)) if len >= buf.len() => Ok(Received::Refused),
            Ok((len, from)) => match self.takes(buf.get(..len).unwrap_or_default(), from) {
                Some(start) => {
                    if self.vni.is_some() {
                        // Nothing to finish, most of the time.
                        let _ = finish_unmarked(buf.get_mut(start..len).unwrap_or_default());
                    }
                    Ok(Received::Frame(start..len))
                }
                None => Ok(Received::Refused),
            },
            Err(error) if is_idle(&error) => Ok(Received::Nothing),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn send(&mut self, buf: &mut [u8]) -> Result<Sent, Trouble> {
        let mut start = HEADROOM;
        if let Some(vni) = self.vni {
            start -= vxlan::LEN;
            if let Some(header) = buf.get_mut(start..HEADROOM) {
                header.copy_from_slice(&vxlan::header(vni));
            }
        }
        let datagram = buf.get(start..).unwrap_or_default();
        match self.socket.send_to(datagram, self.remote) {
            Ok(_) => Ok(Sent::Done),
            Err(error) if is_idle(&error) => Ok(Sent::Full),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn poll_error(&mut self) -> Result<(), Trouble> {
        let error = self.socket.take_error().unwrap_or_else(Some);
        let error = error.unwrap_or_else(|| io::ErrorKind::HostUnreachable.into());
        Err(self.trouble(error))
    }
}
