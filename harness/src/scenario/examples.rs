//! The examples of the documentation have no mistakes.

use std::path::Path;

use super::file;
use super::template::Variables;

/// Blocks of TOML, with the line before each, but for those that need files.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        if line == "```toml" {
            block = Some((number + 1, String::new()));
        } else if line == "```" {
            blocks.extend(block.take());
        } else if let Some((_, text)) = &mut block {
            text.push_str(line);
            text.push('\n');
        }
    }
    blocks
}

#[test]
fn examples_have_no_mistakes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut count = 0;
    for name in ["docs/scenarios.md", "docs/ci.md"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        for (line, block) in blocks(&text) {
            // So that places are those in the document.
            let source = "\n".repeat(line) + &block;
            let read = file::read(Path::new(name), &source, &Variables::new());
            if let Err(mistakes) = read {
                panic!("{}", mistakes[0]);
            }
            count += 1;
        }
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn scenarios_of_this_repository_have_no_mistakes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .collect();
    assert!(files.len() >= 10);
    if let Err(mistakes) = super::read(&files, &Variables::new()) {
        panic!("{}", mistakes[0]);
    }
}
