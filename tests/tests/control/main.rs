//! The control socket of a server: who may use it, what it shows of NICs while a driver works, faults and captures at run
//! time, events, metrics, and clients that behave badly. With a driver of our own; real guests
//! are in [`guests`].

mod captures;
mod ctl;
mod documentation;
mod faults;
mod guests;
mod hostile;
mod metrics;
mod nics;
mod socket;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use rocinante_harness::control::client::{Client, ClientError};
use rocinante_harness::serve::{NicSpec, Server, ServerConfig};
use rocinante_tests::served::{Node, PATIENCE, specs};
use serde_json::{Value, json};

const RULES: &str = "[[rule]]\nname = \"lose one\"\nport = \"nic0\"\nnth = 3\n\
                     match = { opcode = \"RC_WRITE_*\" }\naction = \"drop\"\n\
                     [[rule]]\nname = \"count all\"\naction = \"pass\"\n";

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

fn objects(client: &mut Client, nic: &str, kind: &str) -> Vec<Value> {
    let arguments = json!({ "nic": nic, "kind": kind });
    let page = ask(client, "query-objects", arguments);
    page["objects"].as_array().unwrap().clone()
}
