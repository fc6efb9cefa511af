//! Reaction tables: what a provider's answer means, as data.
//!
//! A table is a TOML file of `rows`, read from the top: the first row whose conditions all hold
//! counts. A row is one line:
//!
//! | field | |
//! | --- | --- |
//! | `service` | condition: the service, as `[services]` names it by the hosts it answers on |
//! | `http` | condition: an HTTP status code (`410`) or a class (`"5xx"`) |
//! | `reason` | condition: the provider's own code for it, exactly as the channel reads it |
//! | `text` | condition: the answer's body contains this, whatever the case of its letters |
//! | `kind` | `accept`, `retry`, `throttle`, `reject`, `gone` or `blocked` |
//! | `cause` | a code of the [closed list](postrider_core::cause) |
//! | `acted` | the receiver may have acted; not given: true for 408 and 5xx |
//! | `action` | what becomes of the endpoint, route or connection; not given: `none` |
//! | `scope` | what waits or pauses; not given: `none` |
//! | `wait_s` | shortest wait before the next attempt; not given: the policy's |
//! | `alert` | a person should look at it; not given: false |
//!
//! A condition that is not given holds always, and the last row of a table has none, so that no
//! answer is without a reaction. An operator's file of the same form goes in front of it
//! ([`Reactions::overlaid`]). Each row can be reached: one that an earlier row covers is refused.
//!
//! Absent here: reading an answer. The channel finds the provider's reason, in a body or a header;
//! and what follows from a reaction, which is the core's to know.

use std::collections::BTreeMap;

use postrider_core::cause::Cause;
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::SECOND_MS;
use toml::{Spanned, Table, Value};

/// Rows of one file at the most.
pub const ROWS_MAX: usize = 1_000;
/// Longest wait that a row may demand: a day.
pub const WAIT_S_MAX: i64 = 86_400;
/// Bytes of a body in which a `text` is looked for.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// A reaction table, checked.
#[derive(Clone, Debug)]
pub struct Reactions {
    services: BTreeMap<String, Vec<String>>,
    rows: Vec<Row>,
}

/// What a provider said, as far as the tables look at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// As [`Reactions::service`] has it; empty where the table knows no services.
    pub service: &'a str,
    /// HTTP status code.
    pub http_status: u16,
    /// The provider's own code for what is wrong, or empty.
    pub reason: &'a str,
    /// The body, or its beginning; [`TEXT_BYTES_MAX`] of it are looked at.
    pub body: &'a [u8],
}

/// What is to be made of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// Which kind of outcome it is.
    pub kind: OutcomeKind,
    /// Why.
    pub cause: Cause,
    /// The receiver may have processed the request although it did not accept it.
    pub may_have_acted: bool,
    /// What becomes of what the request went through.
    pub action: Action,
    /// What waits or pauses.
    pub scope: Scope,
    /// Shortest wait before the next attempt, if the table demands one.
    pub wait_min_ms: Option<i64>,
    /// A person should look at it.
    pub alert: bool,
}

/// One row of a table.
#[derive(Clone, Debug)]
pub struct Row {
    when: When,
    kind: OutcomeKind,
    cause: Cause,
    acted: Option<bool>,
    action: Action,
    scope: Scope,
    wait_min_ms: Option<i64>,
    alert: bool,
}

/// The conditions of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// This service.
    pub service: Option<Box<str>>,
    /// HTTP status codes from the first to the last.
    pub http: Option<(u16, u16)>,
    /// This reason.
    pub reason: Option<Box<str>>,
    /// This in the body, in lower case.
    pub text: Option<Box<str>>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$each])* $variant,)* }

        impl $name {
            /// Word and value of all.
            pub const WORDS: &'static [(&'static str, $name)] = &[$(($word, $name::$variant)),*];
        }
    };
}

