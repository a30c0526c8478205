//! Clients that behave badly.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rocinante_harness::control::client::Client;
use rocinante_harness::control::socket::MAX_CLIENTS;
use rocinante_tests::served::{Node, PATIENCE, transfer};
use serde_json::json;

use super::{Served, ask};

/// Floods, long lines, and clients that do not read: others, and traffic, notice nothing.
#[test]
fn clients_that_behave_badly_harm_only_themselves() {
    let served = Served::start();
    let nodes = served.nodes();
    let mut good = served.client();
    let raw = || UnixStream::connect(&served.socket).unwrap();
    // One sends requests for ever and never reads an answer.
    let mut flood = raw();
    flood
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let requests = b"{\"execute\":\"query-commands\"}\n".repeat(1000);
    let mut sent = 0;
    while let Ok(n) = flood.write(&requests) {
        sent += n;
        assert!(sent < 64 << 20, "a flood without end");
    }
    // One listens and does not read.
    let mut deaf = raw();
    deaf.write_all(b"{\"execute\":\"subscribe\"}\n").unwrap();
    // One sends half a line and goes; one sends nonsense and gets an error for it.
    raw().write_all(b"{\"execute\":").unwrap();
    let mut odd = raw();
    odd.write_all(b"\xff\xfe\0nonsense\n").unwrap();
    let mut lines = BufReader::new(odd.try_clone().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("rocinante"));
    assert!(lines.next().unwrap().unwrap().contains("InvalidRequest"));
    for _ in 0..200 {
        for up in [false, true] {
            ask(&mut good, "set-link", json!({ "port": "nic1", "up": up }));
        }
        ask(&mut good, "reset", json!({ "nic": "nic1" }));
    }
    // The resets have cut this driver off; the next one works.
    let [first, second] = nodes;
    drop(second);
    let mut nodes = [first, Node::attach(&served.specs[1], 1)];
    transfer(&mut nodes, 100_000);
    // There is room for so many, and for others when they go.
    let mut crowd: Vec<Client> = Vec::new();
    let full = loop {
        match Client::connect(&served.socket, PATIENCE) {
            Ok(client) => crowd.push(client),
            Err(error) => break error.to_string(),
        }
        assert!(crowd.len() <= MAX_CLIENTS);
    };
    assert!(full.ends_with("clients are connected already"), "{full}");
    drop((crowd, flood, deaf));
    let end = Instant::now() + PATIENCE;
    while Client::connect(&served.socket, PATIENCE).is_err() {
        assert!(Instant::now() < end, "no room");
        std::thread::yield_now();
    }
    ask(&mut good, "query-status", json!({}));
    served.server.stop().unwrap();
}
