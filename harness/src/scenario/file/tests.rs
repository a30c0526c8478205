//! What is wrong in a file is told with its place.

use std::path::Path;

use super::super::model::{Action, Since};
use super::*;

const BASE: &str = "\
[guest.alice]
[guest.bob]
[[step]]
guest = \"alice\"
run = \"ping {bob.ip}\"
";

fn parse(source: &str) -> Result<Vec<Scenario>, Vec<Mistake>> {
    read(Path::new("s.toml"), source, &Variables::new())
}

fn good(source: &str) -> Scenario {
    let mut scenarios = parse(source).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!(scenarios.len(), 1);
    scenarios.remove(0)
}

/// The first mistake of `source` is at `place` (`line:column`) and says `what`.
#[track_caller]
fn bad(source: &str, place: &str, what: &str) {
    let mistakes = parse(source).err().unwrap_or_default();
    let Some(first) = mistakes.first() else {
        panic!("no mistake in\n{source}");
    };
    let said = first.to_string();
    assert!(
        said.starts_with(&format!("s.toml:{place}: ")) && said.contains(what),
        "{said}\nin\n{source}"
    );
}

/// A step after those of [`BASE`], which has five lines.
#[track_caller]
fn bad_step(step: &str, place: &str, what: &str) {
    bad(&format!("{BASE}[[step]]\n{step}\n"), place, what);
}

#[test]
fn what_is_left_out_has_a_sense() {
    let scenario = good(BASE);
    assert_eq!(scenario.name, "s");
    let nics = &scenario.machines.nics;
    assert_eq!(nics.len(), 2);
    assert_eq!(nics[1].name, "bob");
    assert_eq!(nics[1].address.to_string(), "192.0.2.2");
    assert_ne!(nics[0].mac, nics[1].mac);
    assert_eq!(scenario.steps[0].name, "alice: ping {bob.ip}");
    assert_eq!(scenario.steps[0].line, 3);
    assert!(scenario.steps[0].expect.status.is_some());
}

#[test]
fn guests_have_the_nics_that_are_asked_for() {
    let scenario = good(
        "[guest.alice]\n\
         kernel = \"6.1\"\nprocessors = 2\nmemory = 512\n\
         [[guest.alice.nic]]\nlink = \"blue\"\nspeed = \"25G\"\nmanager = \"on\"\n\
         [[guest.alice.nic]]\nname = \"back\"\naddress = \"10.0.0.1/8\"\nmtu = 1500\nmac = \"02:00:00:00:00:99\"\n\
         [guest.bob]\nnic = [{ link = \"blue\" }]\nsetup = \"driver\"\n\
         [[step]]\nexpect.counters = { \"cable.back.tx.rule_drops\" = 0 }\n",
    );
    let nics = &scenario.machines.nics;
    let names: Vec<_> = nics.iter().map(|nic| nic.name.as_str()).collect();
    assert_eq!(names, ["alice", "back", "bob"]);
    assert_eq!(nics[0].link, "blue");
    assert_eq!(nics[2].address.to_string(), "192.0.2.2");
    assert_eq!(
        (nics[1].address.to_string(), nics[1].prefix, nics[1].mtu),
        ("10.0.0.1".to_owned(), 8, 1500)
    );
}

#[test]
fn each_combination_of_the_matrix_is_a_scenario() {
    let source = format!(
        "{BASE}[matrix]\nmtu = [256, 4096]\nkind = [\"read\", \"write\"]\n\
         [[step]]\nguest = \"bob\"\nrun = \"ib_{{kind}}_bw -m {{mtu}} {{{{mtu}}}}\"\n"
    );
    let scenarios = parse(&source).unwrap();
    let names: Vec<_> = scenarios.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "s[mtu=256,kind=read]",
            "s[mtu=256,kind=write]",
            "s[mtu=4096,kind=read]",
            "s[mtu=4096,kind=write]"
        ]
    );
    let Action::Run { command, .. } = &scenarios[1].steps[1].action else {
        panic!("a command");
    };
    let command = command.text(&Variables::new()).unwrap();
    assert_eq!(command, "ib_write_bw -m 256 {mtu}");
}

