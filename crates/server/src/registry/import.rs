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

use std::io::{BufRead, Read};

use jiff::Timestamp;
use postrider_core::time::Time;
use serde::Deserialize;
use serde_json::{Value, json};

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
        Format::Csv => Box::new(Table::new(reader, means)),
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
            text => pinpoint(text, &self.means, at),
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

/// Lines of columns.
struct Table<R> {
    records: csv::Reader<R>,
    /// Which of [`COLUMNS`] each column is.
    columns: Result<Vec<&'static str>, Option<LineFault>>,
    means: Means,
}

impl<R: Read> Table<R> {
    fn new(reader: R, means: Means) -> Table<R> {
        let mut records = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .flexible(true)
            .from_reader(reader);
        let columns = match records.headers() {
            Ok(names) => columns(names),
            Err(error) => Err(unreadable(&error.to_string())),
        };
        Table {
            columns: columns.map_err(|wrong| Some(wrong.at(1))),
            records,
            means,
        }
    }
}

fn columns(names: &csv::StringRecord) -> Result<Vec<&'static str>, Wrong> {
    let way_out = "name the columns in the first line; docs/import.md has all of them";
    let mut known = Vec::with_capacity(names.len());
    for name in names {
        // Spreadsheets put a byte order mark in front of the first name.
        let name = name.trim_start_matches('\u{feff}');
        let column = COLUMNS.into_iter().find(|column| *column == name);
        let rule = || format!("must be one of {}", COLUMNS.join(", "));
        let column = column.ok_or_else(|| Wrong::new("column", name, rule(), way_out))?;
        if known.contains(&column) {
            return Err(Wrong::new("column", name, "must be there once", way_out));
        }
        known.push(column);
    }
    if known.contains(&"channel") {
        Ok(known)
    } else {
        Err(Wrong::new(
            "column",
            "",
            "`channel` must be one of them",
            way_out,
        ))
    }
}

impl<R: Read> Iterator for Table<R> {
    type Item = Result<Line, LineFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let columns = match &mut self.columns {
            Ok(columns) => columns,
            Err(fault) => return fault.take().map(Err),
        };
        let mut record = csv::StringRecord::new();
        let read = self.records.read_record(&mut record);
        let line = record.position().map_or(0, csv::Position::line);
        match read {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => {
                let line = error.position().map_or(line, csv::Position::line);
                // What is no text is wrong in this line alone; anything else is the reader's end.
                let goes_on = matches!(error.kind(), csv::ErrorKind::Utf8 { .. });
                let fault = unreadable(&error.to_string()).at(line);
                if !goes_on {
                    self.columns = Err(None);
                }
                return Some(Err(fault));
            }
        }
        if record.iter().all(str::is_empty) {
            return Some(Ok(Line::Skipped(Skip::Empty)));
        }
        let row = Row {
            columns,
            record: &record,
        };
        let draft = row.device(&self.means);
        let draft = draft.map(|device| Line::Draft(Draft { line, device }));
        Some(draft.map_err(|wrong| wrong.at(line)))
    }
}

struct Row<'a> {
    columns: &'a [&'static str],
    record: &'a csv::StringRecord,
}

impl Row<'_> {
    /// The field of a column, if it is there and not empty.
    fn get(&self, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|known| *known == column)?;
        self.record.get(at).filter(|text| !text.is_empty())
    }

    fn needed(&self, column: &'static str) -> Result<&str, Wrong> {
        let rule = "must be given for this channel";
        let way_out = "fill the column in, or leave the line out";
        self.get(column)
            .ok_or_else(|| Wrong::new(column, "", rule, way_out))
    }

    fn device(&self, means: &Means) -> Result<Value, Wrong> {
        if self.record.len() > self.columns.len() {
            let rule = format!("must have {} fields, as the first line", self.columns.len());
            let found = self.record.len().to_string();
            let way_out = "put fields with a comma in them in double quotes";
            return Err(Wrong::new("line", &found, rule, way_out));
        }
        let channel = self.get("channel").unwrap_or_default();
        let (kind, place) = match channel {
            "fcm" => ("fcm", self.fcm()?),
            "apns" => ("apns", json!({ "token": self.needed("token")? })),
            "web_push" => ("web_push", self.web_push()?),
            other => {
                let rule = "must be fcm, apns or web_push";
                let way_out = "say how the device is reached";
                return Err(Wrong::new("channel", other, rule, way_out));
            }
        };
        let mut device = serde_json::Map::new();
        device.insert(kind.into(), place);
        for column in [
            "recipient",
            "device_id",
            "name",
            "platform",
            "authorisation",
        ] {
            if let Some(text) = self.get(column) {
                device.insert(column.into(), text.into());
            }
        }
        if let Some(types) = self.get("event_types") {
            let types: Vec<&str> = types.split_ascii_whitespace().collect();
            device.insert("event_types".into(), types.into());
        }
        if let Some(route) = self.get("route").or_else(|| means.route(kind, false)) {
            device.insert("route".into(), route.into());
        }
        let given = self.get("refreshed_at");
        let given = given.map(|text| moment("refreshed_at", text)).transpose()?;
        age(&mut device, given, means);
        Ok(device.into())
    }

    fn fcm(&self) -> Result<Value, Wrong> {
        match (self.get("token"), self.get("fid")) {
            (Some(token), None) => Ok(json!({ "token": token })),
            (None, Some(fid)) => Ok(json!({ "fid": fid })),
            (both, _) => {
                let rule = "must be given, or `fid`: exactly one of them";
                let way_out =
                    "a registration token goes into `token`, an installation id into `fid`";
                Err(Wrong::new("token", both.unwrap_or_default(), rule, way_out))
            }
        }
    }

    fn web_push(&self) -> Result<Value, Wrong> {
        let keys = json!({ "p256dh": self.needed("p256dh")?, "auth": self.needed("auth")? });
        let mut place = json!({ "endpoint": self.needed("endpoint")?, "keys": keys });
        if let Some(key) = self.get("application_server_key") {
            place["application_server_key"] = key.into();
        }
        Ok(place)
    }
}

