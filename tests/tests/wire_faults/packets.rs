//! Rules that lose, repeat, hold up and change packets: what each costs, to the packet.

use std::time::Duration;

use crate::bench::{Bench, Outcome};

/// A WRITE of eight packets, which are all sent before any answer can have come.
const WRITE: &str = "op=write size=8192";

/// A READ with eight packets of response.
const READ: &str = "op=read size=8192";

/// A rule for what the requester sends; `name` is its own, as it is in the capture.
pub fn asked(name: &str, rest: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nport = \"nic0\"\n{rest}\n")
}

/// A rule for what the responder sends.
pub fn answered(name: &str, rest: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nport = \"nic1\"\n{rest}\n")
}

/// The transport timer where one is to run out.
const TIMER: Duration = Duration::from_nanos(4096 << 16);

/// `options` with [`TIMER`].
fn timed(options: &str) -> String {
    format!("{options} timeout=16")
}

/// Has lasted at least so long. How often it waited is what the counters say; how much longer that took is up to the machine.
#[track_caller]
fn assert_lasted(outcome: &Outcome, least: Duration) {
    let time = outcome.report.time();
    assert!(time >= least, "{}: {time:?}, not {least:?}", outcome.name);
}

/// Traffic that has cost so much, and arrived.
#[track_caller]
fn costs(
    bench: &Bench<'_>,
    name: &str,
    rule: String,
    options: &str,
    asking: &[(&str, i64)],
    serving: &[(&str, i64)],
) -> Outcome {
    let outcome = bench.run(name, &rule, options);
    outcome.assert_right();
    outcome.assert_rdma(asking, serving);
    outcome
}

/// Nothing is lost without rules, nor does it cost anything.
pub fn none(bench: &Bench<'_>) {
    for options in [WRITE, READ, "op=send size=3000 count=20", "op=add count=10"] {
        costs(bench, "no rules", String::new(), options, &[], &[]);
    }
}

pub fn lost(bench: &Bench<'_>) {
    let name = "third response of a READ lost";
    let rule = answered(
        name,
        "match = { opcode = 'RC_READ_RESPONSE_*' }\nnth = 3\naction = 'drop'",
    );
    let count = asked(
        "READ requests",
        "match = { opcode = 'RC_READ_REQUEST' }\naction = 'pass'",
    );
    let outcome = costs(
        bench,
        name,
        rule + &count,
        READ,
        &[("implied_nak_seq_err", 1)],
        &[("duplicate_request", 1)],
    );
    assert_eq!(
        (outcome.hits(name), outcome.hits("READ requests")),
        (1, 2),
        "one retry"
    );

    let timeout = [("local_ack_timeout_err", 1)];
    let name = "last response of a READ lost";
    let rule = answered(
        name,
        "match = { opcode = 'RC_READ_RESPONSE_LAST' }\nnth = 1\naction = 'drop'",
    );
    assert_lasted(
        &costs(
            bench,
            name,
            rule,
            &timed(READ),
            &timeout,
            &[("duplicate_request", 1)],
        ),
        TIMER,
    );
    let name = "READ request lost";
    let rule = asked(
        name,
        "match = { opcode = 'RC_READ_REQUEST' }\nnth = 1\naction = 'drop'",
    );
    assert_lasted(
        &costs(bench, name, rule, &timed(READ), &timeout, &[]),
        TIMER,
    );
    let name = "ACK lost";
    let rule = answered(
        name,
        "match = { opcode = 'RC_ACKNOWLEDGE' }\nnth = 1\naction = 'drop'",
    );
    // All of it is sent again, and is known already.
    assert_lasted(
        &costs(
            bench,
            name,
            rule,
            &timed(WRITE),
            &timeout,
            &[("duplicate_request", 8)],
        ),
        TIMER,
    );

    let sequence = [("packet_seq_err", 1)];
    for (name, opcode, behind) in [
        ("first packet of a WRITE lost", "RC_WRITE_FIRST", 7),
        ("third packet of a WRITE lost", "RC_WRITE_MIDDLE", 5),
    ] {
        let nth = if behind == 7 { 1 } else { 2 };
        let rule = asked(
            name,
            &format!("match = {{ opcode = '{opcode}' }}\nnth = {nth}\naction = 'drop'"),
        );
        costs(
            bench,
            name,
            rule,
            WRITE,
            &sequence,
            &[("out_of_sequence", behind)],
        );
    }
    let name = "last packet of a WRITE lost";
    let rule = asked(
        name,
        "match = { opcode = 'RC_WRITE_LAST' }\nnth = 1\naction = 'drop'",
    );
    costs(
        bench,
        name,
        rule,
        &timed(WRITE),
        &timeout,
        &[("duplicate_request", 7)],
    );
    let name = "SEND lost";
    let rule = asked(
        name,
        "match = { opcode = 'RC_SEND_ONLY' }\nnth = 1\naction = 'drop'",
    );
    costs(bench, name, rule, &timed("op=send size=100"), &timeout, &[]);

    // Executed once each, whatever is lost: the responder remembers what it has answered.
    let adds = &timed("op=add count=6");
    let timeouts = [("local_ack_timeout_err", 2)];
    let name = "atomic requests lost";
    let rule = asked(
        name,
        "match = { opcode = 'RC_FETCH_ADD' }\nnth = [2, 5]\naction = 'drop'",
    );
    let outcome = costs(bench, name, rule, adds, &timeouts, &[]);
    assert_eq!(outcome.report.number("word"), 6);
    let name = "atomic responses lost";
    let rule = answered(
        name,
        "match = { opcode = 'RC_ATOMIC_ACKNOWLEDGE' }\nnth = [2, 5]\naction = 'drop'",
    );
    let outcome = costs(
        bench,
        name,
        rule,
        adds,
        &timeouts,
        &[("duplicate_request", 2)],
    );
    assert_eq!(outcome.report.number("word"), 6);
}

