//! What is shown of a NIC while a driver of our own works on it, and what is told when something happens to it.

use std::time::Instant;

use rocinante_harness::control::client::Client;
use rocinante_harness::driver::{Data, SendOp, SendWr};
use rocinante_tests::served::{Node, PATIENCE, connect, transfer};
use serde_json::{Value, json};

use super::{Served, ask, objects, refused, wait_for};

#[test]
fn objects_are_shown_as_they_are() {
    let served = Served::start();
    let mut client = served.client();
    let before = ask(&mut client, "query-objects", json!({ "nic": "nic0" }));
    assert_eq!(before, json!({ "counts": {}, "pages": 0 }));
    let mut nodes = served.nodes();
    let qps = connect(&mut nodes);
    let shown = objects(&mut client, "nic0", "qp");
    assert_eq!(shown.len(), 1);
    let qp = &shown[0];
    assert_eq!(qp["qpn"], qps[0]);
    assert_eq!(
        (&qp["service"], &qp["state"]),
        (&json!("RC"), &json!("RTS"))
    );
    assert_eq!(
        (&qp["pd"], &qp["send_cq"]),
        (&json!(nodes[0].pd), &json!(nodes[0].cqn))
    );
    assert_eq!(qp["path"]["remote_qpn"], qps[1]);
    assert_eq!(qp["path"]["remote_gid"], "::ffff:10.0.0.2");
    assert_eq!(qp["path"]["local_gid"], "::ffff:10.0.0.1");
    let psn = |qp: &Value| qp["next_send_psn"].as_u64().unwrap();
    let (started, posted) = (psn(qp), qp["send"]["posted"].clone());
    assert_eq!(posted, 0);

    // Numbers move as the driver works, and keys are there while memory is registered.
    let wr = SendWr::new(1, SendOp::Send, Data::Inline(b"hello"));
    nodes[0].driver.post_send(qps[0], &wr).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = objects(&mut client, "nic0", "qp");
        if psn(&shown[0]) == (started + 1) & 0xff_ffff {
            assert_ne!(shown[0]["send"]["posted"], 0);
            break;
        }
        assert!(Instant::now() < end, "{shown:?}");
    }
    for (kind, least) in [("cq", 1), ("eq", 2), ("pd", 1), ("gid", 1), ("uar", 1)] {
        let count = objects(&mut client, "nic0", kind).len();
        assert!(count >= least, "{count} {kind}");
    }
    let cqs = objects(&mut client, "nic1", "cq");
    assert!(
        cqs.iter()
            .any(|cq| cq["cqn"] == nodes[1].cqn && cq["size"] == 256),
        "{cqs:?}"
    );
    // In parts.
    let part = json!({ "nic": "nic0", "kind": "cq", "limit": 1 });
    let page = ask(&mut client, "query-objects", part);
    assert_eq!(page["objects"].as_array().unwrap().len(), 1);
    let (class, _) = refused(
        &mut client,
        "query-objects",
        json!({ "nic": "nic0", "kind": "qq" }),
    );
    assert_eq!(class, "InvalidArgument");
    let (class, desc) = refused(&mut client, "query-objects", json!({ "nic": "x" }));
    assert_eq!(
        (&class[..], &desc[..]),
        ("NotFound", "no NIC 'x' (nic0, nic1)")
    );
    let many = json!({ "nic": "nic0", "kind": "qp", "limit": 100_000 });
    assert_eq!(
        refused(&mut client, "query-objects", many).0,
        "InvalidArgument"
    );
}