#[test]
fn variables_can_be_given_from_outside() {
    let source =
        format!("[variables]\nbytes = 8\n{BASE}[[step]]\nguest = \"bob\"\nrun = \"x {{bytes}}\"\n");
    let given = [("bytes".to_owned(), "16".to_owned())].into();
    let scenarios = read(Path::new("s.toml"), &source, &given).unwrap();
    assert_eq!(scenarios[0].steps[1].name, "bob: x 16");
}

#[test]
fn counters_count_from_where_they_are_told() {
    let scenario = good(&format!(
        "{BASE}name = \"first\"\n[[step]]\nguest = \"bob\"\nrun = \"x\"\n\
         expect.since = \"first\"\n\
         expect.counters = {{ \"bob.hw.out_of_sequence\" = 1, \"bob.port.port_rcv_packets\" = {{ is = \">= 2\", since = \"start\" }} }}\n\
         [[step]]\nwithin = \"5s\"\nexpect.counters.\"bob.net.rx_bytes\" = \"> 0\"\n"
    ));
    let counters = &scenario.steps[1].expect.counters;
    assert_eq!(counters[0].since, Since::Step(0));
    assert_eq!(counters[1].since, Since::Start);
    assert_eq!(scenario.steps[2].expect.counters[0].since, Since::Start);
}

#[test]
fn mistakes_at_the_top_have_places() {
    bad("[guest.alice\n", "1:13", "");
    bad("[guest.alice]\n", "1:1", "[[step]]");
    bad(
        &format!("nmae = \"x\"\n{BASE}"),
        "1:1",
        "unknown key 'nmae'",
    );
    bad(
        &format!("name = \"a b\"\n{BASE}"),
        "1:8",
        "'a b' is no name",
    );
    bad(&format!("deadline = 5\n{BASE}"), "1:12", "with its unit");
    bad(
        &format!("start_faults = \"x\"\n{BASE}"),
        "1:16",
        "no faults called 'x'",
    );
}

#[test]
fn mistakes_about_guests_have_places() {
    let guest =
        |text: &str| format!("[guest.alice]\n{text}\n[[step]]\nguest = \"alice\"\nrun = \"x\"\n");
    bad(&guest("cores = 2"), "2:1", "unknown key 'cores'");
    bad(&guest("kernel = \"5.10\""), "2:10", "6.12");
    bad(&guest("os = \"freebsd\""), "1:1", "'image' is missing");
    bad(
        &guest("kernel_image = \"/nowhere\""),
        "2:16",
        "/nowhere: no such file",
    );
    bad(&guest("nic = [{ speed = \"3G\" }]"), "2:18", "3G");
    bad(
        &guest("nic = [{ mac = \"01:00:00:00:00:01\" }]"),
        "2:16",
        "unicast",
    );
    bad(
        &guest("nic = [{ name = \"rule\" }]"),
        "2:8",
        "cannot be the name",
    );
    bad(&guest("allow = \"a(b\""), "2:9", "regular expression");
}

#[test]
fn mistakes_in_faults_have_places() {
    let faults = |text: &str| format!("{BASE}[[faults.a.rule]]\n{text}\n");
    bad(
        &faults("name = \"x\"\naction = \"explode\""),
        "8:10",
        "no action 'explode'",
    );
    bad(
        &faults("name = \"x\"\nport = \"carol\"\naction = \"drop\""),
        "7:1",
        "at no port there is",
    );
    bad(
        &format!("{BASE}[faults]\na = {{ rule = [] }}\n"),
        "7:5",
        "[[faults.a.rule]]",
    );
    bad(
        &format!("{BASE}[faults.a]\nfile = \"nowhere.toml\"\n"),
        "7:8",
        "nowhere.toml",
    );
}

