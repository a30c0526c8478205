//! What is quoted of outputs and logs in errors.

use std::fs;
use std::path::Path;

/// What is quoted of a job's output; the transcript has it all.
pub fn excerpt(text: &str) -> String {
    last_lines(text, 12)
}

/// The end of a log; before it the reason of a kernel's panic, which stands above a long trace.
pub fn tail(path: &Path, lines: usize) -> String {
    let log = fs::read(path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let end = last_lines(&log, lines);
    let panics = |line: &&str| line.contains("Kernel panic - not syncing");
    match log.lines().rfind(panics) {
        Some(reason) if !end.contains(reason) => format!("{reason}\n{end}"),
        _ => end,
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(count);
    let kept = lines
        .iter()
        .skip(skipped)
        .copied()
        .collect::<Vec<_>>()
        .join("\n");
    if skipped == 0 {
        kept
    } else {
        format!("…\n{kept}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_panic_is_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = "up\nKernel panic - not syncing: no init\nCall Trace:\na\nb\n";
        fs::write(file.path(), log).unwrap();
        let reason = "Kernel panic - not syncing: no init";
        assert_eq!(tail(file.path(), 2), format!("{reason}\n…\na\nb"));
        assert_eq!(
            tail(file.path(), 4),
            format!("…\n{reason}\nCall Trace:\na\nb")
        );
    }

    #[test]
    fn long_outputs_are_quoted_from_their_end() {
        assert_eq!(last_lines("a\nb\n", 2), "a\nb");
        assert_eq!(last_lines("a\nb\nc\n", 2), "…\nb\nc");
        assert_eq!(last_lines("", 2), "");
    }
}
