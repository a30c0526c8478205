//! What a broken or malicious monitor does: it may end its own session and nothing else.

use std::io::{Read, Write};
use std::net::Shutdown as Direction;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::common::*;
use proptest::prelude::*;
use rocinante_pci::client::Client;
use rocinante_pci::{Listener, ResetKind, ServeError};

fn header(command: u16, size: u32, flags: u32) -> Vec<u8> {
    let mut h = vec![1, 0];
    h.extend(command.to_ne_bytes());
    h.extend(size.to_ne_bytes());
    h.extend(flags.to_ne_bytes());
    h.extend([0; 4]);
    h
}

fn message(command: u16, body: &[u8]) -> Vec<u8> {
    [header(command, 16 + body.len() as u32, 0), body.to_vec()].concat()
}

fn version(body: &[u8]) -> Vec<u8> {
    message(1, body)
}

const GOOD_VERSION: &[u8] = b"\0\0\0\0{\"capabilities\":{}}\0";

/// What the server sends until it closes the connection or waits for more.
fn answer(server: &Server, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = UnixStream::connect(&server.path).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // The server may have closed before it has taken all of it.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Direction::Write);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let closed =
        ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
    (answer, closed)
}

fn still_serves(server: &Server) {
    let mut client = server.client();
    assert_eq!(client.r32(0), 0x1017_15b3);
    client.bar_w64(SCRATCH, 3);
    assert_eq!(client.bar_r64(SCRATCH), 3);
}

#[test]
fn malformed_introductions_end_the_session() {
    let server = Server::start();
    let sequences: &[(&str, Vec<u8>)] = &[
        ("nothing", vec![]),
        ("half a header", vec![1, 0, 1]),
        ("a header without its body", header(1, 40, 0)),
        ("a body that is too short", version(&[0, 0])),
        ("capabilities without a zero", version(b"\0\0\0\0{}")),
        ("a zero within the capabilities", version(b"\0\0\0\0{\0}\0")),
        (
            "capabilities that are not UTF-8",
            version(b"\0\0\0\0\xff\xfe\0"),
        ),
        ("version 1.0", version(b"\x01\0\0\0{}\0")),
        ("a size below the header's", header(1, 3, 0)),
        ("a size of 0", header(1, 0, 0)),
        ("a size of 4 GiB", header(1, u32::MAX, 0)),
        ("a reply", header(1, 16, 1)),
        ("an introduction that wants no answer", header(1, 20, 0x10)),
        ("another command first", message(4, &[0; 16])),
        (
            "two introductions",
            [version(GOOD_VERSION), version(GOOD_VERSION)].concat(),
        ),
        ("noise", (0..64).map(|i| (i * 37 + 11) as u8).collect()),
        (
            "a write of 4 GiB",
            [version(GOOD_VERSION), header(10, u32::MAX, 0)].concat(),
        ),
        (
            "half a write",
            [version(GOOD_VERSION), header(10, 40, 0), vec![0; 20]].concat(),
        ),
    ];
    for (what, bytes) in sequences {
        let (_, closed) = answer(&server, bytes);
        assert!(closed, "{what}");
    }
    still_serves(&server);
}

#[test]
fn an_incompatible_version_is_told_why() {
    let server = Server::start();
    let (bytes, closed) = answer(&server, &version(b"\x02\0\0\0{}\0"));
    assert!(closed);
    assert_eq!(bytes.len(), 16);
    assert_eq!(bytes[8..12], 0x21u32.to_ne_bytes(), "reply, error");
    assert_eq!(bytes[12..16], libc::EINVAL.to_ne_bytes());
}

