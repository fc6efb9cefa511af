//! What a verb ends with when it does not simply end: exit code, causal chain, hint.
//!
//! Absent here: what the errors are. Verbs bring their own and say what they tried.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use super::show::{self, Paint};

/// How a verb ends when it does not end well.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// What was tried, or is wrong, as a clause without a full stop.
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

/// The exit codes, the same for every verb; 0 is "done".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The answer is no: it was refused, not found, damaged, broken, or could not be done.
    No = 1,
    /// The question is wrong: usage or configuration.
    Usage = 2,
}

/// What a verb returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// The answer is no.
    pub fn no(what: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::No,
            what: what.into(),
            source: None,
            hint: None,
        }
    }

    /// Usage or configuration is wrong.
    pub fn usage(what: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Usage,
            what: what.into(),
            source: None,
            hint: None,
        }
    }

    /// With the error that led to it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        self.source = Some(source.into());
        self
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it to stderr and returns the exit code.
    pub fn report(&self) -> ExitCode {
        eprint!("{}", self.render(show::paint_stderr()));
        ExitCode::from(self.exit as u8)
    }

    /// The whole text: the chain, a blank line, the hint.
    fn render(&self, paint: Paint) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{} {}\n", paint.bad("error:"), self.what);
        let mut source: Option<&dyn Error> = self.source.as_deref().map(|e| e as &dyn Error);
        let mut said = self.what.clone();
        while let Some(error) = source {
            let line = error.to_string();
            // Some errors repeat the words of the one below.
            if line != said {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  caused by: {line}");
                said = line;
            }
            source = error.source();
        }
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\n{} {hint}\n", paint.strong("hint:"));
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_chain_a_blank_line_and_a_hint() {
        let inner = std::io::Error::other("the wire is cut");
        let failure = Failure::no("the event could not be sent")
            .because(inner)
            .hint("mend it");
        assert_eq!(
            failure.render(Paint::PLAIN),
            "error: the event could not be sent\n  caused by: the wire is cut\n\nhint: mend it\n"
        );
    }
}
