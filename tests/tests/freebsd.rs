//! The mlx5 driver of FreeBSD 12.1, replayed from what it sent to the device.

use rocinante_device::mlx5::leak::{Goodbye, Inventory};
use rocinante_firmware_cmd::mlx5::vport::QueryNicVportContextOut;
use rocinante_tests::replay::{Event, Session};
use rocinante_tests::vectors::{Kind, Record, load};
use rocinante_wire::MacAddr;

#[path = "freebsd/ethernet.rs"]
mod ethernet;
#[path = "freebsd/krping.rs"]
mod krping;
#[path = "freebsd/newer.rs"]
mod newer;

/// The recorded adapter.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The one at the other end, whose addresses end in 2.
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn vectors(file: &str) -> Vec<Record> {
    load(&format!("freebsd-12.1/{file}"))
}

fn session() -> Session {
    Session::new(MacAddr::from(MAC), Vec::new())
}

/// The recorded driver on another adapter: MAC address, interface identifier, solicited-node group, 10.1.0.2.
fn peer_session() -> Session {
    let identity = [
        (MAC.to_vec(), PEER.to_vec()),
        (
            vec![0, 0, 0, 0xff, 0xfe, 0, 0, 1],
            vec![0, 0, 0, 0xff, 0xfe, 0, 0, 2],
        ),
        (
            vec![2, 0, 0, 0xff, 0xfe, 0, 0, 1],
            vec![2, 0, 0, 0xff, 0xfe, 0, 0, 2],
        ),
        (
            vec![0x33, 0x33, 0xff, 0, 0, 1],
            vec![0x33, 0x33, 0xff, 0, 0, 2],
        ),
        (vec![10, 1, 0, 1], vec![10, 1, 0, 2]),
    ];
    Session::new(MacAddr::from(PEER), identity.to_vec())
}

#[track_caller]
fn send(session: &mut Session, file: &str) -> usize {
    match session.commands(&vectors(file)) {
        Ok(sent) => sent,
        Err(error) => panic!("{file}: {error}"),
    }
}

/// The port is down when the interface is opened: whoever used the adapter before had closed it.
fn close_port(session: &mut Session) {
    let closing = vectors("close.txt");
    assert_eq!(closing[0].name, "ACCESS_REG write PAOS");
    session.command(&closing[0]).expect("the port goes down");
    session.poll_events().expect("event queues");
    session.events.clear();
}

/// Attached, and the interface up with its address.
fn up(mut session: Session) -> Session {
    send(&mut session, "attach.txt");
    close_port(&mut session);
    send(&mut session, "open.txt");
    session
}

fn objects(session: &Session, kind: &str) -> usize {
    let inventory = Inventory::of(&session.function.nic);
    let found = inventory.objects.iter().find(|(name, _)| *name == kind);
    found.map_or(0, |(_, count)| *count)
}

/// Detaches; nothing is left with the device.
#[track_caller]
fn detach(session: &mut Session) {
    send(session, "detach.txt");
    assert_clean(session);
}

#[track_caller]
fn assert_clean(session: &Session) {
    let findings = session.function.nic.core.hca.findings.clone();
    let findings = findings.expect("a goodbye");
    assert_eq!(findings.goodbye, Goodbye::Disable);
    assert_eq!(findings.leaked_objects, []);
    assert_eq!(findings.leaked_pages, 0);
    assert_eq!(session.pages_lent(), 0);
}

#[test]
fn the_freebsd_attach_sequence() {
    let mut session = session();
    let sent = send(&mut session, "attach.txt");
    let inventory = Inventory::of(&session.function.nic);
    println!("{sent} commands: {inventory:?}");
    assert_eq!(inventory.pages, session.pages_lent());
    // Boot and initialization pages, and more by events when the keys are made.
    assert!(inventory.pages > 20, "{} pages", inventory.pages);
    for (kind, count) in [("EQ", 5), ("CQ", 4), ("QP", 2), ("SRQ", 2), ("UAR", 5)] {
        assert_eq!(objects(&session, kind), count, "{kind}");
    }
    assert!(objects(&session, "mkey") > 6000);

    // The MTU was another before the recorded driver left.
    let mut leaving = vectors("detach.txt");
    leaving.retain(|record| record.name != "QUERY_NIC_VPORT_CONTEXT");
    session.commands(&leaving).expect("detached");
    assert_clean(&session);
}

#[test]
fn the_manager_of_the_port_asks_for_more() {
    let mut session = session();
    send(&mut session, "attach.txt");
    let sent = send(&mut session, "manager.txt");
    assert!(sent > 25, "{sent} commands");
    let mut leaving = vectors("detach.txt");
    leaving.retain(|record| record.name != "QUERY_NIC_VPORT_CONTEXT");
    session.commands(&leaving).expect("detached");
    assert_clean(&session);
}