#[test]
fn requests_that_make_no_sense_get_an_errno_and_the_session_goes_on() {
    let server = Server::start();
    let mut client = server.client();
    let access = |offset: u64, region: u32, count: u32, data: &[u8]| {
        let mut body = offset.to_ne_bytes().to_vec();
        body.extend(region.to_ne_bytes());
        body.extend(count.to_ne_bytes());
        body.extend(data);
        body
    };
    let (read, write) = (9, 10);
    let cases: &[(&str, u16, Vec<u8>, i32)] = &[
        ("unknown command", 99, vec![], libc::ENOTSUP),
        ("command 0", 0, vec![0; 40], libc::ENOTSUP),
        ("region I/O descriptors", 6, vec![0; 16], libc::ENOTSUP),
        ("dirty pages", 14, vec![0; 16], libc::ENOTSUP),
        ("DMA_MAP cut short", 2, vec![0; 31], libc::EINVAL),
        ("DMA_MAP of nothing", 2, vec![0; 32], libc::EINVAL),
        ("DMA_UNMAP cut short", 3, vec![0; 23], libc::EINVAL),
        ("GET_REGION_INFO cut short", 5, vec![0; 8], libc::EINVAL),
        ("GET_IRQ_INFO cut short", 7, vec![], libc::EINVAL),
        ("SET_IRQS cut short", 8, vec![0; 19], libc::EINVAL),
        ("read cut short", read, vec![0; 15], libc::EINVAL),
        (
            "read of 4 GiB",
            read,
            access(0, 0, u32::MAX, &[]),
            libc::EINVAL,
        ),
        (
            "read of more than a page",
            read,
            access(0, 0, 4097, &[]),
            libc::EINVAL,
        ),
        (
            "read behind BAR 0",
            read,
            access(BAR0_SIZE - 4, 0, 8, &[]),
            libc::EINVAL,
        ),
        (
            "read at the end of everything",
            read,
            access(u64::MAX, 0, 8, &[]),
            libc::EINVAL,
        ),
        ("read of BAR 2", read, access(0, 2, 4, &[]), libc::EINVAL),
        ("read of the ROM", read, access(0, 6, 4, &[]), libc::EINVAL),
        ("read of VGA", read, access(0, 8, 4, &[]), libc::EINVAL),
        (
            "read of no region",
            read,
            access(0, u32::MAX, 4, &[]),
            libc::EINVAL,
        ),
        (
            "read behind config space",
            read,
            access(4094, CONFIG, 4, &[]),
            libc::EINVAL,
        ),
        (
            "write with too little data",
            write,
            access(SCRATCH, 0, 8, &[1; 7]),
            libc::EINVAL,
        ),
        (
            "write with too much data",
            write,
            access(SCRATCH, 0, 8, &[1; 9]),
            libc::EINVAL,
        ),
        (
            "write behind BAR 0",
            write,
            access(BAR0_SIZE, 0, 1, &[1]),
            libc::EINVAL,
        ),
        ("write of BAR 5", write, access(0, 5, 1, &[1]), libc::EINVAL),
        (
            "write behind config space",
            write,
            access(u64::MAX - 1, CONFIG, 2, &[1; 2]),
            libc::EINVAL,
        ),
        (
            "many writes cut short",
            15,
            vec![2, 0, 0, 0, 0, 0, 0, 0, 1],
            libc::EINVAL,
        ),
        (
            "more writes than there are",
            15,
            vec![0xff; 8],
            libc::EINVAL,
        ),
    ];
    for (what, command, body, errno) in cases {
        let refused = client.request(*command, body, &[]).unwrap_err();
        assert_eq!(refused.errno(), Some(*errno), "{what}");
        assert_eq!(client.r32(0), 0x1017_15b3, "after {what}");
    }
    assert_eq!(client.bar_r64(SCRATCH), 0, "nothing was written");
    // An access of no bytes is one.
    client.read(0, BAR0_SIZE, &mut []).unwrap();
    client.write(0, 0, &[]).unwrap();
    // Odd sizes and offsets are taken apart.
    client.write(0, SCRATCH - 3, &[9; 14]).unwrap();
    assert_eq!(client.bar_r64(SCRATCH), u64::from_le_bytes([9; 8]));
}

