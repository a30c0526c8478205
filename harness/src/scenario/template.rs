//! Texts with variables: `ping {bob.ip}`.
//!
//! `{name}` and `{name.part}` are variables, of letters, digits, `_` and `-`, beginning with a letter. Other braces are left as they
//! are, those of the shell above all: `${x}`, `{ a; b; }`, `{print $1}`, `{1..3}`. `{{name}}` stands for `{name}` itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Values of variables by name.
pub type Variables = BTreeMap<String, String>;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

/// A text with variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads a text, of which `known` tells the variables.
    pub fn new(text: &str, known: impl Fn(&str) -> bool) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => plain.push_str(text),
                Part::Escaped(name) => {
                    plain.push('{');
                    plain.push_str(name);
                    plain.push('}');
                }
                Part::Variable(name) if known(name) => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Variable(name.to_owned()));
                }
                Part::Variable(name) => {
                    return Err(format!(
                        "there is no variable {{{name}}} here; {{{{{name}}}}} stands for the characters themselves"
                    ));
                }
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// The text with the values that `value` gives, each changed by `change`.
    pub fn render(
        &self,
        variables: &Variables,
        change: impl Fn(&str) -> String,
    ) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Variable(name) => {
                    let value = variables.get(name).ok_or_else(|| {
                        format!("{{{name}}} is not known now: nothing has set it yet")
                    })?;
                    text.push_str(&change(value));
                }
            }
        }
        Ok(text)
    }

    /// The text with values as they are.
    pub fn text(&self, variables: &Variables) -> Result<String, String> {
        self.render(variables, str::to_owned)
    }

    /// The text with `value` for each variable.
    pub fn render_all(&self, value: &str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Variable(_) => value,
        });
        pieces.collect()
    }

    /// The text as it was written, for names and reports.
    pub fn source(&self) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Variable(name) => {
                    text.push('{');
                    text.push_str(name);
                    text.push('}');
                }
            }
        }
        text
    }

    /// The variables in it.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }
}

enum Part<'a> {
    Text(&'a str),
    Variable(&'a str),
    /// In two braces.
    Escaped(&'a str),
}

/// The name that `text` begins with, with what follows its closing brace.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find('}')?;
    let (name, rest) = text.split_at(end);
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !name.ends_with('.')
        && !name.contains("..")
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    good.then(|| (name, rest.strip_prefix('}').unwrap_or(rest)))
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut begin = 0;
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|tail| tail.find('{')) {
        let brace = at + found;
        let before = rest.get(..brace).unwrap_or_default();
        let after = rest.get(brace + 1..).unwrap_or_default();
        if before.ends_with('$') {
            at = brace + 1;
            continue;
        }
        let escaped = after
            .strip_prefix('{')
            .and_then(name)
            .and_then(|(name, rest)| Some((name, rest.strip_prefix('}')?)));
        let (part, tail) = match (escaped, name(after)) {
            (Some((name, tail)), _) => (Part::Escaped(name), tail),
            (None, Some((name, tail))) => (Part::Variable(name), tail),
            (None, None) => {
                at = brace + 1;
                continue;
            }
        };
        parts.push(Part::Text(rest.get(begin..brace).unwrap_or_default()));
        parts.push(part);
        rest = tail;
        begin = 0;
        at = 0;
    }
    parts.push(Part::Text(rest));
    parts
}

/// `text` with those variables that have a value, and all else as it is.
pub fn fill_in<'a>(text: &'a str, variables: &Variables) -> Cow<'a, str> {
    if variables.is_empty() || !text.contains('{') {
        return Cow::Borrowed(text);
    }
    let mut filled = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Escaped(name) => {
                filled.push_str("{{");
                filled.push_str(name);
                filled.push_str("}}");
            }
            Part::Variable(name) => match variables.get(name) {
                Some(value) => filled.push_str(value),
                None => {
                    filled.push('{');
                    filled.push_str(name);
                    filled.push('}');
                }
            },
        }
    }
    Cow::Owned(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("bob.ip", "192.0.2.2"), ("mtu", "256")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn variables_are_told_from_the_shells_braces() {
        let text = "ping {bob.ip} | awk '{print $1}'; echo ${mtu} {{mtu}} {1,2} { ls; } é{";
        let template = Template::new(text, |name| name == "bob.ip").unwrap();
        assert_eq!(
            template.text(&variables()).unwrap(),
            "ping 192.0.2.2 | awk '{print $1}'; echo ${mtu} {mtu} {1,2} { ls; } é{"
        );
        assert_eq!(template.variables().collect::<Vec<_>>(), ["bob.ip"]);
        let error = Template::new("a {bob.ib}", |name| name == "bob.ip").unwrap_err();
        assert!(error.contains("{bob.ib}"), "{error}");
    }

    #[test]
    fn the_matrix_is_filled_in_and_the_rest_left() {
        let text = "-m {mtu} {bob.gid} {{mtu}} [0-9]{3}";
        assert_eq!(
            fill_in(text, &variables()),
            "-m 256 {bob.gid} {{mtu}} [0-9]{3}"
        );
    }

    #[test]
    fn values_may_be_changed_on_the_way() {
        let template = Template::new("^{bob.ip}$", |_| true).unwrap();
        let text = template.render(&variables(), regex::escape).unwrap();
        assert_eq!(text, r"^192\.0\.2\.2$");
        let unset = Template::new("{later}", |_| true).unwrap();
        assert!(unset.text(&variables()).is_err());
    }
}
