//! The `csv` format: a device a line, in columns that the first line names.

use std::io::Read;

use serde_json::{Value, json};

use super::{COLUMNS, Draft, Line, LineFault, Means, Skip, Wrong, age, moment, unreadable};

/// Lines of columns.
pub(super) struct Table<R> {
    records: csv::Reader<R>,
    /// Which of [`COLUMNS`] each column is.
    columns: Result<Vec<&'static str>, Option<LineFault>>,
    means: Means,
}

impl<R: Read> Table<R> {
    pub(super) fn new(reader: R, means: Means) -> Table<R> {
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
