//! Rules that can never match or hit, or say what makes no sense. Each is refused, with its line.

use super::*;
use proptest::prelude::*;

/// What is wrong about how a source is refused; `words` are in the message, a `|` between them.
fn refusal(source: &str, line: usize, words: &str) -> Option<String> {
    match source.parse::<Rules>() {
        Ok(_) => Some(format!("accepted:\n{source}")),
        Err(RuleErrors(errors)) => {
            let error = &errors[0];
            let right = words.split('|').all(|word| error.message.contains(word));
            (!right || error.line != line).then(|| format!("{source}{error}\nand not {words}\n"))
        }
    }
}

#[track_caller]
fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_frame_has_that() {
    let mut wrong = Vec::new();
    for (pattern, words) in [
        ("eth = false", "no eth"),
        (
            "vlan.vid = 5, eth.type = 0x0800",
            "no frame has|eth.type as wanted|vlan.vid",
        ),
        (
            "eth.type = 0x0806, bth.psn = 1",
            "no frame has|eth.type as wanted|bth.psn",
        ),
        (
            "eth.type = 0x88cc, tcp.syn = true",
            "eth.type as wanted|tcp.syn",
        ),
        ("vlan.type = 0x0806, icmp.type = 8", "vlan.type"),
        (
            "bth = true, ipv4 = false, ipv6 = false, grh = false",
            "no grh",
        ),
        (
            "udp = true, ipv4 = false, ipv6 = false",
            "no frame has|udp|no ipv4|no ipv6",
        ),
        (
            "frame.roce = 2, udp = false",
            "udp has to be there and must not",
        ),
        ("bth = true, udp = false, grh = false", "no frame has"),
        (
            "ipv4.frag = \"> 0\", udp.dport = 53",
            "no frame has|ipv4.frag|udp.dport",
        ),
        ("ipv4.ihl = 4, tcp.syn = true", "ipv4.ihl"),
        (
            "tcp.syn = true, frame.len = \"< 54\"",
            "tcp.syn as wanted|frame.len",
        ),
        ("reth.va = 1, frame.len = 60", "reth.va as wanted|frame.len"),
        ("frame.len = \"< 14\"", "frames have 14 to 10240 bytes"),
        ("frame.len = \"> 10240\"", "frames have 14 to 10240 bytes"),
        ("payload.len = 10241", "no frame has"),
        (
            "bth = true, payload.len = 100, frame.len = 100",
            "payload.len as wanted|frame.len",
        ),
        (
            "payload.len = 20, opcode = \"RC_ACKNOWLEDGE\"",
            "has no payload",
        ),
        ("mad = true, payload.len = 23", "payload.len"),
        ("immdt.data = 1, opcode = \"RC_SEND_ONLY\"", "has no immdt"),
        ("ieth.rkey = 1, immdt.data = 1", "has no ieth"),
        ("reth.va = 1, opcode = \"UD_*\"", "has no reth"),
        ("deth.qkey = 1, opcode = \"CNP\"", "CNP has no deth"),
        ("xrceth.srqn = 1, aeth.msn = 1", "has no aeth"),
        (
            "atomicacketh.original = 1, opcode = \"RC_COMPARE_SWAP\"",
            "has no atomicacketh",
        ),
        ("opcode = [\"RC_*\", \"!RC_*\"]", "no value of bth.opcode"),
        (
            "tcp.seq = [\"& 3 == 1\", \"!& 1 == 1\"]",
            "no value of tcp.seq",
        ),
        (
            "ipv4.src = [\"10.0.0.0/8\", \"!10.0.0.0/7\"]",
            "no value of ipv4.src",
        ),
        ("ipv4.src = \"fe80::1\"", "is not an IPv4 address"),
        ("ipv6.src = \"10.0.0.1\"", "is not an IPv6 address"),
        ("eth.src = \"10.0.0.1\"", "is not a MAC address"),
        ("arp.spa = \"02:00:00:00:00:01\"", "is not an IPv4 address"),
        ("vlan.vid = 4096", "12 bits"),
        ("ipv4.ttl = 256", "8 bits"),
        ("ipv6.flow = 0x100000", "20 bits"),
        ("bth.dest_qp = 0x1000000", "24 bits"),
        ("bth.dest_qp = \"0x10..0x8\"", "smaller value first"),
        ("bth.psn = \"\"", "is not a number"),
        ("bth.psn = \"!\"", "is not a number"),
        ("bth.psn = [5, []]", "has to be a number"),
        ("bth.psn = \"5 apples\"", "is not a number"),
        ("bth = {}", "names no field"),
        ("bth = 5", "unknown field 'bth'"),
        ("bth.pns = 5", "unknown field 'bth.pns'"),
        ("BTH.psn = 5", "unknown field 'BTH.psn'"),
        ("psn = 5", "unknown field 'psn'"),
        ("opcode = \"rc_send_only\"", "no opcode is called"),
        ("opcode = \"\"", "no opcode is called"),
    ] {
        let source = rule(pattern, "action = \"drop\"");
        wrong.extend(refusal(&source, 3, words));
    }
    none(wrong);
}

