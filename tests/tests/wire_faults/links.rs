//! Faults of the link under traffic of which each message is checked.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rocinante_tests::guests::PATIENCE;

use crate::bench::{ASKING, Bench, SERVING};

/// Retries for two seconds.
const PATIENT: &str = "timeout=16 retry=7";

/// Retries for eight seconds.
const VERY_PATIENT: &str = "timeout=18 retry=7";

/// Traffic in which anything lost, doubled or out of order is noticed: SENDs are compared as they come, READs as they are
/// answered, and what each atomic finds is what the one before has left.
const KINDS: [&str; 3] = [
    "op=send size=4096 window=8 mtu=1024",
    "op=read size=4096 window=4 mtu=1024 rd-atomic=4",
    "op=add",
];

fn link(name: &str, rest: &str) -> String {
    format!("[[link]]\nname = \"{name}\"\nport = \"nic0\"\n{rest}\n")
}

/// What the guest has seen of its carrier since it booted.
fn carrier_changes(bench: &Bench<'_>, n: usize) -> u64 {
    let text = bench.pair.sh(n, "cat /sys/class/net/eth0/carrier_changes");
    text.trim().parse().expect("a number")
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(10));
    }
}

fn has_carrier(bench: &Bench<'_>) -> bool {
    let status = bench.control().status();
    status
        .iter()
        .any(|cable| cable.port == "nic0" && cable.carrier)
}

/// The rules' schedule is over, and the guest has seen that there is a carrier.
#[track_caller]
fn until_up(bench: &Bench<'_>, schedule: Duration) {
    sleep(schedule);
    wait_for("no carrier", || has_carrier(bench));
    let up = "grep -q up /sys/class/net/eth0/operstate && grep -q ACTIVE /sys/class/infiniband/mlx5_0/ports/1/state";
    bench.pair.guests[ASKING]
        .wait_until(up, PATIENCE)
        .expect("up");
    rocinante_tests::verbs::goes_on(&bench.pair);
}

pub fn down(bench: &Bench<'_>) {
    let pair = &bench.pair;
    let monitor = pair.spawn(ASKING, "exec ip monitor link dev eth0");
    let before = carrier_changes(bench, ASKING);
    let elsewhere = carrier_changes(bench, SERVING);
    let timeouts = bench.counters()[ASKING]["local_ack_timeout_err"];
    let name = "link down";
    let outcome = bench.under(
        name,
        &format!("{} {VERY_PATIENT}", KINDS[0]),
        &link("plug", "fault = 'down'"),
        || {
            // Longer than any packet's timer, and until the driver has seen it, however slow it is.
            let seen = "grep -q down /sys/class/net/eth0/operstate && grep -q DOWN /sys/class/infiniband/mlx5_0/ports/1/state";
            let seen = pair.guests[ASKING].wait_until(seen, PATIENCE);
            seen.expect("down");
            wait_for("no timer ran out", || {
                bench.counters()[ASKING]["local_ack_timeout_err"] > timeouts
            });
            bench.set("");
            until_up(bench, Duration::ZERO);
        },
    );
    outcome.assert_right();
    assert_eq!(carrier_changes(bench, ASKING), before + 2);
    assert_eq!(
        carrier_changes(bench, SERVING),
        elsewhere,
        "the other plug is in"
    );
    assert!(
        outcome.rdma[0].contains_key("local_ack_timeout_err"),
        "{outcome:?}"
    );
    // IBV_EVENT_PORT_ERR and IBV_EVENT_PORT_ACTIVE.
    let events: Vec<_> = outcome.report["events"].split(',').collect();
    assert!(
        events.contains(&"10") && events.contains(&"9"),
        "{events:?}"
    );
    let seen = "cat /run/jobs/*/out | grep -q NO-CARRIER";
    pair.guests[ASKING]
        .wait_until(seen, PATIENCE)
        .expect("ip monitor");
    monitor.kill().expect("kill");
    let text = monitor.wait(PATIENCE).expect("ip monitor ends").text;
    assert!(
        text.contains("NO-CARRIER") && text.contains("state UP"),
        "{text}"
    );
    let dmesg = pair.sh(ASKING, "dmesg | grep 'eth0: Link'");
    assert!(
        dmesg.contains("Link down") && dmesg.trim_end().ends_with("Link up"),
        "{dmesg}"
    );
}

pub fn flap(bench: &Bench<'_>) {
    for kind in KINDS {
        let before = carrier_changes(bench, ASKING);
        let rule = link(
            "loose plug",
            "fault = 'flap'\ndown = '120ms'\nup = '180ms'\ncount = 5",
        );
        let name = format!("link flaps, {kind}");
        let outcome = bench.under(&name, &format!("{kind} {PATIENT}"), &rule, || {
            until_up(bench, Duration::from_millis(5 * 300));
        });
        outcome.assert_right();
        let done = outcome.report.number("completed");
        println!(
            "             {done} messages, {} changes of the carrier",
            carrier_changes(bench, ASKING) - before
        );
        assert!(done > 100, "{outcome:?}");
        if kind == "op=add" {
            assert_eq!(outcome.report.number("word"), done);
        } else if kind.contains("send") {
            assert_eq!(outcome.report.number("received"), done);
        }
        assert!(
            outcome.rdma[0].contains_key("local_ack_timeout_err"),
            "{outcome:?}"
        );
        // One that is slow may see a down and the next up as one.
        assert!(carrier_changes(bench, ASKING) >= before + 2);
    }
}

