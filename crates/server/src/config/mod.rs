//! The configuration: `postrider.toml`, and the environment on top of it.
//!
//! `POSTRIDER__SERVER__LISTEN=0.0.0.0:8400` sets `listen` in `[server]`. Whatever is wrong is said
//! with its line, column, key, value and the rule it breaks; an unknown key is an error, with the
//! nearest right one beside it.
//!
//! Absent here: reading while running. A change takes effect at the next start.

#![allow(clippy::result_large_err)] // built once, by a start that ends with it

mod policy;
mod reference;
mod section;
mod sections;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use postrider_core::policy::Policy;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use policy::PolicySection;
pub use reference::reference;
use section::Section;
pub use sections::{Engine, Log, NetworkRules, Push, Server, Store, Transport};
pub use value::{LogFormat, LogLevel, Network};

/// Name of the file where none is given.
pub const FILE: &str = "postrider.toml";
/// Beginning of the environment variables that are settings.
pub const ENVIRONMENT_PREFIX: &str = "POSTRIDER__";
/// Bytes of the file at most.
const FILE_BYTES_MAX: u64 = 1_048_576;
/// Bytes of a value that an error shows.
const SHOWN_BYTES_MAX: usize = 80;

/// All settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[store]`.
    pub store: Store,
    /// `[engine]`.
    pub engine: Engine,
    /// `[transport]`.
    pub transport: Transport,
    /// `[network]`.
    pub network: NetworkRules,
    /// `[push]`.
    pub push: Push,
    /// `[log]`.
    pub log: Log,
    /// `[policies.<name>]`, by name.
    pub policies: Vec<Policy>,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or nothing for the environment.
    pub file: Option<PathBuf>,
    /// Line and column, from 1, in a file.
    pub place: Option<(usize, usize)>,
    /// The key, with its section, or the environment variable; empty for a fault of the whole file.
    pub key: String,
    /// The value as it stands there, cut to 80 bytes; empty where it is not about one.
    pub value: String,
    /// What is demanded.
    pub rule: String,
    /// The nearest right key.
    pub nearest: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some((line, column)) = self.place {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        f.write_str(&self.rule)?;
        if !self.value.is_empty() {
            write!(f, ", not {}", self.value)?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `file`, and the process's environment on top of it. Without a file: [`FILE`] in the
    /// working directory where there is one, and the defaults where there is none.
    ///
    /// # Errors
    /// [`ConfigError`], for the first fault in the order of the file.
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        let (path, must_exist) = file.map_or((Path::new(FILE), false), |file| (file, true));
        let fault = |rule: String| ConfigError {
            file: Some(path.into()),
            ..whole(rule)
        };
        let text = match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(fault("must have at most 1 MiB".to_owned()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
                String::new()
            }
            _ => std::fs::read_to_string(path)
                .map_err(|error| fault(format!("cannot be read: {error}")))?,
        };
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        Config::from_parts(&text, path, environment)
    }

    /// The same, of a text that stands for the file and of given variables.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_parts(
        text: &str,
        file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut draft = Draft::default();
        draft.read_file(text).map_err(|error| ConfigError {
            file: Some(file.into()),
            ..error
        })?;
        let mut variables: Vec<_> = environment.into_iter().collect();
        variables.sort_unstable();
        for (name, value) in variables {
            if let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                draft.read_variable(&name, path, &value)?;
            }
        }
        draft.finish(text, file)
    }
}

/// Settings while they are read: policies are not put together yet.
#[derive(Default)]
struct Draft {
    config: Config,
    /// With where each was named first, as a place in the file.
    policies: BTreeMap<String, (PolicySection, usize)>,
}

/// A fault without its place.
enum Fault {
    Rule(String),
    Unknown(Option<String>),
}

