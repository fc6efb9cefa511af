//! What the fake push service keeps: user agents, their subscriptions, and what is on its way to
//! them. One lock, held for moments.
//!
//! A **user agent's** side is an [`Agent`], one for each of its connections. Whatever protocol the
//! connection speaks, it does this:
//!
//! ```
//! use postrider::fake::push::{ACKNOWLEDGED, Parcel, Subscriptions};
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//!
//! let service = Subscriptions::new("http://127.0.0.1:8030");
//! let agent = service.connect(None)?;                  // hello: a new user agent,
//! let id = agent.id().to_owned();                      // or `connect(Some(id))` to come back
//! let endpoint = agent.register("channel-1", None)?;   // register: the URL for the application
//!
//! let token = endpoint.rsplit('/').next().unwrap();    // a sender pushes (over HTTP, normally)
//! service.push(token, Parcel { ttl_s: 60, ..Parcel::default() }).unwrap();
//!
//! let pushed = agent.next().await;                     // the next notification, as it comes in
//! assert_eq!(&*pushed.channel, "channel-1");
//! agent.acknowledge(&pushed.version, ACKNOWLEDGED);    // ack: it is forgotten
//! assert!(agent.unregister("channel-1"));              // from now on senders get 410
//! drop(agent);                                         // the connection ended
//! # assert_eq!(service.connect(Some(&id))?.id(), id);
//! # Ok::<(), postrider::fake::push::Refused>(())
//! # }).unwrap();
//! ```
//!
//! `next` may be dropped at any moment without losing anything, so it can be one arm of a
//! `select!`. What was handed out and not acknowledged is handed out again on the next connection,
//! unless its time to live was 0. A user agent has one connection: a second one ends the first,
//! whose `next` then waits for ever and [`Agent::ended`] returns.
//!
//! **Without a user agent**, [`Subscriptions::subscribe`] makes a subscription whose notifications
//! are acknowledged as they arrive: for tests and benchmarks that need thousands.
//!
//! Absent here: HTTP and the browsers' websocket, and any look into what is encrypted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::passage::{
    End, Missing, Parcel, Passage, Pushed, Receipt, Refused, checked, normal_key,
};
use crate::fake::serve::now_us;

/// Subscriptions that are kept at most, those that are gone included.
pub const SUBSCRIPTIONS_MAX: usize = 250_000;
/// Notifications that wait for one user agent at most. What goes over it ends all of its
/// subscriptions, as autopush's `msg_limit` does.
pub const WAITING_MAX: usize = 150;
/// Longest time to live that is granted: 30 days, as autopush does.
pub const TTL_S_MAX: u64 = 2_592_000;
/// Characters of a user agent's or a channel's id at most.
pub const ID_LENGTH_MAX: usize = 128;
/// Notifications whose history is kept for [`Subscriptions::history`].
pub const HISTORY_MAX: usize = 100_000;

/// What the code of an acknowledgement means (the browsers' websocket protocol).
pub const ACKNOWLEDGED: u16 = 100;

/// The subscriptions of one push service.
#[derive(Debug)]
pub struct Subscriptions {
    origin: Box<str>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: HashMap<Box<str>, Known>,
    subscriptions: HashMap<Box<str>, Subscription>,
    history: VecDeque<Passage>,
    first: u64,
}

/// A user agent, connected or not.
#[derive(Debug, Default)]
struct Known {
    /// Number of its connection, counted from 1; 0 while there is none.
    connection: u64,
    connections: u64,
    channels: HashMap<Box<str>, Box<str>>,
    waiting: VecDeque<Waiting>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Waiting {
    pushed: Pushed,
    token: Box<str>,
    serial: u64,
    expires_us: u64,
    replace: Option<Box<str>>,
    /// On which connection it was handed out; 0: on none.
    sent_on: u64,
    /// With a time to live of 0: the connection that it is for.
    only_on: Option<u64>,
}

#[derive(Debug)]
struct Subscription {
    agent: Option<Box<str>>,
    channel: Box<str>,
    key: Option<Box<str>>,
    gone: bool,
}

/// One connection of a user agent. It ends when it is dropped.
#[derive(Debug)]
pub struct Agent {
    service: Arc<Subscriptions>,
    id: Box<str>,
    connection: u64,
    wake: Arc<Notify>,
}

impl Subscriptions {
    /// A service whose endpoints begin with this origin, such as `https://127.0.0.1:8030`.
    #[must_use]
    pub fn new(origin: &str) -> Arc<Subscriptions> {
        Arc::new(Subscriptions {
            origin: origin.trim_end_matches('/').into(),
            inner: Mutex::default(),
        })
    }

