//! Captures at run time, and what ends them.

use std::fs;
use std::io::Read;
use std::process::Command;

use rocinante_tests::served::transfer;
use serde_json::json;

use super::{Served, ask, refused, wait_for};

#[test]
fn captures_start_and_stop_at_any_time() {
    let served = Served::start();
    let mut client = served.client();
    let mut nodes = served.nodes();
    let file = |name: &str| served.folder.path().join(name);
    ask(
        &mut client,
        "start-capture",
        json!({ "path": file("one"), "ports": "nic0", "direction": "both" }),
    );
    let (class, desc) = refused(&mut client, "start-capture", json!({ "path": file("two") }));
    assert!(
        class == "Failed" && desc.ends_with("one is running"),
        "{desc}"
    );
    transfer(&mut nodes, 100_000);
    let running = ask(&mut client, "query-capture", json!({}));
    assert_eq!(running["capture"]["ports"], json!(["nic0"]));
    let ended = ask(&mut client, "stop-capture", json!({}));
    assert!(ended["written"].as_u64() > Some(25), "{ended}");
    assert_eq!(
        (&ended["dropped"], &ended["error"]),
        (&json!(0), &json!(null))
    );
    let bytes = fs::read(file("one")).unwrap();
    let names = |name: &[u8]| {
        bytes
            .windows(name.len())
            .filter(|part| *part == name)
            .count()
    };
    assert_eq!((names(b"link0/nic0"), names(b"link0/nic1")), (1, 0));

    let ring = json!({ "path": file("ring"), "ring": { "size": "64K", "files": 2 } });
    ask(&mut client, "start-capture", ring);
    transfer(&mut nodes, 500_000);
    ask(&mut client, "stop-capture", json!({}));
    let mut kept: Vec<_> = fs::read_dir(served.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("ring"))
        .collect();
    kept.sort();
    assert!(
        kept.len() == 2 && kept[0].as_str() > "ring.0003",
        "{kept:?}"
    );
    for (arguments, expected) in [
        (json!({ "path": "/nowhere/at/all" }), "No such file"),
        (
            json!({ "path": file("x"), "ports": "eth*" }),
            "no port 'eth*'",
        ),
        (
            json!({ "path": file("x"), "direction": "up" }),
            "none of tx, rx and both",
        ),
        (
            json!({ "path": file("x"), "ring": { "size": "1", "files": 2 } }),
            "64 KiB",
        ),
    ] {
        let (_, desc) = refused(&mut client, "start-capture", arguments);
        assert!(desc.contains(expected), "{desc}");
    }
    assert_eq!(
        refused(&mut client, "stop-capture", json!({})).1,
        "no capture is running"
    );

    // A full disk is said so.
    let (_, desc) = refused(&mut client, "start-capture", json!({ "path": "/dev/full" }));
    assert!(desc.contains("No space left"), "{desc}");

    // What goes wrong later ends the capture, and nothing else: here, a reader that goes away.
    let pipe = file("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let path = pipe.clone();
    let reader = std::thread::spawn(move || {
        let mut head = [0; 28];
        fs::File::open(path).unwrap().read_exact(&mut head).unwrap();
    });
    ask(&mut client, "subscribe", json!({}));
    ask(&mut client, "start-capture", json!({ "path": pipe }));
    reader.join().unwrap();
    transfer(&mut nodes, 100_000);
    let failed = wait_for(&mut client, "CAPTURE_FAILED", |_| true);
    assert!(
        failed["error"].as_str().unwrap().contains("Broken pipe"),
        "{failed}"
    );
    transfer(&mut nodes, 100_000);
    let ended = ask(&mut client, "stop-capture", json!({}));
    assert!(ended["missed"].as_u64() > Some(0), "{ended}");
    ask(
        &mut client,
        "start-capture",
        json!({ "path": file("again") }),
    );
    // So does somebody who takes the file away.
    fs::remove_file(file("again")).unwrap();
    let failed = wait_for(&mut client, "CAPTURE_FAILED", |_| true);
    assert_eq!(failed["error"], "the file was removed or replaced");
    let ended = ask(&mut client, "stop-capture", json!({}));
    assert_eq!(ended["error"], failed["error"]);
}
