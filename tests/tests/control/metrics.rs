//! The page of metrics, held against the text exposition format of Prometheus (version 0.0.4).

use std::collections::{BTreeMap, BTreeSet};

use rocinante_harness::serve::{NicSpec, Server, ServerConfig};
use rocinante_tests::served::transfer;

use super::{Served, get};

/// Names of metrics and labels; a colon is for rules of whoever scrapes.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(fits) && text.starts_with(|c: char| !c.is_ascii_digit())
}

/// Labels with their values, unescaped, up to the brace that ends them, and what follows that.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut all = BTreeMap::new();
    loop {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\n' => return None,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    plain @ ('\\' | '"') => plain,
                    _ => return None,
                }),
                plain => value.push(plain),
            }
        }
        if !is_name(name) || name.starts_with("__") || all.insert(name.to_owned(), value).is_some()
        {
            return None;
        }
        text = chars.as_str();
        match text.strip_prefix(',') {
            Some(more) => text = more,
            None => return Some((all, text.strip_prefix('}')?)),
        }
    }
}

type Sample = (String, BTreeMap<String, String>);

/// All samples, after everything that a parser could stumble over was looked at.
#[track_caller]
fn samples(page: &str) -> BTreeMap<Sample, u64> {
    assert!(page.ends_with('\n'), "the last line has no end");
    let mut all = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut helped, mut typed) = ("", "");
    for line in page.split_terminator('\n') {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect(line);
            assert!(is_name(name) && name.starts_with("rocinante_"), "{line}");
            assert!(families.insert(name), "{name} twice");
            assert!(text.ends_with('.') && !text.contains('\\'), "{line}");
            helped = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect(line);
            assert_eq!(name, helped, "{line}");
            assert!(kind == "counter" || kind == "gauge", "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            typed = name;
        } else {
            let end = line.find(['{', ' ']).expect(line);
            let (name, rest) = line.split_at(end);
            assert_eq!((name, helped), (typed, typed), "{line}");
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => labels(rest).expect(line),
                None => (BTreeMap::new(), rest),
            };
            let value = value.strip_prefix(' ').expect(line).parse().expect(line);
            let sample = (name.to_owned(), labels);
            assert!(all.insert(sample, value).is_none(), "twice: {line}");
        }
    }
    all
}

fn sample(name: &str, labels: &[(&str, &str)]) -> Sample {
    let labels = labels.iter();
    let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (format!("rocinante_{name}"), labels.collect())
}

#[test]
fn metrics_are_as_prometheus_wants_them() {
    let served = Served::start();
    let mut nodes = served.nodes();
    transfer(&mut nodes, 10_000);
    let all = samples(&served.metrics());
    let value = |name: &str, labels: &[(&str, &str)]| {
        let found = all.get(&sample(name, labels));
        *found.unwrap_or_else(|| panic!("no {name} {labels:?} in {all:#?}"))
    };
    assert_eq!(value("nic_up", &[("nic", "nic0"), ("link", "link0")]), 1);
    assert_eq!(
        value("nic_attached", &[("nic", "nic0"), ("link", "link0")]),
        1
    );
    assert!(value("nic_transmitted_bytes_total", &[("nic", "nic0")]) > 10_000);
    let received = [("nic", "nic1"), ("traffic", "received_ib_unicast")];
    assert!(value("nic_vport_packets_total", &received) >= 3);
    let at_port = [("port", "nic1"), ("link", "link0")];
    assert!(value("port_rx_packets_total", &at_port) >= 3);
    assert!(value("nic_objects", &[("nic", "nic0"), ("kind", "CQ")]) >= 1);
    // Dashboards are made of names, so each is in the documentation.
    let text = include_str!("../../../docs/control.md");
    let pages = [served.metrics(), with_port()];
    for (name, _) in pages.iter().flat_map(|page| samples(page).into_keys()) {
        let short = name.trim_start_matches("rocinante_");
        assert!(
            text.contains(&format!("`{short}`")),
            "{name} is not described"
        );
    }
}

/// The page of a server that has a port that leaves the process, and a fault.
fn with_port() -> String {
    let server = Server::serve(ServerConfig {
        ports: vec!["udp=127.0.0.1:0,remote=127.0.0.1:9".parse().unwrap()],
        faults: "[[rule]]\nname = \"a\"\naction = \"drop\"\n"
            .parse()
            .unwrap(),
        metrics: Some("127.0.0.1:0".parse().unwrap()),
        ..ServerConfig::default()
    })
    .unwrap();
    get(server.metrics_address().unwrap())
}

/// Names are whatever the user wants; a page that cannot be read would cost all metrics.
#[test]
fn odd_names_do_not_spoil_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let nic = "a\"b\\n{c} \u{e9}\r";
    let (link, fault) = ("li\nnk=\"", "50 % of \\\"all\\\", \u{1F4A5}");
    let server = Server::serve(ServerConfig {
        nics: vec![NicSpec {
            link: link.to_owned(),
            ..NicSpec::new(folder.path().join(format!("{nic}.sock")))
        }],
        faults: format!("[[rule]]\nname = \"{fault}\"\naction = \"drop\"\n")
            .parse()
            .unwrap(),
        metrics: Some("127.0.0.1:0".parse().unwrap()),
        ..ServerConfig::default()
    })
    .unwrap();
    let all = samples(&get(server.metrics_address().unwrap()));
    assert_eq!(all[&sample("nic_up", &[("nic", nic), ("link", link)])], 1);
    assert_eq!(
        all[&sample("cable_plugged", &[("port", nic), ("link", link)])],
        1
    );
    let fault = fault.replace("\\\"", "\"");
    assert_eq!(all[&sample("fault_hits_total", &[("fault", &fault)])], 0);
    server.stop().unwrap();
}
