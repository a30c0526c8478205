//! Rules for packets: which are hit, and what becomes of them.

use super::*;

#[test]
fn without_rules_frames_pass_as_they_are() {
    let mut world = world("");
    let out = world.cable.transmit(us(1), send(7), &()).expect("at once");
    assert!(
        out.is_known_good(),
        "still a reference to the sender's memory"
    );
    let out = world.cable.receive(us(1), send(7), &()).expect("at once");
    assert!(out.is_known_good());
    assert_eq!(world.cable.poll_timeout(), None);
    assert_ne!(world.cable.quiet, ACTIVE);
    // Rules for others change nothing.
    world.set("[[rule]]\nname = \"r\"\nport = \"bob\"\naction = \"drop\"\n");
    assert!(world.cable.is_stale());
    assert_eq!(world.wakes.load(Ordering::Relaxed), 2);
    assert!(world.cable.transmit(us(2), send(7), &()).is_some());
    assert_ne!(world.cable.quiet, ACTIVE);
    // A rule that does not match does not touch the frame either.
    world.set("[[rule]]\nname = \"r\"\nmatch = { bth.psn = 8 }\naction = \"drop\"\n");
    let out = world.cable.transmit(us(2), send(7), &()).expect("at once");
    assert!(out.is_known_good());
    assert!(world.cable.transmit(us(2), send(8), &()).is_none());
}

#[test]
fn the_nth_is_lost() {
    let mut world = rule("nth = [2, 4]\naction = \"drop\"");
    assert_eq!(psns(&world.run(10..15)), [10, 12, 14]);
    assert_eq!((world.hits(), world.counters().rule_drops), ((5, 2), 2));
}

#[test]
fn psns_count_from_the_first_of_each_flow() {
    let mut world = rule("match = { bth.psn_rel = 2 }\naction = \"drop\"");
    assert_eq!(
        psns(&world.run(0xff_fffe..0x100_0002)),
        [0xff_fffe, 0xff_ffff, 1]
    );
    let other = |n| packet(&address(2), SEND, 0x13, n);
    assert_eq!(world.tx(us(50), other(100)).len(), 1);
    assert_eq!(world.tx(us(50), other(102)).len(), 0);
}

#[test]
fn flows_are_counted_apart_if_asked() {
    let mut world = rule("nth = 1\nper = \"flow\"\naction = \"drop\"");
    for qp in [1, 2] {
        let out: Vec<usize> = (0..3)
            .map(|n| world.tx(us(1), packet(&address(2), SEND, qp, n)).len())
            .collect();
        assert_eq!(out, [0, 1, 1]);
    }
}

#[test]
fn rules_are_asked_in_order_until_one_decides() {
    let mut world = world(
        "[[rule]]\nname = \"a\"\nmatch = { bth.psn = 1 }\naction = \"pass\"\n\
         [[rule]]\nname = \"b\"\nmatch = { bth.psn = 2 }\naction = { set = { bth.psn = 3 } }\n\
         [[rule]]\nname = \"c\"\nmatch = { bth.psn = [1, 3] }\naction = \"drop\"\n\
         [[rule]]\nname = \"d\"\nmatch = { bth.psn = 3 }\naction = \"drop\"\n",
    );
    assert_eq!(psns(&world.run(0..5)), [0, 1, 4]);
    let hits: Vec<u64> = world
        .control
        .rules()
        .counters()
        .iter()
        .map(|rule| rule.hits)
        .collect();
    assert_eq!(hits, [1, 1, 2, 0]);
}

#[test]
fn copies_come_behind_and_are_bytes() {
    let mut world = rule("nth = 2\naction = { duplicate = 2 }");
    assert_eq!(psns(&world.run(0..3)), [0, 1, 1, 1, 2]);
    let mut world = rule("nth = 1\naction = { duplicate = 2, delay = \"10us\" }");
    assert_eq!(world.run(0..2), [(1, 0), (2, 1), (11, 0), (21, 0)]);
    let mut world = rule("action = { duplicate = 1 }");
    let out = world.tx(us(1), send(5));
    assert_eq!(out.len(), 2);
    for frame in out {
        let parsed = frame.parse_roce().unwrap();
        assert!(!frame.is_known_good() && frame.icrc_is_good(&parsed.layout));
    }
}

#[test]
fn late_frames_are_overtaken_and_jitter_stays_in_its_bounds() {
    let mut world = rule("nth = 1\naction = { delay = \"5us\" }");
    assert_eq!(world.run(0..3), [(2, 1), (3, 2), (6, 0)]);
    let text = "action = { delay = \"50us\", jitter = \"20us\" }";
    let run = rule(text).run(0..40);
    assert_eq!(run.len(), 40);
    for (at, psn) in &run {
        let delay = at - u64::from(psn + 1);
        assert!((50..=70).contains(&delay), "{psn} after {delay} us");
    }
    assert!(psns(&run).windows(2).any(|pair| pair[0] > pair[1]));
    assert_eq!(run, rule(text).run(0..40), "the same seed");
    assert_ne!(run, rule(&format!("{text}\nseed = 1")).run(0..40));
}

#[test]
fn a_frame_is_overtaken_by_as_many_as_asked_or_until_the_timeout() {
    let mut world = rule("nth = 2\naction = { reorder = 2 }");
    assert_eq!(psns(&world.run(0..6)), [0, 2, 3, 1, 4, 5]);
    let mut world = rule("nth = 3\naction = { reorder = 2, timeout = \"40us\" }");
    assert_eq!(world.run(0..4), [(1, 0), (2, 1), (4, 3), (43, 2)]);
}

