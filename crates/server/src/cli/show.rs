//! How results look: tables and JSON on stdout, colour only where somebody looks.
//!
//! Absent here: what is shown. Progress and prose go to stderr, and not through here.

use std::io::{self, IsTerminal as _, Write as _};

use jiff::Timestamp;
use serde_json::Value;

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// No colour.
    pub const PLAIN: Paint = Paint { on: false };

    /// What went wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// What went well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What to look at first.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What may be passed over.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Colour for stdout: only on a terminal, never with `NO_COLOR` (<https://no-color.org>).
#[must_use]
pub fn paint() -> Paint {
    Paint {
        on: io::stdout().is_terminal() && wanted(),
    }
}

/// Colour for stderr.
#[must_use]
pub fn paint_stderr() -> Paint {
    Paint {
        on: io::stderr().is_terminal() && wanted(),
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints to stdout. A reader that closed its end (`head`) is no error.
pub fn out(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Prints a value to stdout as JSON, indented for a person, in one piece for a pipe.
pub fn json(value: &Value) {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    // A Value has only string keys, so it always prints.
    out(&(text.unwrap_or_default() + "\n"));
}

/// Lays rows out in columns as wide as their widest cell; the last column is not padded.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>], paint: Paint) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(cells) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.trim_end().to_owned()
    };
    let mut text = paint.faint(&line(&mut head.iter().copied())) + "\n";
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

/// Makes text from the outside fit for a terminal: control characters become `?`.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// A text of a JSON object, fit for a terminal; empty if there is none.
#[must_use]
pub fn text(object: &Value, key: &str) -> String {
    match &object[key] {
        Value::String(text) => clean(text),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A number of a JSON object; 0 if there is none.
#[must_use]
pub fn number(object: &Value, key: &str) -> i64 {
    object[key].as_i64().unwrap_or(0)
}

/// A span of time in its two largest units: `1 h 05 min`, `3.2 s`, `12 ms`.
#[must_use]
pub fn span(ms: i64) -> String {
    let (second, minute, hour, day) = (1_000, 60_000, 3_600_000, 86_400_000);
    let size = ms.abs();
    let sign = if ms < 0 { "-" } else { "" };
    if size < second {
        format!("{sign}{size} ms")
    } else if size < minute {
        format!("{sign}{}.{} s", size / second, size % second / 100)
    } else if size < hour {
        format!(
            "{sign}{} min {:02} s",
            size / minute,
            size % minute / second
        )
    } else if size < day {
        format!("{sign}{} h {:02} min", size / hour, size % hour / minute)
    } else {
        format!("{sign}{} d {:02} h", size / day, size % day / hour)
    }
}

/// A moment of the API (RFC 3339) as a person reads it: to the millisecond, in UTC.
#[must_use]
pub fn moment(text: &str) -> String {
    text.parse::<Timestamp>().map_or_else(
        |_| clean(text),
        |at| at.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = vec![
            vec!["a".into(), "longer".into()],
            vec!["bcd".into(), "x".into()],
        ];
        assert_eq!(
            table(&["ID", "WHAT"], &rows, Paint::PLAIN),
            "ID   WHAT\na    longer\nbcd  x\n"
        );
    }

    #[test]
    fn spans_read_well() {
        let spans = [0, 999, 1_250, 61_000, 3_900_000, 90_000_000, -1_500].map(span);
        assert_eq!(
            spans,
            [
                "0 ms",
                "999 ms",
                "1.2 s",
                "1 min 01 s",
                "1 h 05 min",
                "1 d 01 h",
                "-1.5 s"
            ]
        );
    }

    #[test]
    fn terminals_are_not_steered_from_outside() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a?[31mb?");
    }
}