words! {
    /// What becomes of what a request went through.
    Action {
        /// Nothing.
        #[default]
        None "none";
        /// The endpoint is dead: it is retired, with an entry for the audit.
        Retire "retire";
        /// The endpoint does not fit our key: no more is sent to it until the client registers it
        /// anew.
        Quarantine "quarantine";
        /// The endpoint may be one of the provider's other environment: it is moved to the route
        /// there, once, and else retired.
        TryElsewhere "try_elsewhere";
        /// The endpoint belongs to another application or project: it is taken off this route.
        Detach "detach";
        /// The route's credential is not accepted: the route pauses and probes once a minute.
        PauseRoute "pause_route";
        /// The connection is no good any more.
        Reconnect "reconnect";
        /// The access or provider token is renewed, on a new connection.
        Remint "remint";
        /// The provider token before this one is presented again.
        Reuse "reuse";
    }
}

words! {
    /// What a wait or a pause is about.
    Scope {
        /// Nothing but this delivery.
        #[default]
        None "none";
        /// Everything to this endpoint.
        Endpoint "endpoint";
        /// Everything that goes by these credentials.
        Route "route";
        /// Everything on this connection.
        Connection "connection";
    }
}

/// The word of each kind. `unknown` is none: an answer that was read is never unknown.
const KINDS: &[(&str, OutcomeKind)] = &[
    ("accept", OutcomeKind::Accept),
    ("retry", OutcomeKind::Retry),
    ("throttle", OutcomeKind::Throttle),
    ("reject", OutcomeKind::Reject),
    ("gone", OutcomeKind::Gone),
    ("blocked", OutcomeKind::Blocked),
];

/// Why a file is no reaction table.
#[derive(Debug, thiserror::Error)]
pub enum TableFault {
    /// It cannot be read at all.
    #[error("{file} does not read as a reaction table: {source}")]
    Toml {
        /// Which file.
        file: String,
        /// What is wrong with it, and where.
        source: Box<toml::de::Error>,
    },
    /// A field of a row.
    #[error("{file}, row {row} (line {line}): `{field}` {demand}")]
    Field {
        /// Which file.
        file: String,
        /// Number of the row, from 1.
        row: usize,
        /// The line it begins on, from 1.
        line: usize,
        /// Which field.
        field: String,
        /// What is demanded of it.
        demand: String,
    },
    /// A row that never counts.
    #[error("{file}, row {row} (line {line}): never counts, row {earlier} covers all of it")]
    Covered {
        /// Which file.
        file: String,
        /// Number of the row, from 1.
        row: usize,
        /// The line it begins on, from 1.
        line: usize,
        /// The row in front of it.
        earlier: usize,
    },
    /// Too many rows.
    #[error("{file} has {rows} rows; at most {ROWS_MAX} are kept")]
    TooMany {
        /// Which file.
        file: String,
        /// How many it has.
        rows: usize,
    },
    /// The table leaves answers without a reaction.
    #[error("{file}: the last row has conditions, so some answers have no reaction")]
    Open {
        /// Which file.
        file: String,
    },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    services: BTreeMap<String, Vec<String>>,
    rows: Vec<Spanned<Table>>,
}

impl Reactions {
    /// Reads a whole table: every answer has a reaction.
    ///
    /// # Errors
    /// [`TableFault`], with the file's name as given.
    pub fn parse(file: &str, text: &str) -> Result<Reactions, TableFault> {
        let table = Reactions::parse_part(file, text, &[])?;
        match table.rows.last() {
            Some(last) if last.when == When::default() => Ok(table),
            _ => Err(TableFault::Open { file: file.into() }),
        }
    }

    /// The same with the rows of another file in front, and its hosts beside those that are known.
    ///
    /// # Errors
    /// [`TableFault`] of that file.
    pub fn overlaid(&self, file: &str, text: &str) -> Result<Reactions, TableFault> {
        let known: Vec<&str> = self.services.keys().map(String::as_str).collect();
        let mut over = Reactions::parse_part(file, text, &known)?;
        over.rows.extend_from_slice(&self.rows);
        for (service, hosts) in &self.services {
            let all = over.services.entry(service.clone()).or_default();
            all.extend(hosts.iter().cloned());
        }
        Ok(over)
    }

