use super::*;

fn wrong(source: &str) -> Vec<(usize, usize, String)> {
    let errors = source.parse::<Faults>().unwrap_err();
    errors
        .0
        .into_iter()
        .map(|error| (error.line, error.column, error.message))
        .collect()
}

/// What is wrong with an entry of one kind.
fn one(kind: &str, keys: &str) -> String {
    let source = format!("[[{kind}]]\nname = \"a\"\n{keys}\n");
    wrong(&source).remove(0).2
}

#[test]
fn one_file_for_packets_and_devices() {
    let faults: Faults = r#"
        [[rule]]
        name = "lossy"
        probability = 0.1
        action = "drop"
        [[command]]
        name = "no CQ"
        nic = "nic?"
        match = { opcode = "CREATE_CQ" }
        nth = 3
        action = { status = "NO_RES", syndrome = 0x1234 }
        [[removal]]
        name = "pulled out"
        nic = ["nic1", "b*"]
        from = "2s"
        until = "4s"
    "#
    .parse()
    .unwrap();
    assert_eq!(faults.rules.rules().len(), 1);
    assert_eq!(faults.devices.len(), 2);
    assert_eq!(faults.plan("nic0").0.len(), 1);
    assert_eq!(faults.plan("nic1").0.len(), 2);
    assert_eq!(faults.plan("blue").0.len(), 1);
    assert_eq!(faults.plan("other").0.len(), 0);
    assert!(faults.check_nics(&["nic1"]).is_ok());
    let RuleErrors(lost) = faults.check_nics(&["nic0", "x"]).unwrap_err();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].line, lost[0].column), (13, 1));
    assert_eq!(
        lost[0].message,
        "'pulled out' is at no NIC there is (nic0, x)"
    );
}

#[test]
fn mistakes_have_line_and_column() {
    let source = "[[command]]\nname = \"a\"\nmatch = { opcode = \"CREATE_CQS\" }\naction = \"ignore\"\n\
                  [[comand]]\n[[rule]]\nname = \"b\"\naction = \"drop\"\n\
                  [[removal]]\nname = \"b\"\n";
    let found = wrong(source);
    let places: Vec<_> = found
        .iter()
        .map(|(line, column, _)| (*line, *column))
        .collect();
    assert_eq!(places, [(3, 20), (5, 3), (10, 8)], "{found:?}");
}

#[test]
fn every_mistake_is_named() {
    for (kind, keys, message) in [
        ("command", "", "'action' is missing"),
        ("command", "action = \"explode\"", "no action 'explode'"),
        (
            "command",
            "action = { status = \"WELL\" }",
            "no status 'WELL'",
        ),
        (
            "command",
            "action = { stat = \"WELL\" }",
            "an action has one of status, delay",
        ),
        (
            "command",
            "match = { opcode = \"CREATE_CQS\" }\naction = \"ignore\"",
            "no command 'CREATE_CQS'",
        ),
        (
            "command",
            "match = { opcode = \"CREATE_CQ\", cqn = 5 }\naction = \"ignore\"",
            "'CreateCqIn' has no field 'cqn'",
        ),
        (
            "command",
            "match = { opcode = \"QUERY_PAGES\" }\naction = { set = { num_page = 5 } }",
            "'QueryPagesOut' has no field 'num_page' (but num_pages)",
        ),
        (
            "command",
            "match = { opcode = 0x9999 }\naction = \"ignore\"",
            "no command '0x9999'",
        ),
        (
            "command",
            "match = { opcode = \"QUERY_HCA_CAP\", op_mod = 0x10000 }\naction = \"ignore\"",
            "op_mod",
        ),
        (
            "command",
            "match = { opcode = \"QUERY_PAGES\" }\naction = { set = {} }",
            "'set' says nothing",
        ),
        (
            "command",
            "match = { opcode = \"ACTIVATE_TRACER\", op_mod = 0, uid = 1 }\naction = \"ignore\"",
            "ACTIVATE_TRACER is not offered: its fields are not known",
        ),
        (
            "command",
            "action = { delivery = \"late\" }",
            "no 'late' (signature, token",
        ),
        (
            "command",
            "nth = 3\nfirst = 2\naction = \"ignore\"",
            "first",
        ),
        (
            "command",
            "per = \"qp\"\naction = \"ignore\"",
            "unknown key 'per'",
        ),
        (
            "event",
            "match = { type = \"PORT_CHANGED\" }\naction = \"drop\"",
            "no 'PORT_CHANGED' (COMP, PATH_MIG",
        ),
        (
            "event",
            "action = { late = \"1s\" }",
            "an action has one of duplicate, delay",
        ),
        (
            "event",
            "match = { type = [] }\naction = \"drop\"",
            "'type': an empty list matches nothing",
        ),
        (
            "event",
            "match = { type = 256 }\naction = \"drop\"",
            "'type'",
        ),
        (
            "interrupt",
            "match = { vector = 64 }\naction = \"drop\"",
            "'vector'",
        ),
        (
            "interrupt",
            "match = { eq = 1 }\naction = \"drop\"",
            "unknown key 'eq'",
        ),
        (
            "completion",
            "action = { syndrome = \"BAD\" }",
            "no 'BAD' (LOCAL_LENGTH_ERR",
        ),
        (
            "completion",
            "action = { syndrome = 0 }",
            "syndrome 0 is none",
        ),
        (
            "completion",
            "match = { service = \"rc\" }\naction = \"drop\"",
            "no 'rc' (RC, UC",
        ),
        (
            "async",
            "event = \"CMD\"",
            "this is no event of a queue pair, SRQ or CQ",
        ),
        (
            "async",
            "event = \"SRQ_RQ_LIMIT\"\nqp = 3",
            "'qp' does not go with this event, 'srq' does",
        ),
        ("async", "event = \"COMM_EST\"", "'qp' is missing"),
        (
            "health",
            "from = \"1s\"",
            "one of 'syndrome', 'counter' and 'initializing' is missing",
        ),
        ("health", "syndrome = 0", "syndrome 0 is health"),
        (
            "health",
            "syndrome = 1\nevery = \"1s\"",
            "'every': this lasts",
        ),
        (
            "pages",
            "ask = 5\nkeep = 3",
            "there is one of 'ask', 'give-back' and 'keep'",
        ),
        (
            "pages",
            "ask = 5\ncount = 3",
            "this happens once: 'every' is missing",
        ),
        (
            "pages",
            "ask = 5\nevery = \"1us\"",
            "'every' is shorter than 10us",
        ),
        ("module", "", "'status' is missing"),
        (
            "module",
            "status = \"plugged\"\nerror = \"bus-stuck\"",
            "'error' goes with the status",
        ),
        (
            "sensor",
            "temperature = 5000",
            "'temperature' is in degrees Celsius",
        ),
        (
            "removal",
            "from = \"2s\"\nuntil = \"1s\"",
            "the time window is empty",
        ),
        (
            "capability",
            "set = { general.rocee = true }",
            "'GeneralCaps' has no field 'rocee' (but roce)",
        ),
        (
            "capability",
            "set = { general.roce = 2 }",
            "'roce' has 1 bits: at most 1",
        ),
        (
            "capability",
            "set = { generals.roce = 1 }",
            "no capabilities 'generals' (general, ethernet",
        ),
        (
            "capability",
            "set = { general.roce = 0, \"general.roce\" = 1 }",
            "",
        ),
        (
            "capability",
            "set = { general = { roce = 0 }, \"general.roce\" = 1 }",
            "'general.roce' is set twice",
        ),
        ("capability", "set = {}", "'set' says nothing"),
        (
            "command",
            "action = { delay = \"0s\" }",
            "a delay of nothing does nothing",
        ),
        (
            "event",
            "action = { delay = \"0s\" }",
            "a delay of nothing does nothing",
        ),
        (
            "event",
            "match = { type = [] }\naction = \"drop\"",
            "an empty list matches nothing",
        ),
        (
            "command",
            "match = { opcode = [] }\naction = \"ignore\"",
            "an empty list matches nothing",
        ),
        ("health", "syndrome = 1\nseverity = 8", "from 0 to 7"),
        ("removal", "nic = []", "nowhere"),
        ("timeout", "", "no timeout is given"),
        ("timeout", "command = \"0s\"", "a timeout is 1 ms or more"),
    ] {
        let said = one(kind, keys);
        assert!(
            said.contains(message),
            "[[{kind}]] {keys}\n{said}\n{message}"
        );
    }
}