impl Draft {
    fn read_file(&mut self, text: &str) -> Result<(), ConfigError> {
        let table = DeTable::parse(text).map_err(|error| ConfigError {
            place: error.span().map(|span| place(text, span.start)),
            ..whole(error.message().to_owned())
        })?;
        for (section, value) in in_order(table.get_ref()) {
            let name = section.get_ref().as_ref();
            if !SECTIONS.contains(&name) {
                return Err(ConfigError {
                    place: Some(place(text, section.span().start)),
                    key: name.to_owned(),
                    nearest: nearest(name, SECTIONS.iter().copied()),
                    ..whole("is not a section".to_owned())
                });
            }
            let table = table_of(text, name, value)?;
            if name == "policies" {
                for (policy, value) in in_order(table) {
                    let path = format!("policies.{}", policy.get_ref());
                    let table = table_of(text, &path, value)?;
                    self.policies
                        .entry(policy.get_ref().as_ref().to_owned())
                        .or_insert_with(|| (PolicySection::default(), policy.span().start));
                    self.read_table(text, &path, table)?;
                }
            } else {
                self.read_table(text, name, table)?;
            }
        }
        Ok(())
    }

    fn read_table(
        &mut self,
        text: &str,
        section: &str,
        table: &DeTable<'_>,
    ) -> Result<(), ConfigError> {
        for (key, value) in in_order(table) {
            let (at, shown, fault) = match self.set(section, key.get_ref(), value.get_ref()) {
                Ok(()) => continue,
                Err(fault @ Fault::Unknown(_)) => (key.span().start, String::new(), fault),
                Err(fault) => (value.span().start, shown(&text[value.span()]), fault),
            };
            let error = fault.at(format!("{section}.{}", key.get_ref()), shown);
            return Err(ConfigError {
                place: Some(place(text, at)),
                ..error
            });
        }
        Ok(())
    }

    fn read_variable(&mut self, name: &str, path: &str, value: &str) -> Result<(), ConfigError> {
        let words: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let (section, key) = match words.as_slice() {
            [section, key] if section != "policies" => (section.clone(), key),
            [policies, policy, key] if policies == "policies" => {
                self.policies
                    .entry(policy.clone())
                    .or_insert_with(|| (PolicySection::default(), 0));
                (format!("{policies}.{policy}"), key)
            }
            _ => {
                let rule = "must be POSTRIDER__SECTION__KEY".to_owned();
                return Err(ConfigError {
                    key: name.to_owned(),
                    ..whole(rule)
                });
            }
        };
        // `127.0.0.1:8400` is no TOML, and nobody quotes in a shell: what does not parse, or does
        // not fit as what it parses to, is text.
        let text = DeValue::String(value.into());
        let parsed = DeValue::parse(value).map_or_else(|_| text.clone(), Spanned::into_inner);
        let result = match self.set(&section, key, &parsed) {
            Err(Fault::Rule(rule)) => self
                .set(&section, key, &text)
                .map_err(|_| Fault::Rule(rule)),
            result => result,
        };
        result.map_err(|fault| {
            let nearest_key = |near: String| {
                format!("{ENVIRONMENT_PREFIX}{}__{near}", section.replace('.', "__")).to_uppercase()
            };
            let error = fault.at(name.to_owned(), shown(value));
            let unknown = error.nearest.is_some();
            ConfigError {
                value: if unknown { String::new() } else { error.value },
                nearest: error.nearest.map(nearest_key),
                ..error
            }
        })
    }

    fn set(&mut self, section: &str, key: &str, value: &DeValue<'_>) -> Result<(), Fault> {
        let config = &mut self.config;
        match section {
            "server" => set(&mut config.server, key, value),
            "store" => set(&mut config.store, key, value),
            "engine" => set(&mut config.engine, key, value),
            "transport" => set(&mut config.transport, key, value),
            "network" => set(&mut config.network, key, value),
            "push" => set(&mut config.push, key, value),
            "log" => set(&mut config.log, key, value),
            _ => match section
                .strip_prefix("policies.")
                .and_then(|n| self.policies.get_mut(n))
            {
                Some((policy, _)) => set(policy, key, value),
                None => Err(Fault::Unknown(nearest(section, SECTIONS.iter().copied()))),
            },
        }
    }