#[test]
fn the_freebsd_open_and_close_sequence() {
    let mut session = session();
    send(&mut session, "attach.txt");
    let attached = Inventory::of(&session.function.nic).objects;
    close_port(&mut session);

    send(&mut session, "open.txt");
    assert!(
        session.events.contains(&Event::Port { up: true }),
        "nothing says that the port is up: {:?}",
        session.events
    );
    for (kind, count) in [("SQ", 2), ("RQ", 2), ("RQT", 1), ("TIR", 11), ("TIS", 1)] {
        assert_eq!(objects(&session, kind), count, "{kind}");
    }
    send(&mut session, "statistics.txt");
    // Closes and opens.
    send(&mut session, "mtu.txt");
    session.events.clear();
    send(&mut session, "close.txt");
    assert!(
        session.events.contains(&Event::Port { up: false }),
        "nothing says that the port is down: {:?}",
        session.events
    );
    assert_eq!(Inventory::of(&session.function.nic).objects, attached);
    detach(&mut session);
}

#[test]
fn the_freebsd_driver_comes_again() {
    let mut session = session();
    for _ in 0..3 {
        session = up(session);
        send(&mut session, "mtu.txt");
        send(&mut session, "close.txt");
        detach(&mut session);
        session.restart();
    }
}

/// What fails when the device answers otherwise than it did.
#[track_caller]
fn fails(file: &str, name: &str, change: impl Fn(&mut Record)) {
    let mut session = session();
    let mut records = vectors("attach.txt");
    if file != "attach.txt" {
        // The port is down when the interface is opened.
        records.extend(vectors("close.txt").into_iter().next());
        records.extend(vectors(file));
    }
    let found = records.iter_mut().rev().find(|record| record.name == name);
    let record = found.expect("a command of that name");
    change(record);
    let expected = format!("line {}, {name}: ", record.line);
    let Err(error) = session.commands(&records) else {
        panic!("{name} of {file} may be anything");
    };
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn answers_that_differ_are_found() {
    // As if the device answered otherwise: what is recorded differs in one bit.
    for name in [
        "QUERY_ISSI",
        "QUERY_HCA_VPORT_PKEY",
        "SET_ROCE_ADDRESS",
        "INIT_HCA",
        "CREATE_EQ",
        "ALLOC_PD",
        "RTR2RTS_QP",
    ] {
        fails("attach.txt", name, |record| {
            let last = record.output.last_mut().expect("an output");
            *last ^= 1;
        });
    }
    fails("attach.txt", "QUERY_NIC_VPORT_CONTEXT", |record| {
        let mut view = QueryNicVportContextOut::new(&mut record.output[..]);
        view.nic_vport_context_mut().set_mtu(1500);
    });
    fails("attach.txt", "ACCESS_REG write PMTU", |record| {
        // The low byte of the administrative MTU.
        record.output[0x19] ^= 1;
    });
    // As if it refused.
    fails("open.txt", "CREATE_TIR", |record| record.input[0x24] = 0x30);
    fails("open.txt", "SET_FLOW_TABLE_ENTRY", |record| {
        record.input[0x44] = 0xff;
    });
    fails("attach.txt", "QUERY_ISSI", |record| {
        record.input[..2].copy_from_slice(&[0x0a, 0xff]);
    });
    // As if a number had not been given.
    fails("open.txt", "CREATE_RQT", |record| record.input[0x11f] = 9);
}

#[test]
fn every_kind_of_record_is_there() {
    let has = |file: &str, wanted: fn(&Kind) -> bool| {
        let records = vectors(file);
        assert!(records.iter().any(|record| wanted(&record.kind)), "{file}");
        for record in &records {
            assert!(!record.input.is_empty(), "{file} line {}", record.line);
            let command = record.kind == Kind::Command;
            assert_eq!(command, record.output.len() >= 16, "line {}", record.line);
            assert!(record.who.contains(".c "), "{}", record.who);
        }
    };
    for file in [
        "attach",
        "open",
        "statistics",
        "mtu",
        "close",
        "detach",
        "manager",
    ] {
        has(&format!("{file}.txt"), |kind| *kind == Kind::Command);
    }
    has("ethernet.txt", |kind| matches!(kind, Kind::Sq(_)));
    has("ethernet.txt", |kind| matches!(kind, Kind::Rq(_)));
    has("krping-server.txt", |kind| matches!(kind, Kind::Qp(_)));
    has("krping-client.txt", |kind| matches!(kind, Kind::Receive(_)));
}