#[test]
fn nothing_is_left_to_hit() {
    for (more, words) in [
        ("after = 18446744073709551615", "no match is left"),
        (
            "after = 18446744073709551614\nevery = 10",
            "no match is left",
        ),
        ("first = 5\nnth = [6, 7]", "no match is left"),
        ("after = 5\nnth = 5", "no match is left"),
        ("count = 0", "1 or more"),
        ("first = 0", "1 or more"),
        ("nth = -1", "no value from 0 on"),
        ("nth = 1.5", "a number"),
        ("probability = -0.5", "greater than 0"),
        ("probability = \"half\"", "a number"),
        ("until = \"0s\"", "the time window is empty"),
        (
            "from = \"1s\"\nuntil = \"1000ms\"",
            "the time window is empty",
        ),
        ("from = \"1h\"", "a time with its unit"),
        ("from = \"1.2.3s\"", "a time with its unit"),
        ("from = \"s\"", "a time with its unit"),
        ("per = \"qp\"", "'per' is"),
        ("since = \"boot\"", "'since' is"),
        ("seed = -1", "no value from 0 on"),
        ("direction = \"down\"", "'direction' is"),
        ("link = []", "nowhere"),
        ("port = 5", "a string, not integer"),
    ] {
        let source = format!("[[rule]]\nname = \"r\"\naction = \"drop\"\n{more}\n");
        let line = 3 + more.lines().count();
        let errors = source.parse::<Rules>().expect_err(more);
        assert!(errors.0[0].message.contains(words), "{more}: {errors}");
        assert!((4..=line).contains(&errors.0[0].line), "{more}: {errors}");
    }
}

