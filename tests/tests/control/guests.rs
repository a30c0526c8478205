//! Real drivers under control: their queue pairs while they send, links that go under them, faults, a capture and metrics of
//! their traffic, and what is told when they come and go.

use std::time::Instant;

use rocinante_harness::control::Doors;
use rocinante_harness::control::client::Client;
use rocinante_harness::lab::Emulated;
use rocinante_harness::lab::demo::Fabric;
use rocinante_tests::guests::{ADDRESSES, PATIENCE, Pair, alone, finish, lab};
use rocinante_tests::tshark;
use serde_json::{Value, json};

use super::{ask, get, objects, wait_for};

/// The RC queue pairs of a NIC that can send, by number, with the PSN that each sends next.
fn sending(client: &mut Client, nic: &str) -> Vec<(u64, u64)> {
    let shown = objects(client, nic, "qp");
    let rts = shown
        .iter()
        .filter(|qp| qp["service"] == "RC" && qp["state"] == "RTS");
    rts.filter_map(|qp| Some((qp["qpn"].as_u64()?, qp["next_send_psn"].as_u64()?)))
        .collect()
}

/// Watches a queue pair of the first guest until its PSN has moved on a few times.
#[track_caller]
fn advances(client: &mut Client) {
    let end = Instant::now() + PATIENCE;
    let mut seen: Vec<(u64, u64)> = Vec::new();
    while seen.len() < 4 {
        for qp in sending(client, "nic0") {
            if seen
                .last()
                .is_none_or(|last| last.0 == qp.0 && last.1 != qp.1)
            {
                seen.push(qp);
            }
        }
        assert!(Instant::now() < end, "{seen:?}");
    }
}

#[test]
fn a_real_driver_is_seen_and_disturbed() {
    let _alone = alone();
    let lab = lab(env!("CARGO_TARGET_TMPDIR"), "control");
    let fabric = Emulated::start(2, None).expect("NICs");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let metrics = "127.0.0.1:0".parse().unwrap();
    let doors = Doors::open(Some(&socket), Some(metrics), fabric.server().handle()).unwrap();
    let mut client = Client::connect(&socket, PATIENCE).unwrap();
    let mut events = Client::connect(&socket, PATIENCE).unwrap();
    ask(&mut events, "subscribe", json!({}));

    let mut pair = Pair::boot(&lab, &fabric);
    let of = |nic: &'static str| move |data: &Value| data["nic"] == nic;
    wait_for(&mut events, "NIC_ATTACHED", of("nic0"));
    wait_for(&mut events, "DRIVER_CAME", of("nic0"));
    let came = wait_for(&mut events, "DRIVER_VERSION", of("nic0"));
    assert!(
        came["driver"]
            .as_str()
            .is_some_and(|driver| driver.starts_with("Linux,mlx5_core")),
        "{came}"
    );

    // Queue pairs while perftest runs, with a fault and a capture that begin in the middle of it.
    let port = pair.port();
    let tool = |pair: &Pair<'_>, n: usize| {
        let end = &pair.ends[n];
        format!(
            "ib_write_bw -F -p {port} -d {} -x {} -D 8 -s 4096",
            end.device, end.gid_index
        )
    };
    let server = pair.spawn(1, &tool(&pair, 1));
    pair.listening(1, port);
    let sender = pair.spawn(0, &format!("{} {}", tool(&pair, 0), ADDRESSES[1]));
    advances(&mut client);
    let qps = objects(&mut client, "nic0", "qp");
    let qp = qps
        .iter()
        .find(|qp| qp["service"] == "RC")
        .expect("a queue pair");
    assert_eq!(qp["path"]["remote_gid"], format!("::ffff:{}", ADDRESSES[1]));
    let rules = "[[rule]]\nname = \"some\"\nport = \"nic0\"\nevery = 500\n\
                 match = { opcode = \"RC_WRITE_*\" }\naction = \"drop\"\n";
    ask(&mut client, "load-faults", json!({ "text": rules }));
    let capture = folder.path().join("write.pcapng");
    ask(
        &mut client,
        "start-capture",
        json!({ "path": capture, "ports": "nic0" }),
    );
    let hit = wait_for(&mut events, "FAULT_HIT", |data| data["name"] == "some");
    assert!(hit["hits"].as_u64() > Some(0), "{hit}");
    let captured = ask(&mut client, "stop-capture", json!({}));
    advances(&mut client);
    finish(sender, "sender");
    finish(server, "server");
    let faults = ask(&mut client, "query-faults", json!({}));
    assert!(faults["faults"][0]["hits"].as_u64() > Some(0), "{faults}");
    ask(&mut client, "clear-faults", json!({}));
    let dropped = tshark::fields(
        &capture,
        "frame.comment contains \"some\"",
        &["frame.number"],
    );
    assert!(
        !dropped.is_empty() && captured["error"].is_null(),
        "{captured}"
    );
    let text = get(doors.metrics_address().unwrap());
    let value = |sample: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(sample));
        let line = line.unwrap_or_else(|| panic!("no {sample} in\n{text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert!(value("rocinante_nic_transmitted_bytes_total{nic=\"nic0\"}") > 1 << 20);
    assert!(
        value(
            "rocinante_cable_events_total{port=\"nic0\",link=\"link0\",direction=\"tx\",event=\"rule_drops\"}"
        ) > 0
    );

    // The link, as the guest sees it.
    let interface = pair.ends[0].interface.clone();
    let at_port = |data: &Value| data["port"] == "nic0";
    for (up, event, state, said) in [
        (false, "LINK_DOWN", 0, "Link down"),
        (true, "LINK_UP", 1, "Link up"),
    ] {
        pair.sh(0, "dmesg -c >/dev/null");
        ask(&mut client, "set-link", json!({ "port": "nic0", "up": up }));
        wait_for(&mut events, event, at_port);
        let condition = format!(
            "grep -q {state} /sys/class/net/{interface}/carrier && dmesg | grep -q '{said}'"
        );
        if let Err(error) = pair.guests[0].wait_until(&condition, PATIENCE) {
            panic!("{said}: {error:#}");
        }
    }
    pair.perftest("write_lat -n 50");

    // The driver goes, and has left nothing; then the guest.
    fabric.unload(&pair.guests[0]).expect("unloaded");
    let went = wait_for(&mut events, "DRIVER_WENT", of("nic0"));
    assert_eq!(
        (&went["objects"], &went["pages"]),
        (&json!({}), &json!(0)),
        "{went}"
    );
    drop(pair);
    wait_for(&mut events, "NIC_DETACHED", of("nic0"));
}
