//! The control socket of a server: who may use it, what it shows of NICs while a driver works, faults and captures at run
//! time, events, metrics, and clients that behave badly. With a driver of our own; real guests
//! are in [`guests`].

mod ctl;
mod guests;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rocinante_harness::control::client::{Client, ClientError};
use rocinante_harness::control::socket::MAX_CLIENTS;
use rocinante_harness::driver::{Data, QpConfig, SendOp, SendWr, Service};
use rocinante_harness::serve::{NicSpec, Server, ServerConfig};
use rocinante_tests::served::{Node, PATIENCE, connect, specs, transfer};
use serde_json::{Value, json};

/// A server of two NICs with a control socket.
struct Served {
    folder: tempfile::TempDir,
    specs: Vec<NicSpec>,
    server: Server,
    socket: PathBuf,
}

impl Served {
    fn start() -> Served {
        let folder = tempfile::tempdir().unwrap();
        let specs = specs(folder.path());
        let socket = folder.path().join("control.sock");
        let server = Server::serve(ServerConfig {
            nics: specs.clone(),
            control: Some(socket.clone()),
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..ServerConfig::default()
        })
        .unwrap();
        Served {
            folder,
            specs,
            server,
            socket,
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket, PATIENCE).unwrap()
    }

    fn nodes(&self) -> [Node; 2] {
        [
            Node::attach(&self.specs[0], 0),
            Node::attach(&self.specs[1], 1),
        ]
    }

    fn metrics(&self) -> String {
        get(self.server.metrics_address().unwrap())
    }
}

/// The page of metrics.
fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

#[track_caller]
fn ask(client: &mut Client, command: &str, arguments: Value) -> Value {
    match client.execute(command, arguments) {
        Ok(value) => value,
        Err(error) => panic!("{command}: {error}"),
    }
}

/// The error of a request that must fail: class and description.
#[track_caller]
fn refused(client: &mut Client, command: &str, arguments: Value) -> (String, String) {
    match client.execute(command, arguments) {
        Err(ClientError::Refused { class, desc, .. }) => (class, desc),
        other => panic!("{command}: {other:?}"),
    }
}

/// Waits for an event of this name that `fits`; all that were seen by then if none comes.
#[track_caller]
fn wait_for(client: &mut Client, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    // Guests boot for a while.
    let end = Instant::now() + 3 * PATIENCE;
    let mut seen = Vec::new();
    while let Some(event) = client.event(end).unwrap() {
        if event["event"] == name && fits(&event["data"]) {
            return event["data"].clone();
        }
        seen.push(event.to_string());
    }
    panic!("no {name} in\n{}", seen.join("\n"));
}

#[test]
fn the_socket_is_the_owners_and_goes_with_the_server() {
    let served = Served::start();
    let mode = fs::symlink_metadata(&served.socket).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Two clients at a time, and what one changes the other sees.
    let (mut one, mut other) = (served.client(), served.client());
    assert_eq!(one.version(), env!("CARGO_PKG_VERSION"));
    ask(&mut one, "set-link", json!({ "port": "nic1", "up": false }));
    let links = ask(&mut other, "query-links", json!({}));
    assert_eq!(links["ports"][1]["carrier"], false, "{links}");
    let (class, desc) = refused(&mut one, "set-link", json!({ "port": "x", "up": true }));
    assert_eq!(
        (&class[..], &desc[..]),
        ("NotFound", "no port 'x' (nic0, nic1)")
    );
    // Somebody else's socket is left alone.
    let again = Server::serve(ServerConfig {
        nics: vec![NicSpec::new(served.folder.path().join("other.sock"))],
        control: Some(served.socket.clone()),
        ..ServerConfig::default()
    });
    let error = format!("{:#}", again.err().expect("it is in use"));
    assert!(error.contains("another server is listening"), "{error}");
    ask(&mut other, "query-version", json!({}));
    let Served {
        server,
        socket,
        folder,
        ..
    } = served;
    server.stop().unwrap();
    assert!(!socket.exists());
    assert!(one.execute("query-version", json!({})).is_err());

    // One that a dead server left is replaced, a file is not.
    drop(UnixListener::bind(&socket).unwrap());
    let config = |control: &Path| ServerConfig {
        nics: vec![NicSpec::new(folder.path().join("third.sock"))],
        control: Some(control.to_owned()),
        ..ServerConfig::default()
    };
    let third = Server::serve(config(&socket)).unwrap();
    Client::connect(&socket, PATIENCE).unwrap();
    third.stop().unwrap();
    fs::write(&socket, "precious").unwrap();
    assert!(Server::serve(config(&socket)).is_err());
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

/// Whatever the mode of the file says.
#[test]
fn other_users_are_refused() {
    let served = Served::start();
    if fs::metadata(served.folder.path()).unwrap().uid() != 0 {
        println!("skipped: needs root, to become somebody else");
        return;
    }
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(served.folder.path(), 0o755).unwrap();
    open(&served.socket, 0o666).unwrap();
    let script = "my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"no socket: $!\"; \
                  print while <$s>;";
    let output = Command::new("perl")
        .args(["-MIO::Socket::UNIX", "-e", script])
        .arg(&served.socket)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("Denied") && said.contains("user 65534 does not own this process"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        !said.contains("return") && !said.contains("protocol"),
        "{said}"
    );
    ask(&mut served.client(), "query-version", json!({}));
}

fn objects(client: &mut Client, nic: &str, kind: &str) -> Vec<Value> {
    let arguments = json!({ "nic": nic, "kind": kind });
    let page = ask(client, "query-objects", arguments);
    page["objects"].as_array().unwrap().clone()
}

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

const RULES: &str = "[[rule]]\nname = \"lose one\"\nport = \"nic0\"\nnth = 3\n\
                     match = { opcode = \"RC_WRITE_*\" }\naction = \"drop\"\n\
                     [[rule]]\nname = \"count all\"\naction = \"pass\"\n";

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
}

