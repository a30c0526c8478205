use super::*;
use crate::serve::events::{Events, MAX_WAITING};
use proptest::prelude::*;
use serde_json::Map;

/// A world that answers with what it was asked.
#[derive(Default)]
struct Echo {
    events: Events,
}

impl World for Echo {
    fn execute(&self, command: &Command, arguments: &Arguments) -> Result<Value, Failure> {
        Ok(json!([command.name, format!("{arguments:?}")]))
    }

    fn subscribe(&self, waker: Arc<dyn Wake>) -> Subscription {
        self.events.subscribe(move || waker.wake())
    }
}

fn begin() -> Session {
    let mut session = Session::new(Arc::new(|| {}));
    let greeting = take(&mut session);
    assert_eq!(greeting[0]["rocinante"]["protocol"], 1);
    session
}

/// All that has come out.
fn take(session: &mut Session) -> Vec<Value> {
    let lines = session
        .output()
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    session.sent(usize::MAX);
    lines
}

/// Feeds and works until nothing is left to do.
fn talk(session: &mut Session, world: &Echo, bytes: &[u8]) -> Vec<Value> {
    let mut answers = Vec::new();
    session.feed(bytes);
    loop {
        while session.turn(world, Duration::from_millis(1500)) {
            assert!(session.output().len() < MAX_OUTPUT + MAX_LINE);
        }
        let more = take(session);
        if more.is_empty() {
            return answers;
        }
        answers.extend(more);
    }
}

fn desc(answer: &Value) -> &str {
    answer["error"]["desc"].as_str().unwrap_or_default()
}

#[test]
fn requests_are_answered_with_their_id() {
    let (mut session, world) = (begin(), Echo::default());
    let answers = talk(
        &mut session,
        &world,
        b"{\"execute\":\"query-links\",\"id\":{\"a\":1}}\r\n\n  \n{\"execute\":\"reset\",\"arguments\":{\"nic\":\"x\"}}\n",
    );
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["return"][0], "query-links");
    assert_eq!(answers[0]["id"], json!({ "a": 1 }));
    assert_eq!(answers[1]["return"][0], "reset");
    assert_eq!(answers[1].get("id"), None);
}

#[test]
fn mistakes_are_named() {
    let (mut session, world) = (begin(), Echo::default());
    for (line, class, text) in [
        ("nonsense", "InvalidRequest", "not JSON: expected ident"),
        (
            "{\"execute\":\"fly\"}",
            "CommandNotFound",
            "no command 'fly'",
        ),
        (
            "{\"execute\":\"reset\"}",
            "InvalidArgument",
            "reset needs 'nic'",
        ),
        (
            "{\"execute\":\"quit\",\"arguments\":{\"when\":1}}",
            "InvalidArgument",
            "quit has no argument 'when' (it has none)",
        ),
        (
            "{\"execute\":\"subscribe\",\"arguments\":{\"events\":\"RAIN\"}}",
            "InvalidArgument",
            "no event 'RAIN' (CAPTURE_FAILED, ",
        ),
    ] {
        let answers = talk(&mut session, &world, format!("{line}\n").as_bytes());
        assert_eq!(answers.len(), 1, "{line}");
        assert_eq!(answers[0]["error"]["class"], class);
        assert!(desc(&answers[0]).starts_with(text), "{}", answers[0]);
    }
    // Names are not repeated at length.
    let long = format!("{{\"execute\":\"{}\"}}\n", "x".repeat(100_000));
    let answers = talk(&mut session, &world, long.as_bytes());
    assert!(desc(&answers[0]).len() < 120);
}