#[test]
fn events_tell_what_happens_to_nics_and_queue_pairs() {
    let served = Served::start();
    let mut client = served.client();
    ask(&mut client, "subscribe", json!({}));
    let mut nodes = served.nodes();
    let on = |nic: &'static str| move |data: &Value| data["nic"] == nic;
    wait_for(&mut client, "NIC_ATTACHED", on("nic0"));
    wait_for(&mut client, "DRIVER_CAME", on("nic0"));
    let [here, there] = connect(&mut nodes);
    // Nobody has such a key.
    let op = SendOp::Write {
        va: 0,
        rkey: 0x7777_7700,
    };
    let wr = SendWr::new(1, op, Data::Inline(b"x"));
    nodes[0].driver.post_send(here, &wr).unwrap();
    let failed = wait_for(&mut client, "QP_ERROR", on("nic0"));
    assert_eq!(failed["qpn"], here);
    assert_eq!(failed["status"], "IBV_WC_REM_ACCESS_ERR");
    assert_eq!(
        (&failed["syndrome"], &failed["side"]),
        (&json!(0x13), &json!("requester"))
    );
    let qp = &objects(&mut client, "nic0", "qp")[0];
    assert_eq!(
        (&qp["state"], &qp["failure"]["syndrome"]),
        (&json!("ERR"), &json!(0x13))
    );
    let theirs = objects(&mut client, "nic1", "qp");
    assert_eq!(
        (&theirs[0]["qpn"], &theirs[0]["state"]),
        (&json!(there), &json!("ERR"))
    );

    let port = |data: &Value| data["port"] == "nic1";
    let other = &mut served.client();
    ask(other, "set-link", json!({ "port": "nic1", "up": false }));
    wait_for(&mut client, "LINK_DOWN", port);
    ask(other, "set-link", json!({ "port": "nic1", "up": true }));
    wait_for(&mut client, "LINK_UP", port);
    ask(
        other,
        "set-link-speed",
        json!({ "port": "nic1", "speed": "10G" }),
    );
    assert_eq!(wait_for(&mut client, "LINK_SPEED", port)["speed"], "10G");
    let links = ask(other, "query-links", json!({}));
    assert_eq!(links["ports"][1]["speed"], 10_000, "{links}");

    // A reset cuts the driver off; what it leaves is told.
    ask(other, "reset", json!({ "nic": "nic0" }));
    let left = wait_for(&mut client, "DRIVER_WENT", on("nic0"));
    assert_eq!(
        (&left["goodbye"], &left["objects"]["QP"]),
        (&json!("reset"), &json!(1))
    );
    wait_for(&mut client, "NIC_RESET", on("nic0"));
    let empty = ask(other, "query-objects", json!({ "nic": "nic0" }));
    assert_eq!(empty, json!({ "counts": {}, "pages": 0 }));
    let [_cut, mut node] = nodes;
    node.driver.destroy_qp(there).unwrap();
    node.driver.destroy_cq(node.cqn).unwrap();
    node.driver.dealloc_pd(node.pd).unwrap();
    node.driver.detach().unwrap();
    let went = wait_for(&mut client, "DRIVER_WENT", on("nic1"));
    assert_eq!(
        (&went["goodbye"], &went["objects"], &went["pages"]),
        (&json!("disable"), &json!({}), &json!(0))
    );
    wait_for(&mut client, "NIC_DETACHED", on("nic1"));
}

/// The far end of a cable sees an adapter that is pulled out of its slot as it sees a cable that is pulled.
#[test]
fn an_adapter_that_is_pulled_out_takes_its_carrier_along() {
    let served = Served::start();
    let (mut client, mut events) = (served.client(), served.client());
    ask(
        &mut events,
        "subscribe",
        json!({ "events": ["LINK_DOWN", "LINK_UP"] }),
    );
    let mut nodes = served.nodes();
    transfer(&mut nodes, 1000);
    let port = |client: &mut Client| ask(client, "query-links", json!({}))["ports"][1].clone();
    for kind in ["removal", "clear"] {
        let there = kind == "clear";
        ask(
            &mut client,
            "inject",
            json!({ "nic": "nic1", "kind": kind }),
        );
        let seen = port(&mut client);
        assert_eq!(seen["plugged"], true, "{seen}");
        assert_eq!(
            (&seen["carrier"], &seen["up"]),
            (&json!(there), &json!(there))
        );
        let event = if there { "LINK_UP" } else { "LINK_DOWN" };
        let told = wait_for(&mut events, event, |_| true);
        assert_eq!(told["port"], "nic1");
    }
    // A driver finds it as at power-on.
    let [first, second] = nodes;
    drop(second);
    let mut nodes = [first, Node::attach(&served.specs[1], 1)];
    transfer(&mut nodes, 1000);
}
