//! Regular expressions with variables in them.

use regex::Regex;

use super::template::{Template, Variables};

/// A regular expression. `^` and `$` stand for beginning and end of lines; variables' values are taken literally.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: Template,
    /// Made once where there are no variables.
    fixed: Option<Regex>,
}

fn compile(text: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(text)
        .multi_line(true)
        .build()
        .map_err(|error| {
            // The first lines draw the expression with a mark below it.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or(&text).trim();
            format!(
                "not a regular expression: {}",
                last.trim_start_matches("error: ")
            )
        })
}

impl Pattern {
    /// Reads one, of which `known` tells the variables.
    pub fn new(text: &str, known: impl Fn(&str) -> bool) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty pattern matches everything".to_owned());
        }
        let source = Template::new(text, known)?;
        // Any value is one word.
        let words = source.render_all("x");
        let regex = compile(&words)?;
        let fixed = source.variables().next().is_none().then_some(regex);
        Ok(Self { source, fixed })
    }

    /// How many groups it has.
    pub fn groups(&self) -> usize {
        compile(&self.source.render_all("x")).map_or(0, |regex| regex.captures_len() - 1)
    }

    /// The expression with the variables' values.
    pub fn regex(&self, variables: &Variables) -> Result<Regex, String> {
        match &self.fixed {
            Some(regex) => Ok(regex.clone()),
            None => compile(&self.source.render(variables, regex::escape)?),
        }
    }

    /// As it was written.
    pub fn source(&self) -> String {
        self.source.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_literal_and_lines_are_lines() {
        let pattern = Pattern::new("^from {bob.ip}: (\\d{2})$", |_| true).unwrap();
        assert_eq!(pattern.groups(), 1);
        let variables = [("bob.ip".to_owned(), "192.0.2.2".to_owned())].into();
        let regex = pattern.regex(&variables).unwrap();
        assert!(regex.is_match("a\nfrom 192.0.2.2: 42\nb"));
        assert!(!regex.is_match("from 192x0.2.2: 42"));
    }

    #[test]
    fn bad_expressions_are_told_in_a_line() {
        let error = Pattern::new("a(b", |_| true).unwrap_err();
        assert_eq!(error, "not a regular expression: unclosed group");
        assert!(Pattern::new("", |_| true).is_err());
    }
}