pub fn black_hole(bench: &Bench<'_>) {
    let before = carrier_changes(bench, ASKING);
    for direction in ["tx", "rx"] {
        let name = format!("black hole, {direction}");
        let rule = link(
            "hole",
            &format!("fault = 'blackhole'\ndirection = '{direction}'\nuntil = '400ms'"),
        );
        let outcome = bench.under(&name, &format!("{} {PATIENT}", KINDS[0]), &rule, || {
            until_up(bench, Duration::from_millis(400))
        });
        outcome.assert_right();
        assert!(
            outcome.rdma[0].contains_key("local_ack_timeout_err"),
            "{outcome:?}"
        );
    }
    assert_eq!(carrier_changes(bench, ASKING), before, "the carrier stays");
    // And one without an end.
    let exceeded =
        "cat /sys/class/infiniband/mlx5_0/ports/1/hw_counters/req_transport_retries_exceeded";
    let before = bench.pair.sh(ASKING, exceeded);
    let rule = link("hole", "fault = 'blackhole'");
    let outcome = bench.under(
        "black hole without an end",
        "op=write size=1000 timeout=14 retry=3",
        &rule,
        || {
            wait_for("no retry was exceeded", || {
                bench.pair.sh(ASKING, exceeded) != before
            });
            bench.set("");
        },
    );
    assert_eq!(outcome.report.status(), 12, "{outcome:?}");
}

pub fn speed(bench: &Bench<'_>) {
    let pair = &bench.pair;
    let is = |speed: &str| {
        let condition = format!("ethtool eth0 | grep -q 'Speed: {speed}Mb/s'");
        let seen = pair.guests[ASKING].wait_until(&condition, PATIENCE);
        seen.unwrap_or_else(|error| {
            panic!("{speed}: {error:#}\n{}", pair.sh(ASKING, "ethtool eth0"))
        });
    };
    is("100000");
    let rule = link("bad cable", "fault = 'speed'\nspeed = 25000");
    let outcome = bench.under("speed", &format!("{} {PATIENT}", KINDS[0]), &rule, || {
        is("25000");
        let rate = pair.sh(ASKING, "cat /sys/class/infiniband/mlx5_0/ports/1/rate");
        assert!(rate.starts_with("25 Gb/sec"), "{rate}");
        bench.set("");
        is("100000");
        until_up(bench, Duration::ZERO);
    });
    outcome.assert_right();
}

pub fn bit_errors(bench: &Bench<'_>) {
    for (seen_by, direction, traffic) in [("fcs", "rx", KINDS[1]), ("icrc", "tx", KINDS[0])] {
        let name = format!("bit errors seen by the {}", seen_by.to_uppercase());
        let rule = link(
            "noise",
            &format!(
                "fault = 'bit-errors'\nrate = 2e-6\nseed = 3\ndirection = '{direction}'\nseen-by = '{seen_by}'"
            ),
        );
        let counted = || {
            let counters = bench.counters();
            match seen_by {
                "fcs" => counters[ASKING]["rx_crc_errors_phy"],
                _ => counters[SERVING]["rx_icrc_encapsulated"],
            }
        };
        let before = counted();
        let outcome = bench.under(&name, traffic, &rule, || {
            wait_for("no errors", || counted() >= before + 3);
            bench.set("");
            rocinante_tests::verbs::goes_on(&bench.pair);
        });
        outcome.assert_right();
    }
}

/// A slow cable asks the NIC to pause before its queue overflows: without loss, as long as the NIC heeds it.
pub fn pauses(bench: &Bench<'_>) {
    let pair = &bench.pair;
    let shape = |more: &str| {
        format!(
            "[[shape]]\nname = \"slow\"\nport = \"nic0\"\ndirection = \"tx\"\nrate = \"400Mbit/s\"\nqueue = 600_000\n{more}\n"
        )
    };
    let lost = || {
        let status = bench.control().status();
        let cable = status.iter().find(|cable| cable.port == "nic0");
        cable.expect("the cable").tx.queue_drops
    };
    let big = "op=write size=1000000 count=4 window=4 mtu=4096 timeout=18";
    for (name, setting, pfc, counter) in [
        (
            "the whole link",
            "ethtool -A eth0 rx on",
            "",
            "rx_global_pause",
        ),
        (
            "priority 0",
            "ethtool -A eth0 rx off tx off; dcb pfc set dev eth0 prio-pfc 0:on",
            "pfc = 0",
            "rx_prio0_pause",
        ),
    ] {
        pair.sh(ASKING, setting);
        let before = lost();
        let rules = shape(&format!("xoff = 60_000\n{pfc}"));
        let outcome = bench.run(&format!("pauses of {name}"), &rules, big);
        outcome.assert_right();
        outcome.assert_rdma(&[], &[]);
        assert_eq!(lost(), before, "{outcome:?}");
        let port = &outcome.port[ASKING];
        for name in [
            counter.to_owned(),
            format!("{counter}_duration"),
            format!("{counter}_transition"),
        ] {
            assert!(
                port.get(&name).is_some_and(|count| *count > 0),
                "{name}: {outcome:?}"
            );
        }
        // 4 MB at 400 Mbit/s, and not faster.
        assert!(
            outcome.report.time() >= Duration::from_millis(75),
            "{outcome:?}"
        );
    }
    // Who does not listen loses.
    pair.sh(
        ASKING,
        "dcb pfc set dev eth0 prio-pfc all:off; ethtool -A eth0 rx off",
    );
    let before = lost();
    let outcome = bench.run(
        "pauses not heeded",
        &shape("xoff = 60_000").replace("600_000", "200_000"),
        "op=write size=1000000 count=4 window=4 mtu=4096 timeout=14",
    );
    outcome.assert_right();
    assert!(
        lost() > before && outcome.rdma[ASKING].contains_key("packet_seq_err"),
        "{outcome:?}"
    );
    pair.sh(ASKING, "ethtool -A eth0 rx on tx on");
}
