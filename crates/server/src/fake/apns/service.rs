//! What all connections of the fake share: who may send, which devices there are, what arrived, and
//! what is to be done differently.
//!
//! Absent here: sockets.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::frames::Control;
use super::model::{Act, Device, Full, Key, Notification, Script, Shown, Wanted};
use super::provider::{Provider, Providers};
use super::strict::{self, Asked, Refusal};

/// Scripts that are kept at the most.
pub const SCRIPTS_MAX: usize = 10_000;
/// Devices that are kept at the most.
pub const DEVICES_MAX: usize = 1_000_000;

/// What all connections share.
pub struct Service {
    inner: Mutex<Inner>,
    connections: Mutex<Vec<Weak<Line>>>,
    opened: AtomicU64,
    clock_ahead_s: AtomicI64,
    /// Answers wait while this is set.
    holding: watch::Sender<bool>,
    /// Something arrived or was answered.
    changed: Notify,
    body_keep_bytes: usize,
    origin: String,
    pem: String,
}

struct Inner {
    providers: Providers,
    devices: HashMap<String, Device>,
    scripts: Vec<Script>,
    /// Whether tokens that nobody registered are taken for devices.
    strangers: bool,
    streams: (u32, u32),
    kept: VecDeque<Notification>,
    kept_max: usize,
    arrived: u64,
    refused_streams: u64,
}

/// One connection.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) control: Arc<Control>,
    pub(super) certified: bool,
    pub(super) open: AtomicUsize,
    /// More streams were allowed after the first accepted request.
    pub(super) widened: AtomicBool,
    /// An expired token was seen: Apple lets nothing through any more.
    wedged: AtomicBool,
    /// The key that it belongs to.
    bound: Mutex<Option<Box<str>>>,
    /// Streams whose answer waits.
    pub(super) held: Mutex<BTreeSet<u32>>,
    /// Once set, the last stream that counts.
    pub(super) last: watch::Sender<Option<u32>>,
    pub(super) close: Notify,
}

impl Service {
    pub(super) fn new(
        (kept_max, body_keep_bytes): (usize, usize),
        origin: String,
        pem: String,
    ) -> Arc<Service> {
        Arc::new(Service {
            origin,
            pem,
            inner: Mutex::new(Inner {
                providers: Providers::default(),
                devices: HashMap::new(),
                scripts: Vec::new(),
                strangers: true,
                streams: (1, 1_000),
                kept: VecDeque::new(),
                kept_max,
                arrived: 0,
                refused_streams: 0,
            }),
            connections: Mutex::default(),
            opened: AtomicU64::new(0),
            clock_ahead_s: AtomicI64::new(0),
            holding: watch::Sender::new(false),
            changed: Notify::new(),
            body_keep_bytes,
        })
    }

    /// What stands for `https://api.push.apple.com` in a URL.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The PEM by which it is trusted.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Lets a key send. `public` is a point of P-256, uncompressed: 65 bytes.
    pub fn trust(&self, team: &str, key_id: &str, public: &[u8]) {
        self.inner.lock().providers.trust(team, key_id, public);
    }

    /// Makes a key and lets it send.
    ///
    /// # Errors
    /// Where no key pair can be made.
    pub fn make_key(&self) -> Result<Key, rcgen::Error> {
        let pair = rcgen::KeyPair::generate()?;
        let (team, key_id) = (id(), id());
        self.trust(&team, &key_id, pair.public_key_raw());
        let p8 = pair.serialize_pem();
        Ok(Key { team, key_id, p8 })
    }

    /// Makes a device known, good or gone. Tokens that nobody made known are taken as they come,
    /// unless [`Service::welcome_strangers`] says otherwise.
    ///
    /// # Errors
    /// [`Full`].
    pub fn device(&self, device: Device) -> Result<(), Full> {
        let mut inner = self.inner.lock();
        if inner.devices.len() >= DEVICES_MAX {
            return Err(Full);
        }
        inner.devices.insert(device.token.clone(), device);
        Ok(())
    }

    /// Whether a token that was not made known is taken for a device, as at the start; otherwise it
    /// gets BadDeviceToken.
    pub fn welcome_strangers(&self, welcome: bool) {
        self.inner.lock().strangers = welcome;
    }

    /// Scripts what becomes of requests for a device; what was scripted for it before is forgotten.
    ///
    /// # Errors
    /// [`Full`].
    pub fn script(&self, script: Script) -> Result<(), Full> {
        let mut inner = self.inner.lock();
        inner.scripts.retain(|other| other.token != script.token);
        if inner.scripts.len() >= SCRIPTS_MAX {
            return Err(Full);
        }
        inner.scripts.push(script);
        Ok(())
    }

