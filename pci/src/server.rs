//! A vfio-user server on a UNIX socket: one client after the other.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::connection::{Connection, Ended};
use crate::function::Function;
use crate::model::ResetKind;
use crate::session;
use crate::shutdown::Shutdown;
use crate::sys;

/// A server that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process serves this socket.
    #[error("{path}: another server is listening on this socket")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is a file of this name that is no socket.
    #[error("{path}: exists and is no socket")]
    NotASocket {
        /// The socket.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {doing}")]
    Os {
        /// The socket.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Its reason.
        source: io::Error,
    },
}

/// A socket that clients can connect to. Dropping it removes the file.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: only our own is removed.
    file: (u64, u64),
}

impl Listener {
    /// Listens on `path`. A socket that a dead server has left there is replaced. From here on clients can
    /// connect; they are served by [`Listener::serve`].
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        let os = |doing| {
            move |source| ServeError::Os {
                path: path.to_owned(),
                doing,
                source,
            }
        };
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(os("bind"))?;
        listener.set_nonblocking(true).map_err(os("listen"))?;
        let file = fs::symlink_metadata(path).map_err(os("stat"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: (file.dev(), file.ino()),
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next client, for those who serve something else; `None` if there is none now. Readable when there is.
    pub fn accept(&self) -> Result<Option<UnixStream>, ServeError> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(e) if transient(&e) => Ok(None),
            Err(source) => Err(ServeError::Os {
                path: self.path.clone(),
                doing: "accept",
                source,
            }),
        }
    }

    /// Serves `function` to one client after the other until `shutdown`; the function is reset before the first
    /// and after each. While a client is there, others wait.
    pub fn serve(&self, function: &mut Function, shutdown: &Shutdown) -> Result<(), ServeError> {
        let os = |doing| {
            move |source| ServeError::Os {
                path: self.path.clone(),
                doing,
                source,
            }
        };
        let name = self.path.display().to_string();
        function.reset(ResetKind::PowerOn);
        loop {
            let [_, stop] = sys::poll(
                [
                    (self.listener.as_fd(), libc::POLLIN),
                    (shutdown.as_fd(), libc::POLLIN),
                ],
                None,
            )
            .map_err(os("poll"))?;
            if stop != 0 {
                return Ok(());
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if transient(&e) => continue,
                Err(e) => return Err(os("accept")(e)),
            };
            log::info!(target: "pci::server", "{name}: client connected");
            let ended = session::run(Connection::new(stream, shutdown, &name), function);
            function.reset(ResetKind::ClientGone);
            match ended {
                Ended::Shutdown => return Ok(()),
                Ended::Gone => log::info!(target: "pci::server", "{name}: {ended}"),
                _ => log::warn!(target: "pci::server", "{name}: {ended}"),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file)
        {
            // It may have been removed by someone else in between.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// [`Listener::bind`] and [`Listener::serve`].
pub fn serve(path: &Path, function: &mut Function, shutdown: &Shutdown) -> Result<(), ServeError> {
    Listener::bind(path)?.serve(function, shutdown)
}

/// Removes a socket on which nobody listens, so that another can take its place.
pub fn remove_stale(path: &Path) -> Result<(), ServeError> {
    let os = |doing| {
        move |source| ServeError::Os {
            path: path.to_owned(),
            doing,
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(os("stat")(e)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(ServeError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ServeError::InUse {
            path: path.to_owned(),
        }),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            log::info!(target: "pci::server", "{}: replacing the socket of a dead server", path.display());
            fs::remove_file(path).map_err(os("remove"))
        }
        Err(e) => Err(os("connect")(e)),
    }
}

/// Errors of accept that concern one client, not the listener.
fn transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}
