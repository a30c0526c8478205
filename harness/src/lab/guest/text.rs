//! What is quoted of outputs and logs in errors.

use std::fs;
use std::path::Path;

/// What is quoted of a job's output; the transcript has it all.
pub fn excerpt(text: &str) -> String {
    last_lines(text, 12)
}

/// The end of a log.
pub fn tail(path: &Path, lines: usize) -> String {
    last_lines(
        &String::from_utf8_lossy(&fs::read(path).unwrap_or_default()),
        lines,
    )
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
    fn long_outputs_are_quoted_from_their_end() {
        assert_eq!(last_lines("a\nb\n", 2), "a\nb");
        assert_eq!(last_lines("a\nb\nc\n", 2), "…\nb\nc");
        assert_eq!(last_lines("", 2), "");
    }
}