    fn parse_part(file: &str, text: &str, known: &[&str]) -> Result<Reactions, TableFault> {
        let toml = |source| TableFault::Toml {
            file: file.into(),
            source: Box::new(source),
        };
        let File { services, rows } = toml::from_str(text).map_err(toml)?;
        if rows.len() > ROWS_MAX {
            let (file, rows) = (file.into(), rows.len());
            return Err(TableFault::TooMany { file, rows });
        }
        let mut read: Vec<Row> = Vec::with_capacity(rows.len());
        for (at, spanned) in rows.into_iter().enumerate() {
            let before = text.get(..spanned.span().start).unwrap_or_default();
            let line = 1 + before.bytes().filter(|&byte| byte == b'\n').count();
            let row = at + 1;
            let named = |name: &str| services.contains_key(name) || known.contains(&name);
            let new = Row::read(spanned.into_inner(), &named).map_err(|(field, demand)| {
                TableFault::Field {
                    file: file.into(),
                    row,
                    line,
                    field,
                    demand,
                }
            })?;
            if let Some(earlier) = read.iter().position(|other| other.when.covers(&new.when)) {
                return Err(TableFault::Covered {
                    file: file.into(),
                    row,
                    line,
                    earlier: earlier + 1,
                });
            }
            read.push(new);
        }
        Ok(Reactions {
            services,
            rows: read,
        })
    }

    /// The service that answers on this host: the host itself is named in the table, or a domain
    /// that it lies below, label by label. Empty if it is none of them.
    #[must_use]
    pub fn service(&self, host: &str) -> &str {
        self.services
            .iter()
            .find(|(_, hosts)| hosts.iter().any(|domain| lies_in(host, domain)))
            .map_or("", |(name, _)| name)
    }

    /// What is to be made of an answer.
    ///
    /// # Panics
    /// Never: a table's last row has no conditions.
    #[must_use]
    pub fn react(&self, said: &Said<'_>) -> Reaction {
        let row = self.rows.iter().find(|row| row.when.holds(said));
        let row = row.expect("the last row of a table holds for every answer");
        let late = said.http_status == 408 || said.http_status / 100 == 5;
        Reaction {
            kind: row.kind,
            cause: row.cause,
            may_have_acted: row.acted.unwrap_or(late),
            action: row.action,
            scope: row.scope,
            wait_min_ms: row.wait_min_ms,
            alert: row.alert,
        }
    }

    /// The conditions of each row, in their order.
    pub fn conditions(&self) -> impl Iterator<Item = &When> {
        self.rows.iter().map(|row| &row.when)
    }
}

/// Whether `host` is `domain` or lies below it, label by label.
#[must_use]
pub fn lies_in(host: &str, domain: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some(start) = host.len().checked_sub(domain.len()) else {
        return false;
    };
    let (above, end) = (&host.as_bytes()[..start], &host.as_bytes()[start..]);
    end.eq_ignore_ascii_case(domain.as_bytes()) && (above.is_empty() || above.ends_with(b"."))
}

impl When {
    /// Whether they all hold.
    #[must_use]
    pub fn holds(&self, said: &Said<'_>) -> bool {
        let body = &said.body[..said.body.len().min(TEXT_BYTES_MAX)];
        let is = |wanted: &Option<Box<str>>, said: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == said)
        };
        self.http
            .is_none_or(|(first, last)| (first..=last).contains(&said.http_status))
            && is(&self.service, said.service)
            && is(&self.reason, said.reason)
            && self.text.as_deref().is_none_or(|text| contains(body, text))
    }

    /// Whether it holds wherever `other` does.
    fn covers(&self, other: &When) -> bool {
        fn same<T: PartialEq>(this: Option<&T>, other: Option<&T>) -> bool {
            this.is_none() || this == other
        }
        let http = match (self.http, other.http) {
            (None, _) => true,
            (Some(this), Some(that)) => this.0 <= that.0 && that.1 <= this.1,
            (Some(_), None) => false,
        };
        let text = match (&self.text, &other.text) {
            (None, _) => true,
            (Some(this), Some(that)) => that.contains(&**this),
            (Some(_), None) => false,
        };
        http && text
            && same(self.service.as_ref(), other.service.as_ref())
            && same(self.reason.as_ref(), other.reason.as_ref())
    }
}

/// `text` is in lower case.
fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len())
        .any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

/// A field and what is demanded of it.
type Broken = (String, String);