#[test]
fn a_corrupt_icrc_reaches_the_receiver_and_is_seen_there() {
    let mut world = rule("nth = 1\naction = { corrupt = \"icrc\" }");
    let out = world.tx(us(1), send(5)).remove(0);
    let parsed = out.parse_roce().unwrap();
    assert!(!out.icrc_is_good(&parsed.layout));
    let out = world.tx(us(1), send(6)).remove(0);
    assert!(out.is_known_good(), "only the first");
}

#[test]
fn ecn_is_marked_in_place() {
    let mut world = rule("action = \"ecn-ce\"");
    let out = world.tx(us(1), send(5)).remove(0);
    assert!(out.is_known_good());
    assert_eq!(out.parse_roce().unwrap().address.l3.ecn(), 3);
}

#[test]
fn answers_are_forged_to_the_sender() {
    let mut world = rule("nth = 2\naction = { forge = \"nak-sequence-error\" }");
    // What the responder has acknowledged so far.
    let ack = packet(&back(address(2)), ACK, 0x77, 9);
    assert!(world.cable.receive(us(1), ack, &Known).is_some());
    assert!(world.cable.transmit(us(1), send(10), &Known).is_some());
    assert!(world.cable.transmit(us(1), send(11), &Known).is_none());
    assert_eq!(world.cable.poll_timeout(), Some(Time::ZERO));
    let answer = world.cable.poll_receive(us(1)).expect("an answer");
    let answer = answer.parse_roce().unwrap();
    assert_eq!(answer.packet.dest_qp, 0x77);
    assert_eq!(answer.packet.psn.get(), 11);
    let expected = Aeth {
        syndrome: 0x60,
        msn: 9,
    };
    assert_eq!(answer.packet.aeth, Some(expected));
    assert!(world.cable.poll_receive(us(1)).is_none());
    assert_eq!(world.control.status()[0].rx.forged, 1);

    let mut world = rule("action = { forge = \"cnp\" }");
    assert!(world.cable.transmit(us(1), send(10), &Known).is_some());
    let answer = world.cable.poll_receive(us(1)).expect("an answer");
    assert_eq!(answer.parse_roce().unwrap().packet.opcode, Opcode::Cnp);

    // Nobody knows the sender: the rule does not match, and that is counted.
    let mut world = rule("action = { forge = \"ack\" }");
    assert_eq!(psns(&world.run(0..2)), [0, 1]);
    assert_eq!((world.hits(), world.counters().unforgeable), ((0, 0), 2));
}

#[test]
fn nothing_that_is_held_gets_lost_when_rules_change() {
    let mut world = rule("action = { delay = \"10us\" }");
    assert!(world.tx(us(1), send(1)).is_empty());
    world.set("");
    assert_eq!(world.cable.poll_timeout(), Some(Time::ZERO));
    assert_eq!(world.tx(us(2), send(2)).len(), 1);
    assert_eq!(world.cable.poll_timeout(), Some(us(11)));
    let late = world.cable.poll_transmit(us(11)).expect("the first");
    assert_eq!(psn(&late), 1);
    assert!(world.cable.poll_transmit(us(11)).is_none());
    assert_ne!(world.cable.quiet, ACTIVE);
}

#[test]
fn what_is_held_is_finite() {
    let mut world = rule("action = { delay = \"10s\" }");
    for n in 0..lane::LIMIT as u32 + 3 {
        assert!(world.tx(us(1), send(n)).is_empty());
    }
    assert_eq!(world.counters().queue_drops, 3);
    let mut left = 0;
    let late = us(11_000_000);
    while world.cable.poll_transmit(late).is_some() {
        left += 1;
    }
    assert_eq!(left, lane::LIMIT);
}

#[test]
fn one_entry_goes_and_the_others_stay_as_they_are() {
    let mut world = world(
        "[[rule]]\nname = \"first\"\nmatch = { bth.psn = 1 }\naction = \"drop\"\n\
         [[rule]]\nname = \"third\"\nnth = 3\nper = \"port\"\naction = \"drop\"\n\
         [[link]]\nname = \"hole\"\nfault = \"blackhole\"\ndirection = \"rx\"\n\
         [[shape]]\nname = \"slow\"\nlatency = \"1ms\"\ndirection = \"tx\"\n",
    );
    assert!(world.cable.transmit(us(1), send(1), &()).is_none());
    assert!(world.cable.transmit(us(1), send(2), &()).is_none());
    assert!(world.cable.receive(us(1), send(3), &()).is_none());
    assert!(!world.control.clear_rule("nobody"));
    assert!(world.control.clear_rule("first") && world.control.clear_rule("hole"));
    assert!(!world.control.clear_rule("first"), "it is gone");
    assert!(world.cable.receive(us(2), send(3), &()).is_some());
    // One is on its way since before, and is not overtaken; what follows is the second match of the
    // rule that is left, and the third.
    assert!(world.control.clear_rule("slow"));
    assert_eq!(world.cable.poll_timeout(), Some(Time::ZERO));
    let _ = world.cable.poll_transmit(us(2));
    assert_eq!(world.cable.poll_timeout(), Some(us(1001)));
    assert_eq!(world.run([1, 4]), [(1001, 2), (1001, 1)]);
    let rules = world.control.rules();
    assert!(rules.is_cleared("slow") && !rules.is_cleared("third"));
    assert_eq!(rules.counters()[1].hits, 1);
}