#[test]
fn descriptors_of_refused_and_ended_requests_are_closed() {
    // Unique, since all tests share one table of descriptors.
    let name = "descriptors_of_refused_and_ended_requests";
    let open = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().contains(name))
            .count()
    };
    let memory = memfd(Path::new(name), 0x1000);
    let fd = memory.as_fd();
    let server = Server::start();
    for _ in 0..20 {
        let mut client = server.client();
        client.dma_map(0, 0x1000, Some(fd), 0, true).unwrap();
        client.dma_map(0x1000, 0x1000, Some(fd), 0, true).unwrap();
        client.dma_map(0, 0x1000, Some(fd), 0, false).unwrap();
        assert!(client.request(2, &[0; 32], &[fd, fd]).is_err());
        assert!(client.request(2, &[0; 3], &[fd]).is_err());
        assert!(client.request(99, &[], &[fd; 16]).is_err());
        assert!(
            client
                .set_irqs(MSIX, EVENTFD | TRIGGER, 0, 3, &[], &[fd; 3])
                .is_err()
        );
        client.request(13, &[], &[fd; 16]).unwrap();
        client.dma_unmap(0, 0x1000).unwrap();
    }
    let sessions = |s: &Seen| {
        s.resets
            .iter()
            .filter(|r| **r == ResetKind::ClientGone)
            .count()
    };
    server.wait_for("the end of all sessions", |s| sessions(s) == 20);
    // The last map is dropped by the device after the reset.
    server.wait_for("the last map", |s| s.memory.last() == Some(&(0, true)));
    drop(server);
    assert_eq!(open(), 1, "only the test's own");
}

#[test]
fn more_descriptors_than_announced_end_the_session() {
    use std::os::fd::AsRawFd;
    use vmm_sys_util::sock_ctrl_msg::ScmSocket;
    let name = "more_descriptors_than_announced";
    let memory = memfd(Path::new(name), 0x1000);
    let server = Server::start();
    let mut client = server.client();
    let map = [&header(2, 48, 0)[..], &[0; 32]].concat();
    let fds = [memory.as_raw_fd(); 17];
    client.stream().send_with_fds(&[&map[..]], &fds).unwrap();
    let mut rest = Vec::new();
    let _ = client.stream().read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert!(client.request(13, &[], &[]).is_err());
    still_serves(&server);
    let open = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().contains(name))
        .count();
    assert_eq!(open, 1);
}

#[test]
fn the_next_client_does_not_see_the_one_before() {
    let server = Server::start();
    let memory = memfd(Path::new("guest"), 0x1000);
    let event = eventfd();
    let mut client = server.client();
    client
        .dma_map(0, 0x1000, Some(memory.as_fd()), 0, true)
        .unwrap();
    client.connect_vector(0, &event);
    client.w16(4, 0x0006);
    client.set_irqs(MSIX, NONE | MASK, 1, 1, &[], &[]).unwrap();
    client.bar_w64(SCRATCH, 5);
    client.bar_w64(FIRE, 1);
    // Gone in the middle of a message, as a monitor that is killed.
    client.stream().write_all(&header(10, 40, 0)).unwrap();
    drop(client);

    let mut client = server.client();
    assert_eq!(client.r32(4) & 0xffff, 0);
    assert_eq!(client.bar_r64(SCRATCH), 0);
    assert_eq!(client.bar_r64(0x3000), 0);
    client.bar_w64(INCREMENT, 0);
    assert_eq!(client.bar_r64(OUTCOME), 2);
    client.bar_w64(FIRE, 0);
    assert_eq!(count(&event), 0);
    client.connect_vector(1, &event);
    client.bar_w64(FIRE, 1);
    assert_eq!(count(&event), 1, "and its mask is gone");
}

#[test]
fn clients_wait_for_each_other() {
    let server = Server::start();
    let mut first = server.client();
    let path = server.path.clone();
    let second = std::thread::spawn(move || Client::connect(&path).map(|mut c| c.r32(0)));
    for _ in 0..100 {
        first.bar_w64(SCRATCH, 1);
        assert_eq!(first.bar_r64(SCRATCH), 1);
    }
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.join().unwrap().unwrap(), 0x1017_15b3);
}

