//! A stream to one client: whole messages in and out, with descriptors, deadlines and shutdown.
//!
//! Knows how messages are framed and nothing of what they say.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::shutdown::Shutdown;
use crate::sys;

/// A message that has begun must be complete, a reply taken, and a client introduced, within this time. A client
/// is otherwise silent as long as it likes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client closed the connection between two messages.
    #[error("the client has gone")]
    Gone,
    /// The client closed the connection within a message.
    #[error("the client has gone in the middle of a message")]
    Torn,
    /// The client stopped in the middle of a message, or does not take replies.
    #[error("the client is stuck")]
    Stuck,
    /// What the client sent makes the rest of the stream meaningless.
    #[error("the client broke the protocol: {0}")]
    Protocol(&'static str),
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server is to end.
    #[error("shut down")]
    Shutdown,
}

pub(crate) struct Connection<'a> {
    stream: UnixStream,
    shutdown: &'a Shutdown,
    /// For messages to humans.
    name: &'a str,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(stream: UnixStream, shutdown: &'a Shutdown, name: &'a str) -> Self {
        Self {
            stream,
            shutdown,
            name,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Waits for the client to be ready for `events`.
    fn wait(&self, events: i16, deadline: Option<Instant>) -> Result<(), Ended> {
        let timeout = match deadline {
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                Some(left) => Some(left),
                None => return Err(Ended::Stuck),
            },
            None => None,
        };
        let [_, shutdown] = sys::poll(
            [
                (self.stream.as_fd(), events),
                (self.shutdown.as_fd(), libc::POLLIN),
            ],
            timeout,
        )?;
        if shutdown != 0 {
            Err(Ended::Shutdown)
        } else {
            Ok(())
        }
    }

    /// The first bytes of a message and the descriptors that come with it.
    pub(crate) fn recv_header(
        &self,
        buf: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        patient: bool,
    ) -> Result<(), Ended> {
        // A client that sends without pause leaves no time to wait, and to be told to end.
        if self.shutdown.is_triggered() {
            return Err(Ended::Shutdown);
        }
        let deadline = (!patient).then(|| Instant::now() + PATIENCE);
        let first = loop {
            match sys::recv(&self.stream, buf, fds) {
                Ok(0) => return Err(Ended::Gone),
                Ok(n) => break n,
                Err(e) if retry(&e) => self.wait(libc::POLLIN, deadline)?,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(Ended::Gone),
                Err(e) => return Err(e.into()),
            }
        };
        self.recv(buf.get_mut(first..).unwrap_or_default(), fds)
    }

    /// The rest of a message.
    pub(crate) fn recv_body(&self, buf: &mut [u8]) -> Result<(), Ended> {
        // Descriptors come with the header; any others are closed.
        self.recv(buf, &mut Vec::new())
    }

    fn recv(&self, mut buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), Ended> {
        let mut deadline = None;
        while !buf.is_empty() {
            match sys::recv(&self.stream, buf, fds) {
                Ok(0) => return Err(Ended::Torn),
                Ok(n) => buf = buf.get_mut(n..).unwrap_or_default(),
                Err(e) if retry(&e) => {
                    let until = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                    self.wait(libc::POLLIN, Some(until))?;
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(Ended::Torn),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Sends a whole message, with a descriptor or without.
    pub(crate) fn send(&self, mut buf: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Ended> {
        let mut fds = fd.as_slice();
        let mut deadline = None;
        while !buf.is_empty() {
            match sys::send(&self.stream, buf, fds) {
                Ok(n) => {
                    buf = buf.get(n..).unwrap_or_default();
                    fds = &[];
                }
                Err(e) if retry(&e) => {
                    let until = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                    self.wait(libc::POLLOUT, Some(until))?;
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return Err(Ended::Gone);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

fn retry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
