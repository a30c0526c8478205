//! What is wrong with a file of rules, and where.

use std::fmt;
use std::ops::Range;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct RuleError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// All mistakes of a file, in the order of its lines; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleErrors(pub Vec<RuleError>);

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for RuleErrors {}

/// A mistake and the bytes of the file that it is about.
#[derive(Debug)]
pub struct Mistake {
    /// Where.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
}

impl Mistake {
    /// With what is wrong.
    pub fn new(span: &Range<usize>, message: impl Into<String>) -> Mistake {
        Mistake {
            span: span.clone(),
            message: message.into(),
        }
    }

    /// With the line that `source` has there.
    #[must_use]
    pub fn locate(self, source: &str) -> RuleError {
        let mut at = self.span.start.min(source.len());
        while !source.is_char_boundary(at) {
            at -= 1;
        }
        let before = source.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        RuleError {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: self.message,
        }
    }
}
