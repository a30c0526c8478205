//! Real guests: unmodified Linux drivers in QEMU on emulated NICs. The proof that counts.
//!
//! What they need (QEMU, a kernel, tools) is prepared in the user's cache folder as the demo does.

use std::collections::BTreeMap;
use std::path::Path;

use rocinante_harness::lab::demo::{self, Demo, Fabric, Floors};
use rocinante_harness::lab::{Emulated, Progress};
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair, alone, lab};
use rocinante_tests::tshark;

/// `cargo lab demo`, whole: every tool of its table, the driver reloaded three times without a
/// page or object left, and no complaint in the guests' kernel logs.
#[test]
fn the_demo_passes() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "demo");
    let fabric = Emulated::start(2, None).expect("NICs");
    let Demo { report, guests } = demo::run(&lab, &fabric, Floors::default(), &Progress::shown());
    println!("{}", report.table());
    drop(guests);
    assert!(
        report.ok,
        "logs: {}\n{}",
        lab.logs().display(),
        report.table()
    );
}

/// A killed monitor, one that starts anew, and a guest that powers off: each time the NIC serves
/// the next client from a clean state, and the other guest's NIC is undisturbed.
#[test]
fn a_nic_survives_its_monitor() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "survival");
    let fabric = Emulated::start(2, None).expect("NICs");
    let mut pair = Pair::boot(&lab, &fabric);
    pair.pingpong("rc_pingpong -c -n 100");

    // A crash in the middle of traffic.
    let flood = format!("ping -f -s 4000 {}", ADDRESSES[1]);
    let _flood = pair.guests[0].spawn(&flood).expect("ping");
    let crashed = pair.guests.remove(0);
    drop(crashed); // kills QEMU
    let again = pair
        .lab
        .boot(&pair.config(0))
        .unwrap_or_else(|error| panic!("{error:#}"));
    pair.guests.insert(0, again);
    pair.ends[0] = pair.configure(0);
    pair.pingpong("rc_pingpong -c -n 100");

    // An orderly end, with the driver loaded.
    let off = pair.guests.remove(0);
    off.power_off(PATIENCE)
        .unwrap_or_else(|error| panic!("power off: {error:#}"));
    let again = pair
        .lab
        .boot(&pair.config(0))
        .unwrap_or_else(|error| panic!("{error:#}"));
    pair.guests.insert(0, again);
    pair.ends[0] = pair.configure(0);
    pair.pingpong("rc_pingpong -c -n 100");
    pair.assert_no_complaints();
}

/// What tshark, which knows nothing of us, reads in the capture: RoCE, with the headers that the
/// traffic must have had, and nothing malformed. Along the way the services and options that the
/// demo leaves out.
#[test]
fn an_independent_dissector_reads_the_wire() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "wire");
    let capture = lab.logs().join("wire.pcapng");
    let fabric = Emulated::start(2, Some(&capture)).expect("NICs");
    let mut pair = Pair::boot(&lab, &fabric);
    pair.pingpong("rc_pingpong -c -n 20 -m 256 -s 3000");
    pair.pingpong("rc_pingpong -c -e -n 20 -s 100");
    pair.pingpong("uc_pingpong -c -n 20 -s 5000");
    pair.pingpong("ud_pingpong -c -n 20 -s 1000");
    pair.pingpong("srq_pingpong -c -n 20");
    pair.perftest("write_bw -s 10000 -n 20");
    pair.perftest("read_bw -s 10000 -n 20");
    pair.perftest("write_lat -s 8 -n 20");
    pair.perftest("atomic_bw -A FETCH_AND_ADD -n 20");
    pair.perftest("atomic_bw -A CMP_AND_SWAP -n 20");
    pair.perftest("send_bw -c UD -s 2000 -n 20");
    pair.perftest("write_bw -q 8 -s 4096 -n 20");
    // RoCE v1 and a link-local IPv6 GID: entries 0 and 1 of every table.
    for index in [0, 1] {
        let ends = pair.ends.clone();
        for end in &mut pair.ends {
            end.gid_index = index;
        }
        pair.pingpong("rc_pingpong -c -n 20");
        pair.ends = ends;
    }
    pair.assert_no_complaints();
    fabric.capture().expect("capture");
    let packets = dissect(&capture);

    assert!(packets.len() > 500, "{} packets", packets.len());
    let malformed: Vec<_> = packets.iter().filter(|packet| packet.malformed).collect();
    assert!(malformed.is_empty(), "{malformed:#?}");
    let mut seen = BTreeMap::<u8, usize>::new();
    for packet in &packets {
        *seen.entry(packet.opcode).or_default() += 1;
        // IBTA table 38: which opcode carries which header.
        let reth = matches!(
            packet.opcode,
            0x06 | 0x0a | 0x0b | 0x0c | 0x26 | 0x2a | 0x2b
        );
        let aeth = matches!(packet.opcode, 0x0d | 0x0f | 0x10 | 0x11 | 0x12);
        assert_eq!((packet.reth, packet.aeth), (reth, aeth), "{packet:?}");
    }
    println!("opcodes: {seen:#04x?}");
    for (opcode, name) in [
        (0x00, "RC SEND First"),
        (0x02, "RC SEND Last"),
        (0x04, "RC SEND Only"),
        (0x06, "RC WRITE First"),
        (0x08, "RC WRITE Last"),
        (0x0a, "RC WRITE Only"),
        (0x0c, "RC READ Request"),
        (0x0d, "RC READ Response First"),
        (0x0f, "RC READ Response Last"),
        (0x11, "RC Acknowledge"),
        (0x12, "RC Atomic Acknowledge"),
        (0x13, "RC Compare Swap"),
        (0x14, "RC Fetch Add"),
        (0x20, "UC SEND First"),
        (0x22, "UC SEND Last"),
        (0x64, "UD SEND Only"),
    ] {
        assert!(seen.contains_key(&opcode), "no {name} among {seen:#04x?}");
    }
}

/// What tshark says of one RoCE packet.
#[derive(Debug)]
struct Dissected {
    opcode: u8,
    reth: bool,
    aeth: bool,
    malformed: bool,
}

fn dissect(capture: &Path) -> Vec<Dissected> {
    let names = [
        "infiniband.bth.opcode",
        "infiniband.reth.dmalen",
        "infiniband.aeth.syndrome",
        "_ws.malformed",
    ];
    let packets = tshark::fields(capture, "infiniband || _ws.malformed", &names);
    packets
        .into_iter()
        .map(|fields| Dissected {
            opcode: fields[0]
                .parse()
                .unwrap_or_else(|_| panic!("tshark: {fields:?}")),
            reth: !fields[1].is_empty(),
            aeth: !fields[2].is_empty(),
            malformed: !fields[3].is_empty(),
        })
        .collect()
}
