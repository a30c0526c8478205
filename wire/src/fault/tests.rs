use super::rule::{Action, Answer, Damage, Repair, Target};
use super::*;
use std::time::Duration;

mod fields;
mod nonsense;

/// A rule with this `match` and `action`.
fn rule(pattern: &str, more: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nmatch = {{ {pattern} }}\n{more}\n")
}

fn parse(source: &str) -> Rules {
    source
        .parse()
        .unwrap_or_else(|errors| panic!("{source}\n{errors}"))
}

#[test]
fn the_examples_of_the_documentation_are_rules() {
    let text = include_str!("rules.md");
    let example = text.split("```").nth(1).unwrap().trim_start_matches("toml");
    let rules = parse(example);
    assert_eq!(
        (rules.rules.len(), rules.links.len(), rules.shapes.len()),
        (1, 1, 1)
    );
    let rule = &rules.rules[0];
    assert_eq!((rule.name(), rule.line()), ("lose the third response", 3));
    assert_eq!(rule.place().direction, Some(Direction::Rx));
    assert_eq!(rule.action(), &Action::Drop);
    // Each action as it is shown, in a rule of its own.
    let mut actions = 0;
    for line in text.lines().filter(|line| line.starts_with("- `")) {
        for piece in line.split('`').skip(1).step_by(2) {
            let alone = ["\"drop\"", "\"pass\"", "\"ecn-ce\""].contains(&piece);
            if alone || piece.starts_with('{') {
                let source = format!("[[rule]]\nname = \"r\"\naction = {piece}\n");
                parse(&source);
                actions += 1;
            }
            if piece.starts_with("{ set") {
                break;
            }
        }
        if line.contains("forge") {
            break;
        }
    }
    assert!(actions >= 9, "{actions}");
}

#[test]
fn every_action_has_its_form() {
    let us = Duration::from_micros;
    let leave = Repair {
        checksum: false,
        icrc: false,
    };
    for (text, expected) in [
        ("\"drop\"", Action::Drop),
        ("\"pass\"", Action::Pass),
        ("\"ecn-ce\"", Action::EcnCe),
        (
            "{ duplicate = 2, delay = \"1.5us\" }",
            Action::Duplicate {
                copies: 2,
                delay: Duration::from_nanos(1500),
            },
        ),
        (
            "{ delay = \"10us\", jitter = \"5 us\" }",
            Action::Delay {
                fixed: us(10),
                jitter: us(5),
            },
        ),
        (
            "{ reorder = 3 }",
            Action::Reorder {
                by: 3,
                timeout: us(1000),
            },
        ),
        (
            "{ corrupt = \"icrc\" }",
            Action::Corrupt {
                target: Target::Icrc,
                damage: Damage::Random(1),
                repair: leave,
            },
        ),
        (
            "{ corrupt = 60, xor = 0x80, icrc = \"repair\" }",
            Action::Corrupt {
                target: Target::Offset(60),
                damage: Damage::Xor(0x80),
                repair: Repair {
                    icrc: true,
                    ..leave
                },
            },
        ),
        ("{ truncate = 60 }", Action::Truncate(60)),
        (
            "{ set = { bth.pkey = 0x8001, \"opcode\" = \"RC_SEND_ONLY\" } }",
            Action::Set {
                fields: vec![
                    (Field::by_name("bth.pkey").unwrap(), 0x8001),
                    (Field::by_name("opcode").unwrap(), 4),
                ],
                repair: Repair {
                    checksum: true,
                    icrc: true,
                },
            },
        ),
        (
            "{ forge = \"rnr-nak\", timer = 1, deliver = true }",
            Action::Forge {
                answer: Answer::RnrNak(1),
                deliver: true,
                dest_qp: None,
            },
        ),
        (
            "{ forge = \"nak\", code = 5 }",
            Action::Forge {
                answer: Answer::Nak(0x65),
                deliver: false,
                dest_qp: None,
            },
        ),
        (
            "{ forge = \"cnp\", dest_qp = 0x12 }",
            Action::Forge {
                answer: Answer::Cnp,
                deliver: true,
                dest_qp: Some(0x12),
            },
        ),
    ] {
        let rules = parse(&format!("[[rule]]\nname = \"r\"\naction = {text}\n"));
        assert_eq!(rules.rules[0].action, expected, "{text}");
    }
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    for (source, line, column, words) in [
        ("[[rule]\n", 1, 8, ""),
        ("[[rules]]\nname = \"a\"\n", 1, 3, "unknown key 'rules'"),
        ("\n[[rule]]\naction = \"drop\"\n", 2, 1, "'name' is missing"),
        ("[[rule]]\nname = \"a\"\n", 1, 1, "'action' is missing"),
        ("[[rule]]\nname = 5\n", 2, 8, "a string, not integer"),
        (
            "[[rule]]\nname = \"a\"\naction = \"drop\"\ncolour = 1\n",
            4,
            1,
            "unknown key 'colour'",
        ),
        (
            "[[rule]]\nname = \"a\"\naction = \"drop\"\n[[rule]]\nname = \"a\"\naction = \"drop\"",
            5,
            8,
            "given twice",
        ),
        (
            "[[rule]]\nname = \"a\"\naction = \"drop\"\ndirection = \"up\"",
            4,
            13,
            "'direction'",
        ),
        (
            "[[link]]\nname = \"a\"\nfault = \"flap\"\ndown = \"1s\"",
            1,
            1,
            "'up' is missing",
        ),
        (
            "[[link]]\nname = \"a\"\nfault = \"down\"\nfrom = 5",
            4,
            8,
            "a time with its unit",
        ),
        (
            "[[shape]]\nname = \"a\"\nrate = \"fast\"",
            3,
            8,
            "a number with its unit",
        ),
        (
            "[[link]]\nname = \"é\"\nport = \"é\" \nfault = \"bit-errors\"\nrate = 2.0",
            5,
            8,
            "less than 1",
        ),
    ] {
        let errors = source.parse::<Rules>().unwrap_err();
        let first = &errors.0[0];
        assert!(first.message.contains(words), "{source}\n{errors}");
        assert_eq!(
            (first.line, first.column),
            (line, column),
            "{source}\n{errors}"
        );
    }
    // All at once.
    let source = rule("bth.psnn = 1", "action = \"drop\"") + &rule("vlan.vid = 4096", "");
    let errors = source
        .replacen("\"r\"", "\"q\"", 1)
        .parse::<Rules>()
        .unwrap_err();
    let lines: Vec<usize> = errors.0.iter().map(|error| error.line).collect();
    assert_eq!(lines, [3, 7], "{errors}");
    assert!(
        errors.to_string().contains("bth has opcode, se,"),
        "{errors}"
    );
}