/// An endpoint as Pinpoint exports it. Only what a device has here is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    #[serde(default)]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    channel_type: String,
    #[serde(default)]
    endpoint_status: String,
    #[serde(default)]
    opt_out: String,
    #[serde(default)]
    effective_date: String,
    #[serde(default)]
    demographic: Option<Demographic>,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Demographic {
    #[serde(default)]
    platform: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct User {
    #[serde(default)]
    user_id: Option<String>,
}

fn pinpoint(text: &[u8], means: &Means, line: u64) -> Result<Line, Wrong> {
    let way_out = "give the files of an export job of Pinpoint's, unpacked (`zcat *.gz`)";
    let gzip = text.starts_with(b"\x1f\x8b");
    let packed = || Wrong::new("file", "", "must be unpacked", way_out);
    let exported: Exported = serde_json::from_slice(text).map_err(|fault| match gzip {
        true => packed(),
        false => {
            let rule = format!("must be an endpoint of Pinpoint's in JSON ({fault})");
            Wrong::new("line", "", rule, way_out)
        }
    })?;
    let (kind, sandbox) = match exported.channel_type.as_str() {
        "GCM" => ("fcm", false),
        "APNS" => ("apns", false),
        "APNS_SANDBOX" => ("apns", true),
        "EMAIL" | "SMS" | "VOICE" | "IN_APP" | "CUSTOM" => {
            return Ok(Line::Skipped(Skip::NotPush));
        }
        "ADM" | "BAIDU" | "PUSH" | "APNS_VOIP" | "APNS_VOIP_SANDBOX" => {
            return Ok(Line::Skipped(Skip::Service));
        }
        other => {
            let rule = "must be one of Pinpoint's channel types";
            return Err(Wrong::new("ChannelType", other, rule, way_out));
        }
    };
    if exported.opt_out == "ALL" {
        return Ok(Line::Skipped(Skip::OptedOut));
    }
    if exported.endpoint_status == "INACTIVE" {
        return Ok(Line::Skipped(Skip::Inactive));
    }
    if exported.address.is_empty() {
        let way_out = "leave the line out: there is no device behind it";
        return Err(Wrong::new(
            "Address",
            "",
            "must be the device's token",
            way_out,
        ));
    }
    let route = means.route(kind, sandbox);
    if sandbox && route.is_none() {
        let way_out = "name the sandbox's route with --apns-sandbox-route, or leave the line out";
        let rule = "is for Apple's sandbox, which has a route of its own";
        return Err(Wrong::new("ChannelType", "APNS_SANDBOX", rule, way_out));
    }
    let user = exported
        .user
        .and_then(|user| user.user_id)
        .unwrap_or_default();
    let recipient = match (user.as_str(), means.recipient_from_id) {
        ("", true) => exported.id.as_str(),
        (user, _) => user,
    };
    if recipient.is_empty() {
        let way_out = "add the user, or give endpoints without one a recipient of their own with \
                       --recipient-from-id";
        return Err(Wrong::new("User.UserId", "", "must be given", way_out));
    }
    let mut device = serde_json::Map::new();
    device.insert(kind.into(), json!({ "token": exported.address }));
    device.insert("recipient".into(), recipient.into());
    if !exported.id.is_empty() {
        device.insert("device_id".into(), exported.id.into());
    }
    let platform = exported.demographic.and_then(|it| it.platform);
    if let Some(platform) = platform.filter(|it| !it.is_empty()) {
        device.insert("platform".into(), platform.into());
    }
    if let Some(route) = route {
        device.insert("route".into(), route.into());
    }
    let given = match exported.effective_date.as_str() {
        "" => None,
        text => Some(moment("EffectiveDate", text)?),
    };
    age(&mut device, given, means);
    Ok(Line::Draft(Draft {
        line,
        device: device.into(),
    }))
}

#[cfg(test)]
mod tests;