#[test]
fn mistakes_in_steps_have_places() {
    bad_step(
        "guest = \"carol\"\nrun = \"x\"",
        "7:9",
        "no guest 'carol' (alice, bob)",
    );
    bad_step("run = \"x\"", "6:1", "'guest' is missing");
    bad_step(
        "guest = \"bob\"\nrun = \"x {carol.ip}\"",
        "8:7",
        "{carol.ip}",
    );
    bad_step(
        "guest = \"bob\"\nrun = \"x\"\nunplug = \"bob\"",
        "9:10",
        "one thing",
    );
    bad_step(
        "guest = \"bob\"\nrun = \"x\"\ndeadlin = \"5s\"",
        "9:1",
        "unknown key",
    );
    bad_step("unplug = \"carol\"", "7:10", "no NIC 'carol'");
    bad_step("speed = { carol = \"25G\" }", "7:11", "no NIC 'carol'");
    bad_step(
        "wait = \"server\"",
        "7:8",
        "no step before this starts a job",
    );
    bad_step("faults = \"lossy\"", "7:10", "no faults called 'lossy'");
    bad_step(
        "guest = \"bob\"\nstart = \"x\"\njob = \"j\"",
        "9:7",
        "no step waits for job 'j'",
    );
    bad_step(
        "guest = \"bob\"\npower = \"boot\"",
        "8:9",
        "runs at this step",
    );
    bad_step(
        "deadline = \"5s\"",
        "6:1",
        "does nothing and expects nothing",
    );
    bad_step(
        "unplug = \"bob\"\nwithin = \"5s\"",
        "8:10",
        "'within' is for",
    );
    bad_step(
        "guest = \"bob\"\npower = \"kill\"\n[[step]]\nguest = \"bob\"\nrun = \"x\"",
        "9:1",
        "does not run at this step",
    );
}

#[test]
fn mistakes_in_expectations_have_places() {
    let run = |expect: &str| format!("guest = \"bob\"\nrun = \"x\"\nexpect.{expect}");
    bad_step(&run("outptu = \"x\""), "9:8", "unknown key 'outptu'");
    bad_step(&run("output = \"a(b\""), "9:17", "unclosed group");
    bad_step(&run("output = [\"a\", \"\"]"), "9:23", "matches everything");
    bad_step(&run("status = 300"), "9:17", "0 to 255");
    bad_step(&run("status = \"< 0\""), "9:17", "0 to 255");
    bad_step(
        &run("values = [{ pattern = \"a\", is = 1 }]"),
        "9:30",
        "no group",
    );
    bad_step(&run("values = [{ pattern = \"(a)\" }]"), "9:18", "'is'");
    bad_step(
        &run("values = [{ pattern = \"(a)\", is = \"3..2\" }]"),
        "9:42",
        "never holds",
    );
    bad_step(&run("counters.\"bob.hv.x\" = 1"), "9:17", "hw, port, net");
    bad_step(
        &run("counters.\"carol.hw.x\" = 1"),
        "9:17",
        "no NIC 'carol'",
    );
    bad_step(
        &run("counters.\"cable.bob.tx.x\" = 1"),
        "9:17",
        "rule_drops",
    );
    bad_step(&run("counters.\"rule.x\" = 1"), "9:17", "no rule 'x'");
    bad_step(
        &run("counters.\"bob.hw.x\" = \"< 0\""),
        "9:30",
        "never holds",
    );
    bad_step(&run("since = \"x\""), "9:16", "'x' is none");
    bad_step(
        &run("carrier = { bob = \"upp\" }"),
        "9:26",
        "\"up\" or \"down\"",
    );
    bad_step(&run("duration = \"> 5\""), "9:19", "unit");
    bad_step(
        &run("kernel_log = { carol = \"x\" }"),
        "9:23",
        "no guest 'carol'",
    );
    bad_step(&run("left = \"x\""), "9:15", "when it is unloaded");
    bad_step(
        "unplug = \"bob\"\nexpect.output = \"x\"",
        "8:17",
        "a command that ends",
    );
    bad_step(
        &run("output = \"a\"\nexpect.no_output = \"a\""),
        "10:20",
        "cannot be unwanted",
    );
}

