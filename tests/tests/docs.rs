//! What the documents say is what the files say: each recipe of the fault guide is a scenario of this repository.

use std::fs;
use std::path::{Path, PathBuf};

use rocinante_harness::faults::Faults;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The blocks of `language` in a text.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str())
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or(rest))
        .collect()
}

/// What `[text](target)` points to, in a text.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// A text with the first value of each variable of a scenario.
fn with_variables(text: &str, scenario: &toml::Table) -> String {
    let matrix = scenario.get("matrix").and_then(toml::Value::as_table);
    let variables = matrix.into_iter().flatten();
    variables.fold(text.to_owned(), |text, (name, values)| {
        let first = values.as_array().and_then(|values| values.first());
        let first = first.and_then(toml::Value::as_str).unwrap_or_default();
        text.replace(&format!("{{{name}}}"), first)
    })
}

#[test]
fn recipes_are_scenarios() {
    let guide = fs::read_to_string(root().join("docs/faults.md")).expect("the guide");
    let recipes: Vec<&str> = guide.split("\n### ").skip(1).collect();
    assert!(recipes.len() >= 10, "{} recipes", recipes.len());
    for recipe in recipes {
        let title = recipe.lines().next().expect("a title");
        let path = links(recipe)
            .into_iter()
            .find(|target| target.starts_with("../scenarios/"))
            .unwrap_or_else(|| panic!("{title}: no scenario"));
        let scenario = fs::read_to_string(root().join("docs").join(path))
            .unwrap_or_else(|error| panic!("{title}: {path}: {error}"));
        let scenario: toml::Table = scenario.parse().expect("TOML");
        let sets = scenario["faults"].as_table().expect("sets of faults");
        let entries = blocks(recipe, "toml");
        assert!(!entries.is_empty(), "{title}: no entry");
        for text in entries {
            let faults = with_variables(text, &scenario).parse::<Faults>();
            assert!(faults.is_ok(), "{title}: {:?}", faults.err());
            let entry = toml::Value::Table(text.parse().expect("TOML"));
            assert!(
                sets.values().any(|set| *set == entry),
                "{title}: {path} has no set of faults that is\n{text}"
            );
        }
    }
}

#[test]
fn documents_point_to_what_is_there() {
    let mut documents = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs")).expect("docs") {
        documents.push(entry.expect("an entry").path());
    }
    for document in documents {
        let text = fs::read_to_string(&document).expect("a document");
        let folder = document.parent().expect("a folder");
        for target in links(&text) {
            let path = target.split('#').next().unwrap_or(target);
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let there = folder.join(path).exists();
            assert!(there, "{}: {target} is not there", document.display());
        }
    }
}
