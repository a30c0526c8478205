//! The socket that control comes through, with a thread for each client. Knows who may connect and
//! how bytes travel; what they mean is the [`Session`]'s.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use log::{debug, info, warn};
use rocinante_pci::Shutdown;
use rocinante_pci::server::remove_stale;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Mode, fchmod};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::geteuid;

use super::protocol::{Class, Failure, answer};
use super::session::{Session, World};
use crate::serve::ServerHandle;

/// Clients at a time.
pub const MAX_CLIENTS: usize = 16;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Bytes of one read.
const CHUNK: usize = 16 << 10;

/// How long a client that has closed its end may take for the rest of its answers.
const LINGER: Duration = Duration::from_secs(2);

/// How long to wait when a connection could not be accepted (out of descriptors, for example).
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that is served. Ends, and is removed, when dropped.
pub struct ControlSocket {
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
    _file: SocketFile,
}

/// The file of a socket: only our own is removed.
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let id = |file: fs::Metadata| (file.dev(), file.ino());
        if fs::symlink_metadata(&self.path).is_ok_and(|file| id(file) == self.id) {
            // It may have been removed by someone else in between.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl ControlSocket {
    /// Listens at `path` and serves whoever connects. A socket that a dead server has left there
    /// is replaced.
    pub fn start(path: &Path, server: ServerHandle) -> Result<ControlSocket> {
        let (listener, file) =
            listen_at(path).with_context(|| format!("control socket {}", path.display()))?;
        let shutdown = Shutdown::new().context("shutdown eventfd")?;
        let stop = shutdown.clone();
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &server, &stop))
            .context("control thread")?;
        Ok(ControlSocket {
            shutdown,
            thread: Some(thread),
            _file: file,
        })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

/// A socket at `path` for the owner of this process only.
fn listen_at(path: &Path) -> Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux makes the file with the mode of the socket, less the umask: there is no moment at
    // which others could connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        id: (made.dev(), made.ino()),
    };
    if made.mode() & 0o177 != 0 {
        bail!(
            "it would be open to others (mode {:o})",
            made.mode() & 0o777
        );
    }
    // Nobody gets in before this.
    listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(socket), file))
}

/// Waits for any of the descriptors. Returns what has happened to each.
fn wait<const N: usize>(
    fds: [(BorrowedFd<'_>, PollFlags); N],
    timeout: Option<Duration>,
) -> io::Result<[PollFlags; N]> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut polled = fds.map(|(fd, events)| PollFd::from_borrowed_fd(fd, events));
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(polled.map(|fd| fd.revents())),
        Err(error) => Err(error.into()),
    }
}

fn accept(listener: &UnixListener, server: &ServerHandle, shutdown: &Shutdown) {
    let mut clients: Vec<JoinHandle<()>> = Vec::new();
    let mut refusing = false;
    loop {
        let fds = [
            (listener.as_fd(), PollFlags::IN),
            (shutdown.as_fd(), PollFlags::IN),
        ];
        if wait(fds, None).is_err() || shutdown.is_triggered() {
            break;
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    warn!(target: "control", "accept: {error}");
                    let _ = wait([(shutdown.as_fd(), PollFlags::IN)], Some(PAUSE));
                }
                continue;
            }
        };
        clients.retain(|client| !client.is_finished());
        let refused = refusal(&stream).or_else(|| {
            let desc = format!("{MAX_CLIENTS} clients are connected already");
            (clients.len() >= MAX_CLIENTS).then(|| Failure::new(Class::Failed, desc))
        });
        if let Some(failure) = refused {
            // Who comes again and again does not fill the log.
            if !std::mem::replace(&mut refusing, true) {
                info!(target: "control", "client refused: {failure}");
            }
            let _ = stream.set_nonblocking(true);
            let line = format!("{}\r\n", answer(Err(failure), None));
            // If there is no room for it, the client has gone.
            let _ = (&stream).write(line.as_bytes());
            continue;
        }
        refusing = false;
        let (server, stop) = (server.clone(), shutdown.clone());
        let client = std::thread::Builder::new()
            .name("control-client".into())
            .spawn(move || {
                debug!(target: "control", "client connected");
                match converse(&stream, &server, &stop) {
                    Ok(()) => debug!(target: "control", "client gone"),
                    Err(error) => debug!(target: "control", "client gone: {error}"),
                }
            });
        match client {
            Ok(client) => clients.push(client),
            Err(error) => warn!(target: "control", "client thread: {error}"),
        }
    }
    for client in clients {
        // They are told as well; a panic there has been printed.
        let _ = client.join();
    }
}

/// Why this client may not be served, whatever the mode of the file: only the owner of this
/// process and root may.
fn refusal(stream: &UnixStream) -> Option<Failure> {
    match socket_peercred(stream) {
        Ok(peer) if peer.uid == geteuid() || peer.uid.is_root() => None,
        Ok(peer) => Some(Failure::new(
            Class::Denied,
            format!("user {} does not own this process", peer.uid.as_raw()),
        )),
        Err(error) => Some(Failure::new(Class::Denied, format!("who is it? {error}"))),
    }
}

fn converse(stream: &UnixStream, server: &ServerHandle, shutdown: &Shutdown) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let bell: Arc<OwnedFd> = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let ringer = Arc::clone(&bell);
    let mut session = Session::new(Arc::new(move || {
        // Fails only when 2^64 - 1 rings have not been heard.
        let _ = rustix::io::write(&ringer, &1u64.to_ne_bytes());
    }));
    let mut closed: Option<Instant> = None;
    let mut chunk = vec![0; CHUNK];
    loop {
        while session.turn(server as &dyn World, since_epoch()) {}
        let waiting = flush(stream, &mut session)?;
        if !waiting && session.output().is_empty() && session.turn(server, since_epoch()) {
            // There was no room before.
            continue;
        }
        if let Some(since) = closed {
            let left = LINGER.saturating_sub(since.elapsed());
            if session.output().is_empty() || session.is_listening() || left.is_zero() {
                return Ok(());
            }
        }
        let mut wanted = PollFlags::empty();
        if closed.is_none() && session.wants_input() {
            wanted |= PollFlags::IN;
        }
        if !session.output().is_empty() {
            wanted |= PollFlags::OUT;
        }
        let fds = [
            (stream.as_fd(), wanted),
            (bell.as_fd(), PollFlags::IN),
            (shutdown.as_fd(), PollFlags::IN),
        ];
        let [happened, rung, _] = wait(fds, closed.map(|_| PAUSE))?;
        if shutdown.is_triggered() {
            return Ok(());
        }
        if !rung.is_empty() {
            let _ = rustix::io::read(&bell, &mut [0; 8]);
        }
        if happened.contains(PollFlags::IN) {
            match (&mut &*stream).read(&mut chunk) {
                Ok(0) => closed = Some(Instant::now()),
                Ok(n) => session.feed(chunk.get(..n).unwrap_or(&[])),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        } else if happened.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
    }
}

/// Sends what can be sent. Whether some is left.
fn flush(stream: &UnixStream, session: &mut Session) -> io::Result<bool> {
    while !session.output().is_empty() {
        match (&mut &*stream).write(session.output()) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => session.sent(n),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn since_epoch() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
