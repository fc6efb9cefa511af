//! Import: devices out of files that other systems wrote, one line a device.
//!
//! | format | a line is |
//! | --- | --- |
//! | `json` | what `POST /v1/devices` takes, one object a line |
//! | `csv` | the same in columns, named by the first line; see [`COLUMNS`] |
//! | `pinpoint` | one endpoint of an Amazon Pinpoint export (`EndpointResponse`) |
//!
//! Each line is judged for itself: it becomes a [`Draft`], is skipped for a reason that is no fault
//! of the file's, or is a [`LineFault`] that says where, what, by which rule, and what to do.
//!
//! Absent here: the registry. What a draft comes to is said by the API; a draft says only what the
//! file says.

mod pinpoint;
mod table;

use std::io::{BufRead, Read as _};

use jiff::Timestamp;
use postrider_core::time::Time;
use serde_json::Value;

/// Bytes of a line at most. An endpoint of Pinpoint's has 15 KiB at the most.
pub const LINE_BYTES_MAX: u64 = 64 * 1_024;
/// Characters of a value that are shown when it is wrong; of an address fewer.
const SHOWN_MAX: usize = 60;
const SHOWN_ADDRESS_MAX: usize = 12;

/// Columns of the `csv` format. `channel` and what it needs are demanded, the others are not.
pub const COLUMNS: [&str; 15] = [
    "channel",
    "token",
    "fid",
    "endpoint",
    "p256dh",
    "auth",
    "application_server_key",
    "recipient",
    "device_id",
    "name",
    "platform",
    "authorisation",
    "event_types",
    "route",
    "refreshed_at",
];

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns, named by the first line
    Csv,
    /// One object a line, as `POST /v1/devices` takes it
    Json,
    /// The export of Amazon Pinpoint's endpoints, unpacked
    Pinpoint,
}

/// What a file does not say, and its reader knows.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// Route of devices that Firebase reaches, where a line names none.
    pub fcm_route: Option<String>,
    /// Route of Apple's devices.
    pub apns_route: Option<String>,
    /// Route of Apple's devices whose tokens are for the sandbox.
    pub apns_sandbox_route: Option<String>,
    /// Route of browsers.
    pub web_push_route: Option<String>,
    /// An endpoint of Pinpoint's that belongs to no user belongs to a recipient of its own, under
    /// the endpoint's id.
    pub recipient_from_id: bool,
    /// When the file was written: what a line without a time of its own is as old as.
    pub written_at: Option<Time>,
}

/// What one line came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A device to register.
    Draft(Draft),
    /// Nothing that could be registered.
    Skipped(Skip),
}

/// A device to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The line it is from, from 1.
    pub line: u64,
    /// The body that `POST /v1/devices` takes.
    pub device: Value,
}

/// Why a line is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// Mail, text, voice and in-app notices are not carried.
    NotPush,
    /// A push service that is not carried: Amazon Device Messaging, Baidu.
    Service,
    /// The person has opted out of everything.
    OptedOut,
    /// Pinpoint itself had given the address up.
    Inactive,
    /// The line is empty.
    Empty,
}

impl Skip {
    /// The reason as one word, for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Skip::NotPush => "not_push",
            Skip::Service => "service",
            Skip::OptedOut => "opted_out",
            Skip::Inactive => "inactive",
            Skip::Empty => "empty",
        }
    }

    /// The reason, in words for a person.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Skip::NotPush => "no push channel (mail, text, voice, in-app)",
            Skip::Service => "a push service that is not carried (ADM, Baidu)",
            Skip::OptedOut => "the person has opted out",
            Skip::Inactive => "given up by Pinpoint itself (INACTIVE)",
            Skip::Empty => "empty",
        }
    }
}

/// A line that cannot be read as a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{field}` {rule}{}: {way_out}", shown(.value))]
pub struct LineFault {
    /// Which line, from 1.
    pub line: u64,
    /// Which field, by its name in the file.
    pub field: String,
    /// Its value, cut; empty if it has none.
    pub value: String,
    /// What is demanded of it.
    pub rule: String,
    /// What to do about it.
    pub way_out: &'static str,
}

fn shown(value: &str) -> String {
    match value {
        "" => String::new(),
        value => format!(", not {value:?}"),
    }
}

/// Reads a file line by line. Ends with the first error of the reader itself.
pub fn read(
    format: Format,
    reader: impl BufRead + 'static,
    means: Means,
) -> Box<dyn Iterator<Item = Result<Line, LineFault>>> {
    match format {
        Format::Csv => Box::new(table::Table::new(reader, means)),
        Format::Json | Format::Pinpoint => Box::new(Objects {
            reader,
            means,
            format,
            line: 0,
            ended: false,
        }),
    }
}

/// What is wrong with one field.
struct Wrong {
    field: String,
    value: String,
    rule: String,
    way_out: &'static str,
}