    /// What its endpoints begin with.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Connects a user agent: a new one, or the one that came before under this id. An id that is
    /// not known is taken for a new user agent's, as autopush does after a reset.
    ///
    /// # Errors
    /// [`Refused::Id`].
    pub fn connect(self: &Arc<Subscriptions>, id: Option<&str>) -> Result<Agent, Refused> {
        let id: Box<str> = match id.filter(|id| !id.is_empty()) {
            Some(id) => checked(id)?.into(),
            None => Uuid::new_v4().simple().to_string().into(),
        };
        let mut inner = self.inner.lock();
        let known = inner.agents.entry(id.clone()).or_default();
        known.connections += 1;
        known.connection = known.connections;
        let (connection, wake) = (known.connection, Arc::clone(&known.wake));
        drop(inner);
        // The connection before this one finds out that it ended.
        wake.notify_waiters();
        Ok(Agent {
            service: Arc::clone(self),
            id,
            connection,
            wake,
        })
    }

    /// A subscription whose notifications are acknowledged as they arrive. `key` is the
    /// application's public key as base64url, if only its holder may send.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn subscribe(&self, key: Option<&str>) -> Result<String, Refused> {
        self.inner.lock().subscribe(&self.origin, None, "", key)
    }

    /// Ends the subscription of an endpoint, as if its user agent had: senders get 410.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn end(&self, token: &str) -> Result<(), Missing> {
        let mut inner = self.inner.lock();
        inner.find(token)?;
        inner.end(token);
        Ok(())
    }

    /// The key that a subscription is restricted to, if it is.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn key(&self, token: &str) -> Result<Option<Box<str>>, Missing> {
        let inner = self.inner.lock();
        Ok(inner.find(token)?.key.clone())
    }

    /// Takes a notification over from a sender.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn push(&self, token: &str, parcel: Parcel) -> Result<Receipt, Missing> {
        let mut inner = self.inner.lock();
        inner.find(token)?;
        let (receipt, wake) = inner.push(token, parcel);
        drop(inner);
        if let Some(wake) = wake {
            wake.notify_waiters();
        }
        Ok(receipt)
    }

    /// A sender withdraws a notification. Doing so twice is no error.
    pub fn withdraw(&self, version: &str) {
        self.inner.lock().take(version, End::Withdrawn, 0);
    }

    /// What became of the notifications of one subscription, or of all, oldest first.
    #[must_use]
    pub fn history(&self, token: Option<&str>) -> Vec<Passage> {
        let mut inner = self.inner.lock();
        inner.expire(now_us());
        let of = |passage: &&Passage| token.is_none_or(|token| token == &*passage.token);
        inner.history.iter().filter(of).cloned().collect()
    }

    /// Forgets the history. What waits goes on waiting, without one.
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.first += inner.history.len() as u64;
        inner.history.clear();
    }
}