#[test]
fn mistakes_about_what_the_adapters_hold_and_pass_have_places() {
    let run = |expect: &str| format!("guest = \"bob\"\nrun = \"x\"\nexpect.{expect}");
    bad_step(&run("stderr = \"a(b\""), "9:17", "unclosed group");
    bad_step(
        &run("stdout = \"a\"\nexpect.no_stdout = \"a\""),
        "10:20",
        "cannot be unwanted",
    );
    bad_step(
        "unplug = \"bob\"\nexpect.stderr = \"x\"",
        "8:17",
        "a command that ends",
    );
    bad_step(&run("objects.\"bob.qps\" = 1"), "9:16", "flow-table");
    bad_step(&run("objects.\"carol.qp\" = 1"), "9:16", "no NIC 'carol'");
    bad_step(&run("objects.qp = 1"), "9:16", "NIC.KIND");
    bad_step(&run("objects.\"bob.qp\" = \"< 0\""), "9:27", "never holds");
    bad_step(
        &run("objects.\"bob.pages\" = { is = 0, having = { state = \"RTS\" } }"),
        "9:49",
        "nothing to say",
    );
    bad_step(
        &run("counters.\"switch.carol.tx_packets\" = 1"),
        "9:17",
        "no port 'carol' (alice, bob)",
    );
    bad_step(
        &run("counters.\"switch.bob.tx\" = 1"),
        "9:17",
        "tx_packets, tx_bytes",
    );
    bad_step(
        &run("counters.\"outside.bob.in_packets\" = 1"),
        "9:17",
        "there are none",
    );
    bad_step(
        &run("packets = [{ filter = \"arp\", is = 1 }]"),
        "9:19",
        "capture = \"stop\"",
    );
    let stop = |packets: &str| format!("capture = \"stop\"\nexpect.packets = [{packets}]");
    bad_step(&stop("{ is = 1 }"), "8:19", "which packets?");
    bad_step(&stop("{ filter = \"arp\" }"), "8:19", "'is' is missing");
    bad_step(&stop("{ rule = \"x\", is = 1 }"), "8:28", "no rule 'x'");
    bad_step(
        &stop("{ filter = \"ip.src == {carol.ip}\", is = 1 }"),
        "8:30",
        "{carol.ip}",
    );
    bad_step(
        "capture = \"stop\"\n[[step]]\ncapture = \"stop\"",
        "9:11",
        "no capture is under way",
    );
}

#[test]
fn ports_can_be_on_an_address_of_the_run() {
    let ports = "ports = [\"udp={loopback}:4000,remote={loopback}:4001,name=east\"]\n";
    let scenario = good(&format!(
        "{ports}{BASE}[[step]]\nexpect.counters = {{ \"outside.east.in_packets\" = 0, \"switch.east.tx_packets\" = 0, \"cable.east.rx.queue_drops\" = 0 }}\n"
    ));
    let port = format!("{:?}", scenario.machines.ports[0]);
    assert!(port.contains("127."), "{port}");
    bad(&format!("ports = \"udp=1:2\"\n{BASE}"), "1:9", "");
}

#[test]
fn standard_error_is_kept_apart_where_it_is_looked_at() {
    let scenario = good(&format!(
        "{BASE}[[step]]\nguest = \"bob\"\nstart = \"x\"\njob = \"j\"\n[[step]]\nwait = \"j\"\nexpect.stderr = \"e\"\n\
         [[step]]\nguest = \"bob\"\nstart = \"x\"\njob = \"j\"\n[[step]]\nkill = \"j\"\n\
         [[step]]\nguest = \"bob\"\nrun = \"x\"\nexpect.no_stderr = \"e\"\n"
    ));
    let apart: Vec<bool> = scenario
        .steps
        .iter()
        .filter_map(|step| match step.action {
            Action::Run { apart, .. } | Action::Start { apart, .. } => Some(apart),
            _ => None,
        })
        .collect();
    assert_eq!(apart, [false, true, false, true]);
}

#[test]
fn rules_and_filters_become_one_filter() {
    let scenario = good(&format!(
        "start_faults = \"a\"\n{BASE}[[faults.a.rule]]\nname = 'x \"y\"'\naction = \"drop\"\n\
         [[step]]\ncapture = \"stop\"\nexpect.packets = [{{ rule = 'x \"y\"', filter = \"ip.src == {{bob.ip}}\", is = 1 }}]\n"
    ));
    let wanted = &scenario.steps[1].expect.packets[0];
    assert_eq!(
        wanted.filter.source(),
        r#"(ip.src == {bob.ip}) && (frame.comment contains "rule 'x \"y\"': ")"#
    );
    assert_eq!(wanted.place.0, 12);
}

#[test]
fn all_mistakes_are_told_in_order() {
    let source = format!(
        "{BASE}[[step]]\nguest = \"bob\"\nrun = \"x\"\nexpect.status = 300\n\
         [[step]]\nunplug = \"carol\"\n"
    );
    let mistakes = parse(&source).unwrap_err();
    let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [9, 11]);
}
