//! Comparisons of figures: `5`, `">= 5"`, `"2s..4s"`, `"<= 1.5 * {before}"`.

use std::fmt;

use super::file::duration;
use super::template::{Template, Variables};

/// How a figure has to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    Not,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// `factor * value`.
#[derive(Clone, Debug)]
struct Operand {
    factor: f64,
    value: Template,
    /// Whether it is a time with its unit.
    time: bool,
}

impl Operand {
    fn new(text: &str, time: bool, known: &impl Fn(&str) -> bool) -> Result<Self, String> {
        let (factor, value) = match text.split_once('*') {
            Some((factor, value)) => {
                let factor = factor.trim();
                let parsed = factor.parse().ok().filter(|f: &f64| f.is_finite());
                (
                    parsed.ok_or_else(|| format!("'{factor}' is no factor"))?,
                    value,
                )
            }
            None => (1.0, text),
        };
        let value = Template::new(value.trim(), known)?;
        let operand = Self {
            factor,
            value,
            time,
        };
        // One without variables can be looked at now.
        if operand.value.variables().next().is_none() {
            operand.evaluate(&Variables::new())?;
        }
        Ok(operand)
    }

    fn evaluate(&self, variables: &Variables) -> Result<f64, String> {
        let text = self.value.text(variables)?;
        let figure = if self.time {
            duration(&text)
                .map(|time| time.as_secs_f64())
                .ok_or_else(|| format!("'{text}' is no time with its unit, like \"10ms\""))?
        } else {
            text.trim()
                .replace('_', "")
                .parse()
                .ok()
                .filter(|figure: &f64| figure.is_finite())
                .ok_or_else(|| format!("'{text}' is no number"))?
        };
        Ok(figure * self.factor)
    }
}

/// All of these have to hold.
#[derive(Clone, Debug)]
pub struct Comparison {
    text: String,
    terms: Vec<(Operator, Operand)>,
}

impl Comparison {
    /// A figure by itself.
    pub fn equal(figure: f64) -> Self {
        Self {
            text: figure.to_string(),
            terms: vec![(
                Operator::Is,
                Operand {
                    factor: figure,
                    value: Template::new("1", |_| false).unwrap_or_default(),
                    time: false,
                },
            )],
        }
    }

    /// Reads one. `time` says that figures are times with their units.
    pub fn new(text: &str, time: bool, known: impl Fn(&str) -> bool) -> Result<Self, String> {
        let text = text.trim();
        let operand = |text: &str| Operand::new(text, time, &known);
        let terms = if let Some((low, high)) = text.split_once("..") {
            vec![
                (Operator::AtLeast, operand(low)?),
                (Operator::AtMost, operand(high)?),
            ]
        } else {
            const OPERATORS: [(&str, Operator); 7] = [
                (">=", Operator::AtLeast),
                ("<=", Operator::AtMost),
                ("!=", Operator::Not),
                ("==", Operator::Is),
                (">", Operator::More),
                ("<", Operator::Less),
                ("", Operator::Is),
            ];
            let (operator, rest) = OPERATORS
                .into_iter()
                .find_map(|(sign, operator)| Some((operator, text.strip_prefix(sign)?)))
                .unwrap_or((Operator::Is, text));
            vec![(operator, operand(rest)?)]
        };
        let comparison = Self {
            text: text.to_owned(),
            terms,
        };
        if let [(_, low), (_, high)] = &comparison.terms[..]
            && let (Ok(low), Ok(high)) = (
                low.evaluate(&Variables::new()),
                high.evaluate(&Variables::new()),
            )
            && low > high
        {
            return Err(format!("'{text}' never holds"));
        }
        Ok(comparison)
    }

    /// Whether it holds for `figure`.
    pub fn holds(&self, figure: f64, variables: &Variables) -> Result<bool, String> {
        for (operator, operand) in &self.terms {
            let other = operand.evaluate(variables)?;
            let holds = match operator {
                Operator::Is => figure == other,
                Operator::Not => figure != other,
                Operator::Less => figure < other,
                Operator::AtMost => figure <= other,
                Operator::More => figure > other,
                Operator::AtLeast => figure >= other,
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it can hold for a figure that is never negative.
    pub fn can_hold_from_zero(&self) -> bool {
        let none = Variables::new();
        !self.terms.iter().any(|(operator, operand)| {
            let Ok(other) = operand.evaluate(&none) else {
                return false;
            };
            match operator {
                Operator::Is | Operator::AtMost => other < 0.0,
                Operator::Less => other <= 0.0,
                _ => false,
            }
        })
    }

    /// What its variables stand for, for reports.
    pub fn explained(&self, variables: &Variables) -> String {
        let values: Vec<String> = self
            .terms
            .iter()
            .filter(|(_, operand)| operand.value.variables().next().is_some())
            .filter_map(|(_, operand)| operand.evaluate(variables).ok())
            .map(|value| value.to_string())
            .collect();
        if values.is_empty() {
            String::new()
        } else {
            format!(" ({} is {})", self.text, values.join(", "))
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, figure: f64) -> bool {
        let variables = [("before".to_owned(), "4".to_owned())].into();
        let comparison = Comparison::new(text, false, |name| name == "before").unwrap();
        comparison.holds(figure, &variables).unwrap()
    }

    #[test]
    fn every_comparison() {
        assert!(holds("5", 5.0) && !holds("5", 4.0));
        assert!(holds("== 5", 5.0) && holds("!= 5", 4.0));
        assert!(holds("> 5", 6.0) && !holds("> 5", 5.0));
        assert!(holds(">= 5", 5.0) && holds("<= 5", 5.0) && !holds("< 5", 5.0));
        assert!(holds("2..3", 2.0) && holds("2..3", 3.0) && !holds("2..3", 3.1));
        assert!(holds(">= 0.5 * {before}", 2.0) && !holds(">= 0.5 * {before}", 1.9));
    }

    #[test]
    fn times_have_units() {
        let range = Comparison::new("500ms..2s", true, |_| false).unwrap();
        let none = Variables::new();
        assert!(range.holds(0.5, &none).unwrap() && !range.holds(2.5, &none).unwrap());
        assert!(Comparison::new("> 5", true, |_| false).is_err());
    }

    #[test]
    fn what_cannot_hold_is_told() {
        let new = |text| Comparison::new(text, false, |_| false);
        assert!(new("3..2").unwrap_err().contains("never"));
        assert!(new("five").is_err());
        assert!(new("> {x}").is_err());
        assert!(!new("< 0").unwrap().can_hold_from_zero());
        assert!(new("<= 0").unwrap().can_hold_from_zero());
    }
}
