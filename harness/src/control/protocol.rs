//! The words of the control protocol: greeting, answers, errors, events. Knows neither the commands
//! nor where the words go.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::serve::events::Heard;

/// The version of the protocol. It changes when a client that knows the older one would be misled:
/// not for new commands, arguments, members of answers, or events.
pub const PROTOCOL: u32 = 1;

/// Kinds of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The line is no request.
    InvalidRequest,
    /// There is no such command.
    CommandNotFound,
    /// The command has no such argument, or not such a value of it.
    InvalidArgument,
    /// There is no such NIC, port, rule or file.
    NotFound,
    /// Rules with mistakes; `errors` lists them with their lines.
    BadRules,
    /// It could not be done.
    Failed,
    /// The client is somebody else's.
    Denied,
}

impl Class {
    /// As the protocol names it.
    pub fn name(self) -> &'static str {
        match self {
            Class::InvalidRequest => "InvalidRequest",
            Class::CommandNotFound => "CommandNotFound",
            Class::InvalidArgument => "InvalidArgument",
            Class::NotFound => "NotFound",
            Class::BadRules => "BadRules",
            Class::Failed => "Failed",
            Class::Denied => "Denied",
        }
    }
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Kind.
    pub class: Class,
    /// One line for people.
    pub desc: String,
    /// What else belongs to it.
    pub more: Map<String, Value>,
}

impl Failure {
    /// A failure that is told in one line.
    pub fn new(class: Class, desc: impl Into<String>) -> Failure {
        Failure {
            class,
            desc: desc.into(),
            more: Map::new(),
        }
    }

    /// An argument has a wrong value.
    pub fn argument(desc: impl Into<String>) -> Failure {
        Failure::new(Class::InvalidArgument, desc)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

/// What a client sees first.
pub fn greeting() -> Value {
    json!({
        "rocinante": {
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": PROTOCOL,
            "capabilities": [],
        }
    })
}

/// An answer to the request with this `id`.
pub fn answer(result: Result<Value, Failure>, id: Option<Value>) -> Value {
    let mut answer = Map::new();
    match result {
        Ok(value) => {
            answer.insert("return".into(), value);
        }
        Err(failure) => {
            let mut error = Map::new();
            error.insert("class".into(), failure.class.name().into());
            error.insert("desc".into(), failure.desc.into());
            error.extend(failure.more);
            answer.insert("error".into(), Value::Object(error));
        }
    }
    if let Some(id) = id {
        answer.insert("id".into(), id);
    }
    Value::Object(answer)
}

/// What a listener heard.
pub fn event(heard: Heard, now: Duration) -> Value {
    match heard {
        Heard::Event(event) => json!({
            "event": event.name,
            "data": event.data,
            "timestamp": timestamp(event.at),
        }),
        Heard::Lost(count) => json!({
            "event": "EVENTS_LOST",
            "data": { "count": count },
            "timestamp": timestamp(now),
        }),
    }
}

fn timestamp(at: Duration) -> Value {
    json!({ "seconds": at.as_secs(), "microseconds": at.subsec_micros() })
}

/// A request, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The command's name.
    pub execute: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// Whatever the client calls it.
    pub id: Option<Value>,
}

impl Request {
    /// Reads a line. With the failure comes the `id`, if there is one.
    pub fn parse(line: &[u8]) -> Result<Request, (Failure, Option<Value>)> {
        let bad = |desc: String| Failure::new(Class::InvalidRequest, desc);
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| (bad(format!("not JSON: {error}")), None))?;
        let Value::Object(mut members) = value else {
            return Err((bad("a request is an object".into()), None));
        };
        let id = members.remove("id");
        let execute = match members.remove("execute") {
            Some(Value::String(name)) => name,
            Some(_) => return Err((bad("'execute' is not a string".into()), id)),
            None => return Err((bad("'execute' is missing".into()), id)),
        };
        let arguments = match members.remove("arguments") {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err((bad("'arguments' is not an object".into()), id)),
        };
        if let Some(other) = members.keys().next() {
            let desc = format!("a request has no member '{}'", brief(other));
            return Err((bad(desc), id));
        }
        Ok(Request {
            execute,
            arguments,
            id,
        })
    }
}

/// A part of something that a client sent, to be shown in an error.
pub fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_apart_and_mistakes_named() {
        let request = Request::parse(br#"{"execute":"a","arguments":{"b":1},"id":[2]}"#).unwrap();
        assert_eq!(request.execute, "a");
        assert_eq!(request.arguments["b"], 1);
        assert_eq!(request.id, Some(json!([2])));
        for (line, desc, id) in [
            (&b"{"[..], "not JSON: EOF", None),
            (b"[1]", "a request is an object", None),
            (b"{\"id\":7}", "'execute' is missing", Some(json!(7))),
            (b"{\"execute\":7}", "'execute' is not a string", None),
            (
                b"{\"execute\":\"a\",\"arguments\":7}",
                "'arguments' is not an object",
                None,
            ),
            (
                b"{\"execute\":\"a\",\"args\":{}}",
                "a request has no member 'args'",
                None,
            ),
            (b"\xff", "not JSON", None),
        ] {
            let (failure, seen) = Request::parse(line).unwrap_err();
            assert!(failure.desc.starts_with(desc), "{failure}");
            assert_eq!((failure.class, seen), (Class::InvalidRequest, id));
        }
        // However deep.
        let deep = "[".repeat(100_000);
        assert!(Request::parse(deep.as_bytes()).is_err());
    }
}
