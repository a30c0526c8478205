//! A connection with a monitor, which is never waited for: neither for the rest of a message nor
//! until it takes an answer.
//!
//! One request is answered here: QEMU enables rings before it has acknowledged any features, which
//! the crate refuses by the letter of the protocol, and without an answer.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use vhost::vhost_user::{BackendReqHandler, Error};

use super::net::Counters;
use super::session::{Desk, State};

/// Request, flags and length of a message: 32 bits each.
const HEADER: usize = 12;

/// SET_VRING_ENABLE, and the length of it: index and 0 or 1.
const ENABLE: u32 = 18;
const ENABLE_LEN: usize = HEADER + 8;

/// Flags: the protocol's version, an answer, and that one is wanted.
const VERSION: u32 = 1;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;

/// The longest message that is listened to: the crate's limit, and its header.
const MESSAGE: usize = HEADER + 0x1000;

/// A message begun has to be complete after so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection is over.
pub struct Ended {
    /// Why, unless the monitor just went.
    pub error: Option<Error>,
    /// What the guest's driver did wrong.
    pub counters: Counters,
}

/// A connection.
pub struct Connection {
    handler: BackendReqHandler<Mutex<Desk>>,
    desk: Arc<Mutex<Desk>>,
    stream: UnixStream,
    peeked: Vec<u8>,
    /// Since when a message is incomplete.
    partial: Option<Instant>,
}

/// What is there to be read.
enum Waiting {
    Message,
    Part,
    Nothing,
    End,
}

impl Connection {
    /// A monitor that has just come.
    pub fn new(stream: UnixStream) -> io::Result<Connection> {
        // Complete messages are read from it, and short answers written where there is room.
        stream.set_nonblocking(false)?;
        let desk = Arc::new(Mutex::new(Desk::default()));
        Ok(Connection {
            handler: BackendReqHandler::from_stream(stream.try_clone()?, Arc::clone(&desk)),
            desk,
            stream,
            peeked: vec![0; MESSAGE],
            partial: None,
        })
    }

    /// Does what one message says, if one is complete.
    pub fn serve(&mut self, mut state: Box<State>) -> Result<Box<State>, Ended> {
        let over = |state: &State, error| Ended {
            error,
            counters: state.device.counters,
        };
        match self.waiting() {
            Ok(Waiting::Message) => self.partial = None,
            Ok(Waiting::Part) => {
                let since = *self.partial.get_or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE {
                    return Ok(state);
                }
                return Err(over(&state, Some(Error::PartialMessage)));
            }
            Ok(Waiting::Nothing) => return Ok(state),
            Ok(Waiting::End) => return Err(over(&state, None)),
            Err(error) => return Err(over(&state, Some(Error::SocketError(error)))),
        }
        match self.serve_enable(&mut state) {
            Ok(false) => {}
            Ok(true) => return Ok(state),
            Err(error) => return Err(over(&state, Some(Error::SocketError(error)))),
        }
        let lock = || self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = state.device.counters;
        lock().0 = Some(state);
        let done = self.handler.handle_request();
        let state = lock().0.take();
        match (done, state) {
            (Ok(()), Some(state)) => Ok(state),
            (done, state) => Err(Ended {
                error: done.err(),
                counters: state.map_or(counters, |state| state.device.counters),
            }),
        }
    }

    /// Does what a complete message says if it enables or disables a ring.
    fn serve_enable(&mut self, state: &mut State) -> io::Result<bool> {
        let Some(message) = self.peeked.first_chunk::<ENABLE_LEN>() else {
            return Ok(false);
        };
        let word = |n: usize| {
            let bytes = message.get(4 * n..4 * n + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let [
            Some(request),
            Some(flags),
            Some(len),
            Some(index),
            Some(enable),
        ] = [0, 1, 2, 3, 4].map(word)
        else {
            return Ok(false);
        };
        let known = flags & !NEED_REPLY == VERSION && len as usize == ENABLE_LEN - HEADER;
        if request != ENABLE || !known {
            return Ok(false);
        }
        self.stream.read_exact(&mut [0; ENABLE_LEN])?;
        let done = state.enable(index, enable);
        if flags & NEED_REPLY != 0 {
            let mut answer = [ENABLE, VERSION | REPLY, 8].map(u32::to_ne_bytes).concat();
            answer.extend(u64::from(done.is_err()).to_ne_bytes());
            self.stream.write_all(&answer)?;
        }
        done.map(|()| true).map_err(io::Error::other)
    }

    /// What is there to be read.
    fn waiting(&mut self) -> io::Result<Waiting> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec::default()))?;
        let [fd] = fds;
        if !fd.revents().contains(PollFlags::OUT) && !fd.revents().contains(PollFlags::HUP) {
            return Err(io::Error::other("it does not read its answers"));
        }
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let len = match rustix::net::recv(&self.stream, self.peeked.as_mut_slice(), flags) {
            Ok((0, _)) => return Ok(Waiting::End),
            Ok((len, _)) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Waiting::Nothing),
            Err(rustix::io::Errno::CONNRESET) => return Ok(Waiting::End),
            Err(error) => return Err(error.into()),
        };
        let Some([_, _, _, _, _, _, _, _, length @ ..]) = self.peeked.first_chunk::<HEADER>()
        else {
            return Ok(Waiting::Part);
        };
        let whole = HEADER.saturating_add(u32::from_ne_bytes(*length) as usize);
        // One that is too long is the handler's to refuse, by its header.
        let complete = len >= HEADER && (len >= whole || whole > MESSAGE);
        Ok(if complete {
            Waiting::Message
        } else {
            Waiting::Part
        })
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
