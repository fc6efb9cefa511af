//! What a path of the fake does, as a script: rules in order, the first that matches acts.
//!
//! Everything random is a hash of a seed and the request, so the same traffic gets the same
//! answers. Absent here: sockets. A rule names an [`Act`]; `serve` and `wire` perform it.

use serde::{Deserialize, Serialize};

use super::signature::{self, Keys};

/// Rules of one behaviour at most.
pub const RULES_MAX: usize = 64;
/// Longest wait that an answer may be given.
pub const DELAY_MS_MAX: u64 = 600_000;

/// The script of one path, or of all paths with a prefix.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// An exact path, or a prefix that ends in `*`. The longest that fits counts.
    pub path: String,
    /// Secrets that a signature may be made with, as the sender knows them (`whsec_…`). Empty:
    /// signatures are not looked at. A request whose signature does not hold gets 401.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// What happens; where no rule matches, 200 with an empty body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// One line of a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests it is for.
    #[serde(default)]
    pub when: When,
    /// What they get.
    #[serde(rename = "do")]
    pub act: Act,
}

/// Which requests a rule is for. Requests of a path are counted from 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum When {
    /// All.
    #[default]
    Always,
    /// The first so many requests of the path.
    First(u64),
    /// The first so many attempts of each delivery.
    AttemptsTo(u64),
    /// Each request whose number is a multiple of this.
    Every(u64),
    /// So many requests, then `accept` without, and again from the start.
    Flap {
        /// Requests that the rule is for.
        fail: u64,
        /// Requests that it then lets pass.
        accept: u64,
    },
    /// A share of the requests, drawn from the seed, the idempotency key and the attempt.
    Share {
        /// Percent of the requests.
        percent: f64,
        /// What is drawn from.
        #[serde(default)]
        seed: u64,
    },
}

/// What a request gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// An HTTP answer.
    Answer(Answer),
    /// Nothing: the request is read, the connection stays open.
    Hang,
    /// A TCP reset as soon as the request's head is known.
    ResetBeforeBody,
    /// A TCP reset after the request was read and processed.
    ResetAfterRequest,
    /// An orderly end of the connection in place of an answer.
    CloseAfterRequest,
    /// Bytes that are not HTTP.
    Garbage,
    /// An answer whose headers never end.
    EndlessHeaders,
    /// An answer whose headers come at this many bytes a second.
    SlowHeaders(u32),
    /// A 200 whose body never ends.
    EndlessBody,
    /// A 200 whose body of a thousand bytes comes at this many bytes a second.
    SlowBody(u32),
    /// A 200 that ends in the middle of its body.
    CutBody,
}

impl Default for Act {
    fn default() -> Act {
        Act::Answer(Answer::default())
    }
}

/// An HTTP answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// HTTP status code, 100 to 999.
    #[serde(default = "ok", rename = "status")]
    pub http_status: u16,
    /// Headers beside those that HTTP needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// A `Retry-After`, in one of the shapes that are met in the wild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<RetryAfter>,
    /// Wait before the answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delay_ms: u64,
    /// Body of the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Whether the receiver acts on the request, if that is not what the answer says: a 200 that
    /// did nothing, a 500 that did it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<bool>,
}

fn ok() -> u16 {
    200
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Default for Answer {
    fn default() -> Answer {
        Answer {
            http_status: ok(),
            headers: Vec::new(),
            retry_after: None,
            delay_ms: 0,
            body: String::new(),
            processes: None,
        }
    }
}

/// How a waiting time is spelled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RetryAfter {
    /// Whole seconds.
    Seconds(u64),
    /// An HTTP date so many seconds from now; negative lies in the past.
    Date(i64),
    /// More seconds than any integer holds.
    Absurd,
    /// Neither a number nor a date.
    Malformed,
}

/// A behaviour that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The path is not a path.
    #[error("the path {0:?} does not begin with `/`, or begins with `/_/`")]
    Path(String),
    /// Too many rules.
    #[error("{0} rules; at most {RULES_MAX} are kept")]
    Rules(usize),
    /// A status code that HTTP cannot carry.
    #[error("{0} is no HTTP status code")]
    HttpStatus(u16),
    /// A header that HTTP cannot carry.
    #[error("the header {0:?} cannot be sent")]
    Header(String),
    /// A wait beyond the bound.
    #[error("a delay of {0} ms; at most {DELAY_MS_MAX} are waited")]
    Delay(u64),
    /// A number that must not be zero is.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A share outside of 0 to 100.
    #[error("{0} is no percentage")]
    Percent(f64),
    /// A secret that is none.
    #[error(transparent)]
    Secret(#[from] signature::NotASecret),
}