impl Row {
    fn read(mut table: Table, service_is_named: &dyn Fn(&str) -> bool) -> Result<Row, Broken> {
        let mut take = |name: &'static str| (name, table.remove(name));
        let service = text(take("service"))?;
        if let Some(service) = service.as_deref().filter(|name| !service_is_named(name)) {
            return Err(broken(
                "service",
                format!("is {service:?}, which [services] does not name"),
            ));
        }
        let row = Row {
            when: When {
                service,
                http: http(take("http"))?,
                reason: text(take("reason"))?,
                text: text(take("text"))?.map(|text| text.to_ascii_lowercase().into()),
            },
            kind: needed(word(take("kind"), KINDS)?, "kind")?,
            cause: cause(take("cause"))?,
            acted: boolean(take("acted"))?,
            action: word(take("action"), Action::WORDS)?.unwrap_or_default(),
            scope: word(take("scope"), Scope::WORDS)?.unwrap_or_default(),
            wait_min_ms: wait(take("wait_s"))?,
            alert: boolean(take("alert"))?.unwrap_or_default(),
        };
        let ends = matches!(
            row.action,
            Action::Retire | Action::Quarantine | Action::Detach
        );
        match table.keys().next() {
            Some(key) => Err(broken(key, "is no field of a row")),
            None if ends && row.kind != OutcomeKind::Gone => Err(broken(
                "kind",
                "must be \"gone\" where the action ends the endpoint",
            )),
            None => Ok(row),
        }
    }
}

type Field = (&'static str, Option<Value>);

fn broken(field: &str, demand: impl Into<String>) -> Broken {
    (field.to_owned(), demand.into())
}

fn needed<T>(value: Option<T>, field: &str) -> Result<T, Broken> {
    value.ok_or_else(|| broken(field, "is missing"))
}

fn text((name, value): Field) -> Result<Option<Box<str>>, Broken> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.into())),
        Some(other) => Err(broken(
            name,
            format!("must be a text that is not empty, not {other}"),
        )),
    }
}

fn boolean((name, value): Field) -> Result<Option<bool>, Broken> {
    match value {
        None => Ok(None),
        Some(Value::Boolean(value)) => Ok(Some(value)),
        Some(other) => Err(broken(name, format!("must be true or false, not {other}"))),
    }
}

fn word<T: Copy>((name, value): Field, words: &[(&str, T)]) -> Result<Option<T>, Broken> {
    let Some(value) = value else {
        return Ok(None);
    };
    let found = value.as_str().and_then(|text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value)
    });
    match found {
        Some(found) => Ok(Some(found)),
        None => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let demand = format!("must be one of {}, not {value}", words.join(", "));
            Err(broken(name, demand))
        }
    }
}

fn cause(field: Field) -> Result<Cause, Broken> {
    let code = needed(text(field)?, "cause")?;
    Cause::from_code(&code)
        .ok_or_else(|| broken("cause", format!("is {code:?}, which docs/causes.md lacks")))
}

fn http((name, value): Field) -> Result<Option<(u16, u16)>, Broken> {
    let range = match &value {
        None => return Ok(None),
        Some(Value::Integer(code)) => u16::try_from(*code).ok().map(|code| (code, code)),
        Some(Value::String(class)) => match class.as_bytes() {
            [digit @ b'1'..=b'9', b'x', b'x'] => {
                let first = u16::from(digit - b'0') * 100;
                Some((first, first + 99))
            }
            _ => None,
        },
        Some(_) => None,
    };
    match range.filter(|&(first, _)| (100..=999).contains(&first)) {
        Some(range) => Ok(Some(range)),
        None => Err(broken(
            name,
            "must be a number from 100 to 999, or a class such as \"5xx\"",
        )),
    }
}