#[test]
fn injections_are_written_alike() {
    let pulled = injection("removal", "").unwrap();
    assert_eq!(pulled, Injection::Removal);
    let module = Injection::Module {
        status: 3,
        error: 2,
    };
    assert_eq!(
        injection("module", "error = \"bus-stuck\"").unwrap(),
        module
    );
    let keys = serde_json::json!({ "error": "bus-stuck" });
    let keys = keys.as_object().unwrap();
    assert_eq!(injection_from_json("module", keys).unwrap(), module);
    assert_eq!(injection("clear", "").unwrap(), Injection::Clear);
    assert!(
        injection("command", "")
            .unwrap_err()
            .contains("cannot be injected")
    );
    assert!(
        injection("module", "from = \"1s\"")
            .unwrap_err()
            .contains("unknown key 'from'")
    );
    assert!(injection("module", "status = 1 2").is_err());
}

#[test]
fn examples_in_the_guide_are_right() {
    let guide = include_str!("../../../device/src/mlx5/fault/faults.md");
    let blocks: Vec<&str> = guide
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 3);
    for block in &blocks {
        block
            .parse::<Faults>()
            .unwrap_or_else(|errors| panic!("{block}\n{errors}"));
    }
    // And together, as in one file.
    let all: Faults = blocks.concat().parse().unwrap();
    assert_eq!(all.devices.len(), 14);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(
        changes in proptest::collection::vec(
            (
                proptest::prelude::any::<proptest::sample::Index>(),
                0..10usize,
                proptest::sample::select(vec![
                    "", "\"", "'", "=", "[", "]", "{", "}", ".", "\n", "-1", "0", "nan", "1e400", "true", "\u{e9}",
                    "18446744073709551615", "0xffffffffffffffffffffffff", "\"newest\"", "\"9999999999999min\"", "opcode",
                    "set", "match", "status", "delay", "every", "count", "until", "qp", "type", "vector", "general", "*",
                ]),
            ),
            0..6,
        ),
    ) {
        let guide = include_str!("../../../device/src/mlx5/fault/faults.md");
        let blocks = guide.split("```toml\n").skip(1);
        let all: String = blocks.map(|rest| rest.split("```").next().unwrap()).collect();
        let mut text: Vec<char> = all.chars().collect();
        for (at, len, piece) in changes {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(RuleErrors(errors)) = text.parse::<Faults>() {
            let lines = text.matches('\n').count() + 1;
            proptest::prop_assert!(errors.iter().all(|error| (1..=lines).contains(&error.line)), "{text}");
        }
    }
}