impl Behaviour {
    /// The behaviour of a path that answers 200 and nothing else.
    #[must_use]
    pub fn of(path: &str) -> Behaviour {
        Behaviour {
            path: path.to_owned(),
            ..Behaviour::default()
        }
    }

    /// The same with one more rule.
    #[must_use]
    pub fn rule(mut self, when: When, act: Act) -> Behaviour {
        self.rules.push(Rule { when, act });
        self
    }

    /// The same with one more secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Behaviour {
        self.secrets.push(secret.to_owned());
        self
    }
}

impl Act {
    /// An answer of this status and nothing else.
    #[must_use]
    pub fn http_status(http_status: u16) -> Act {
        Act::Answer(Answer {
            http_status,
            ..Answer::default()
        })
    }
}

/// A behaviour that was checked, with its keys prepared.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) source: Behaviour,
    pub(super) keys: Vec<Keys>,
}

/// What a rule is chosen by.
pub(super) struct Choice<'a> {
    /// Number of the request on its path, from 1.
    pub(super) number: u64,
    /// Number of the attempt as the sender says, from 1.
    pub(super) attempt: u32,
    /// The idempotency key.
    pub(super) key: &'a str,
}

static ACCEPT: Act = Act::Answer(Answer {
    http_status: 200,
    headers: Vec::new(),
    retry_after: None,
    delay_ms: 0,
    body: String::new(),
    processes: None,
});

impl Script {
    /// Checks a behaviour and prepares it.
    pub(super) fn new(source: Behaviour) -> Result<Script, Invalid> {
        if !source.path.starts_with('/') && source.path != "*" || source.path.starts_with("/_/") {
            return Err(Invalid::Path(source.path));
        }
        if source.rules.len() > RULES_MAX {
            return Err(Invalid::Rules(source.rules.len()));
        }
        for rule in &source.rules {
            rule.when.check()?;
            rule.act.check()?;
        }
        let keys = source
            .secrets
            .iter()
            .map(|secret| Keys::new(secret))
            .collect::<Result<Vec<Keys>, _>>()?;
        Ok(Script { source, keys })
    }

    /// What this request gets.
    pub(super) fn act(&self, choice: &Choice<'_>) -> &Act {
        self.rule(choice).unwrap_or(&ACCEPT)
    }

    /// What this request gets by a rule, if one matches.
    pub(super) fn rule(&self, choice: &Choice<'_>) -> Option<&Act> {
        let mut rules = self.source.rules.iter();
        let rule = rules.find(|rule| rule.when.fits(choice))?;
        Some(&rule.act)
    }
}

impl When {
    fn check(&self) -> Result<(), Invalid> {
        match *self {
            When::Every(0) => Err(Invalid::Zero("every")),
            When::Flap { fail, accept } if fail == 0 || accept == 0 => Err(Invalid::Zero("flap")),
            When::Share { percent, .. } if !(0.0..=100.0).contains(&percent) => {
                Err(Invalid::Percent(percent))
            }
            _ => Ok(()),
        }
    }

    fn fits(&self, choice: &Choice<'_>) -> bool {
        match *self {
            When::Always => true,
            When::First(count) => choice.number <= count,
            When::AttemptsTo(last) => u64::from(choice.attempt) <= last,
            When::Every(step) => choice.number.is_multiple_of(step),
            When::Flap { fail, accept } => (choice.number - 1) % (fail + accept) < fail,
            When::Share { percent, seed } => draw(seed, choice) * 100.0 < percent,
        }
    }
}

/// A number from 0 to 1 that depends on nothing but its arguments.
fn draw(seed: u64, choice: &Choice<'_>) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&choice.attempt.to_le_bytes());
    if choice.key.is_empty() {
        hasher.update(&choice.number.to_le_bytes());
    }
    hasher.update(choice.key.as_bytes());
    let bytes: [u8; 32] = *hasher.finalize().as_bytes();
    let drawn = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    f64::from(drawn) / f64::from(u32::MAX)
}