    /// How many streams a new connection allows at first, and after the first accepted request.
    pub fn streams(&self, first: u32, then: u32) {
        self.inner.lock().streams = (first, then);
    }

    /// Tells every connection that so many streams are allowed from now on.
    pub fn allow_streams(&self, streams: u32) {
        for line in self.lines() {
            line.control.allow_streams(streams);
        }
    }

    /// Says farewell on every connection and closes it: of the requests whose answers are held back
    /// the first `processed` on each count as processed, whose answer is lost, the rest do not.
    pub fn go_away(&self, reason: &str, processed: usize) {
        let data = serde_json::json!({ "reason": reason }).to_string();
        for line in self.lines() {
            let held = line.held.lock();
            let last = processed
                .checked_sub(1)
                .and_then(|place| held.iter().nth(place).or(held.last()));
            let last = last.copied().unwrap_or(0);
            drop(held);
            line.control.go_away(last, data.as_bytes());
            line.last.send_replace(Some(last));
            line.close.notify_one();
        }
    }

    /// Holds answers back, or lets them go.
    pub fn hold(&self, held: bool) {
        self.holding.send_replace(held);
    }

    /// Requests whose answers are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        let lines = self.lines();
        lines.iter().map(|line| line.held.lock().len()).sum()
    }

    /// Puts the clock by which tokens are judged ahead by so many seconds, or back.
    pub fn clock_ahead(&self, seconds: i64) {
        self.clock_ahead_s.store(seconds, Relaxed);
    }

    /// What arrived and fits, oldest first.
    #[must_use]
    pub fn notifications(&self, wanted: &Wanted) -> Vec<Notification> {
        let inner = self.inner.lock();
        let fitting = inner.kept.iter().filter(|it| wanted.fits(it));
        let limit = wanted.limit.unwrap_or(usize::MAX);
        fitting.take(limit).cloned().collect()
    }

    /// How many requests arrived, kept or not.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.inner.lock().arrived
    }

    /// What a device shows now, as far as it is kept.
    #[must_use]
    pub fn shown(&self, token: &str) -> Vec<Shown> {
        let inner = self.inner.lock();
        let mut shown: Vec<(String, Shown)> = Vec::new();
        let seen =
            |it: &&Notification| it.token == token && it.processed && it.push_type == "alert";
        for it in inner.kept.iter().filter(seen) {
            let key = match it.collapse_id.as_str() {
                "" => format!("#{}", it.serial),
                key => key.to_owned(),
            };
            let place = shown.iter().position(|(other, _)| *other == key);
            let times = place.map_or(1, |place| shown.remove(place).1.times + 1);
            let last = Shown {
                apns_id: it.apns_id.clone(),
                body: it.body.clone(),
                times,
            };
            shown.push((key, last));
        }
        shown.into_iter().map(|(_, shown)| shown).collect()
    }

    /// Connections since the start.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Connections that stand.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.lines().len()
    }

    /// Streams that were refused because the client opened more than it had agreed to.
    #[must_use]
    pub fn refused_streams(&self) -> u64 {
        self.inner.lock().refused_streams
    }

    /// Pings that came on connections that stand.
    #[must_use]
    pub fn pings(&self) -> u64 {
        self.lines().iter().map(|line| line.control.pings()).sum()
    }

    /// Comes back when something arrived, was answered or was held since this was called.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        let mut connections = self.connections.lock();
        connections.retain(|line| line.strong_count() > 0);
        connections.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn line(&self, control: Arc<Control>, certified: bool) -> Arc<Line> {
        let line = Arc::new(Line {
            number: self.opened.fetch_add(1, Relaxed) + 1,
            control,
            certified,
            open: AtomicUsize::new(0),
            widened: AtomicBool::new(false),
            wedged: AtomicBool::new(false),
            bound: Mutex::default(),
            held: Mutex::default(),
            last: watch::Sender::new(None),
            close: Notify::new(),
        });
        self.connections.lock().push(Arc::downgrade(&line));
        line
    }

    pub(super) fn allowed_streams(&self) -> (u32, u32) {
        self.inner.lock().streams
    }

    pub(super) fn refuse_stream(&self) {
        self.inner.lock().refused_streams += 1;
    }

    /// What is to be answered at `now_s` to a request for `token`.
    pub(super) fn judge(
        &self,
        line: &Line,
        authorization: Option<&str>,
        (token, asked): (&str, &Asked),
        now_s: i64,
    ) -> Result<(Option<Provider>, Act), Refusal> {
        let now_s = now_s + self.clock_ahead_s.load(Relaxed);
        let mut inner = self.inner.lock();
        let provider = match line.certified {
            true => None,
            false => Some(line.admit(&mut inner.providers, authorization, now_s)?),
        };
        match inner.devices.get(token) {
            Some(Device {
                gone_since: Some(gone_since),
                ..
            }) => {
                let act = Act {
                    timestamp: Some(*gone_since),
                    ..Act::refuse(410, "Unregistered")
                };
                return Ok((provider, act));
            }
            Some(device) if device.app != asked.app => Err((400, "DeviceTokenNotForTopic")),
            None if !inner.strangers => Err((400, "BadDeviceToken")),
            Some(_) | None => Ok(()),
        }?;
        let act = inner.act(token).unwrap_or_default();
        Ok((provider, act))
    }

    /// Keeps a notification and returns its serial.
    pub(super) fn keep(&self, mut it: Notification, body: &[u8]) -> u64 {
        let kept = &body[..body.len().min(self.body_keep_bytes)];
        it.body = String::from_utf8_lossy(kept).into_owned();
        let mut inner = self.inner.lock();
        inner.arrived += 1;
        it.serial = inner.arrived;
        if inner.kept_max > 0 {
            if inner.kept.len() >= inner.kept_max {
                inner.kept.pop_front();
            }
            inner.kept.push_back(it);
        }
        let serial = inner.arrived;
        drop(inner);
        self.changed.notify_waiters();
        serial
    }

    /// Corrects what was kept: whether it was processed, and what was answered.
    pub(super) fn correct(&self, serial: u64, http_status: u16, processed: bool) {
        let mut inner = self.inner.lock();
        let first = inner.kept.front().map_or(u64::MAX, |it| it.serial);
        let place = serial.checked_sub(first).map(|place| place as usize);
        if let Some(it) = place.and_then(|place| inner.kept.get_mut(place)) {
            (it.http_status, it.processed) = (http_status, processed);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Waits while answers are held back. `Err` if the connection said farewell meanwhile: whether
    /// the request still counts.
    pub(super) async fn held_back(&self, line: &Line, stream: u32) -> Result<(), bool> {
        let (mut holding, mut last) = (self.holding.subscribe(), line.last.subscribe());
        if *holding.borrow() && last.borrow().is_none() {
            line.held.lock().insert(stream);
            self.changed.notify_waiters();
            tokio::select! {
                _ = holding.wait_for(|held| !held) => {}
                _ = last.wait_for(Option::is_some) => {}
            }
            line.held.lock().remove(&stream);
        }
        let last = *last.borrow();
        match last {
            None => Ok(()),
            Some(last) => Err(stream <= last),
        }
    }
}

impl Line {
    fn admit(
        &self,
        providers: &mut Providers,
        authorization: Option<&str>,
        now_s: i64,
    ) -> Result<Provider, Refusal> {
        if self.wedged.load(Relaxed) {
            return Err((403, "ExpiredProviderToken"));
        }
        let provider = providers
            .check(authorization, now_s)
            .inspect_err(|refusal| {
                if refusal.1 == "ExpiredProviderToken" {
                    self.wedged.store(true, Relaxed);
                }
            })?;
        let mut bound = self.bound.lock();
        match bound.as_deref() {
            Some(key_id) if *key_id != *provider.key_id => Err((403, "UnrelatedKeyIdInToken")),
            Some(_) => Ok(provider),
            None => {
                *bound = Some(provider.key_id.clone());
                Ok(provider)
            }
        }
    }
}

impl Inner {
    /// The next scripted act for a device.
    fn act(&mut self, token: &str) -> Option<Act> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => token.starts_with(start),
            None => token == pattern,
        };
        let script = self
            .scripts
            .iter_mut()
            .filter(|script| fits(&script.token))
            .max_by_key(|script| script.token.len())?;
        match (script.acts.len(), script.forever) {
            (1, true) => script.acts.front().cloned(),
            _ => script.acts.pop_front(),
        }
    }
}

/// Everything that can be refused without knowing anybody.
pub(super) fn look(head: &http::request::Parts, body: &[u8]) -> Result<(String, Asked), Refusal> {
    let token = strict::device(&head.method, head.uri.path())?;
    let asked = strict::headers(&head.headers)?;
    strict::body(&asked, body)?;
    Ok((token, asked))
}

/// Ten letters and digits, as Apple's ids are.
fn id() -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let bytes: [u8; 10] = rand::random();
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 32)]);
    bytes.iter().map(letter).collect()
}

pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