#[test]
fn what_can_never_match_is_a_mistake() {
    for (pattern, words) in [
        (
            "aeth.msn = 1, opcode = \"RC_SEND_ONLY\"",
            "RC_SEND_ONLY has no aeth",
        ),
        ("reth.va = 1, aeth.msn = 1", "has no aeth"),
        ("deth.qkey = 1, opcode = \"RC_*\"", "has no deth"),
        ("deth.qkey = 1, xrceth.srqn = 1", "has no deth"),
        ("bth.psn = 1, arp.oper = 1", "no frame has both"),
        (
            "bth.psn = 1, tcp.syn = true",
            "no frame has both tcp and bth",
        ),
        (
            "bth.psn = 1, eth.type = 0x0806, vlan = false, ipv4.ttl = 1",
            "eth.type is 0x800",
        ),
        (
            "ipv4.ttl = 1, ipv6.ecn = 1",
            "no frame has both ipv4 and ipv6",
        ),
        (
            "udp.sport = 1, tcp.sport = 1",
            "no frame has both udp and tcp",
        ),
        (
            "udp.sport = 1, frame.roce = 1",
            "no frame has both grh and udp",
        ),
        (
            "grh.hop_limit = 1, frame.roce = 2",
            "no frame has both grh and udp",
        ),
        ("frame.roce = 3", "RoCE is version 1 or 2"),
        (
            "udp.dport = 4790, bth.psn = 1, ipv4 = true",
            "udp.dport is 0x12b7",
        ),
        ("tcp.syn = true, ipv4.protocol = 17", "ipv4.protocol is 0x6"),
        (
            "icmp.type = 8, ipv6.hop_limit = 3",
            "no frame has both ipv4 and ipv6",
        ),
        (
            "vlan = false, \"vlan.vid\" = 3",
            "vlan has to be there and must not",
        ),
        (
            "payload.len = \"> 0\", opcode = \"RC_ACKNOWLEDGE\"",
            "RC_ACKNOWLEDGE has no payload",
        ),
        (
            "mad.method = 3, bth.dest_qp = 5",
            "only packets to QP 0 or 1",
        ),
        (
            "aeth = false, opcode = \"RC_ACKNOWLEDGE\"",
            "RC_ACKNOWLEDGE always has aeth",
        ),
        ("bth.psn = [\"5..9\", \"!5..9\"]", "no value of bth.psn"),
        ("bth.psn = []", "an empty list"),
        ("opcode = 1, \"bth.opcode\" = 2", "given twice"),
        ("bth.becn = 2", "does not fit bth.becn, which has 1 bit"),
        ("ipv4.src = 5", "an address in a string"),
        ("bth.psn = true", "not true or false"),
        ("bth.psn = 1.5", "has to be a number"),
        ("bth.psn = -1", "no value from 0 on"),
    ] {
        let source = rule(pattern, "action = \"drop\"");
        match source.parse::<Rules>() {
            Ok(_) => panic!("accepted: {pattern}"),
            Err(errors) => {
                assert!(errors.0[0].message.contains(words), "{pattern}: {errors}");
                assert_eq!(errors.0[0].line, 3, "{pattern}");
            }
        }
    }
    for (more, words) in [
        ("nth = 0\naction = \"drop\"", "1 or more"),
        ("nth = []\naction = \"drop\"", "empty list"),
        ("every = 0\naction = \"drop\"", "1 or more"),
        ("probability = 0\naction = \"drop\"", "greater than 0"),
        ("probability = 1.01\naction = \"drop\"", "at most 1"),
        ("probability = nan\naction = \"drop\"", "greater than 0"),
        (
            "from = \"2s\"\nuntil = \"1s\"\naction = \"drop\"",
            "window is empty",
        ),
        (
            "first = 3\nafter = 3\naction = \"drop\"",
            "no match is left",
        ),
        ("nth = 3\nevery = 2\naction = \"drop\"", "no match is left"),
        (
            "first = 9\nevery = 10\naction = \"drop\"",
            "no match is left",
        ),
        ("port = []\naction = \"drop\"", "nowhere"),
        ("action = \"explode\"", "no action 'explode'"),
        ("action = { explode = 1 }", "no action is named"),
        ("action = { delay = \"0s\" }", "does nothing"),
        ("action = { delay = \"2min\" }", "longer than a minute"),
        (
            "action = { corrupt = \"bth.psn\", xor = 0x1000000 }",
            "1 to 24 bits",
        ),
        ("action = { corrupt = \"frame.len\" }", "cannot be changed"),
        (
            "action = { corrupt = \"icrc\", icrc = \"repair\" }",
            "is not corrupted",
        ),
        ("action = { set = {} }", "names no field"),
        (
            "action = { set = { bth.psn_rel = 1 } }",
            "cannot be changed",
        ),
        (
            "action = { set = { bth.opcode = \"RC_*\" } }",
            "more than one opcode",
        ),
        (
            "action = { forge = \"ack\", timer = 3 }",
            "unknown key 'timer'",
        ),
        (
            "action = { forge = \"rnr-nak\", timer = 32 }",
            "from 0 to 31",
        ),
    ] {
        let errors = rule("", more).parse::<Rules>().expect_err(more);
        assert!(errors.0[0].message.contains(words), "{more}: {errors}");
    }
    for (pattern, action, words) in [
        (
            "opcode = \"RC_SEND_ONLY\"",
            "{ set = { aeth.msn = 1 } }",
            "has no aeth",
        ),
        (
            "opcode = \"UD_*\"",
            "{ forge = \"ack\" }",
            "does not apply to UD_SEND_ONLY",
        ),
        (
            "opcode = \"RC_ACKNOWLEDGE\"",
            "{ forge = \"ack\" }",
            "does not apply",
        ),
        ("frame.roce = 1", "{ forge = \"cnp\" }", "version"),
        ("grh = true", "\"ecn-ce\"", "IPv4 or IPv6"),
        ("arp = true", "{ corrupt = \"icrc\" }", "both arp and bth"),
        ("frame.len = \"< 60\"", "{ truncate = 60 }", "at least 61"),
    ] {
        let source = rule(pattern, &format!("action = {action}"));
        let errors = source.parse::<Rules>().expect_err(pattern);
        assert!(
            errors.0[0].message.contains(words),
            "{pattern} {action}: {errors}"
        );
        assert_eq!(errors.0[0].line, 4);
    }
}

