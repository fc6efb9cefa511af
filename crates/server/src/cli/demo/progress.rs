//! How far a run is, on stderr: bars for a person, a line a phase for a file.
//!
//! Absent here: results. They go to stdout.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar without news moves.
const TICK_MS: u64 = 100;

/// How far a run is.
pub(crate) struct Progress {
    bar: ProgressBar,
    watched: bool,
}

impl Progress {
    /// Progress on stderr.
    pub(crate) fn new() -> Progress {
        Progress {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            watched: std::io::stderr().is_terminal(),
        }
    }

    /// A new phase of `total` steps; 0 where their number is not known.
    pub(crate) fn phase(&mut self, name: &str, total: u64) {
        self.bar.finish_and_clear();
        if !self.watched {
            eprintln!("{name}");
            return;
        }
        let shape = match total {
            0 => "{spinner} {msg} {elapsed}",
            _ => "{spinner} {msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
        };
        let style = ProgressStyle::with_template(shape).unwrap_or(ProgressStyle::default_bar());
        self.bar = ProgressBar::new(total)
            .with_style(style)
            .with_message(name.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(TICK_MS));
    }

    /// So many more steps of the phase are done.
    pub(crate) fn answered(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// So many steps of the phase are done in all.
    pub(crate) fn at(&self, steps: u64) {
        self.bar.set_position(steps);
    }

    /// The engine was killed for the `count`th time and is back.
    pub(crate) fn killed(&self, count: usize, recovery_ms: u64) {
        self.say(&format!(
            "kill {count}: SIGKILL, ready again after {recovery_ms} ms"
        ));
    }

    /// Says something beside the bar.
    pub(crate) fn say(&self, words: &str) {
        if self.watched {
            self.bar.println(words);
        } else {
            eprintln!("{words}");
        }
    }

    /// No more phases.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