fn wait((name, value): Field) -> Result<Option<i64>, Broken> {
    match value {
        None => Ok(None),
        Some(Value::Integer(seconds)) if (1..=WAIT_S_MAX).contains(&seconds) => {
            Ok(Some(seconds * SECOND_MS))
        }
        Some(other) => Err(broken(
            name,
            format!("must be whole seconds, 1 to {WAIT_S_MAX}, not {other}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Reactions, Said, Scope, lies_in};
    use crate::channel::{apns, fcm, web_push};
    use postrider_core::cause::Cause;
    use postrider_core::endpoint::Channel;
    use postrider_core::outcome::OutcomeKind::{Gone, Reject, Retry, Throttle};
    use postrider_sim::remote;

    /// A table of these rows with two services.
    fn table(rows: &str) -> String {
        format!(
            r#"rows = [
{rows}
]
[services]
one = ["push.one.example"]
two = ["two.example", "two.test"]
"#
        )
    }

    const LAST: &str = r#"{ kind = "reject", cause = "UNRESOLVED" },"#;

    fn fault(rows: &str) -> String {
        let text = table(rows);
        Reactions::parse("t.toml", &text).unwrap_err().to_string()
    }

    /// The simulator's providers speak no HTTP: what their answers mean is written there again.
    #[test]
    fn the_simulator_takes_providers_for_the_same() {
        let tables = [
            (Channel::WebPush, web_push::REACTIONS),
            (Channel::Apns, apns::REACTIONS),
            (Channel::Fcm, fcm::REACTIONS),
        ];
        for (channel, text) in tables {
            let table = Reactions::parse(channel.name(), text).unwrap();
            for http_status in remote::CODES {
                let reaction = table.react(&Said {
                    service: "",
                    http_status,
                    reason: "",
                    body: &[],
                });
                let taken = remote::says(channel, http_status, None);
                let acted = (taken.may_have_acted, reaction.may_have_acted);
                assert_eq!(taken.kind, reaction.kind, "{channel:?} {http_status}");
                assert_eq!(acted.0, acted.1, "{channel:?} {http_status}");
            }
        }
    }

    #[test]
    fn the_first_row_that_holds_counts() {
        let text = table(&format!(
            r#"{{ service = "one", http = 410, reason = "103", kind = "gone", cause = "GONE",
                  action = "retire" }},
               {{ http = 410, kind = "reject", cause = "NOT_FOUND" }},
               {{ http = 429, text = "Too Fast", kind = "throttle", cause = "RATE_LIMITED",
                  scope = "route", wait_s = 60 }},
               {{ http = "5xx", kind = "retry", cause = "SERVICE_DEGRADED", alert = true }},
               {{ http = 408, acted = false, kind = "retry", cause = "REQUEST_TIMEOUT" }},
               {LAST}"#
        ));
        let table = Reactions::parse("t.toml", &text).expect("a table");
        let react = |service, http_status, reason, body| {
            table.react(&Said {
                service,
                http_status,
                reason,
                body,
            })
        };
        let gone = react("one", 410, "103", b"".as_slice());
        assert_eq!(
            (gone.kind, gone.cause, gone.action),
            (Gone, Cause::Gone, Action::Retire)
        );
        assert_eq!(react("two", 410, "103", b"").kind, Reject);
        assert_eq!(react("one", 410, "104", b"").cause, Cause::NotFound);
        let slow = react("", 429, "", b"you are TOO fast");
        assert_eq!((slow.kind, slow.scope), (Throttle, Scope::Route));
        assert_eq!((slow.wait_min_ms, slow.alert), (Some(60_000), false));
        assert_eq!(react("", 429, "", b"").cause, Cause::Unresolved);
        let degraded = react("", 599, "", b"");
        assert!((degraded.kind, degraded.may_have_acted, degraded.alert) == (Retry, true, true));
        assert!(!react("", 408, "", b"").may_have_acted);
        assert_eq!(table.conditions().count(), 6);
    }

    #[test]
    fn a_host_is_known_by_its_labels() {
        let text = table(LAST);
        let table = Reactions::parse("t.toml", &text).expect("a table");
        let hosts = [
            ("push.one.example", "one"),
            ("a.b.push.one.example", "one"),
            ("PUSH.one.example.", "one"),
            ("xpush.one.example", ""),
            ("one.example", ""),
            ("push.one.example.evil.test", ""),
            ("a.two.test", "two"),
            ("", ""),
        ];
        for (host, service) in hosts {
            assert_eq!(table.service(host), service, "{host}");
        }
        assert!(!lies_in("é", "ab") && lies_in("a", "a"));
    }

    #[test]
    fn a_fault_names_file_row_and_field() {
        let row = |fields: &str| fault(&format!("{{ {fields} }},\n{LAST}"));
        let table = [
            (
                r#"kind = "x", cause = "GONE""#,
                "`kind` must be one of accept, retry, throttle, reject, gone, blocked, not \"x\"",
            ),
            (r#"cause = "GONE""#, "`kind` is missing"),
            (r#"kind = "gone""#, "`cause` is missing"),
            (
                r#"kind = "gone", cause = "NIX""#,
                "`cause` is \"NIX\", which docs/causes.md lacks",
            ),
            (
                r#"kind = "gone", cause = "GONE", http = "6yy""#,
                "`http` must be a number from 100 to 999, or a class such as \"5xx\"",
            ),
            (
                r#"kind = "gone", cause = "GONE", http = 99"#,
                "`http` must be a number from 100 to 999, or a class such as \"5xx\"",
            ),
            (
                r#"kind = "gone", cause = "GONE", service = "three""#,
                "`service` is \"three\", which [services] does not name",
            ),
            (
                r#"kind = "gone", cause = "GONE", wait_s = 0"#,
                "`wait_s` must be whole seconds, 1 to 86400, not 0",
            ),
            (
                r#"kind = "gone", cause = "GONE", alert = 1"#,
                "`alert` must be true or false, not 1",
            ),
            (
                r#"kind = "gone", cause = "GONE", reason = """#,
                "`reason` must be a text that is not empty, not \"\"",
            ),
            (
                r#"kind = "reject", cause = "NOT_FOUND", action = "retire""#,
                "`kind` must be \"gone\" where the action ends the endpoint",
            ),
            (
                r#"kind = "gone", cause = "GONE", colour = 1"#,
                "`colour` is no field of a row",
            ),
        ];
        for (fields, expected) in table {
            assert_eq!(row(fields), format!("t.toml, row 1 (line 2): {expected}"));
        }
    }

    #[test]
    fn a_table_is_whole_and_every_row_can_be_reached() {
        let gone = |when: &str| format!(r#"{{ {when}kind = "gone", cause = "GONE" }},"#);
        let rows = format!("{}\n{}", gone("http = 410, "), gone("http = 404, "));
        let open = "t.toml: the last row has conditions, so some answers have no reaction";
        assert_eq!(fault(&rows), open);
        assert_eq!(fault(""), open);
        let pairs = [
            ("http = \"4xx\", ", "http = 404, "),
            ("", "http = 404, "),
            ("http = 404, ", "http = 404, reason = \"a\", "),
            ("text = \"b\", ", "text = \"abc\", service = \"one\", "),
        ];
        for (first, second) in pairs {
            let rows = format!("{}\n{}\n{LAST}", gone(first), gone(second));
            let expected = "t.toml, row 2 (line 3): never counts, row 1 covers all of it";
            assert_eq!(fault(&rows), expected, "{first}");
        }
        let fine = [
            ("http = 404, reason = \"a\", ", "http = 404, "),
            ("service = \"one\", ", "service = \"two\", "),
            ("text = \"abc\", ", "text = \"b\", "),
        ];
        for (first, second) in fine {
            let text = table(&format!("{}\n{}\n{LAST}", gone(first), gone(second)));
            assert!(Reactions::parse("t.toml", &text).is_ok(), "{first}");
        }
    }

    #[test]
    fn an_operators_rows_go_in_front_and_hosts_are_added() {
        let text = table(LAST);
        let table = Reactions::parse("t.toml", &text).expect("a table");
        let over = r#"
            rows = [{ service = "one", http = 500, kind = "gone", cause = "GONE" }]
            [services]
            one = ["localhost"]
        "#;
        let both = table.overlaid("o.toml", over).expect("fits");
        assert_eq!(both.service("a.localhost"), "one");
        assert_eq!(both.service("push.one.example"), "one");
        let said = Said {
            service: "one",
            http_status: 500,
            ..Said::default()
        };
        assert_eq!(both.react(&said).kind, Gone);
        assert_eq!(table.react(&said).kind, Reject);
        let two = r#"rows = [{ service = "two", kind = "gone", cause = "GONE" }]"#;
        assert!(table.overlaid("o.toml", two).is_ok());
        let wrong = table.overlaid("o.toml", "rows = 3").unwrap_err();
        assert!(
            wrong
                .to_string()
                .starts_with("o.toml does not read as a reaction table")
        );
    }
}
