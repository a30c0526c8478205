//! Scripted faults between NICs in virtual time: what the driver of each side sees is what the standard says, and what
//! the rules count is what happened.

use std::collections::BTreeMap;
use std::time::Duration;

use rocinante_harness::driver::{
    Completion, Connection, Data, Event, Mtu, SendOp, SendWr, Service, Sge, syndrome,
};
use rocinante_tests::{Payload, World, pattern};
use rocinante_wire::fault::{RuleCounters, Rules};
use rocinante_wire::time::Time;

/// Two connected QPs, and payload on both sides.
struct Scene {
    world: World,
    here: u32,
    there: u32,
    source: Payload,
    target: Payload,
}

const ROOM: u64 = 64 << 10;

/// Rules that only count: READ requests, WRITEs and SENDs that node 0 sends.
const COUNTERS: &str = r#"
[[rule]]
name = "reads"
port = "nic0"
match = { opcode = "RC_READ_REQUEST" }
action = "pass"
[[rule]]
name = "sends"
port = "nic0"
match = { opcode = ["RC_SEND_*", "RC_WRITE_*"] }
action = "pass"
"#;

impl Scene {
    /// With rules from the beginning of the traffic on.
    fn new(rules: &str) -> Scene {
        Scene::tuned(rules, |_| {})
    }

    fn tuned(rules: &str, tune: impl Fn(&mut Connection)) -> Scene {
        let mut world = World::new(2);
        let configs = [world.config(0, Service::Rc), world.config(1, Service::Rc)];
        let [here, there] = world.pair([0, 1], configs, |to| {
            to.mtu = Mtu::M1024;
            to.timeout = 8;
            to.min_rnr_timer = 1;
            tune(to);
        });
        let source = world.pattern(0, ROOM, 1);
        let target = world.payload(1, ROOM);
        let mut scene = Scene {
            world,
            here,
            there,
            source,
            target,
        };
        scene.set(rules);
        scene
    }

    fn set(&mut self, rules: &str) {
        let rules: Rules = rules.parse().unwrap_or_else(|e| panic!("{rules}\n{e}"));
        self.world.fabric.control.set_rules(rules);
    }

    fn counters(&self) -> BTreeMap<String, RuleCounters> {
        let counters = self.world.fabric.control.rules().counters();
        counters
            .into_iter()
            .map(|counters| (counters.name.clone(), counters))
            .collect()
    }

    fn hits(&self, rule: &str) -> u64 {
        self.counters()[rule].hits
    }

    fn write(&self) -> SendOp<'static> {
        SendOp::Write {
            va: self.target.mr.va,
            rkey: self.target.mr.key,
        }
    }

    fn gather(&self, len: u32) -> [Sge; 1] {
        [self.source.mr.sge(0, len)]
    }

    /// Posts a WRITE of `len` bytes.
    fn post_write(&mut self, len: u32) {
        let (op, gather) = (self.write(), self.gather(len));
        self.world.post(0, self.here, 1, op, &gather);
    }

    /// The time that it takes until the next completion on node 0, and the completion.
    fn completion(&mut self) -> (Duration, Completion) {
        let start = self.world.fabric.now();
        let completion = self.world.completion(0);
        (self.world.fabric.now().since(start), completion)
    }

    #[track_caller]
    fn assert_written(&mut self, len: usize) {
        let (source, target) = (self.source, self.target);
        let sent = self.world.bytes(0, &source, 0, len);
        assert!(self.world.bytes(1, &target, 0, len) == sent);
    }
}

fn rule(text: &str) -> String {
    format!("[[rule]]\nname = \"fault\"\n{text}\n{COUNTERS}")
}

#[test]
fn losing_the_third_read_response_costs_one_retry() {
    let mut scene = Scene::new(&rule(
        "port = \"nic0\"\ndirection = \"rx\"\nmatch = { opcode = \"RC_READ_RESPONSE_*\" }\nnth = 3\naction = \"drop\"",
    ));
    let (source, target) = (scene.source, scene.target);
    let back = pattern(5, 6000);
    scene
        .world
        .node(1)
        .write(target.buffer.iova, &back)
        .unwrap();
    let op = SendOp::Read {
        va: target.mr.va,
        rkey: target.mr.key,
    };
    let into = [source.mr.sge(0, 6000)];
    scene.world.post(0, scene.here, 1, op, &into);
    let (took, completion) = scene.completion();
    assert!(completion.is_ok(), "{completion:x?}");
    assert!(scene.world.bytes(0, &source, 0, 6000) == back);
    assert_eq!(scene.hits("fault"), 1);
    assert_eq!(scene.hits("reads"), 2, "the request and one retry");
    // The gap is seen at the next response: nobody waits for the ACK timeout of 1 ms.
    assert!(took < Duration::from_micros(500), "{took:?}");
}

