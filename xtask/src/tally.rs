//! Counting what a test runner reports.
//!
//! Absent here: running it.

/// How many held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests and checks that held.
    pub passed: u64,
    /// Those that did not.
    pub broken: u64,
    /// Those that were left out.
    pub skipped: u64,
}

impl Tally {
    /// One check that held or did not.
    pub fn one(held: bool) -> Tally {
        Tally {
            passed: u64::from(held),
            broken: u64::from(!held),
            skipped: 0,
        }
    }

    /// Both together.
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            broken: self.broken + other.broken,
            skipped: self.skipped + other.skipped,
        }
    }

    /// Reads one line of output: the summary of nextest, or of one binary under `cargo test`.
    pub fn of_line(line: &str) -> Option<Tally> {
        let counts = if let Some(rest) = line.trim_start().strip_prefix("Summary [") {
            rest.split_once("run:")?.1
        } else {
            // At the start of the line only: nextest shows those of single tests further in.
            line.strip_prefix("test result:")?.split_once('.')?.1
        };
        let mut tally = Tally::default();
        for count in counts.split([',', ';']) {
            let mut words = count.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
                continue;
            };
            match words.next().unwrap_or_default() {
                "passed" => tally.passed += number,
                "failed" | "timed" | "exec" => tally.broken += number,
                "skipped" | "ignored" | "filtered" => tally.skipped += number,
                _ => {}
            }
        }
        Some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let tally = |passed, broken, skipped| {
            Some(Tally {
                passed,
                broken,
                skipped,
            })
        };
        let cases = [
            (
                "     Summary [   0.1s] 13 tests run: 11 passed (1 slow), 2 failed, 4 skipped",
                tally(11, 2, 4),
            ),
            (
                "     Summary [  61.0s] 3 tests run: 1 passed, 1 failed, 1 timed out, 0 skipped",
                tally(1, 2, 0),
            ),
            (
                "     Summary [   0.0s] 1 test run: 1 passed, 0 skipped",
                tally(1, 0, 0),
            ),
            (
                "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out",
                tally(5, 0, 2),
            ),
            (
                "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
                tally(1, 3, 0),
            ),
            ("running 5 tests", None),
            (
                "    test result: FAILED. 0 passed; 1 failed; 0 ignored",
                None,
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(Tally::of_line(line), expected, "{line}");
        }
    }
}