impl Agent {
    /// The user agent's id: what it comes back under.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Subscribes a channel and returns the endpoint for senders. Doing so again returns the same.
    /// `key` is the application's public key as base64url (padding is not minded), if the page gave
    /// one: then only its holder may send.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn register(&self, channel: &str, key: Option<&str>) -> Result<String, Refused> {
        let channel = checked(channel)?;
        let mut inner = self.service.inner.lock();
        inner.subscribe(&self.service.origin, Some(&self.id), channel, key)
    }

    /// Ends a channel's subscription: senders get 410 from now on. Whether there was one.
    #[must_use = "a user agent is told whether there was one"]
    pub fn unregister(&self, channel: &str) -> bool {
        let mut inner = self.service.inner.lock();
        let known = inner.agents.get_mut(&self.id);
        let token = known.and_then(|known| known.channels.remove(channel));
        if let Some(token) = &token {
            inner.end(token);
        }
        token.is_some()
    }

    /// The next notification that was not handed out on this connection yet, oldest first.
    pub async fn next(&self) -> Pushed {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            // From here on nothing that comes in between looking and waiting is missed.
            woken.as_mut().enable();
            let next = self.service.inner.lock().next(&self.id, self.connection);
            match next {
                Some(pushed) => return pushed,
                None => woken.await,
            }
        }
    }

    /// Returns once another connection of the same user agent took this one's place.
    pub async fn ended(&self) {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if !self.is_current() {
                return;
            }
            woken.await;
        }
    }

    fn is_current(&self) -> bool {
        let inner = self.service.inner.lock();
        let known = inner.agents.get(&self.id);
        known.is_some_and(|known| known.connection == self.connection)
    }

    /// The user agent has got a notification: with [`ACKNOWLEDGED`], or another code where it could
    /// not use it (101: it could not be decrypted, 102: it was not handed on). Either way it is not
    /// sent again.
    pub fn acknowledge(&self, version: &str, code: u16) {
        let mut inner = self.service.inner.lock();
        inner.take(version, End::Acknowledged, code);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let mut inner = self.service.inner.lock();
        if let Some(known) = inner.agents.get_mut(&self.id)
            && known.connection == self.connection
        {
            known.connection = 0;
        }
    }
}

impl Inner {
    fn find(&self, token: &str) -> Result<&Subscription, Missing> {
        match self.subscriptions.get(token) {
            None => Err(Missing::Unknown),
            Some(subscription) if subscription.gone => Err(Missing::Gone),
            Some(subscription) => Ok(subscription),
        }
    }

    fn subscribe(
        &mut self,
        origin: &str,
        agent: Option<&str>,
        channel: &str,
        key: Option<&str>,
    ) -> Result<String, Refused> {
        let key = key.map(normal_key).transpose()?;
        let known = agent.and_then(|agent| self.agents.get_mut(agent));
        let existing = known
            .as_ref()
            .and_then(|known| known.channels.get(channel))
            .cloned();
        let token = match existing {
            Some(token) => token,
            None if self.subscriptions.len() >= SUBSCRIPTIONS_MAX => return Err(Refused::Full),
            None => Uuid::new_v4().simple().to_string().into(),
        };
        // autopush keeps restricted subscriptions under another version of the path.
        let version = if key.is_some() { "v2" } else { "v1" };
        let endpoint = format!("{origin}/wpush/{version}/{token}");
        if let Some(known) = known {
            known.channels.insert(channel.into(), token.clone());
        }
        let subscription = Subscription {
            agent: agent.map(Into::into),
            channel: channel.into(),
            key,
            gone: false,
        };
        self.subscriptions.insert(token, subscription);
        Ok(endpoint)
    }

    fn end(&mut self, token: &str) {
        let Some(subscription) = self.subscriptions.get_mut(token) else {
            return;
        };
        subscription.gone = true;
        let Some(agent) = subscription.agent.clone() else {
            return;
        };
        let Some(known) = self.agents.get_mut(&agent) else {
            return;
        };
        known.channels.retain(|_, of| &**of != token);
        let serials: Vec<u64> = known
            .waiting
            .iter()
            .filter(|waiting| &*waiting.token == token)
            .map(|waiting| waiting.serial)
            .collect();
        known.waiting.retain(|waiting| &*waiting.token != token);
        for serial in serials {
            self.note(serial, |passage| passage.end = End::Ended);
        }
    }