#[test]
fn a_corrupt_icrc_is_dropped_by_the_receiver_and_counted() {
    let mut scene = Scene::new(&rule(
        "match = { opcode = \"RC_WRITE_MIDDLE\" }\nnth = 2\naction = { corrupt = \"icrc\" }",
    ));
    scene.post_write(8000);
    assert!(scene.completion().1.is_ok());
    scene.assert_written(8000);
    assert_eq!(scene.world.node(1).function.nic.core.icrc_errors, 1);
    assert_eq!(scene.hits("fault"), 1);
    // Eight packets, and again from the lost third on.
    assert_eq!(scene.hits("sends"), 8 + 6);
}

#[test]
fn payload_that_changes_under_a_right_icrc_arrives_wrong() {
    let mut scene = Scene::new(&rule(
        "match = { opcode = \"RC_WRITE_ONLY\" }\naction = { corrupt = \"payload\", xor = 0x10, icrc = \"repair\" }",
    ));
    scene.post_write(100);
    assert!(scene.completion().1.is_ok());
    let (source, target) = (scene.source, scene.target);
    let mut sent = scene.world.bytes(0, &source, 0, 100);
    sent[0] ^= 0x10;
    assert!(scene.world.bytes(1, &target, 0, 100) == sent);
    assert_eq!(scene.world.node(1).function.nic.core.icrc_errors, 0);
}

#[test]
fn forged_naks_complete_with_their_errors() {
    for (answer, wanted) in [
        ("nak-invalid-request", syndrome::REMOTE_INVAL_REQ),
        ("nak-remote-access", syndrome::REMOTE_ACCESS),
        ("nak-remote-operational", syndrome::REMOTE_OP),
    ] {
        let forge = format!(
            "match = {{ opcode = \"RC_WRITE_LAST\" }}\naction = {{ forge = \"{answer}\" }}"
        );
        // At the sender's cable and at the receiver's.
        for place in [
            "port = \"nic0\"\ndirection = \"tx\"\n",
            "port = \"nic1\"\ndirection = \"rx\"\n",
        ] {
            let mut scene = Scene::new(&rule(&format!("{place}{forge}")));
            scene.post_write(3000);
            scene.world.failure(0, 1, wanted);
            assert_eq!(scene.hits("fault"), 1, "{answer} {place}");
            // The responder never saw the last packet, and nothing of it is in error.
            scene.world.no_completion(1);
            assert!(
                !scene
                    .world
                    .events(1)
                    .iter()
                    .any(|e| matches!(e, Event::Queue(kind, _) if *kind != 2))
            );
        }
    }
}

#[test]
fn a_forged_sequence_error_costs_one_retry_and_an_early_ack_hides_a_loss() {
    let mut scene = Scene::new(&rule(
        "match = { opcode = \"RC_WRITE_*\" }\nnth = 2\naction = { forge = \"nak-sequence-error\" }",
    ));
    scene.post_write(3000);
    let (took, completion) = scene.completion();
    assert!(completion.is_ok(), "{completion:x?}");
    scene.assert_written(3000);
    assert!(took < Duration::from_micros(500), "{took:?}");
    assert!(scene.hits("sends") > 3, "{}", scene.hits("sends"));

    let mut scene = Scene::new(&rule(
        "match = { opcode = \"RC_WRITE_ONLY\" }\naction = { forge = \"ack\" }",
    ));
    scene.post_write(100);
    assert!(scene.completion().1.is_ok());
    let target = scene.target;
    assert_eq!(scene.world.bytes(1, &target, 0, 100), [0; 100]);
}