pub fn late(bench: &Bench<'_>) {
    let third = "match = { opcode = 'RC_WRITE_MIDDLE' }\nnth = 2";
    let name = "packet doubled";
    let rule = asked(name, &format!("{third}\naction = {{ duplicate = 2 }}"));
    costs(bench, name, rule, WRITE, &[], &[("duplicate_request", 2)]);
    let name = "ACK doubled";
    let rule = answered(
        name,
        "match = { opcode = 'RC_ACKNOWLEDGE' }\naction = { duplicate = 2 }",
    );
    costs(bench, name, rule, WRITE, &[], &[]);
    let name = "packet delayed a little";
    let last = "match = { opcode = 'RC_WRITE_LAST' }\nnth = 1";
    let rule = asked(name, &format!("{last}\naction = {{ delay = '40ms' }}"));
    assert_lasted(
        &costs(bench, name, rule, WRITE, &[], &[]),
        Duration::from_millis(40),
    );
    let name = "packet delayed for too long";
    let rule = asked(name, &format!("{last}\naction = {{ delay = '400ms' }}"));
    // The seven before are known when they come again, and so is the late one.
    let options = timed(&format!("{WRITE} linger=400"));
    let timeout = [("local_ack_timeout_err", 1)];
    let outcome = costs(
        bench,
        name,
        rule,
        &options,
        &timeout,
        &[("duplicate_request", 8)],
    );
    assert_lasted(&outcome, TIMER);
    // Behind all others of its message, since fewer leave open whether the responder's second NAK, for the packet after
    // the late one, finds the requester still at the first.
    let name = "packet overtaken by the rest";
    let rule = asked(name, &format!("{third}\naction = {{ reorder = 5 }}"));
    // The late one is taken, and comes again.
    let outcome = costs(
        bench,
        name,
        rule,
        WRITE,
        &[("packet_seq_err", 1)],
        &[("duplicate_request", 1), ("out_of_sequence", 5)],
    );
    assert_eq!(outcome.hits(name), 1);
    let name = "response overtaken by the rest";
    let rule = answered(
        name,
        "match = { opcode = 'RC_READ_RESPONSE_MIDDLE' }\nnth = 2\naction = { reorder = 5 }",
    );
    let implied = [("implied_nak_seq_err", 1)];
    costs(
        bench,
        name,
        rule,
        READ,
        &implied,
        &[("duplicate_request", 1)],
    );
}

