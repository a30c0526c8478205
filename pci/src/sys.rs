//! The few system calls that std has no safe form of: descriptors over sockets, poll, eventfd properties.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The most descriptors one message may carry.
pub(crate) const MAX_FDS: usize = 16;

/// Room for one SCM_RIGHTS message of [`MAX_FDS`] descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 128]);

const CONTROL_LEN: usize = {
    // SAFETY: CMSG_SPACE only computes.
    let len = unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as u32) } as usize;
    assert!(len <= size_of::<Control>());
    len
};

/// Receives bytes and descriptors without waiting. 0 bytes: the peer has closed. More descriptors than
/// [`MAX_FDS`] are an error; none of them stays open.
pub(crate) fn recv(
    stream: &UnixStream,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut control = Control([0; 128]);
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: msghdr is a plain structure of integers and pointers, for which all zeros is a value.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = (&raw mut control).cast();
    msg.msg_controllen = CONTROL_LEN as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `msg` points to one buffer of the stated length and a control buffer of CONTROL_LEN bytes, both
    // alive and not otherwise used during the call.
    let n = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut msg, flags) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `msg` was filled by recvmsg; CMSG_FIRSTHDR returns a pointer into `control` or null.
    let mut cmsg = unsafe { libc::CMSG_FIRSTHDR(&msg) };
    while !cmsg.is_null() {
        // SAFETY: `cmsg` points to a header that the kernel has written into `control`.
        let header = unsafe { &*cmsg };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN only computes.
            let payload =
                (header.cmsg_len as usize).saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for i in 0..payload / size_of::<RawFd>() {
                // SAFETY: the kernel has written `payload` bytes of descriptors after the header; each is new,
                // open and owned by nobody else. CMSG_DATA need not be aligned.
                let fd = unsafe {
                    let at = libc::CMSG_DATA(cmsg).cast::<RawFd>().add(i);
                    OwnedFd::from_raw_fd(at.read_unaligned())
                };
                fds.push(fd);
            }
        }
        // SAFETY: `msg` and `cmsg` are those of this call.
        cmsg = unsafe { libc::CMSG_NXTHDR(&msg, cmsg) };
    }
    if msg.msg_flags & libc::MSG_CTRUNC != 0 {
        fds.clear();
        return Err(io::Error::other(
            "more descriptors than a message may carry",
        ));
    }
    Ok(n as usize)
}

/// Sends bytes, with descriptors, without waiting. Returns how many bytes were taken; the descriptors go with
/// the first.
pub(crate) fn send(stream: &UnixStream, buf: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control([0; 128]);
    let mut iov = libc::iovec {
        iov_base: buf.as_ptr().cast_mut().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: msghdr is a plain structure of integers and pointers, for which all zeros is a value.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    if !fds.is_empty() {
        let len = size_of_val(fds) as u32;
        msg.msg_control = (&raw mut control).cast();
        // SAFETY: at most MAX_FDS descriptors, so the space is within `control`, where CMSG_FIRSTHDR points;
        // a BorrowedFd has the layout of a RawFd, and CMSG_DATA has room for `fds.len()` of them.
        unsafe {
            msg.msg_controllen = libc::CMSG_SPACE(len) as _;
            let cmsg = libc::CMSG_FIRSTHDR(&msg);
            (*cmsg).cmsg_level = libc::SOL_SOCKET;
            (*cmsg).cmsg_type = libc::SCM_RIGHTS;
            (*cmsg).cmsg_len = libc::CMSG_LEN(len) as _;
            for (i, fd) in fds.iter().enumerate() {
                libc::CMSG_DATA(cmsg)
                    .cast::<RawFd>()
                    .add(i)
                    .write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: `msg` points to one buffer of the stated length, which is only read, and to `control`.
    let n = unsafe {
        libc::sendmsg(
            stream.as_raw_fd(),
            &msg,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(n as usize)
}

/// Waits until one of the descriptors is ready for its events (or in error), or for `timeout`; `None` waits
/// for ever. Returns the events seen for each.
pub(crate) fn poll<const N: usize>(
    fds: [(BorrowedFd<'_>, i16); N],
    timeout: Option<Duration>,
) -> io::Result<[i16; N]> {
    let mut polled = fds.map(|(fd, events)| libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    });
    // Rounded up: a wait of 0.4 ms must not become a busy loop.
    let ms = timeout.map_or(-1, |t| {
        i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    // SAFETY: `polled` is an array of N pollfd, alive during the call.
    let n = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, ms) };
    if n < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(polled.map(|p| p.revents))
}

/// Whether a write to `fd` would not wait.
pub(crate) fn is_writable(fd: RawFd) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, alive during the call.
    unsafe { libc::poll(&mut polled, 1, 0) == 1 && polled.revents & libc::POLLOUT != 0 }
}

/// Whether `fd` is in non-blocking mode.
pub(crate) fn is_nonblocking(fd: &OwnedFd) -> io::Result<bool> {
    // SAFETY: F_GETFL has no arguments and changes nothing.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// Whether `fd` is an eventfd, as far as /proc tells: a pipe or a file from a broken monitor must not be
/// written to.
pub(crate) fn is_eventfd(fd: &OwnedFd) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_or(true, |target| target.as_os_str() == "anon_inode:[eventfd]")
}

/// A new non-blocking eventfd with counter 0.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd has no preconditions.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just created and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
