//! `rocinante ctl` against a server in this process: what it prints, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rocinante_harness::control::session::MAX_LINE;
use rocinante_tests::program::program;

use super::{RULES, Served};

fn ctl(program: &Path, served: &Served, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(["ctl", "--socket"])
        .arg(&served.socket)
        .args(arguments)
        .current_dir(served.folder.path())
        .output()
        .unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn people_get_tables_one_line_errors_and_exit_codes() {
    let program = program();
    let served = Served::start();
    let bad = "[[rule]]\nname = \"a\"\naction = \"explode\"\n";
    let folder = served.folder.path();
    fs::write(folder.join("bad.toml"), bad).unwrap();
    fs::write(folder.join("good.toml"), RULES).unwrap();
    fs::write(folder.join("long.toml"), "#".repeat(MAX_LINE + 1)).unwrap();
    // In JSON it takes twice as much.
    fs::write(folder.join("escaped.toml"), "\n".repeat(MAX_LINE)).unwrap();
    for (arguments, code, text) in [
        (&["link", "down", "nic1"][..], 0, ""),
        (&["link", "list"], 0, "nic1  link0  no       no       down"),
        (&["link", "up", "nic1"], 0, ""),
        (&["link", "up", "nic7"], 1, "no port 'nic7' (nic0, nic1)\n"),
        (&["link", "speed", "nic1", "26G"], 2, "none of the speeds"),
        (
            &["faults", "load", "bad.toml"],
            2,
            "bad.toml:3:10: no action 'explode'",
        ),
        (&["faults", "load", "good.toml"], 0, "2 loaded\n"),
        (&["faults", "list"], 0, "lose one\n"),
        (&["faults", "clear", "lose one"], 0, ""),
        (
            &["faults", "clear", "lose one"],
            1,
            "no fault 'lose one' (count all)\n",
        ),
        (&["faults", "clear"], 0, ""),
        (&["faults", "list"], 0, "no faults\n"),
        (
            &["faults", "load", "long.toml"],
            1,
            "long.toml: more than 1 MiB\n",
        ),
        (
            &["faults", "load", "escaped.toml"],
            1,
            "a request of more than 1048576 bytes\n",
        ),
        (&["objects", "nic0"], 0, "pages\n"),
        (&["objects", "nic0", "qq"], 2, "'qq' is no kind of object"),
        (&["capture", "start", "a.pcapng", "--ring", "1M,2"], 0, ""),
        (&["capture", "stop"], 0, "a.pcapng: 0 frames\n"),
        (&["capture", "stop"], 1, "no capture is running\n"),
        (&["inject", "nic0", "rain"], 2, "'rain' cannot be injected"),
        (&["raw", "query-version"], 0, "\"protocol\": 1"),
        (&["status"], 0, "disabled"),
        (&["commands"], 0, "port=string up=boolean\n"),
        (&["commands"], 0, "LINK_DOWN"),
        (&["fly"], 2, "unrecognized subcommand"),
        (&["quit"], 0, ""),
    ] {
        let (seen, said) = ctl(&program, &served, arguments);
        assert_eq!(seen, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
    assert!(served.folder.path().join("a.pcapng.0001").exists());
    served.server.wait_for_quit();
    served.server.finish_capture().unwrap();
}
