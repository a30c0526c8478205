//! The host's apt sources, in both of their formats (sources.list(5)), read to find the Debian mirror it uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A Debian mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where it is.
    pub uri: String,
    /// The keyring that its releases are verified with.
    pub signed_by: Option<PathBuf>,
}

impl Mirror {
    /// A sources stanza for `suites` of this mirror.
    pub fn deb822(&self, suites: &str) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {suites}\nComponents: main\n",
            self.uri
        );
        if let Some(keyring) = &self.signed_by {
            text.push_str(&format!("Signed-By: {}\n", keyring.display()));
        }
        text
    }
}

/// One source of packages.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<PathBuf>,
}

impl Entry {
    /// The mirror, if this entry is of the main archive and has the suite `codename`.
    pub fn mirror_of(&self, codename: &str) -> Option<Mirror> {
        if !self.suites.iter().any(|suite| suite == codename)
            || !self.components.iter().any(|component| component == "main")
        {
            return None;
        }
        let uri = self.uris.iter().find(|uri| !uri.starts_with("cdrom:"))?;
        Some(Mirror {
            uri: uri.clone(),
            signed_by: self.signed_by.clone(),
        })
    }
}

/// The mirror from which this Debian host of release `codename` is fed.
pub fn of_host(codename: &str) -> Option<Mirror> {
    let entries = read(Path::new("/etc/apt"));
    [codename, "stable", "testing", "unstable", "sid"]
        .iter()
        .filter(|name| !name.is_empty())
        .find_map(|name| entries.iter().find_map(|entry| entry.mirror_of(name)))
}

fn read(folder: &Path) -> Vec<Entry> {
    let mut files = vec![folder.join("sources.list")];
    if let Ok(parts) = fs::read_dir(folder.join("sources.list.d")) {
        let mut parts: Vec<PathBuf> = parts.filter_map(|f| Some(f.ok()?.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut entries = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => entries.extend(one_line(&text)),
            Some("sources") => entries.extend(deb822(&text)),
            _ => {}
        }
    }
    entries
}

/// The format of `sources.list`: `deb [ options ] uri suite component...`.
pub fn one_line(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .and_then(keyring),
    })
}

/// The format of `*.sources`: stanzas of fields.
fn deb822(text: &str) -> Vec<Entry> {
    let mut stanzas: Vec<BTreeMap<String, String>> = vec![BTreeMap::new()];
    let mut key = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(stanza) = stanzas.last_mut() else {
            break;
        };
        if line.trim().is_empty() {
            stanzas.push(BTreeMap::new());
        } else if line.starts_with([' ', '\t']) {
            let value = stanza.entry(key.clone()).or_default();
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            key = name.to_ascii_lowercase();
            stanza.insert(key.clone(), value.trim().to_owned());
        }
    }
    stanzas.iter().filter_map(deb822_entry).collect()
}

fn deb822_entry(stanza: &BTreeMap<String, String>) -> Option<Entry> {
    let words = |name: &str| -> Vec<String> {
        stanza
            .get(name)
            .map(|value| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let off = ["no", "false", "off", "0"];
    if !words("types").iter().any(|word| word == "deb")
        || words("enabled").iter().any(|word| off.contains(&&**word))
    {
        return None;
    }
    Some(Entry {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: stanza.get("signed-by").and_then(|value| keyring(value)),
    })
}

/// `Signed-By` may also hold fingerprints or a whole key; only a keyring's path can be used elsewhere.
fn keyring(value: &str) -> Option<PathBuf> {
    value.starts_with('/').then(|| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a note
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
";

    #[test]
    fn the_main_archive_is_found_in_deb822() {
        let entries = deb822(DEB822);
        assert_eq!(entries.len(), 2);
        let mirror = entries
            .iter()
            .find_map(|e| e.mirror_of("bookworm"))
            .unwrap();
        assert_eq!(mirror.uri, "http://mirror.test/debian");
        assert_eq!(
            mirror.deb822("trixie trixie-backports"),
            "Types: deb\nURIs: http://mirror.test/debian\nSuites: trixie trixie-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn continued_fields_and_inline_keys_are_read() {
        let entries = deb822(
            "Types: deb\nURIs:\n http://mirror.test/debian\nSuites: sid\nComponents: contrib\n main\nSigned-By:\n -----BEGIN\n",
        );
        let mirror = entries[0].mirror_of("sid").unwrap();
        assert_eq!(mirror.uri, "http://mirror.test/debian");
        assert_eq!(mirror.signed_by, None);
    }

    #[test]
    fn one_line_sources_with_and_without_options() {
        let entries = one_line(
            "# deb http://old.test/debian bookworm main\n\
             deb cdrom:[Debian]/ bookworm main\n\
             deb-src http://mirror.test/debian bookworm main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian/ bookworm main contrib # ours\n",
        );
        assert_eq!(entries.len(), 2);
        let mirror = entries
            .iter()
            .find_map(|e| e.mirror_of("bookworm"))
            .unwrap();
        assert_eq!(mirror.uri, "http://mirror.test/debian/");
        assert_eq!(mirror.signed_by, Some("/k.gpg".into()));
    }

    #[test]
    fn other_suites_and_components_are_not_the_main_archive() {
        let entries = one_line(
            "deb http://m.test/x bookworm-updates main\ndeb http://m.test/y bookworm contrib\n",
        );
        assert!(entries.iter().all(|e| e.mirror_of("bookworm").is_none()));
    }
}