pub fn changed(bench: &Bench<'_>) {
    let third = "match = { opcode = 'RC_WRITE_MIDDLE' }\nnth = 2";
    let again = [("packet_seq_err", 1)];
    for (name, what) in [
        ("ICRC corrupted", "icrc"),
        ("payload corrupted", "payload"),
        ("PSN corrupted", "bth.psn"),
    ] {
        let rule = asked(name, &format!("{third}\naction = {{ corrupt = '{what}' }}"));
        costs(
            bench,
            name,
            rule,
            WRITE,
            &again,
            &[("out_of_sequence", 5), ("rx_icrc_encapsulated", 1)],
        );
    }
    let name = "READ response corrupted";
    let rule = answered(
        name,
        "match = { opcode = 'RC_READ_RESPONSE_MIDDLE' }\nnth = 2\naction = { corrupt = 'random', bits = 3 }",
    );
    let outcome = bench.run(name, &rule, READ);
    outcome.assert_right();
    // The bits may be in the addresses or the lengths, and then it is not even RoCE.
    assert_eq!(
        outcome.rdma[0].get("implied_nak_seq_err"),
        Some(&1),
        "{outcome:?}"
    );

    let name = "payload corrupted, nobody notices";
    let rule = asked(
        name,
        &format!("{third}\naction = {{ corrupt = 'payload', bits = 3, icrc = 'repair' }}"),
    );
    let outcome = bench.run(name, &rule, WRITE);
    outcome.assert_rdma(&[], &[]);
    let report = &outcome.report;
    assert_eq!(
        (report.status(), report.number("bad")),
        (0, 1),
        "{report:?}"
    );
    let (wrong, first) = (report.number("wrong"), report.number("first"));
    assert!(
        (1..=3).contains(&wrong) && (2048..3072).contains(&first),
        "{report:?}"
    );

    for (name, action) in [
        ("truncated", "{ truncate = 60 }"),
        ("wrong P_Key", "{ set = { bth.pkey = 0x1234 } }"),
        (
            "unknown destination QP",
            "{ set = { bth.dest_qp = 0x345678 } }",
        ),
        (
            "for another MAC",
            "{ set = { eth.dst = '02:00:00:00:00:99' } }",
        ),
    ] {
        let rule = asked(name, &format!("{third}\naction = {action}"));
        costs(bench, name, rule, WRITE, &again, &[("out_of_sequence", 5)]);
    }
}

/// Answers that nobody gave.
pub fn forged(bench: &Bench<'_>) {
    let name = "forged NAK, sequence error";
    let third = "match = { opcode = 'RC_WRITE_MIDDLE' }\nnth = 2";
    let rule = asked(
        name,
        &format!("{third}\naction = {{ forge = 'nak-sequence-error' }}"),
    );
    // The responder's own one, for the packet that it has not got, brings nothing new.
    costs(
        bench,
        name,
        rule,
        WRITE,
        &[("packet_seq_err", 1)],
        &[("out_of_sequence", 5)],
    );

    // IBTA 11.6.2: the completion status of each NAK (numbers of enum ibv_wc_status).
    let once = "match = { opcode = 'RC_WRITE_ONLY' }\nnth = 1";
    for (answer, status, vendor, counter) in [
        (
            "nak-invalid-request",
            9,
            0x8a,
            Some("req_remote_invalid_request"),
        ),
        (
            "nak-remote-access",
            10,
            0x88,
            Some("req_remote_access_errors"),
        ),
        // Linux shows no counter of these.
        ("nak-remote-operational", 11, 0x8b, None),
    ] {
        let name = format!("forged {answer}");
        let rule = asked(&name, &format!("{once}\naction = {{ forge = '{answer}' }}"));
        let outcome = bench.run(&name, &rule, "op=write size=1000 count=4 window=4");
        let report = &outcome.report;
        assert_eq!(
            (report.status(), report.number("vendor")),
            (status, vendor),
            "{report:?}"
        );
        assert_eq!(report.number("flushed"), 3, "those behind it: {report:?}");
        let counts = outcome.rdma[0].get("req_cqe_error");
        assert_eq!(counts, Some(&1), "{outcome:?}");
        assert_eq!(
            counter.and_then(|counter| outcome.rdma[0].get(counter)),
            counter.map(|_| &1)
        );
    }

    let name = "forged RNR NAK";
    let send = "match = { opcode = 'RC_SEND_ONLY' }";
    // Timer code 26 is 81.92 ms, 24 is 40.96 ms.
    let rule = asked(
        name,
        &format!("{send}\nnth = 1\naction = {{ forge = 'rnr-nak', timer = 26 }}"),
    );
    let outcome = costs(
        bench,
        name,
        rule,
        "op=send size=1000",
        &[("rnr_nak_retry_err", 1)],
        &[],
    );
    assert_lasted(&outcome, Duration::from_micros(81_920));
    let name = "forged RNR NAKs";
    let rule = asked(
        name,
        &format!("{send}\naction = {{ forge = 'rnr-nak', timer = 24 }}"),
    );
    let outcome = bench.run(name, &rule, "op=send size=1000 rnr=2");
    let report = &outcome.report;
    assert_eq!(
        (report.status(), report.number("vendor")),
        (13, 0x87),
        "{report:?}"
    );
    assert_lasted(&outcome, Duration::from_micros(2 * 40_960));
    outcome.assert_rdma(
        &[
            ("req_cqe_error", 1),
            ("req_rnr_retries_exceeded", 1),
            ("rnr_nak_retry_err", 3),
        ],
        &[],
    );
    let name = "receiver not ready, really";
    let outcome = bench.run(name, "", "op=send size=1000 receive-after=200 min-rnr=26");
    outcome.assert_right();
    let naks = outcome.rdma[0]
        .get("rnr_nak_retry_err")
        .copied()
        .unwrap_or(0);
    assert!(naks >= 2, "{outcome:?}");
    outcome.assert_rdma(&[("rnr_nak_retry_err", naks)], &[("out_of_buffer", naks)]);

    let name = "forged ACK";
    let rule = asked(name, &format!("{once}\naction = {{ forge = 'ack' }}"));
    let outcome = bench.run(name, &rule, "op=write size=1000");
    outcome.assert_rdma(&[], &[]);
    let report = &outcome.report;
    assert_eq!(
        (report.status(), report.number("completed")),
        (0, 1),
        "{report:?}"
    );
    assert_eq!(
        report.number("bad"),
        1,
        "the peer has nothing of it: {report:?}"
    );
}

