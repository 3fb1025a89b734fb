//! How far a phase is, on standard error, and only where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that disappears when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Begins a phase of `steps`.
    pub(crate) fn new(label: &str, steps: u64) -> Self {
        let style = ProgressStyle::with_template("{msg:20} [{bar:40}] {pos}/{len} {per_sec} {eta}")
            .expect("the template is valid")
            .progress_chars("=> ");
        let bar = ProgressBar::new(steps).with_style(style).with_message(label.to_owned());
        Self { bar }
    }

    /// Goes on by some steps.
    pub(crate) fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