#[test]
fn forged_rnr_naks_wait_for_their_timer_and_end_after_the_retries() {
    let forge = "match = { opcode = \"RC_SEND_ONLY\" }\nfirst = 2\naction = { forge = \"rnr-nak\", timer = 14 }";
    let mut scene = Scene::new(&rule(forge));
    let (here, there, gather) = (scene.here, scene.there, scene.gather(64));
    scene
        .world
        .receive(1, there, 7, &[scene.target.mr.sge(0, 64)]);
    scene.world.post(0, here, 1, SendOp::Send, &gather);
    let (took, completion) = scene.completion();
    assert!(completion.is_ok(), "{completion:x?}");
    assert_eq!(scene.world.success(1).byte_len, 64);
    // Timer 14 is 1.28 ms.
    let ms = took.as_secs_f64() * 1e3;
    assert!((2.56..2.7).contains(&ms), "{took:?}");
    assert_eq!(scene.hits("sends"), 1, "the counter stands behind the rule");

    let forge = forge.replace("first = 2\n", "");
    let mut scene = Scene::tuned(&rule(&forge), |to| to.rnr_retry = 3);
    let (here, gather) = (scene.here, scene.gather(64));
    scene.world.post(0, here, 1, SendOp::Send, &gather);
    scene.world.failure(0, 1, syndrome::RNR_RETRY_EXC);
    assert_eq!(scene.hits("fault"), 4);
}

#[test]
fn retries_are_exhausted_after_the_time_that_the_formula_says() {
    for (timeout, retries) in [(8u8, 3u8), (10, 1), (6, 7)] {
        let rules = rule("port = \"nic0\"\nmatch = { bth = true }\naction = \"drop\"");
        let mut scene = Scene::tuned(&rules, |to| {
            to.timeout = timeout;
            to.retry_count = retries;
        });
        scene.post_write(10);
        let (took, completion) = scene.completion();
        assert_eq!(completion.syndrome, syndrome::RETRY_EXC);
        let expected = Duration::from_nanos(4096 << timeout) * (u32::from(retries) + 1);
        let ratio = took.as_secs_f64() / expected.as_secs_f64();
        assert!((0.8..=1.2).contains(&ratio), "{took:?}, not {expected:?}");
        assert_eq!(scene.hits("fault"), u64::from(retries) + 1);
    }
}

/// SENDs of different sizes, `count` of them, all at once; each must arrive once and in order.
#[track_caller]
fn stream(scene: &mut Scene, count: u64) {
    const SLOT: u64 = 512;
    let (here, there) = (scene.here, scene.there);
    let (source, target) = (scene.source, scene.target);
    let len = |n: u64| 1 + (n * 37 % SLOT) as u32;
    for n in 0..count {
        let room = [target.mr.sge(n * SLOT, SLOT as u32)];
        scene.world.receive(1, there, n, &room);
        let gather = [source.mr.sge(n * SLOT, len(n))];
        let wr = SendWr::new(n, SendOp::Send, Data::Sges(&gather));
        scene.world.node(0).stage_send(here, &wr).unwrap();
    }
    scene.world.node(0).ring(here).unwrap();
    for n in 0..count {
        assert_eq!(scene.world.success(0).wr_id, n);
    }
    for n in 0..count {
        let received = scene.world.success(1);
        assert_eq!((received.wr_id, received.byte_len), (n, len(n)));
        let bytes = len(n) as usize;
        let sent = scene.world.bytes(0, &source, n * SLOT, bytes);
        assert!(
            scene.world.bytes(1, &target, n * SLOT, bytes) == sent,
            "{n}"
        );
    }
    scene.world.no_completion(0);
    scene.world.no_completion(1);
}

#[test]
fn reordered_duplicated_and_late_packets_lose_and_double_nothing() {
    for seed in 0..12 {
        let rules = format!(
            "[[rule]]\nname = \"a\"\ndirection = \"both\"\nport = \"nic0\"\nprobability = 0.1\nseed = {seed}\n\
             action = {{ reorder = 3, timeout = \"20us\" }}\n\
             [[rule]]\nname = \"b\"\ndirection = \"both\"\nport = \"nic1\"\nprobability = 0.1\nseed = {seed}\n\
             action = {{ duplicate = 2, delay = \"3us\" }}\n\
             [[rule]]\nname = \"c\"\ndirection = \"both\"\nport = \"nic1\"\nprobability = 0.05\nseed = {seed}\n\
             action = {{ delay = \"5us\", jitter = \"30us\" }}\n\
             [[rule]]\nname = \"d\"\ndirection = \"both\"\nport = \"nic1\"\nprobability = 0.02\nseed = {seed}\n\
             action = {{ corrupt = \"random\", bits = 3 }}\n"
        );
        let mut scene = Scene::new(&rules);
        stream(&mut scene, 100);
        for (name, counters) in scene.counters() {
            assert!(
                counters.hits > 0 || name == "d",
                "{name} never hit: {counters:?}"
            );
        }
    }
}