/// Congestion as a switch shows it, and as the peer tells.
pub fn congested(bench: &Bench<'_>) {
    let name = "marked";
    let rule = asked(
        name,
        "match = { opcode = 'RC_WRITE_MIDDLE' }\nnth = [2, 3]\naction = 'ecn-ce'",
    );
    let outcome = bench.run(name, &rule, WRITE);
    outcome.assert_right();
    // Two that come at a time are told of once.
    let told = outcome.rdma[1].get("np_cnp_sent").copied().unwrap_or(0);
    assert!((1..=2).contains(&told), "{outcome:?}");
    outcome.assert_rdma(
        &[("rp_cnp_handled", told)],
        &[("np_cnp_sent", told), ("np_ecn_marked_roce_packets", 2)],
    );
    let name = "forged CNP";
    let rule = asked(
        name,
        "match = { opcode = 'RC_WRITE_*' }\nfirst = 3\naction = { forge = 'cnp' }",
    );
    costs(bench, name, rule, WRITE, &[("rp_cnp_handled", 3)], &[]);
    // And TCP's, by the counters of Linux' IP.
    let pair = &bench.pair;
    let marked = "nstat -az IpExtInCEPkts | awk '/InCE/ { print $2 }'";
    let before = pair.sh(0, marked);
    let rule = asked(
        "pings marked",
        "match = { icmp.type = 8 }\naction = 'ecn-ce'",
    );
    bench.set(&rule);
    pair.sh(0, "ping -c 3 -i 0.2 -W 20 -Q 2 192.0.2.2");
    assert_eq!(bench.hits()["pings marked"].hits, 3);
    bench.set("");
    // The replies have what the requests had.
    let after = pair.sh(0, marked);
    let [before, after] = [before, after].map(|text| text.trim().parse::<u64>().expect("a number"));
    assert_eq!(after - before, 3);
}