impl Wrong {
    fn new(field: &str, value: &str, rule: impl Into<String>, way_out: &'static str) -> Wrong {
        let address = matches!(field, "token" | "fid" | "endpoint" | "Address");
        let secret = matches!(field, "auth" | "p256dh");
        let most = match (secret, address) {
            (true, _) => 0,
            (_, true) => SHOWN_ADDRESS_MAX,
            _ => SHOWN_MAX,
        };
        let mut cut: String = value.chars().take(most).collect();
        if !secret && cut.len() < value.len() {
            cut.push('…');
        }
        Wrong {
            field: field.to_owned(),
            value: cut,
            rule: rule.into(),
            way_out,
        }
    }

    fn at(self, line: u64) -> LineFault {
        LineFault {
            line,
            field: self.field,
            value: self.value,
            rule: self.rule,
            way_out: self.way_out,
        }
    }
}

/// Lines of JSON.
struct Objects<R> {
    reader: R,
    means: Means,
    format: Format,
    line: u64,
    ended: bool,
}

impl<R: BufRead> Iterator for Objects<R> {
    type Item = Result<Line, LineFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut bytes);
        let at = self.line + 1;
        match read {
            Ok(0) => return None,
            Ok(_) => self.line = at,
            Err(error) => {
                self.ended = true;
                return Some(Err(unreadable(&error.to_string()).at(at)));
            }
        }
        if bytes.len() as u64 > LINE_BYTES_MAX {
            self.ended = true;
            let rule = format!("must have at most {LINE_BYTES_MAX} bytes");
            let way_out = "put one object on each line: `jq -c '.[]'` does that to an array";
            return Some(Err(Wrong::new("line", "", rule, way_out).at(at)));
        }
        let made = match bytes.trim_ascii() {
            b"" => Ok(Line::Skipped(Skip::Empty)),
            text if self.format == Format::Json => object(text, &self.means, at),
            text => pinpoint::endpoint(text, &self.means, at),
        };
        Some(made.map_err(|wrong| wrong.at(at)))
    }
}

fn unreadable(why: &str) -> Wrong {
    let rule = format!("could not be read ({why})");
    Wrong::new("file", "", rule, "mend the file, then go on with this line")
}

/// One device, as the API takes it.
fn object(text: &[u8], means: &Means, line: u64) -> Result<Line, Wrong> {
    let way_out = "write what POST /v1/devices takes, one object on each line; an array becomes \
                   that by `jq -c '.[]'`";
    let mut device: Value = serde_json::from_slice(text)
        .map_err(|fault| Wrong::new("line", "", format!("must be JSON ({fault})"), way_out))?;
    let Value::Object(members) = &mut device else {
        return Err(Wrong::new("line", "", "must be a JSON object", way_out));
    };
    let kinds = ["web_push", "apns", "fcm"];
    let given: Vec<&str> = kinds
        .into_iter()
        .filter(|kind| members.contains_key(*kind))
        .collect();
    let [kind] = given[..] else {
        let rule = "must have exactly one of `web_push`, `apns` and `fcm`";
        let way_out = "say how the device is reached; see docs/import.md";
        return Err(Wrong::new("line", &given.join(", "), rule, way_out));
    };
    if !members.contains_key("route")
        && let Some(route) = means.route(kind, false)
    {
        members.insert("route".into(), route.into());
    }
    let given = match members.get("refreshed_at") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(moment("refreshed_at", text)?),
        Some(other) => return Err(not_a_moment("refreshed_at", &other.to_string())),
    };
    age(members, given, means);
    Ok(Line::Draft(Draft { line, device }))
}

/// Gives a device the time that it was known at.
fn age(members: &mut serde_json::Map<String, Value>, given: Option<Time>, means: &Means) {
    let at = given.or(means.written_at);
    let at = at.and_then(|at| Timestamp::from_millisecond(at.0).ok());
    if let Some(at) = at {
        members.insert("refreshed_at".into(), at.to_string().into());
    }
}

fn moment(field: &str, text: &str) -> Result<Time, Wrong> {
    let at: Timestamp = text.parse().map_err(|_| not_a_moment(field, text))?;
    Ok(Time(at.as_millisecond()))
}

fn not_a_moment(field: &str, text: &str) -> Wrong {
    let rule = "must be a moment as RFC 3339 writes it";
    Wrong::new(field, text, rule, "write it like 2026-10-30T17:31:01Z")
}

impl Means {
    fn route(&self, kind: &str, sandbox: bool) -> Option<&str> {
        match (kind, sandbox) {
            ("fcm", _) => self.fcm_route.as_deref(),
            ("apns", false) => self.apns_route.as_deref(),
            ("apns", true) => self.apns_sandbox_route.as_deref(),
            _ => self.web_push_route.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;