#[test]
fn a_server_ends_promptly_whatever_its_client_does() {
    type Do = fn(&Path) -> Option<Client>;
    let clients: [(&str, Do); 6] = [
        ("none", |_| None),
        ("one that says nothing", |path| {
            Client::connect_raw(path).ok()
        }),
        ("one that is idle", |path| Client::connect(path).ok()),
        ("one in the middle of a message", |path| {
            let client = Client::connect(path).ok()?;
            client.stream().write_all(&header(10, 40, 0)).ok()?;
            Some(client)
        }),
        ("one that never stops", |path| {
            let client = Client::connect(path).ok()?;
            let mut stream = client.stream().try_clone().ok()?;
            let mut write = header(10, 40, 0x10);
            write.extend(SCRATCH.to_ne_bytes());
            write.extend([0, 0, 0, 0, 8, 0, 0, 0]);
            write.extend([1; 8]);
            let flood = write.repeat(100);
            std::thread::spawn(move || while stream.write_all(&flood).is_ok() {});
            Some(client)
        }),
        ("one that does not take replies", |path| {
            let client = Client::connect(path).ok()?;
            client.stream().set_nonblocking(true).ok()?;
            let mut read = header(9, 32, 0);
            read.extend(0u64.to_ne_bytes());
            read.extend(CONFIG.to_ne_bytes());
            read.extend(4096u32.to_ne_bytes());
            while client.stream().write_all(&read).is_ok() {}
            Some(client)
        }),
    ];
    for (what, connect) in clients {
        let server = Server::start();
        let path = server.path.clone();
        let client = connect(&path);
        let took = server.stop();
        println!("{what}: {took:?}");
        assert!(took < Duration::from_secs(2), "{what}: {took:?}");
        assert!(!path.exists(), "{what}: the socket is left behind");
        drop(client);
    }
}

#[test]
fn stale_sockets_are_replaced_and_live_ones_respected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nic.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = Listener::bind(&path).unwrap();
    let in_use = Listener::bind(&path).unwrap_err();
    assert!(matches!(in_use, ServeError::InUse { .. }), "{in_use}");
    assert!(in_use.to_string().contains("nic.sock"));
    assert!(path.exists(), "the live socket is still there");
    // Someone else's socket of the same name is not removed at the end.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(other);
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, "a letter").unwrap();
    let not_a_socket = Listener::bind(&path).unwrap_err();
    assert!(
        matches!(not_a_socket, ServeError::NotASocket { .. }),
        "{not_a_socket}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"a letter");

    let nowhere = folder.path().join("missing").join("nic.sock");
    let error = Listener::bind(&nowhere).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

/// Messages that are nearly right: known commands, any body.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![9 => Just(None), 1 => any::<u32>().prop_map(Some)];
    let flags = prop_oneof![8 => Just(0u32), 1 => Just(0x10), 1 => any::<u32>()];
    let word = prop_oneof![4 => 0u32..10, 1 => Just(u32::MAX), 2 => any::<u32>()];
    let body = prop::collection::vec(word, 0..12).prop_map(|words| {
        words
            .iter()
            .flat_map(|w| w.to_ne_bytes())
            .collect::<Vec<u8>>()
    });
    (0u16..18, size, flags, body).prop_map(|(command, size, flags, body)| {
        let size = size.unwrap_or(16 + body.len() as u32);
        [header(command, size, flags), body].concat()
    })
}

#[test]
fn no_stream_of_messages_ends_the_server() {
    let server = Server::start();
    proptest!(ProptestConfig::with_cases(300), |(messages in prop::collection::vec(nearly_right(), 1..20))| {
        let mut bytes = version(GOOD_VERSION);
        bytes.extend(messages.into_iter().flatten());
        let (answer, closed) = answer(&server, &bytes);
        prop_assert!(closed);
        prop_assert!(answer.len() >= 16);
    });
    still_serves(&server);
}