#[test]
fn what_can_match_is_none() {
    for pattern in [
        "",
        "vlan = true, eth.type = 0x8100, ipv4.ttl = 1",
        "vlan.vid = 5, vlan.type = 0x0800, ipv4 = true",
        "opcode = [\"RC_*\", \"!RC_SEND_*\"], aeth = true",
        "bth.psn_rel = \"3..5\", frame.roce = 1",
        "grh = false, bth = true",
        "reth.dma_len = \"> 4096\", opcode = \"*WRITE*\"",
        "mad.attr_id = 0x10, bth.dest_qp = 1",
        "atomicacketh.original = 0xffff_ffff_ffff, aeth.syndrome = \"<= 31\"",
        "atomiceth.va = \"0xffff_ffff_ffff_ffff\"",
        "tcp = { syn = true, ack = false }, ipv6.src = \"fe80::/10\"",
        "\"udp.dport\" = 4791, bth.ackreq = true",
        "eth.dst = [\"ff:ff:ff:ff:ff:ff\", \"01:00:5e:00:00:01\"]",
    ] {
        parse(&rule(pattern, "action = \"drop\""));
    }
}

#[test]
fn rules_for_ports_that_are_not_there_are_found() {
    let rules = parse(
        "[[rule]]\nname = \"a\"\nport = \"nic?\"\naction = \"drop\"\n\
         [[link]]\nname = \"b\"\nlink = [\"blue\"]\nfault = \"down\"\n",
    );
    assert_eq!(rules.check_places(&[("blue", "nic0")]), Ok(()));
    let errors = rules.check_places(&[("red", "nic0")]).unwrap_err();
    assert_eq!((errors.0.len(), errors.0[0].line), (1, 6));
    let errors = rules.check_places(&[("red", "tap")]).unwrap_err();
    assert_eq!(errors.0.len(), 2);
}