    fn push(&mut self, token: &str, parcel: Parcel) -> (Receipt, Option<Arc<Notify>>) {
        let serial = self.first + self.history.len() as u64;
        let version: Box<str> = format!("{token}-{serial}").into();
        let ttl_s = parcel.ttl_s.min(TTL_S_MAX);
        let receipt = Receipt {
            version: version.clone(),
            ttl_s,
        };
        self.remember(Passage {
            version: version.clone(),
            token: token.into(),
            replace: parcel.replace.clone(),
            urgency: parcel.urgency,
            ttl_s,
            body_bytes: parcel.body.len(),
            sent: 0,
            end: End::Waiting,
            code: 0,
        });
        let subscription = &self.subscriptions[token];
        let (agent, channel) = (subscription.agent.clone(), subscription.channel.clone());
        let Some(agent) = agent else {
            self.note(serial, |passage| {
                (passage.sent, passage.end, passage.code) = (1, End::Acknowledged, ACKNOWLEDGED);
            });
            return (receipt, None);
        };
        self.replace(&agent, token, parcel.replace.as_deref());
        let known = self.agents.entry(agent.clone()).or_default();
        if ttl_s == 0 && known.connection == 0 {
            self.note(serial, |passage| passage.end = End::Expired);
            return (receipt, None);
        }
        known.waiting.push_back(Waiting {
            pushed: Pushed {
                channel,
                version,
                ttl_s,
                encoding: parcel.encoding,
                body: parcel.body,
            },
            token: token.into(),
            serial,
            expires_us: now_us().saturating_add(ttl_s * 1_000_000),
            replace: parcel.replace,
            sent_on: 0,
            only_on: (ttl_s == 0).then_some(known.connection),
        });
        let wake = Arc::clone(&known.wake);
        if known.waiting.len() > WAITING_MAX {
            let tokens: Vec<Box<str>> = known.channels.values().cloned().collect();
            for token in tokens {
                self.end(&token);
            }
        }
        (receipt, Some(wake))
    }

    fn replace(&mut self, agent: &str, token: &str, replace: Option<&str>) {
        let Some(replace) = replace else { return };
        let Some(known) = self.agents.get_mut(agent) else {
            return;
        };
        let place = known.waiting.iter().position(|waiting| {
            &*waiting.token == token && waiting.replace.as_deref() == Some(replace)
        });
        if let Some(old) = place.and_then(|place| known.waiting.remove(place)) {
            self.note(old.serial, |passage| passage.end = End::Replaced);
        }
    }

    fn next(&mut self, agent: &str, connection: u64) -> Option<Pushed> {
        self.expire_of(agent, now_us());
        let known = self.agents.get_mut(agent)?;
        if known.connection != connection {
            return None;
        }
        let next = known
            .waiting
            .iter_mut()
            .find(|waiting| waiting.sent_on != connection)?;
        next.sent_on = connection;
        let (pushed, serial) = (next.pushed.clone(), next.serial);
        self.note(serial, |passage| passage.sent += 1);
        Some(pushed)
    }

    /// Ends the waiting of the notification with this name.
    fn take(&mut self, version: &str, end: End, code: u16) {
        let token = version.rsplit_once('-').map_or("", |(token, _)| token);
        let subscription = self.subscriptions.get(token);
        let agent = subscription.and_then(|subscription| subscription.agent.clone());
        let Some(known) = agent.and_then(|agent| self.agents.get_mut(&agent)) else {
            return;
        };
        let place = known
            .waiting
            .iter()
            .position(|waiting| &*waiting.pushed.version == version);
        if let Some(taken) = place.and_then(|place| known.waiting.remove(place)) {
            self.note(taken.serial, |passage| {
                (passage.end, passage.code) = (end, code);
            });
        }
    }

    fn expire(&mut self, now_us: u64) {
        let agents: Vec<Box<str>> = self.agents.keys().cloned().collect();
        for agent in agents {
            self.expire_of(&agent, now_us);
        }
    }

    fn expire_of(&mut self, agent: &str, now_us: u64) {
        let Some(known) = self.agents.get_mut(agent) else {
            return;
        };
        let connection = known.connection;
        let is_over = |waiting: &Waiting| match waiting.only_on {
            Some(only_on) => only_on != connection,
            None => waiting.expires_us <= now_us,
        };
        let over: Vec<u64> = known
            .waiting
            .iter()
            .filter(|waiting| is_over(waiting))
            .map(|waiting| waiting.serial)
            .collect();
        known.waiting.retain(|waiting| !is_over(waiting));
        for serial in over {
            self.note(serial, |passage| passage.end = End::Expired);
        }
    }

