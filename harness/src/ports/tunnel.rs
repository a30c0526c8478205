//! Tunnels: a frame in each UDP datagram.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use rustix::net::sockopt;

use super::{Backend, HEADROOM, Received, Sent, Trouble};

/// Bytes that may wait in the socket, as far as the kernel lets us: a window of a few connections.
const SOCKET_BUFFER: usize = 8 << 20;

/// The shortest thing that a switch forwards.
const ETHERNET_HEADER: usize = 14;

/// A tunnel to one remote.
pub(super) struct Tunnel {
    socket: UdpSocket,
    remote: SocketAddr,
}

impl Tunnel {
    /// Frames as they are.
    pub(super) fn udp(local: SocketAddr, remote: SocketAddr) -> Result<Tunnel> {
        let socket = UdpSocket::bind(local).with_context(|| format!("UDP socket {local}"))?;
        socket.set_nonblocking(true)?;
        for size in [
            sockopt::set_socket_recv_buffer_size_force,
            sockopt::set_socket_send_buffer_size_force,
        ] {
            // Needs CAP_NET_ADMIN; without it, as much as everybody gets.
            let _ = size(&socket, SOCKET_BUFFER);
        }
        Ok(Tunnel { socket, remote })
    }
}

impl Backend for Tunnel {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn recv(&mut self, buf: &mut [u8]) -> Result<Received, Trouble> {
        match self.socket.recv_from(buf) {
            Ok((len, from)) if from == self.remote && len >= ETHERNET_HEADER => {
                Ok(Received::Frame(0..len))
            }
            Ok(_) => Ok(Received::Refused),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Received::Nothing),
                _ => Err(Trouble::Passing(error)),
            },
        }
    }

    fn send(&mut self, buf: &mut [u8]) -> Result<Sent, Trouble> {
        let frame = buf.get(HEADROOM..).unwrap_or_default();
        match self.socket.send_to(frame, self.remote) {
            Ok(_) => Ok(Sent::Done),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Sent::Full),
                _ => Err(Trouble::Passing(error)),
            },
        }
    }

    fn poll_error(&mut self) -> Result<(), Trouble> {
        match self.socket.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(Trouble::Passing(error)),
        }
    }
}
