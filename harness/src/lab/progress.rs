//! Tells whoever waits what the lab is doing: a spinner on a terminal, a line per finished step elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Where progress is shown (standard error, so that tables can be piped), or nowhere.
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Shown on standard error.
    pub fn shown() -> Self {
        Self { shown: true }
    }

    /// Not shown.
    pub fn silent() -> Self {
        Self { shown: false }
    }

    /// One line.
    pub fn say(&self, line: &str) {
        if self.shown {
            eprintln!("{line}");
        }
    }

    /// A step that takes a while. Ends, with its time, when the answer is dropped.
    pub fn step(&self, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = if self.shown {
            // Hidden by indicatif itself where standard error is no terminal.
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(what.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        } else {
            ProgressBar::hidden()
        };
        Step {
            shown: self.shown,
            what,
            bar,
            started: Instant::now(),
        }
    }
}

/// A step under way.
pub struct Step {
    shown: bool,
    what: String,
    bar: ProgressBar,
    started: Instant,
}

impl Step {
    /// How far it has come, in a few words.
    pub fn at(&self, detail: &str) {
        self.bar.set_message(format!("{}: {detail}", self.what));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.shown {
            let seconds = self.started.elapsed().as_secs_f64();
            eprintln!("  {} ({seconds:.1} s)", self.what);
        }
    }
}