/// What the documentation shows is what the server does: each example is accepted, and each command and event is there.
#[test]
fn the_documentation_is_right() {
    let text = include_str!("../../../docs/control.md");
    let folder = tempfile::tempdir().unwrap();
    let text = text.replace("/tmp/", &format!("{}/", folder.path().display()));
    let nics = ["a", "b"].map(|name| NicSpec::new(folder.path().join(format!("{name}.sock"))));
    let server = Server::serve(ServerConfig {
        nics: nics.to_vec(),
        control: Some(folder.path().join("control.sock")),
        ..ServerConfig::default()
    })
    .unwrap();
    let mut client = Client::connect(&folder.path().join("control.sock"), PATIENCE).unwrap();
    let all = ask(&mut client, "query-commands", json!({}));
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|item| item["name"].as_str().or(item.as_str()).unwrap().to_owned())
            .collect()
    };
    for command in all["commands"].as_array().unwrap() {
        let name = command["name"].as_str().unwrap();
        let heading = format!("### {name}\n");
        let section = text
            .split(&heading)
            .nth(1)
            .unwrap_or_else(|| panic!("{name} is not described"));
        let section = section.split("\n#").next().unwrap();
        for argument in names(&command["arguments"]) {
            assert!(
                section.contains(&format!("`{argument}`")),
                "{argument} of {name}"
            );
        }
        assert!(
            section.contains(&format!("-> {{\"execute\": \"{name}\"")),
            "no example of {name}"
        );
    }
    for event in names(&all["events"]) {
        assert!(
            text.contains(&format!("`{event}`")),
            "{event} is not described"
        );
    }
    let mut examples = 0;
    for line in text.lines().map(str::trim) {
        if let Some(answer) = line.strip_prefix("<- ") {
            serde_json::from_str::<Value>(answer)
                .unwrap_or_else(|error| panic!("{answer}: {error}"));
        }
        let Some(request) = line.strip_prefix("-> ") else {
            continue;
        };
        let answer = client
            .request(serde_json::from_str(request).unwrap())
            .unwrap();
        // Nothing that could not be, at most something that cannot be here.
        let class = answer["error"]["class"].as_str();
        assert!(
            matches!(class, None | Some("Failed")),
            "{request}: {answer}"
        );
        examples += 1;
    }
    assert!(examples > all["commands"].as_array().unwrap().len());
    server.wait_for_quit();
    server.stop().unwrap();
}

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

#[test]
fn metrics_are_as_prometheus_wants_them() {
    let served = Served::start();
    let mut nodes = served.nodes();
    transfer(&mut nodes, 10_000);
    let text = served.metrics();
    let mut families: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(!families.contains(&name), "{name} twice");
            assert!(kind == "counter" || kind == "gauge", "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            families.push(name);
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.ends_with('.'), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<u64>().unwrap();
            let name = name.split('{').next().unwrap();
            assert_eq!(families.last(), Some(&name), "{line}");
        }
    }
    assert!(families.iter().all(|name| name.starts_with("rocinante_")));
    let value = |sample: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(sample));
        let line = line.unwrap_or_else(|| panic!("no {sample} in\n{text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert_eq!(value("rocinante_nic_up{nic=\"nic0\",link=\"link0\"}"), 1);
    assert_eq!(value("rocinante_nic_attached{nic=\"nic0\""), 1);
    assert!(value("rocinante_nic_transmitted_bytes_total{nic=\"nic0\"}") > 10_000);
    assert!(
        value("rocinante_nic_vport_packets_total{nic=\"nic1\",traffic=\"received_ib_unicast\"}")
            >= 3
    );
    assert!(value("rocinante_port_rx_packets_total{port=\"nic1\",link=\"link0\"}") >= 3);
    assert!(value("rocinante_nic_objects{nic=\"nic0\",kind=\"CQ\"}") >= 1);
}
