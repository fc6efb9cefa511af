//! What all connections of a fake share: scripts, counters, records. One lock, held for moments.
//!
//! Absent here: sockets and HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::behaviour::{Behaviour, Invalid, Script};
use super::push::Subscriptions;
use super::record::{Filter, Log, Record, covers};
use super::tally::{Counted, Expected, Tally, TooMany};

/// Behaviours that are kept at most.
pub const BEHAVIOURS_MAX: usize = 100_000;
/// Paths whose requests are counted apart; those beyond share one count.
pub const PATHS_MAX: usize = 200_000;

/// What all connections of a fake share.
pub(super) struct State {
    inner: Mutex<Inner>,
    /// What the push service keeps.
    pub(super) push: Arc<Subscriptions>,
    /// What is APNs, if anything is.
    pub(super) apns: std::sync::OnceLock<Arc<super::apns::Service>>,
    /// Whether records are kept at all.
    pub(super) records: bool,
    /// Bytes of a body that a record keeps.
    pub(super) body_keep_bytes: usize,
    /// Requests that arrived, kept or not.
    pub(super) arrived: AtomicU64,
    /// Accounts and access tokens of FCM.
    pub(super) fcm: super::fcm::Accounts,
}

struct Inner {
    exact: HashMap<String, Arc<Script>>,
    prefixes: BTreeMap<String, Arc<Script>>,
    paths: HashMap<Arc<str>, Path>,
    beyond: Path,
    plain: Arc<Script>,
    log: Log,
    tally: Option<Tally>,
}

struct Path {
    name: Arc<str>,
    script: Arc<Script>,
    requests: u64,
}

/// One request's place: its path, what that path does, and its number there.
pub(super) struct Visit {
    pub(super) path: Arc<str>,
    pub(super) script: Arc<Script>,
    pub(super) number: u64,
}

/// No more behaviours are kept.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There are too many.
    #[error("{BEHAVIOURS_MAX} behaviours are kept already")]
    Full,
}

impl State {
    pub(super) fn new(records_max: usize, body_keep_bytes: usize, origin: &str) -> State {
        let plain = Script::new(Behaviour::of("*")).expect("the plain behaviour is valid");
        let plain = Arc::new(plain);
        State {
            records: records_max > 0,
            body_keep_bytes,
            arrived: AtomicU64::new(0),
            push: Subscriptions::new(origin),
            apns: std::sync::OnceLock::new(),
            fcm: super::fcm::Accounts::default(),
            inner: Mutex::new(Inner {
                exact: HashMap::new(),
                prefixes: BTreeMap::new(),
                paths: HashMap::new(),
                beyond: Path::new("*", &plain),
                plain,
                log: Log::new(records_max),
                tally: None,
            }),
        }
    }

    /// Sets what a path does from now on. Its requests are counted from 1 again.
    pub(super) fn set(&self, behaviour: Behaviour) -> Result<(), Refused> {
        let script = Arc::new(Script::new(behaviour)?);
        let path = script.source.path.clone();
        let mut inner = self.inner.lock();
        if inner.exact.len() + inner.prefixes.len() >= BEHAVIOURS_MAX {
            return Err(Refused::Full);
        }
        inner.paths.retain(|name, _| !covers(&path, name));
        if path.ends_with('*') {
            inner.prefixes.insert(path, script);
        } else {
            inner.exact.insert(path, script);
        }
        Ok(())
    }

    /// Forgets the behaviour of one path, or all.
    pub(super) fn unset(&self, path: Option<&str>) {
        let mut inner = self.inner.lock();
        let gone = |name: &String| path.is_none_or(|path| path == name);
        inner.exact.retain(|name, _| !gone(name));
        inner.prefixes.retain(|name, _| !gone(name));
        inner.paths.clear();
    }

