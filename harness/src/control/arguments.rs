//! Arguments of commands: what each is called and may be, and reading them. Knows no command.

use serde_json::{Map, Value};

use super::protocol::{Class, Failure, brief};

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number that is not negative.
    Number,
    /// `true` or `false`.
    Flag,
    /// A string, or a list of strings.
    Texts,
    /// An object with these members.
    Object(&'static [Argument]),
    /// An object with any members.
    Any,
}

impl Kind {
    /// As `query-commands` and the documentation name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "string",
            Kind::Number => "number",
            Kind::Flag => "boolean",
            Kind::Texts => "strings",
            Kind::Object(_) | Kind::Any => "object",
        }
    }

    fn admits(self, value: &Value) -> bool {
        match self {
            Kind::Text => value.is_string(),
            Kind::Number => value.is_u64(),
            Kind::Flag => value.is_boolean(),
            Kind::Texts => {
                value.is_string()
                    || value
                        .as_array()
                        .is_some_and(|list| list.iter().all(Value::is_string))
            }
            Kind::Object(_) | Kind::Any => value.is_object(),
        }
    }
}

/// An argument of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// It has to be there.
    pub required: bool,
}

/// An argument that has to be there.
pub const fn required(name: &'static str, kind: Kind) -> Argument {
    Argument {
        name,
        kind,
        required: true,
    }
}

/// An argument that may be left out.
pub const fn optional(name: &'static str, kind: Kind) -> Argument {
    Argument {
        name,
        kind,
        required: false,
    }
}

/// Arguments of one request that are what the command wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Checks `given` against what a command `wants`. `null` is as good as nothing.
    pub fn check(
        command: &str,
        wants: &[Argument],
        given: Map<String, Value>,
    ) -> Result<Arguments, Failure> {
        let mut given = given;
        given.retain(|_, value| !value.is_null());
        if let Some(unknown) = given
            .keys()
            .find(|name| wants.iter().all(|argument| argument.name != *name))
        {
            let names: Vec<_> = wants.iter().map(|argument| argument.name).collect();
            let known = if names.is_empty() {
                "it has none".to_owned()
            } else {
                names.join(", ")
            };
            return Err(Failure::argument(format!(
                "{command} has no argument '{}' ({known})",
                brief(unknown)
            )));
        }
        for argument in wants {
            match given.get(argument.name) {
                None if argument.required => {
                    return Err(Failure::argument(format!(
                        "{command} needs '{}'",
                        argument.name
                    )));
                }
                Some(value) if !argument.kind.admits(value) => {
                    return Err(Failure::argument(format!(
                        "'{}' of {command} is no {}",
                        argument.name,
                        argument.kind.name()
                    )));
                }
                Some(Value::Object(members)) => {
                    if let Kind::Object(wants) = argument.kind {
                        let what = format!("'{}' of {command}", argument.name);
                        Arguments::check(&what, wants, members.clone())?;
                    }
                }
                _ => {}
            }
        }
        Ok(Arguments(given))
    }

    /// A string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A string that has to be there.
    pub fn needed(&self, name: &str) -> Result<&str, Failure> {
        self.text(name)
            .ok_or_else(|| Failure::argument(format!("'{name}' is missing")))
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// Yes or no.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool()
    }

    /// A string or a list of them; none at all is an empty list.
    pub fn texts(&self, name: &str) -> Vec<String> {
        match self.0.get(name) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(list)) => list
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The members of an object that may have any.
    pub fn members(&self, name: &str) -> Map<String, Value> {
        let object = self.0.get(name).and_then(Value::as_object);
        object.cloned().unwrap_or_default()
    }

    /// The members of an object.
    pub fn object(&self, name: &str) -> Option<Arguments> {
        Some(Arguments(self.0.get(name)?.as_object()?.clone()))
    }
}

/// The description of a command's arguments.
pub fn describe(arguments: &[Argument]) -> Value {
    let one = |argument: &Argument| {
        let mut all = Map::new();
        all.insert("name".into(), argument.name.into());
        all.insert("type".into(), argument.kind.name().into());
        all.insert("required".into(), argument.required.into());
        if let Kind::Object(members) = argument.kind {
            all.insert("members".into(), describe(members));
        }
        Value::Object(all)
    };
    Value::Array(arguments.iter().map(one).collect())
}

/// There is no such thing.
pub fn not_found(what: &str, name: &str, known: impl IntoIterator<Item = String>) -> Failure {
    let known: Vec<_> = known.into_iter().collect();
    let known = if known.is_empty() {
        "there is none".to_owned()
    } else {
        known.join(", ")
    };
    Failure::new(
        Class::NotFound,
        format!("no {what} '{}' ({known})", brief(name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WANTS: &[Argument] = &[
        required("port", Kind::Text),
        optional("up", Kind::Flag),
        optional("limit", Kind::Number),
        optional("links", Kind::Texts),
        optional("ring", Kind::Object(&[required("size", Kind::Text)])),
    ];

    fn check(given: Value) -> Result<Arguments, String> {
        let Value::Object(given) = given else {
            unreachable!()
        };
        Arguments::check("go", WANTS, given).map_err(|failure| failure.desc)
    }

    #[test]
    fn what_fits_is_read() {
        let all = json!({ "port": "a", "up": true, "limit": 7, "links": ["x", "y"], "ring": { "size": "1M" } });
        let read = check(all).unwrap();
        assert_eq!(read.needed("port"), Ok("a"));
        assert_eq!(
            (read.flag("up"), read.number("limit")),
            (Some(true), Some(7))
        );
        assert_eq!(read.texts("links"), ["x", "y"]);
        assert_eq!(read.object("ring").unwrap().text("size"), Some("1M"));
        let few = check(json!({ "port": "a", "up": null, "links": "x" })).unwrap();
        assert_eq!(
            (few.flag("up"), few.texts("links")),
            (None, vec!["x".into()])
        );
    }

    #[test]
    fn what_does_not_is_named() {
        let known = "(port, up, limit, links, ring)";
        for (given, desc) in [
            (json!({}), "go needs 'port'".to_owned()),
            (
                json!({ "port": "a", "colour": 1 }),
                format!("go has no argument 'colour' {known}"),
            ),
            (json!({ "port": 1 }), "'port' of go is no string".into()),
            (
                json!({ "port": "a", "limit": -1 }),
                "'limit' of go is no number".into(),
            ),
            (
                json!({ "port": "a", "links": [1] }),
                "'links' of go is no strings".into(),
            ),
            (
                json!({ "port": "a", "ring": {} }),
                "'ring' of go needs 'size'".into(),
            ),
            (
                json!({ "port": "a", "ring": { "size": "1", "x": 1 } }),
                "'ring' of go has no argument 'x' (size)".into(),
            ),
        ] {
            assert_eq!(check(given), Err(desc));
        }
    }
}