/// The time after which a requester gives up, IBTA 9.7.6.1.3: `retry_cnt` + 1 times 4.096 µs · 2^timeout.
pub fn given_up(bench: &Bench<'_>) {
    for (timeout, retries) in [(14, 7), (16, 2), (18, 0)] {
        let name = format!("given up after {retries} retries");
        let rule = asked(&name, "match = { opcode = 'RC_WRITE_*' }\naction = 'drop'");
        let options =
            format!("op=write size=1000 count=2 window=2 timeout={timeout} retry={retries}");
        let formula = Duration::from_nanos(4096 << timeout) * (retries + 1);
        let once = || {
            let outcome = bench.run(&name, &rule, &options);
            let time = outcome.report.time();
            println!("             {time:?}, by the formula {formula:?}");
            assert!(time >= formula.mul_f64(0.8), "{time:?} and not {formula:?}");
            (outcome, time)
        };
        let (mut outcome, mut time) = once();
        // A machine that has other things to do makes it longer, but not each time.
        for _ in 0..4 {
            if time > formula.mul_f64(1.2) {
                (outcome, time) = once();
            }
        }
        assert!(time <= formula.mul_f64(1.2), "{time:?} and not {formula:?}");
        let report = &outcome.report;
        assert_eq!(
            (report.status(), report.number("vendor")),
            (12, 0x81),
            "{report:?}"
        );
        assert_eq!(report.number("flushed"), 1);
        let tries = i64::from(retries) + 1;
        outcome.assert_rdma(
            &[
                ("local_ack_timeout_err", tries),
                ("req_cqe_error", 1),
                ("req_cqe_flush_error", 1),
                ("req_transport_retries_exceeded", 1),
            ],
            &[],
        );
        // Each try sends both again.
        assert_eq!(outcome.hits(&name), 2 * u64::from(retries + 1));
    }
}

/// Which of the packets that match are hit.
pub fn chosen(bench: &Bench<'_>) {
    let sends = &timed("op=send size=100 count=20");
    let drop = |selection: &str| {
        asked(
            "chosen",
            &format!("match = {{ opcode = 'RC_SEND_ONLY' }}\n{selection}\naction = 'drop'"),
        )
    };
    let timeouts = |outcome: &Outcome| {
        outcome.rdma[0]
            .get("local_ack_timeout_err")
            .copied()
            .unwrap_or(0)
    };
    for (selection, matches, hits) in [
        ("every = 8", 22, 2),
        ("every = 3\ncount = 1", 21, 1),
        ("nth = [1, 20]", 22, 2),
        ("after = 4\nfirst = 6", 22, 2),
    ] {
        let outcome = costs(
            bench,
            selection,
            drop(selection),
            sends,
            &[("local_ack_timeout_err", hits)],
            &[],
        );
        let rule = &outcome.rules["chosen"];
        assert_eq!(
            (rule.matches, rule.hits),
            (matches, hits as u64),
            "{selection}"
        );
    }
    // The first, and what is sent again after one and two timeouts, if they are noticed in time, but not after three.
    let name = "in a window";
    let window = "since = 'match'\nuntil = '786ms'";
    let outcome = bench.run(name, &drop(window), &timed("op=send size=100"));
    outcome.assert_right();
    let hits = outcome.hits("chosen");
    assert!((1..=3).contains(&hits), "{outcome:?}");
    outcome.assert_rdma(&[("local_ack_timeout_err", hits as i64)], &[]);
    // A seed decides, and decides the same again.
    let seeded = |seed: u32| {
        let selection = format!("probability = 0.2\nseed = {seed}");
        let outcome = bench.run(&selection, &drop(&selection), sends);
        outcome.assert_right();
        let rule = &outcome.rules["chosen"];
        assert_eq!(rule.hits as i64, timeouts(&outcome), "{outcome:?}");
        (rule.matches, rule.hits)
    };
    let first = seeded(7);
    assert_eq!(first, seeded(7));
    // Other connections are other flows: the first packet of each.
    let outcome = costs(
        bench,
        "per flow",
        drop("nth = 1\nper = 'flow'"),
        sends,
        &[("local_ack_timeout_err", 1)],
        &[],
    );
    assert_eq!(outcome.hits("chosen"), 1);
    // By fields of the connection.
    let name = "by PSN and length";
    let rule = asked(
        name,
        "match = { opcode = 'RC_WRITE_*', bth.psn_rel = 5, payload.len = 1024, ipv4.dst = '192.0.2.2', udp.dport = 4791, bth.ackreq = false }\nnth = 1\naction = 'drop'",
    );
    let outcome = costs(
        bench,
        name,
        rule,
        WRITE,
        &[("packet_seq_err", 1)],
        &[("out_of_sequence", 2)],
    );
    assert_eq!(outcome.hits(name), 1);
}
