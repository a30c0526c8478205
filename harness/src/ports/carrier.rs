//! The carrier of an interface of the host that is ours, such as a TAP's.
//!
//! By rtnetlink: TUNSETCARRIER does the same from any network namespace, but nothing offers it as a
//! safe call. So the interface has to be in the namespace of this process, which needs `CAP_NET_ADMIN`.

use std::io;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct nlmsghdr`, in the byte order of the host.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// RTM_SETLINK: `struct ifinfomsg`, and IFLA_CARRIER.
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
struct SetLink {
    header: Header,
    family: u8,
    _pad: u8,
    device_type: u16,
    index: u32,
    flags: u32,
    change: u32,
    attribute_len: u16,
    attribute: u16,
    carrier: u8,
    _padding: [u8; 3],
}

/// NLMSG_ERROR, which is also an acknowledgement.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Answer {
    header: Header,
    /// 0, or an error number with a minus.
    error: i32,
}

/// IFLA_CARRIER with its value: `struct rtattr` and a byte.
const ATTRIBUTE_LEN: u16 = 5;

/// Gives the interface a carrier, or takes it away.
///
/// # Errors
/// There is no such interface in this namespace, it is of a kind without, or we may not.
pub(super) fn set(index: u32, up: bool) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // No protocol is NETLINK_ROUTE.
    let kind = SocketType::RAW;
    let socket = socket_with(AddressFamily::NETLINK, kind, flags, None)?;
    let request = SetLink {
        header: Header {
            len: size_of::<SetLink>() as u32,
            kind: libc::RTM_SETLINK,
            flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16,
            sequence: 1,
            port: 0,
        },
        family: 0,
        _pad: 0,
        device_type: 0,
        index,
        flags: 0,
        change: 0,
        attribute_len: ATTRIBUTE_LEN,
        attribute: libc::IFLA_CARRIER,
        carrier: up.into(),
        _padding: [0; 3],
    };
    send(&socket, request.as_bytes(), SendFlags::empty())?;
    // The kernel has answered when send(2) returns.
    let mut answer = [0; 256];
    let (len, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::DONTWAIT)?;
    let answer = answer.get(..len).unwrap_or_default();
    match Answer::read_from_prefix(answer) {
        Ok((answer, _)) if i32::from(answer.header.kind) != libc::NLMSG_ERROR => {
            Err(io::ErrorKind::InvalidData.into())
        }
        Ok((Answer { error: 0, .. }, _)) => Ok(()),
        Ok((answer, _)) => Err(Errno::from_raw_os_error(answer.error.wrapping_neg()).into()),
        Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let error = set(u32::MAX >> 1, true).unwrap_err();
        // Without privileges the kernel looks no further.
        let known = [libc::ENODEV, libc::EPERM];
        assert!(
            error.raw_os_error().is_some_and(|n| known.contains(&n)),
            "{error}"
        );
    }
}