    fn finish(mut self, text: &str, file: &Path) -> Result<Config, ConfigError> {
        for (name, (section, at)) in &self.policies {
            let fault = |key: String, rule: String| ConfigError {
                file: Some(file.into()),
                place: Some(place(text, *at)),
                key,
                ..whole(rule)
            };
            crate::registry::validate::slug("policies", name)
                .map_err(|error| fault(format!("policies.{name}"), error.rule.to_owned()))?;
            let policy = section
                .policy(name)
                .map_err(|(key, rule)| fault(format!("policies.{name}.{key}"), rule))?;
            self.config.policies.push(policy);
        }
        Ok(self.config)
    }
}

/// The names of all sections, in the order of the reference.
const SECTIONS: &[&str] = &[
    "server",
    "store",
    "engine",
    "transport",
    "network",
    "push",
    "log",
    "policies",
];

fn set<S: Section>(section: &mut S, key: &str, value: &DeValue<'_>) -> Result<(), Fault> {
    match section.set(key, value) {
        Some(result) => result.map_err(Fault::Rule),
        None => Err(Fault::Unknown(nearest(
            key,
            S::keys().iter().map(|key| key.name),
        ))),
    }
}

impl Fault {
    fn at(self, key: String, value: String) -> ConfigError {
        match self {
            Fault::Rule(rule) => ConfigError {
                key,
                value,
                ..whole(rule)
            },
            Fault::Unknown(nearest) => ConfigError {
                key,
                nearest,
                ..whole("is not a setting".to_owned())
            },
        }
    }
}

fn whole(rule: String) -> ConfigError {
    ConfigError {
        file: None,
        place: None,
        key: String::new(),
        value: String::new(),
        rule,
        nearest: None,
    }
}

/// Entries as they stand in the file, so that the first fault is the one that is named.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(
    &'a Spanned<toml::de::DeString<'i>>,
    &'a Spanned<DeValue<'i>>,
)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| key.span().start);
    entries
}

fn table_of<'a, 'i>(
    text: &str,
    name: &str,
    value: &'a Spanned<DeValue<'i>>,
) -> Result<&'a DeTable<'i>, ConfigError> {
    value.get_ref().as_table().ok_or_else(|| ConfigError {
        place: Some(place(text, value.span().start)),
        key: name.to_owned(),
        value: shown(&text[value.span()]),
        ..whole(format!("must be a section, written [{name}]"))
    })
}

/// Line and column, from 1; columns are characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or("");
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn shown(value: &str) -> String {
    let cut = (0..=SHOWN_BYTES_MAX.min(value.len()))
        .rev()
        .find(|&at| value.is_char_boundary(at));
    let mut text = value[..cut.unwrap_or(0)]
        .escape_debug()
        .to_string()
        .replace("\\\"", "\"");
    if text.len() < value.len() {
        text.push('…');
    }
    text
}