#[test]
fn a_line_that_is_too_long_is_one_error_and_the_next_is_read() {
    let (mut session, world) = (begin(), Echo::default());
    let mut answers = Vec::new();
    for _ in 0..40 {
        assert!(session.wants_input());
        answers.extend(talk(&mut session, &world, &[b'['; 65536]));
        assert!(session.input.len() <= MAX_LINE + 65536);
    }
    answers.extend(talk(&mut session, &world, b"\n{\"execute\":\"help\"}\n"));
    assert_eq!(answers.len(), 2);
    assert_eq!(desc(&answers[0]), "a request of more than 1048576 bytes");
    assert_eq!(answers[1]["return"][0], "help");
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let (mut session, world) = (begin(), Echo::default());
    let line = b"{\"execute\":\"query-links\"}\n".repeat(100_000);
    session.feed(&line);
    while session.turn(&world, Duration::ZERO) {}
    assert!(!session.wants_input());
    assert!((MAX_OUTPUT..MAX_OUTPUT + 100).contains(&session.output().len()));
    // It goes on where it was when the client reads.
    session.sent(10);
    session.sent(MAX_OUTPUT);
    let before = session.output().len();
    assert!(session.turn(&world, Duration::ZERO));
    assert!(session.output().len() > before);
}

#[test]
fn events_come_to_who_asked_for_them() {
    let (mut session, world) = (begin(), Echo::default());
    assert!(!world.events.wanted());
    let some = b"{\"execute\":\"subscribe\",\"arguments\":{\"events\":[\"LINK_UP\"]}}\n";
    talk(&mut session, &world, some);
    world.events.tell("LINK_DOWN", || json!({ "port": "a" }));
    world.events.tell("LINK_UP", || json!({ "port": "a" }));
    let heard = talk(&mut session, &world, b"");
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0]["event"], "LINK_UP");
    assert_eq!(heard[0]["data"], json!({ "port": "a" }));
    assert!(heard[0]["timestamp"]["seconds"].as_u64() > Some(1_700_000_000));
    talk(&mut session, &world, b"{\"execute\":\"subscribe\"}\n");
    for _ in 0..MAX_WAITING + 3 {
        world.events.tell("LINK_DOWN", || json!({}));
    }
    let heard = talk(&mut session, &world, b"");
    assert_eq!(heard.len(), MAX_WAITING + 1);
    assert_eq!(
        heard[MAX_WAITING],
        json!({
            "event": "EVENTS_LOST",
            "data": { "count": 3 },
            "timestamp": { "seconds": 1, "microseconds": 500_000 },
        })
    );
    talk(&mut session, &world, b"{\"execute\":\"unsubscribe\"}\n");
    assert!(!world.events.wanted());
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(commands::COMMANDS).prop_map(|command| command.name);
    let value = prop_oneof![
        Just(json!("a")),
        Just(json!(7)),
        Just(json!(true)),
        Just(json!(["a", "b"])),
        Just(json!({ "size": "1M", "files": 3 })),
        Just(Value::Null),
    ];
    let argument = prop::sample::select(vec!["nic", "port", "up", "path", "ring", "kind", "other"]);
    let request =
        (name, prop::collection::hash_map(argument, value, 0..3)).prop_map(|(name, arguments)| {
            let arguments: Map<String, Value> = arguments
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            json!({ "execute": name, "arguments": arguments, "id": 1 })
                .to_string()
                .into_bytes()
        });
    prop_oneof![
        request,
        prop::collection::vec(any::<u8>(), 0..40),
        "[{}\\[\\]\":,a-z0-9]{0,30}".prop_map(String::into_bytes),
    ]
}

proptest! {
    /// However it is cut into pieces, every line has one answer, which is JSON.
    #[test]
    fn every_line_is_answered_once(
        lines in prop::collection::vec(any_line(), 0..8),
        cut in 1..50usize,
    ) {
        let (mut session, world) = (begin(), Echo::default());
        let mut bytes = Vec::new();
        let mut expected = 0;
        for line in &lines {
            for part in line.split(|byte| *byte == b'\n') {
                expected += usize::from(!part.trim_ascii().is_empty());
            }
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        let whole = talk(&mut session, &world, &bytes);
        prop_assert_eq!(whole.len(), expected);
        for answer in &whole {
            prop_assert!(answer.get("return").is_some() != answer.get("error").is_some());
        }
        let mut again = begin();
        let mut pieces = Vec::new();
        for piece in bytes.chunks(cut) {
            pieces.extend(talk(&mut again, &world, piece));
        }
        prop_assert_eq!(whole, pieces);
    }
}
