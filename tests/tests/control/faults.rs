//! Faults that are loaded, counted and cleared at run time.

use std::fs;

use rocinante_harness::control::client::ClientError;
use rocinante_harness::driver::{QpConfig, Service};
use rocinante_tests::served::transfer;
use serde_json::json;

use super::{RULES, Served, ask, refused, wait_for};

#[test]
fn faults_come_and_go_while_traffic_flows() {
    let served = Served::start();
    let (mut client, mut listener) = (served.client(), served.client());
    ask(
        &mut listener,
        "subscribe",
        json!({ "events": ["FAULT_HIT"] }),
    );
    let mut nodes = served.nodes();
    let bad = json!({ "text": "[[rule]]\nname = \"a\"\naction = \"explode\"\n" });
    match client.execute("load-faults", bad) {
        Err(ClientError::Refused { class, error, .. }) => {
            assert_eq!(class, "BadRules");
            assert_eq!(
                (&error["errors"][0]["line"], &error["errors"][0]["column"]),
                (&json!(3), &json!(10))
            );
        }
        other => panic!("{other:?}"),
    }
    let nowhere = json!({ "text": RULES.replace("nic0", "eth7") });
    assert_eq!(refused(&mut client, "load-faults", nowhere).0, "BadRules");
    assert_eq!(
        ask(&mut client, "load-faults", json!({ "text": RULES }))["loaded"],
        2
    );
    transfer(&mut nodes, 100_000);
    let hit = wait_for(&mut listener, "FAULT_HIT", |data| {
        data["name"] == "lose one"
    });
    assert_eq!((&hit["hits"], &hit["first"]), (&json!(1), &json!(true)));
    let faults = ask(&mut client, "query-faults", json!({}));
    assert_eq!(
        (&faults["faults"][0]["hits"], &faults["faults"][0]["line"]),
        (&json!(1), &json!(2)),
        "{faults}"
    );
    let counters = ask(&mut client, "query-counters", json!({ "port": "nic0" }));
    assert_eq!(
        counters["ports"][0]["cable"]["tx"]["rule_drops"], 1,
        "{counters}"
    );
    assert_eq!(counters["nics"].as_array().unwrap().len(), 1);
    assert!(counters["nics"][0]["vport"]["transmitted_ib_unicast"]["packets"].as_u64() > Some(25));
    let metrics = served.metrics();
    assert!(
        metrics.contains("rocinante_fault_hits_total{fault=\"lose one\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("rocinante_cable_events_total{port=\"nic0\",link=\"link0\",direction=\"tx\",event=\"rule_drops\"} 1\n"),
        "{metrics}"
    );
    ask(&mut client, "clear-faults", json!({ "name": "lose one" }));
    assert_eq!(
        refused(&mut client, "clear-faults", json!({ "name": "lose one" })).0,
        "NotFound"
    );
    let faults = ask(&mut client, "query-faults", json!({}));
    assert_eq!(faults["faults"].as_array().unwrap().len(), 1);
    // From a file, of firmware too.
    let path = served.folder.path().join("faults.toml");
    fs::write(&path, "[[command]]\nname = \"no QPs\"\nmatch = { opcode = \"CREATE_QP\" }\naction = { status = \"NO_RES\" }\n").unwrap();
    ask(&mut client, "load-faults", json!({ "file": path }));
    let config = QpConfig::new(Service::Rc, nodes[0].pd, nodes[0].cqn);
    assert!(nodes[0].driver.create_qp(&config).is_err());
    let faults = ask(&mut client, "query-faults", json!({}));
    assert_eq!(
        (&faults["faults"][0]["kind"], &faults["faults"][0]["hits"]),
        (&json!("device"), &json!(1)),
        "{faults}"
    );
    ask(&mut client, "clear-faults", json!({}));
    transfer(&mut nodes, 1000);
    // Something now.
    ask(
        &mut client,
        "inject",
        json!({ "nic": "nic1", "kind": "health", "keys": { "syndrome": "FW_INTERNAL_ERR" } }),
    );
    let status = ask(&mut client, "query-status", json!({}));
    assert_ne!(status["nics"][1]["health"], 0, "{status}");
    ask(
        &mut client,
        "inject",
        json!({ "nic": "nic1", "kind": "clear" }),
    );
    let (class, desc) = refused(
        &mut client,
        "inject",
        json!({ "nic": "nic1", "kind": "rain" }),
    );
    assert!(
        class == "InvalidArgument" && desc.starts_with("'rain' cannot be injected"),
        "{desc}"
    );
}