/// The name that takes the fewest edits to get to, if that is few enough to have been meant.
fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let edits_max = (name.len() / 3).max(2);
    names
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Insertions, removals and replacements from one text to another.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Config::from_parts(text, Path::new("p.toml"), variables)
    }

    fn fault(text: &str, variables: &[(&str, &str)]) -> String {
        read(text, variables).unwrap_err().to_string()
    }

    #[test]
    fn nothing_at_all_is_the_defaults() {
        assert_eq!(read("", &[]).unwrap(), Config::default());
        let other = [("POSTRIDER_LOG", "x"), ("HOME", "/root")];
        assert_eq!(read("", &other).unwrap(), Config::default());
    }

    #[test]
    fn the_file_is_read_and_the_environment_goes_on_top() {
        let text = "[server]\nlisten = \"0.0.0.0:80\"\nbody_bytes_max = 0x1_0000\n\
            [network]\nallow = [\"10.0.0.0/8\"]\n[policies.slow]\nattempts_max = 3\nttl_s = 60\n";
        let variables = [
            ("POSTRIDER__SERVER__LISTEN", "127.0.0.1:9"),
            ("POSTRIDER__NETWORK__ALLOW_HTTP", "true"),
            ("POSTRIDER__STORE__DIR", "/var/lib/postrider"),
            ("POSTRIDER__POLICIES__SLOW__ATTEMPTS_MAX", "4"),
            ("POSTRIDER__LOG__LEVEL", "debug"),
        ];
        let config = read(text, &variables).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:9".parse().unwrap());
        assert_eq!(config.server.body_bytes_max, 65_536);
        assert_eq!(config.network.allow, ["10.0.0.0/8".parse().unwrap()]);
        assert!(config.network.allow_http);
        assert_eq!(config.store.dir, Path::new("/var/lib/postrider"));
        assert_eq!(config.log.level, LogLevel::Debug);
        let [slow] = config.policies.as_slice() else {
            panic!("one policy")
        };
        assert_eq!(
            (&*slow.name, slow.attempts_max, slow.ttl_ms),
            ("slow", 4, 60_000)
        );
    }

    #[test]
    fn a_fault_names_place_key_value_rule_and_way_out() {
        for (text, expected) in [
            (
                "[server]\n  lisen = \"x\"",
                "p.toml:2:3: `server.lisen` is not a setting; did you mean `listen`?",
            ),
            (
                "[sever]\n",
                "p.toml:1:2: `sever` is not a section; did you mean `server`?",
            ),
            (
                "[server]\nzzzzzzzz = 1",
                "p.toml:2:1: `server.zzzzzzzz` is not a setting",
            ),
            (
                "[server]\nbody_bytes_max = 5",
                "p.toml:2:18: `server.body_bytes_max` must be between 1_024 and 4_194_304, not 5",
            ),
            (
                "[server]\nlisten = \"here\"",
                "p.toml:2:10: `server.listen` must be an IP address and a port, such as \
                 \"127.0.0.1:8400\", not \"here\"",
            ),
            (
                "server = 1",
                "p.toml:1:10: `server` must be a section, written [server], not 1",
            ),
            (
                "\n[policies.x]\njitter = \"some\"",
                "p.toml:2:11: `policies.x.jitter` must be one of \"none\", \"equal\", \"full\"",
            ),
            (
                "[network]\nallow = [\"10.0.0.1/8\"]",
                "p.toml:2:9: `network.allow` must be a network such as \"10.0.0.0/8\" or \
                 \"fd00::/8\", not [\"10.0.0.1/8\"]",
            ),
        ] {
            assert_eq!(fault(text, &[]), expected);
        }
        assert!(
            fault("[server", &[]).starts_with("p.toml:1:"),
            "{}",
            fault("[server", &[])
        );
    }

    #[test]
    fn a_fault_in_the_environment_names_the_variable() {
        for (name, value, expected) in [
            (
                "POSTRIDER__SERVER__LISEN",
                "x",
                "`POSTRIDER__SERVER__LISEN` is not a setting; did you mean \
                 `POSTRIDER__SERVER__LISTEN`?",
            ),
            (
                "POSTRIDER__LISTEN",
                "x",
                "`POSTRIDER__LISTEN` must be POSTRIDER__SECTION__KEY",
            ),
            (
                "POSTRIDER__SERVER__STREAMS_MAX",
                "many",
                "`POSTRIDER__SERVER__STREAMS_MAX` must be a whole number, not many",
            ),
        ] {
            assert_eq!(fault("", &[(name, value)]), expected);
        }
    }

    #[test]
    fn a_policy_takes_what_it_does_not_say_from_its_base() {
        let text = "[policies.a]\nbase = \"patient\"\nslots_max = 2\n\
            [policies.b]\nschedule = \"linear\"\nstep_ms = 5\n[policies.brief]\nadaptive = false";
        let policies = read(text, &[]).unwrap().policies;
        let patient = Policy::patient(postrider_core::id::PolicyId(0));
        assert_eq!(
            policies[0],
            Policy {
                name: "a".into(),
                slots_max: 2,
                ..patient
            }
        );
        assert_eq!(
            policies[1].schedule,
            postrider_core::policy::Schedule::Linear {
                step_ms: 5,
                cap_ms: 60_000
            }
        );
        assert!(!policies[2].adaptive && &*policies[2].name == "brief");
    }

    #[test]
    fn the_shown_defaults_are_what_the_file_would_say() {
        let mut text = String::new();
        for line in reference().lines().filter(|line| line.starts_with("    ")) {
            text.push_str(line.trim_start());
            text.push('\n');
        }
        let read = read(&text, &[]).unwrap();
        assert_eq!(
            Config {
                policies: Vec::new(),
                ..read
            },
            Config::default()
        );
    }
}