    /// All behaviours, by path.
    pub(super) fn behaviours(&self) -> Vec<Behaviour> {
        let inner = self.inner.lock();
        let all = inner.exact.values().chain(inner.prefixes.values());
        let mut all: Vec<Behaviour> = all.map(|script| script.source.clone()).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// Notes that a request of this path begins.
    pub(super) fn visit(&self, path: &str) -> Visit {
        self.inner.lock().visit(path)
    }

    /// Keeps a record and returns its serial.
    pub(super) fn push(&self, record: Record) -> u64 {
        self.inner.lock().log.push(record)
    }

    /// Notes when a request got its answer.
    pub(super) fn answered(&self, serial: u64, at_us: u64) {
        self.inner.lock().log.answered(serial, at_us);
    }

    /// The records that fit.
    pub(super) fn find(&self, filter: &Filter) -> Vec<Record> {
        self.inner.lock().log.find(filter)
    }

    /// How many records fit, and how many requests ever arrived.
    pub(super) fn count(&self, filter: &Filter) -> (usize, u64) {
        let inner = self.inner.lock();
        (inner.log.count(filter), self.arrived.load(Relaxed))
    }

    /// Forgets records and counters; behaviours stay.
    pub(super) fn clear(&self) {
        self.arrived.store(0, Relaxed);
        let mut inner = self.inner.lock();
        inner.log.clear();
        inner.paths.clear();
        inner.beyond.requests = 0;
    }

    /// Begins a new count and forgets the one before.
    pub(super) fn expect(&self, expected: Expected) -> Result<(), TooMany> {
        let tally = Tally::new(expected)?;
        self.inner.lock().tally = Some(tally);
        Ok(())
    }

    /// Counts a request if the running count is about its path.
    pub(super) fn tally(&self, path: &str, body: &[u8], now_us: u64) {
        let mut inner = self.inner.lock();
        if let Some(tally) = inner.tally.as_mut().filter(|tally| tally.wants(path)) {
            tally.count(path, body, now_us);
        }
    }

    /// What the running count says.
    pub(super) fn counted(&self) -> Option<Counted> {
        self.inner.lock().tally.as_ref().map(Tally::read)
    }
}

impl Path {
    fn new(name: &str, script: &Arc<Script>) -> Path {
        Path {
            name: name.into(),
            script: Arc::clone(script),
            requests: 0,
        }
    }

    fn visit(&mut self) -> Visit {
        self.requests += 1;
        Visit {
            path: Arc::clone(&self.name),
            script: Arc::clone(&self.script),
            number: self.requests,
        }
    }
}

impl Inner {
    fn visit(&mut self, path: &str) -> Visit {
        if let Some(known) = self.paths.get_mut(path) {
            return known.visit();
        }
        let fresh = Path::new(path, self.script(path));
        if self.paths.len() >= PATHS_MAX {
            self.beyond.requests += 1;
            let number = self.beyond.requests;
            return Visit {
                number,
                path: fresh.name,
                script: fresh.script,
            };
        }
        let name = Arc::clone(&fresh.name);
        self.paths.entry(name).or_insert(fresh).visit()
    }

    fn script(&self, path: &str) -> &Arc<Script> {
        if let Some(script) = self.exact.get(path) {
            return script;
        }
        let fitting = self.prefixes.iter().filter(|(name, _)| covers(name, path));
        fitting
            .max_by_key(|(name, _)| name.len())
            .map_or(&self.plain, |(_, script)| script)
    }
}

#[cfg(test)]
mod tests {
    use super::State;
    use crate::fake::behaviour::{Act, Behaviour, When};

    #[test]
    fn the_closest_behaviour_counts_and_a_new_one_starts_again() {
        let state = State::new(10, 0, "http://127.0.0.1:1");
        for path in ["/a/*", "/a/b/*", "/a/b/c"] {
            state.set(Behaviour::of(path)).expect("valid");
        }
        let source = |path: &str| state.visit(path).script.source.path.clone();
        assert_eq!(source("/a/b/c"), "/a/b/c");
        assert_eq!(source("/a/b/d"), "/a/b/*");
        assert_eq!(source("/a/x"), "/a/*");
        assert_eq!(source("/z"), "*");
        assert_eq!(state.visit("/a/x").number, 2);
        let again = Behaviour::of("/a/*").rule(When::Always, Act::Hang);
        state.set(again).expect("valid");
        assert_eq!(state.visit("/a/x").number, 1);
        assert_eq!(state.behaviours().len(), 3);
        state.unset(Some("/a/b/c"));
        assert_eq!(source("/a/b/c"), "/a/b/*");
        state.unset(None);
        assert_eq!(source("/a/b/c"), "*");
    }
}