impl Act {
    fn check(&self) -> Result<(), Invalid> {
        let Act::Answer(answer) = self else {
            return match self {
                Act::SlowBody(0) => Err(Invalid::Zero("slow_body")),
                Act::SlowHeaders(0) => Err(Invalid::Zero("slow_headers")),
                _ => Ok(()),
            };
        };
        if http::StatusCode::from_u16(answer.http_status).is_err() || answer.http_status < 200 {
            return Err(Invalid::HttpStatus(answer.http_status));
        }
        if answer.delay_ms > DELAY_MS_MAX {
            return Err(Invalid::Delay(answer.delay_ms));
        }
        for (name, value) in &answer.headers {
            let fits = http::HeaderName::try_from(name).is_ok()
                && http::HeaderValue::try_from(value).is_ok();
            if !fits {
                return Err(Invalid::Header(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether the receiver acts on a request that gets this: the truth that a sender cannot see.
    pub(super) fn processes(&self) -> bool {
        match self {
            Act::Answer(answer) => answer
                .processes
                .unwrap_or((200..300).contains(&answer.http_status)),
            Act::ResetBeforeBody => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Behaviour, Choice, Script, When};

    fn chosen(script: &Script, number: u64, attempt: u32, key: &str) -> u16 {
        match script.act(&Choice {
            number,
            attempt,
            key,
        }) {
            Act::Answer(answer) => answer.http_status,
            _ => 0,
        }
    }

    fn script(when: When) -> Script {
        Script::new(Behaviour::of("/x").rule(when, Act::http_status(503)))
            .expect("a valid behaviour")
    }

    #[test]
    fn each_condition_chooses_the_requests_it_names() {
        let table: [(When, &[u16]); 5] = [
            (When::Always, &[503, 503, 503, 503, 503, 503]),
            (When::First(2), &[503, 503, 200, 200, 200, 200]),
            (When::Every(3), &[200, 200, 503, 200, 200, 503]),
            (
                When::Flap { fail: 2, accept: 1 },
                &[503, 503, 200, 503, 503, 200],
            ),
            (When::AttemptsTo(2), &[503, 503, 200, 200, 200, 200]),
        ];
        for (when, expected) in table {
            let script = script(when.clone());
            let got: Vec<u16> = (1..=6)
                .map(|n| chosen(&script, u64::from(n), n, "k"))
                .collect();
            assert_eq!(got, expected, "{when:?}");
        }
    }

    #[test]
    fn a_share_is_about_its_percentage_and_repeats_exactly() {
        let (one, other) = (
            script(When::Share {
                percent: 25.0,
                seed: 7,
            }),
            script(When::Share {
                percent: 25.0,
                seed: 8,
            }),
        );
        let draw = |script: &Script| -> Vec<u16> {
            (0..2_000)
                .map(|n| chosen(script, 1, 1, &format!("key-{n}")))
                .collect()
        };
        let hits = draw(&one).iter().filter(|&&code| code == 503).count();
        assert!((400..600).contains(&hits), "{hits} of 2000");
        assert_eq!(draw(&one), draw(&one));
        assert_ne!(draw(&one), draw(&other));
    }

    #[test]
    fn a_script_reads_from_json_and_refuses_what_cannot_be() {
        let good = r#"{"path":"/hook/*","rules":[
            {"when":{"first":3},"do":{"answer":{"status":503,"retry_after":{"seconds":2}}}},
            {"when":{"share":{"percent":10,"seed":1}},"do":"reset_after_request"},
            {"when":{"flap":{"fail":1,"accept":2}},"do":{"slow_body":1}},
            {"do":"hang"}]}"#;
        let behaviour: Behaviour = serde_json::from_str(good).expect("reads");
        assert_eq!(Script::new(behaviour).expect("valid").source.rules.len(), 4);
        for bad in [
            r#"{"path":"hook"}"#,
            r#"{"path":"/_/clear"}"#,
            r#"{"path":"/a","rules":[{"do":{"answer":{"status":99}}}]}"#,
            r#"{"path":"/a","rules":[{"do":{"answer":{"delay_ms":99999999}}}]}"#,
            r#"{"path":"/a","rules":[{"when":{"every":0},"do":"hang"}]}"#,
            r#"{"path":"/a","rules":[{"when":{"share":{"percent":101}},"do":"hang"}]}"#,
            r#"{"path":"/a","rules":[{"do":{"answer":{"headers":[["a b","c"]]}}}]}"#,
            r#"{"path":"/a","secrets":["whsec_!"]}"#,
        ] {
            let behaviour: Behaviour = serde_json::from_str(bad).expect("reads");
            assert!(Script::new(behaviour).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Behaviour>(r#"{"path":"/a","colour":1}"#).is_err());
    }
}