#[test]
fn actions_that_do_nothing_or_cannot_be() {
    let mut wrong = Vec::new();
    for (pattern, action, words) in [
        ("", "{ set = { ipv4.checksum = 5 } }", "computed anew"),
        (
            "",
            "{ set = { opcode = 4, bth.opcode = 5 } }",
            "bth.opcode is set twice",
        ),
        (
            "",
            "{ set = { tcp.flags = 4, tcp.syn = true } }",
            "share bits",
        ),
        ("", "{ set = { ipv4.tos = 4, ipv4.ecn = 3 } }", "share bits"),
        ("", "{ set = { ipv4.ttl = 300 } }", "8 bits"),
        ("", "{ set = { ipv4.src = 5 } }", "a string"),
        (
            "",
            "{ set = { ipv4.src = \"10.0.0.0/8\" } }",
            "is not an IPv4 address",
        ),
        ("", "{ set = { frame.len = 60 } }", "cannot be changed"),
        ("", "{ set = { frame.roce = 1 } }", "cannot be changed"),
        ("", "{ set = { bth.nothing = 1 } }", "unknown field"),
        ("", "{ set = { bth = {} } }", "names no field"),
        (
            "",
            "{ set = { ipv4.ttl = 1, ipv6.hop_limit = 1 } }",
            "both ipv4 and ipv6",
        ),
        (
            "arp = true",
            "{ set = { ipv4.ttl = 1 } }",
            "both arp and ipv4",
        ),
        (
            "",
            "{ corrupt = \"udp.checksum\", checksum = \"repair\" }",
            "is not corrupted",
        ),
        ("", "{ corrupt = 60, bits = 9 }", "from 1 to 8"),
        ("", "{ corrupt = 60, xor = 0x100 }", "1 to 8 bits"),
        ("", "{ corrupt = 60, xor = 0 }", "1 to 8 bits"),
        ("", "{ corrupt = 60, xor = 1, bits = 1 }", "either"),
        ("", "{ corrupt = \"random\", xor = 1 }", "needs a place"),
        ("", "{ corrupt = \"payload\", bits = 0 }", "from 1 to 64"),
        ("", "{ corrupt = \"bth.psn\", bits = 25 }", "from 1 to 24"),
        ("", "{ corrupt = \"everything\" }", "unknown field"),
        ("", "{ corrupt = 10240 }", "frames have"),
        ("", "{ corrupt = 70000 }", "from 0 to 65534"),
        (
            "",
            "{ corrupt = \"payload\", icrc = \"fix\" }",
            "\"leave\" or \"repair\"",
        ),
        (
            "opcode = \"RC_ACKNOWLEDGE\"",
            "{ corrupt = \"payload\" }",
            "has no payload",
        ),
        ("frame.len = \"<= 60\"", "{ corrupt = 60 }", "at least 61"),
        ("tcp = true", "{ corrupt = \"icrc\" }", "tcp and bth"),
        ("", "{ truncate = 10240 }", "frames have"),
        ("", "{ truncate = 13 }", "from 14"),
        ("", "{ reorder = 0 }", "from 1"),
        ("", "{ reorder = 3, timeout = \"0s\" }", "nothing overtakes"),
        ("", "{ duplicate = 0 }", "from 1"),
        ("", "{ duplicate = 17 }", "from 1 to 16"),
        (
            "",
            "{ delay = \"1ms\", duplicate = 1, jitter = \"1ms\" }",
            "unknown key 'jitter'",
        ),
        ("", "{ delay = 5 }", "a time with its unit"),
        ("", "{ drop = true }", "no action is named"),
        (
            "",
            "{ delay = \"1ms\", reorder = 1 }",
            "unknown key 'reorder'",
        ),
        ("", "\"delay\"", "no action 'delay' by itself"),
        ("arp = true", "\"ecn-ce\"", "IPv4 or IPv6"),
        ("eth.type = 0x88cc", "\"ecn-ce\"", "no frame has"),
        ("", "{ forge = \"nak\" }", "'code' is missing"),
        ("", "{ forge = \"nak\", code = 32 }", "from 0 to 31"),
        (
            "",
            "{ forge = \"nak-remote-access\", code = 3 }",
            "unknown key 'code'",
        ),
        ("", "{ forge = \"nack\" }", "no answer 'nack'"),
        ("", "{ forge = \"ack\", dest_qp = 0x1000000 }", "from 0 to"),
        ("opcode = \"UC_*\"", "{ forge = \"ack\" }", "does not apply"),
        ("opcode = \"CNP\"", "{ forge = \"cnp\" }", "does not apply"),
        ("tcp.syn = true", "{ forge = \"ack\" }", "tcp and bth"),
    ] {
        let source = rule(pattern, &format!("action = {action}"));
        wrong.extend(refusal(&source, 4, words));
    }
    none(wrong);
}

