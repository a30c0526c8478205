//! Sets of faults, each by its name: what stands under `[[faults.NAME.rule]]` and the like in a scenario, in the language of
//! [`Faults`], or the file that `faults.NAME.file` names.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rocinante_wire::fault::{RuleError, RuleErrors};

use super::source::Mistake;
use crate::faults::Faults;

/// A set's text.
#[derive(Clone, Debug)]
struct Set {
    path: PathBuf,
    /// As long as its file up to its end, so that places are those of the file.
    text: String,
}

/// Sets by name.
#[derive(Clone, Debug, Default)]
pub struct FaultSets(BTreeMap<String, Set>);

impl FaultSets {
    /// Adds one. `text` has its lines where the file has them.
    pub fn add(&mut self, name: &str, path: &Path, text: String) {
        let path = path.to_owned();
        self.0.insert(name.to_owned(), Set { path, text });
    }

    /// Whether there is such a set.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The sets' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The faults of some sets, the first one's first.
    pub fn faults(&self, names: &[String]) -> Result<Faults, RuleErrors> {
        let texts: Vec<&str> = names
            .iter()
            .filter_map(|name| Some(self.0.get(name)?.text.trim()))
            .collect();
        texts.join("\n").parse()
    }

    /// What is wrong with each set by itself, where these are the ports there are, by link and name, and these the NICs.
    pub fn mistakes(&self, ports: &[(&str, &str)], nics: &[&str]) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for set in self.0.values() {
            let mut add = |checked: Result<(), RuleErrors>| {
                for error in checked.err().map(|errors| errors.0).unwrap_or_default() {
                    mistakes.push(mistake(&set.path, error));
                }
            };
            match set.text.parse::<Faults>() {
                Ok(faults) => {
                    add(faults.rules.check_places(ports));
                    add(faults.check_nics(nics));
                }
                Err(errors) => add(Err(errors)),
            }
        }
        mistakes
    }

    /// Names of all faults of these sets that are counted.
    pub fn counted(&self, names: &[String]) -> Vec<String> {
        let faults = self.faults(names).unwrap_or_default();
        let counters = faults.rules.counters().into_iter();
        counters
            .chain(faults.device_counters())
            .map(|counters| counters.name)
            .collect()
    }
}

fn mistake(path: &Path, error: RuleError) -> Mistake {
    Mistake {
        path: path.to_owned(),
        line: error.line,
        column: error.column,
        message: error.message,
    }
}

/// The lines of set `name` in a scenario, with the prefix `faults.NAME.` of their headers taken away; all other lines are empty.
/// Also says how many headers there were. `strings` are the bytes of the file's strings, whose lines are no headers.
pub fn lines(source: &str, name: &str, strings: &[Range<usize>]) -> (String, usize) {
    let mut text = String::new();
    let mut headers = 0;
    let mut inside = false;
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let in_string = strings
            .iter()
            .any(|string| string.start < at && at < string.end);
        at += line.len();
        if !in_string && line.trim_start().starts_with('[') {
            match own_header(line, name) {
                Some(header) => {
                    inside = true;
                    headers += usize::from(header.starts_with("[["));
                    text.push_str(&header);
                    text.push('\n');
                    continue;
                }
                None => inside = false,
            }
        }
        if inside {
            text.push_str(line);
        } else {
            text.push('\n');
        }
    }
    (text, headers)
}

/// `[[faults.NAME.rule]]` gives `[[rule]]`.
fn own_header(line: &str, name: &str) -> Option<String> {
    let line = line.trim();
    let open = if line.starts_with("[[") { "[[" } else { "[" };
    let rest = line
        .strip_prefix(open)?
        .trim_start()
        .strip_prefix("faults")?;
    let rest = rest.trim_start().strip_prefix('.')?.trim_start();
    let rest = rest.strip_prefix(name)?;
    let rest = rest.trim_start().strip_prefix('.')?.trim_start();
    Some(format!("{open}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "name = \"x\"\n\
        [[faults.one.rule]]\n\
        name = \"a\"\n\
        action = \"drop\"\n\
        [faults.one.rule.match]\n\
        ipv4.ttl = 3\n\
        [[ faults . two . rule ]]   # another\n\
        name = \"b\"\n\
        action = \"nothing\"\n\
        [[step]]\n\
        run = '''\n\
        [[faults.one.rule]]\n'''\n";

    #[test]
    fn sets_keep_their_lines() {
        let from = SOURCE.find("'''").unwrap();
        let string = from..SOURCE.len() - 1;
        let strings = std::slice::from_ref(&string);
        let (one, headers) = lines(SOURCE, "one", strings);
        assert_eq!(headers, 1);
        assert_eq!(
            one.trim_end(),
            "\n[[rule]]\nname = \"a\"\naction = \"drop\"\n[rule.match]\nipv4.ttl = 3"
        );
        let (two, headers) = lines(SOURCE, "two", strings);
        assert_eq!(headers, 1);
        let mut sets = FaultSets::default();
        sets.add("one", Path::new("f.toml"), one);
        sets.add("two", Path::new("f.toml"), two);
        let mistakes = sets.mistakes(&[("link0", "alice")], &["alice"]);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].to_string().starts_with("f.toml:9:10: "));
        assert_eq!(sets.counted(&["one".to_owned()]), ["a"]);
    }
}