#[test]
fn flaps_under_traffic_lose_and_double_nothing() {
    // Slow enough for the traffic to be there while the link is not.
    let rules = "[[link]]\nname = \"f\"\nport = \"nic1\"\nfault = \"flap\"\nfrom = \"50us\"\n\
                 down = \"300us\"\nup = \"20us\"\ncount = 4\n\
                 [[shape]]\nname = \"s\"\nport = \"nic0\"\nrate = \"1Gbit/s\"\n";
    let mut scene = Scene::new(rules);
    stream(&mut scene, 120);
    let status = scene.world.fabric.control.status();
    assert!(
        status[1].tx.link_drops + status[1].rx.link_drops > 0,
        "{status:?}"
    );
    assert!(status[1].carrier);
    // The driver was told: down and up, four times.
    let changes = scene
        .world
        .events(1)
        .iter()
        .filter(|event| matches!(event, Event::Port { .. }))
        .count();
    assert_eq!(changes, 8);
}

#[test]
fn a_black_hole_has_a_carrier_and_eats_everything() {
    let rules = "[[link]]\nname = \"h\"\nport = \"nic1\"\nfault = \"blackhole\"\ndirection = \"rx\"\nuntil = \"2ms\"\n";
    let mut scene = Scene::new(rules);
    scene.post_write(10);
    let (took, completion) = scene.completion();
    // The first ACK timeout after its end.
    assert!(completion.is_ok(), "{completion:x?}");
    assert!(took > Duration::from_millis(2), "{took:?}");
    assert!(scene.world.fabric.control.status()[1].carrier);
    assert!(scene.world.fabric.control.status()[1].rx.blackhole_drops >= 2);
    assert!(
        scene
            .world
            .events(1)
            .iter()
            .all(|event| !matches!(event, Event::Port { .. }))
    );
}

#[test]
fn bit_errors_cost_retransmissions_only() {
    for seen in ["fcs", "icrc"] {
        let rules = format!(
            "[[link]]\nname = \"e\"\nport = \"nic1\"\nfault = \"bit-errors\"\nrate = 2e-5\nseen-by = \"{seen}\"\n"
        );
        let mut scene = Scene::new(&rules);
        stream(&mut scene, 120);
        let status = &scene.world.fabric.control.status()[1];
        let fcs = status.tx.fcs_errors + status.rx.fcs_errors;
        assert_eq!(fcs > 0, seen == "fcs", "{status:?}");
    }
}

#[test]
fn a_rule_can_be_changed_while_traffic_runs() {
    let mut scene = Scene::new(&rule("match = { bth = true }\naction = \"drop\""));
    scene.post_write(10);
    scene.world.fabric.run_for(Duration::from_millis(2));
    assert!(scene.hits("fault") >= 2);
    scene.set(COUNTERS);
    assert!(scene.completion().1.is_ok());
    assert_eq!(scene.hits("sends"), 1);
    assert!(scene.world.fabric.now() > Time::ZERO);
}

#[test]
fn a_slow_link_takes_its_time() {
    let rules = "[[shape]]\nname = \"s\"\nport = \"nic0\"\ndirection = \"tx\"\nrate = \"100Mbit/s\"\nlatency = \"10us\"\n";
    let mut scene = Scene::tuned(rules, |to| to.timeout = 14);
    scene.post_write(50_000);
    let (took, completion) = scene.completion();
    assert!(completion.is_ok(), "{completion:x?}");
    scene.assert_written(50_000);
    // 49 packets of at most 1024 bytes with 58 of headers (the first has 16 more) and 24 on the wire.
    let bits = 8 * (50_000 + 49 * (14 + 20 + 8 + 12 + 4 + 24) + 16);
    let expected = Duration::from_nanos(bits * 10) + Duration::from_micros(10);
    let ratio = took.as_secs_f64() / expected.as_secs_f64();
    assert!((0.999..1.01).contains(&ratio), "{took:?}, not {expected:?}");
}