    fn remember(&mut self, passage: Passage) {
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
            self.first += 1;
        }
        self.history.push_back(passage);
    }

    /// Changes what is remembered of a notification, if it still is.
    fn note(&mut self, serial: u64, change: impl FnOnce(&mut Passage)) {
        let place = serial.checked_sub(self.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(passage) = place.and_then(|place| self.history.get_mut(place)) {
            change(passage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ACKNOWLEDGED, Agent, End, Missing, Parcel, Pushed, Refused, Subscriptions};
    use super::{TTL_S_MAX, WAITING_MAX};
    use std::sync::Arc;
    use std::time::Duration;

    const KEY: &str = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w\
        EqKK6PBru3jl7A8";

    fn service() -> Arc<Subscriptions> {
        Subscriptions::new("http://127.0.0.1:1/")
    }

    fn parcel(ttl_s: u64, replace: Option<&str>) -> Parcel {
        Parcel {
            ttl_s,
            replace: replace.map(Into::into),
            ..Parcel::default()
        }
    }

    fn token(endpoint: &str) -> &str {
        endpoint.rsplit('/').next().expect("a path")
    }

    async fn next(agent: &Agent) -> Pushed {
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, agent.next())
            .await
            .expect("something comes in")
    }

    fn nothing_waits(agent: &Agent) -> bool {
        let mut service = agent.service.inner.lock();
        service.next(&agent.id, agent.connection).is_none()
    }

    fn ends(service: &Subscriptions) -> Vec<End> {
        service
            .history(None)
            .iter()
            .map(|passage| passage.end)
            .collect()
    }

    #[tokio::test]
    async fn what_is_not_acknowledged_comes_again_on_the_next_connection() {
        let service = service();
        let agent = service.connect(None).unwrap();
        let endpoint = agent.register("c-1", None).unwrap();
        assert_eq!(agent.register("c-1", None).unwrap(), endpoint);
        let first = service.push(token(&endpoint), parcel(60, None)).unwrap();
        let second = service.push(token(&endpoint), parcel(60, None)).unwrap();
        assert_eq!(next(&agent).await.version, first.version);
        assert_eq!(next(&agent).await.version, second.version);
        assert!(nothing_waits(&agent));
        agent.acknowledge(&first.version, ACKNOWLEDGED);
        let again = service.connect(Some(agent.id())).unwrap();
        agent.ended().await;
        assert!(nothing_waits(&agent), "the first connection is over");
        drop(agent);
        assert_eq!(next(&again).await.version, second.version);
        again.acknowledge(&second.version, 101);
        let history = service.history(Some(token(&endpoint)));
        let seen: Vec<(u32, u16)> = history.iter().map(|p| (p.sent, p.code)).collect();
        assert_eq!(seen, [(1, 100), (2, 101)]);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let service = service();
        let agent = service.connect(None).unwrap();
        let endpoint = agent.register("c-1", None).unwrap();
        let push = async { service.push(token(&endpoint), parcel(60, None)).unwrap() };
        let (pushed, receipt) = tokio::join!(next(&agent), push);
        assert_eq!(pushed.version, receipt.version);
    }

    #[test]
    fn a_newer_one_with_the_same_topic_takes_the_place() {
        let service = service();
        let agent = service.connect(None).unwrap();
        let endpoint = agent.register("c-1", None).unwrap();
        for topic in ["a", "b", "a"] {
            service
                .push(token(&endpoint), parcel(60, Some(topic)))
                .unwrap();
        }
        assert_eq!(ends(&service), [End::Replaced, End::Waiting, End::Waiting]);
        let other = agent.register("c-2", None).unwrap();
        service.push(token(&other), parcel(60, Some("a"))).unwrap();
        assert_eq!(ends(&service)[2], End::Waiting, "another subscription's");
    }

    #[test]
    fn a_time_to_live_of_0_is_for_who_is_there() {
        let service = service();
        let agent = service.connect(None).unwrap();
        let id = agent.id().to_owned();
        let endpoint = agent.register("c-1", None).unwrap();
        service.push(token(&endpoint), parcel(0, None)).unwrap();
        drop(agent);
        service.push(token(&endpoint), parcel(0, None)).unwrap();
        let agent = service.connect(Some(&id)).unwrap();
        assert!(nothing_waits(&agent));
        assert_eq!(ends(&service), [End::Expired, End::Expired]);
        service.push(token(&endpoint), parcel(0, None)).unwrap();
        assert!(!nothing_waits(&agent));
        let long = service
            .push(token(&endpoint), parcel(u64::MAX, None))
            .unwrap();
        assert_eq!(long.ttl_s, TTL_S_MAX);
    }

    #[test]
    fn what_is_ended_is_gone_and_what_never_was_is_unknown() {
        let service = service();
        let agent = service.connect(None).unwrap();
        let endpoint = agent.register("c-1", Some(KEY)).unwrap();
        let bound = token(&endpoint);
        assert!(endpoint.starts_with("http://127.0.0.1:1/wpush/v2/"));
        assert_eq!(service.key(bound).unwrap().as_deref(), Some(KEY));
        let receipt = service.push(bound, parcel(60, None)).unwrap();
        assert!(agent.unregister("c-1") && !agent.unregister("c-1"));
        assert_eq!(service.push(bound, parcel(60, None)), Err(Missing::Gone));
        assert_eq!(service.push("x", parcel(60, None)), Err(Missing::Unknown));
        assert!(nothing_waits(&agent));
        service.withdraw(&receipt.version);
        assert_eq!(ends(&service), [End::Ended]);
        assert_ne!(agent.register("c-1", Some(KEY)).unwrap(), endpoint);
    }

    #[test]
    fn a_sender_withdraws() {
        let service = service();
        let agent = service.connect(None).unwrap();
        let endpoint = agent.register("c-1", None).unwrap();
        let receipt = service.push(token(&endpoint), parcel(60, None)).unwrap();
        service.withdraw(&receipt.version);
        service.withdraw(&receipt.version);
        assert!(nothing_waits(&agent));
        assert_eq!(ends(&service), [End::Withdrawn]);
    }

    #[test]
    fn a_user_agent_that_lets_too_many_wait_loses_its_subscriptions() {
        let service = service();
        let agent = service.connect(None).unwrap();
        let endpoint = agent.register("c-1", None).unwrap();
        for _ in 0..=WAITING_MAX {
            service.push(token(&endpoint), parcel(60, None)).unwrap();
        }
        assert_eq!(service.key(token(&endpoint)), Err(Missing::Gone));
        assert!(ends(&service).iter().all(|end| *end == End::Ended));
    }

    #[test]
    fn without_a_user_agent_it_is_acknowledged_at_once() {
        let service = service();
        let endpoint = service.subscribe(None).unwrap();
        service.push(token(&endpoint), parcel(60, None)).unwrap();
        assert_eq!(ends(&service), [End::Acknowledged]);
        service.clear();
        assert!(service.history(None).is_empty());
        service.end(token(&endpoint)).unwrap();
        assert_eq!(service.end(token(&endpoint)), Err(Missing::Gone));
    }

    #[test]
    fn ids_and_keys_have_a_shape() {
        let service = service();
        assert_eq!(
            service.connect(Some("a/b")).unwrap_err(),
            Refused::Id("a/b".into())
        );
        let agent = service.connect(Some("known-1")).unwrap();
        assert_eq!(agent.register("", None), Err(Refused::Id(String::new())));
        for key in ["", "AAAA", &KEY[1..], "!"] {
            assert_eq!(agent.register("c", Some(key)), Err(Refused::Key), "{key}");
        }
        let padded = format!("{KEY}=");
        assert!(agent.register("c", Some(&padded)).is_ok());
    }
}