#[test]
fn links_and_shapes_that_make_no_sense() {
    let mut wrong = Vec::new();
    for (kind, keys, line, words) in [
        ("link", "fault = \"broken\"", 3, "no link fault 'broken'"),
        ("link", "port = \"a\"", 1, "'fault' is missing"),
        (
            "link",
            "fault = \"down\"\ndirection = \"tx\"",
            4,
            "unknown key 'direction'",
        ),
        (
            "link",
            "fault = \"down\"\ncount = 3",
            4,
            "unknown key 'count'",
        ),
        (
            "link",
            "fault = \"down\"\nfrom = \"2s\"\nuntil = \"1s\"",
            5,
            "the time window is empty",
        ),
        (
            "link",
            "fault = \"flap\"\ndown = \"1s\"\nup = \"0s\"",
            5,
            "shorter than a microsecond",
        ),
        (
            "link",
            "fault = \"flap\"\ndown = \"1s\"\nup = \"1s\"\ncount = 0",
            6,
            "1 or more",
        ),
        (
            "link",
            "fault = \"flap\"\ndown = \"1\"\nup = \"1s\"",
            4,
            "a time with its unit",
        ),
        ("link", "fault = \"speed\"\nspeed = 0", 4, "from 1 to"),
        ("link", "fault = \"speed\"\nspeed = \"fast\"", 4, "a number"),
        (
            "link",
            "fault = \"bit-errors\"\nrate = 0.0",
            4,
            "greater than 0",
        ),
        (
            "link",
            "fault = \"bit-errors\"\nrate = \"1e-6\"",
            4,
            "a number",
        ),
        (
            "link",
            "fault = \"bit-errors\"\nrate = 1e-6\nseen-by = \"nobody\"",
            5,
            "\"fcs\" or \"icrc\"",
        ),
        (
            "link",
            "fault = \"blackhole\"\ndirection = \"up\"",
            4,
            "'direction' is",
        ),
        ("link", "fault = \"blackhole\"\nport = []", 4, "nowhere"),
        ("shape", "port = \"a\"", 2, "a 'rate', a 'latency' or both"),
        ("shape", "rate = \"10\"", 3, "a number with its unit"),
        ("shape", "rate = \"10 MB/s\"", 3, "a number with its unit"),
        ("shape", "rate = \"0Gbit/s\"", 3, "from 1 kbit/s"),
        (
            "shape",
            "rate = \"1Gbit/s\"\nlatency = \"11s\"",
            4,
            "longer than 10 s",
        ),
        ("shape", "rate = \"1Gbit/s\"\nqueue = 0", 4, "from 64 to"),
        (
            "shape",
            "latency = \"1ms\"\necn = 1000",
            4,
            "'ecn' needs a 'rate'",
        ),
        (
            "shape",
            "rate = \"1Gbit/s\"\nqueue = 1000\necn = 1000",
            5,
            "never reached",
        ),
        (
            "shape",
            "rate = \"1Gbit/s\"\nloss = 0.1",
            4,
            "unknown key 'loss'",
        ),
    ] {
        let source = format!("[[{kind}]]\nname = \"x\"\n{keys}\n");
        wrong.extend(refusal(&source, line, words));
    }
    none(wrong);
}

/// What may stand in a file, where it makes sense or not.
const PIECES: &[&str] = &[
    "",
    "\"",
    "'",
    "=",
    "[",
    "]",
    "[[",
    "{",
    "}",
    ",",
    ".",
    "#",
    "\n",
    "\\",
    "\u{e9}",
    "\u{0}",
    "-1",
    "0",
    "1",
    "0x",
    "1e400",
    "nan",
    "inf",
    "-0.0",
    "18446744073709551615",
    "18446744073709551616",
    "0xffffffffffffffffffffffffffffffffff",
    "1_0",
    "true",
    "1979-05-27",
    "\"!\"",
    "\"&\"",
    "\"& 1 == 1\"",
    "\"..\"",
    "\"1..\"",
    "\"/\"",
    "\"10.0.0.0/99\"",
    "\"*\"",
    "\"1e9s\"",
    "\"9999999999999999min\"",
    "\".s\"",
    "match",
    "action",
    "nth",
    "every",
    "after",
    "first",
    "count",
    "until",
    "from",
    "set",
    "corrupt",
    "truncate",
    "forge",
    "reorder",
    "delay",
    "duplicate",
    "opcode",
    "bth",
    "bth.psn",
    "bth.psn_rel",
    "frame.len",
    "payload.len",
    "ipv6.src",
    "rate",
    "xoff",
    "pfc",
    "port",
];

proptest! {
    #[test]
    fn no_text_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, prop::sample::select(PIECES)), 0..6),
        random in "\\PC{0,80}",
    ) {
        let example = include_str!("../rules.md").split("```").nth(1).unwrap().trim_start_matches("toml");
        let mut text: Vec<char> = example.chars().collect();
        for (at, len, piece) in changes {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        for text in [&text, &random] {
            if let Err(RuleErrors(errors)) = text.parse::<Rules>() {
                prop_assert!(!errors.is_empty());
                let lines = text.matches('\n').count() + 1;
                for error in &errors {
                    prop_assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error}\n{text}");
                    prop_assert!(!error.message.is_empty(), "{text}");
                }
            }
        }
    }

    #[test]
    fn no_selection_panics(nth: u64, every: u64, first: u64, after: u64, count: u64) {
        let text = format!(
            "[[rule]]\nname = \"r\"\naction = \"drop\"\nnth = {nth}\nevery = {every}\nfirst = {first}\nafter = {after}\ncount = {count}\n"
        );
        let _ = text.parse::<Rules>();
        let _ = text.replace("nth", "# nth").parse::<Rules>();
    }
}
