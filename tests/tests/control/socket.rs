//! The socket itself: whose it is, who is refused, and when it goes.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rocinante_harness::control::client::Client;
use rocinante_harness::serve::{NicSpec, Server, ServerConfig};
use rocinante_tests::served::PATIENCE;
use serde_json::json;

use super::{Served, ask, refused};

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

/// What came before the last thing that could go wrong does not stay.
#[test]
fn a_server_that_cannot_start_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let control = folder.path().join("control.sock");
    let config = |metrics| ServerConfig {
        nics: ["late0", "late1"]
            .map(|name| NicSpec::new(folder.path().join(format!("{name}.sock"))))
            .to_vec(),
        ports: vec![
            "udp=127.0.0.1:0,remote=127.0.0.1:9,name=late2"
                .parse()
                .unwrap(),
        ],
        control: Some(control.clone()),
        metrics: Some(metrics),
        ..ServerConfig::default()
    };
    let threads = || -> Vec<String> {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.contains("-late")).collect()
    };
    let wait_for_threads = |count: usize| {
        let end = Instant::now() + PATIENCE;
        while threads().len() != count {
            assert!(Instant::now() < end, "not {count}: {:?}", threads());
            std::thread::yield_now();
        }
    };
    for _ in 0..2 {
        let failed = Server::serve(config(taken.local_addr().unwrap()));
        let error = format!("{:#}", failed.err().expect("the address is taken"));
        assert!(
            error.starts_with("metrics at 127.0.0.1:") && error.contains("in use"),
            "{error}"
        );
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        // The kernel may show a thread that has been joined for a moment.
        wait_for_threads(0);
    }
    let server = Server::serve(config("127.0.0.1:0".parse().unwrap())).unwrap();
    // They give themselves their names.
    wait_for_threads(5);
    Client::connect(&control, PATIENCE).unwrap();
    server.stop().unwrap();
}
