//! Lines: everything that attempts to one endpoint share, a kind for each channel, and the one
//! attempt that each kind makes: encode, send, classify.
//!
//! Absent here: connections, and what follows from an outcome.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::Channel as Way;
use postrider_core::event::Event;
use postrider_core::id::RouteId;
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::client::{Client, Host};
use super::elsewhere;
use crate::channel::reaction::{Action, Reaction, Reactions, Scope, TableFault};
use crate::channel::reading::unsendable;
use crate::channel::webhook::{self, Webhook};
use crate::channel::{Answer, Attempted, Channel as _, Request, Told, apns, fcm, web_push};
use crate::clock::Clock;
use crate::receipts::ReceiptTokens;
use crate::registry::{Credentials, FcmTarget, Registry, Route};

/// What the push channels work with, beside the endpoint.
pub struct Push {
    /// Where routes are found.
    pub registry: Arc<Registry>,
    /// The engine's time, by which the registry is dated.
    pub clock: Arc<Clock>,
    /// What notifications carry so that devices can answer.
    pub receipts: Arc<ReceiptTokens>,
    /// What answers mean.
    pub reactions: ReactionTables,
    /// What hides the length of what browsers get.
    pub padding: web_push::Padding,
    /// It was said already that pushes are longer than some devices can get.
    told_long: AtomicBool,
    kits: Mutex<HashMap<RouteId, (u64, Arc<Kit>)>>,
    /// What a person was told to look at already.
    told: Mutex<BTreeSet<(Way, Cause)>>,
}

/// The reaction table of each push channel.
#[derive(Clone, Debug)]
pub struct ReactionTables {
    /// Of push services.
    pub web_push: Reactions,
    /// Of Apple.
    pub apns: Reactions,
    /// Of Google.
    pub fcm: Reactions,
}

impl Default for ReactionTables {
    fn default() -> ReactionTables {
        let built_in = |name: &str, text: &str| {
            Reactions::parse(name, text)
                .unwrap_or_else(|fault| unreachable!("a table that tests have read: {fault}"))
        };
        ReactionTables {
            web_push: built_in("web_push.toml", web_push::REACTIONS),
            apns: built_in("apns.toml", apns::REACTIONS),
            fcm: built_in("fcm.toml", fcm::REACTIONS),
        }
    }
}

/// A reaction table of the operator's cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReactionsError {
    /// It cannot be read.
    #[error("the reaction table {file} cannot be read: {error}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is none.
    #[error(transparent)]
    Table(#[from] TableFault),
}

impl ReactionTables {
    /// The built-in tables, behind those in this directory; an empty path names none.
    ///
    /// # Errors
    /// [`ReactionsError`].
    pub fn with(directory: &str) -> Result<ReactionTables, ReactionsError> {
        let mut tables = ReactionTables::default();
        if directory.is_empty() {
            return Ok(tables);
        }
        for (name, table) in [
            ("web_push.toml", &mut tables.web_push),
            ("apns.toml", &mut tables.apns),
            ("fcm.toml", &mut tables.fcm),
        ] {
            let path = Path::new(directory).join(name);
            let file = path.display().to_string();
            match std::fs::read_to_string(&path) {
                Ok(text) => *table = table.overlaid(&file, &text)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(ReactionsError::Unreadable { file, error }),
            }
        }
        Ok(tables)
    }
}

/// What all endpoints of one revision of a route share.
pub(super) enum Kit {
    WebPush(Arc<web_push::vapid::Credentials>),
    Apns {
        topic: String,
        tokens: Option<apns::ProviderTokens>,
    },
    Fcm {
        account: fcm::ServiceAccount,
        tokens: fcm::Tokens,
        /// What is left of the project's quota; made at the first attempt.
        pace: Mutex<Option<fcm::quota::Bucket>>,
    },
}

/// A route has no credentials that could be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the route has no credentials that can be used: {0}")]
pub struct Unusable(String);

impl Push {
    /// Push over the routes of `registry`.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        clock: Arc<Clock>,
        receipts: Arc<ReceiptTokens>,
        reactions: ReactionTables,
    ) -> Push {
        Push {
            registry,
            clock,
            receipts,
            reactions,
            padding: web_push::Padding::None,
            told_long: AtomicBool::new(false),
            kits: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// What endpoints of this route share: made once for each of its revisions, so that all of
    /// them present the same token.
    pub(super) fn kit(&self, route: &Route) -> Result<Arc<Kit>, Unusable> {
        let mut kits = self.kits.lock();
        if let Some((revision, kit)) = kits.get(&route.id)
            && *revision == route.revision
        {
            return Ok(Arc::clone(kit));
        }
        let unusable = |fault: &dyn std::fmt::Display| Unusable(fault.to_string());
        let kit = match &route.credentials {
            Credentials::WebPush { subject, keys } => {
                let keys: Vec<_> = keys.iter().map(|key| key.private.clone()).collect();
                let made = web_push::vapid::Credentials::new(&keys, subject);
                Kit::WebPush(Arc::new(made.map_err(|it| unusable(&it))?))
            }
            Credentials::Apns { topic, signer, .. } => {
                let tokens = signer.as_ref().map(|signer| {
                    let key = signer.key_pem.expose_secret();
                    apns::ProviderTokens::new(&signer.team, &signer.key_id, key)
                });
                Kit::Apns {
                    topic: topic.clone(),
                    tokens: tokens.transpose().map_err(|it| unusable(&it))?,
                }
            }
            Credentials::Fcm { service_account } => {
                let account = fcm::ServiceAccount::parse(service_account.expose_secret());
                Kit::Fcm {
                    account: account.map_err(|it| unusable(&it))?,
                    tokens: fcm::Tokens::default(),
                    pace: Mutex::default(),
                }
            }
        };
        let kit = Arc::new(kit);
        kits.insert(route.id, (route.revision, Arc::clone(&kit)));
        Ok(kit)
    }

    /// Says once that what is sent is longer than some devices can get.
    fn mind_length(&self, plaintext_bytes: usize) {
        let is_long = plaintext_bytes > web_push::BRIDGED_BYTES_MAX;
        if is_long && !self.told_long.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                plaintext_bytes,
                safe_bytes_max = web_push::BRIDGED_BYTES_MAX,
                "a push is longer than what reaches browsers on Android for certain"
            );
        }
    }

    /// Says, once for each channel and cause, that a person should look at an answer, where its
    /// reaction asks for that.
    fn mind(&self, way: Way, attempted: &Attempted, reaction: Option<Reaction>) {
        let asks = reaction.is_some_and(|reaction| reaction.alert);
        let Attempted::Answered(outcome) = attempted else {
            return;
        };
        if asks && self.told.lock().insert((way, outcome.cause)) {
            tracing::error!(
                channel = way.name(),
                cause = outcome.cause.code(),
                http_status = outcome.http_status,
                "a provider refuses what it is sent; more of this kind is counted, not logged"
            );
        }
    }
}

/// Everything that attempts to one endpoint share.
pub(super) struct Line {
    pub way: Prepared,
    pub host: Arc<Host>,
}

/// The parts of requests that do not change.
pub(super) enum Prepared {
    Webhook(webhook::Prepared),
    WebPush(web_push::Prepared),
    Apns {
        prepared: apns::Prepared,
        kit: Arc<Kit>,
        /// What is refused if its token is.
        place: elsewhere::Refused,
    },
    Fcm(FcmWay),
}

/// What attempts to one FCM registration share.
pub(super) struct FcmWay {
    pub prepared: fcm::Prepared,
    pub target: FcmTarget,
    pub kit: Arc<Kit>,
    /// Where access tokens come from.
    pub token_host: Arc<Host>,
}

/// What one attempt is about.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub event: &'a Event,
    pub dispatch: &'a Dispatch,
    pub now: Time,
    /// The end of the time to live, on a clock that nobody sets; nothing begins after it.
    pub leave_by: Option<Instant>,
}

impl Line {
    /// Sends a request of this attempt, unless its time to live ends before it can begin.
    async fn send(&self, client: &Arc<Client>, request: Request, errand: Errand<'_>) -> Answer {
        client
            .send_by(errand.leave_by, &self.host, request, &mut None)
            .await
    }

    /// One attempt.
    pub async fn attempt(
        &self,
        client: &Arc<Client>,
        push: Option<&Push>,
        errand: Errand<'_>,
    ) -> Attempted {
        let Errand {
            event,
            dispatch,
            now,
            ..
        } = errand;
        let told = |push: &Push| Told::of(event, dispatch, &push.receipts);
        match (&self.way, push) {
            (Prepared::Webhook(prepared), _) => {
                let request = Webhook.encode(prepared, event, dispatch, now);
                let answer = self.send(client, request, errand).await;
                let then = after(now, &answer);
                Webhook.classify(answer, then)
            }
            (_, None) => unsendable(OutcomeKind::Reject, Cause::RouteUnusable, ""),
            (Prepared::WebPush(prepared), Some(push)) => {
                let told = told(push);
                self.web_push(client, push, prepared, &told, errand).await
            }
            (
                Prepared::Apns {
                    prepared,
                    kit,
                    place,
                },
                Some(push),
            ) => {
                let (way, told) = ((prepared, &**kit, place), told(push));
                self.apns(client, push, way, &told, errand).await
            }
            (Prepared::Fcm(way), Some(push)) => {
                let told = (&told(push), false);
                let (attempted, reaction) = self.fcm(client, push, way, told, errand).await;
                push.mind(Way::Fcm, &attempted, reaction);
                attempted
            }
        }
    }

    async fn web_push(
        &self,
        client: &Arc<Client>,
        push: &Push,
        prepared: &web_push::Prepared,
        told: &Told<'_>,
        errand: Errand<'_>,
    ) -> Attempted {
        let request = match web_push_request(push, prepared, told, errand.now) {
            Ok(request) => request,
            Err(unsent) => return unsent,
        };
        let answer = self.send(client, request, errand).await;
        let then = after(errand.now, &answer);
        let (attempted, reaction) =
            web_push::classify(&push.reactions.web_push, prepared, answer, then);
        push.mind(Way::WebPush, &attempted, reaction);
        attempted
    }

    async fn apns(
        &self,
        client: &Arc<Client>,
        push: &Push,
        (prepared, kit, place): (&apns::Prepared, &Kit, &elsewhere::Refused),
        told: &Told<'_>,
        errand: Errand<'_>,
    ) -> Attempted {
        let Kit::Apns { tokens, .. } = kit else {
            return unsendable(OutcomeKind::Blocked, Cause::RouteUnusable, "");
        };
        let bearer = tokens.as_ref().map(|tokens| tokens.bearer(errand.now));
        let request = match apns::encode(prepared, bearer.clone(), told, errand.now) {
            Ok(request) => request,
            Err(fault) => return apns::unfit(&fault),
        };
        let mut over = None;
        let answer = client
            .send_by(errand.leave_by, &self.host, request, &mut over)
            .await;
        let then = after(errand.now, &answer);
        let presented = tokens.as_ref().zip(bearer.as_ref());
        let verdict = apns::classify(&push.reactions.apns, answer, presented, then);
        if let Some(serial) = over.filter(|_| verdict.ends_connection()) {
            self.host.leave(serial);
        }
        let action = verdict.reaction.map(|reaction| reaction.action);
        let attempted = verdict.attempted;
        push.mind(Way::Apns, &attempted, verdict.reaction);
        match action {
            Some(Action::TryElsewhere) => {
                elsewhere::tried(&push.registry, place, attempted, push.clock.now()).await
            }
            _ => attempted,
        }
    }

    /// `told` comes with whether FCM is only to look at it: then quota and token stay as they are.
    pub(super) async fn fcm(
        &self,
        client: &Arc<Client>,
        push: &Push,
        way: &FcmWay,
        (told, validate_only): (&Told<'_>, bool),
        errand: Errand<'_>,
    ) -> (Attempted, Option<Reaction>) {
        let unsent = |attempted| (attempted, None);
        let Kit::Fcm {
            account,
            tokens,
            pace,
        } = &*way.kit
        else {
            return unsent(unsendable(OutcomeKind::Blocked, Cause::RouteUnusable, ""));
        };
        let mut errand = errand;
        let taken = match validate_only {
            true => Ok(0),
            false => fcm::quota::take(pace, errand.now),
        };
        match taken {
            Ok(0) => {}
            Ok(wait_ms) => {
                tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())).await;
                errand.now = errand.now.plus(wait_ms);
                if errand.now >= errand.dispatch.expires_at {
                    return unsent(Attempted::NotSent(Cause::Deferred));
                }
            }
            // The whole project waits, and nothing of it spends an attempt.
            Err(_) => {
                let detail = "Google asked the project to wait, or its quota is used up";
                return unsent(unsendable(OutcomeKind::Blocked, Cause::RateLimited, detail));
            }
        }
        let fetch = async |request| client.send(&way.token_host, request).await;
        let bearer = match tokens.bearer(errand.now, account, fetch).await {
            Ok(bearer) => bearer,
            Err(fault) => return unsent(fcm::untokened(&fault)),
        };
        let target = match &way.target {
            FcmTarget::Token(token) => fcm::Target::Token(token),
            FcmTarget::Fid(fid) => fcm::Target::Fid(fid),
        };
        let ask = fcm::Ask {
            target,
            validate_only,
        };
        let request = match fcm::encode(&way.prepared, &bearer.header, told, ask, errand.now) {
            Ok(request) => request,
            Err(fault) => return unsent(fcm::unfit(&fault)),
        };
        let answer = self.send(client, request, errand).await;
        let then = after(errand.now, &answer);
        let again = || !validate_only && tokens.refused(bearer.number);
        let (attempted, reaction) = fcm::classify(&push.reactions.fcm, answer, then, again);
        if let (false, Attempted::Answered(outcome), Some(reaction)) =
            (validate_only, &attempted, reaction)
        {
            // Whatever else it says, the token was let in.
            if outcome.http_status != 401 {
                tokens.let_in();
            }
            if outcome.kind == OutcomeKind::Throttle && reaction.scope == Scope::Route {
                fcm::quota::hold(pace, then, outcome.wait_min_ms);
            }
        }
        (attempted, reaction)
    }
}

fn after(now: Time, answer: &Answer) -> Time {
    now.plus(i64::from(answer.total_ms))
}

/// The request of a push to a browser, or what becomes of the attempt without one.
pub(super) fn web_push_request(
    push: &Push,
    prepared: &web_push::Prepared,
    told: &Told<'_>,
    now: Time,
) -> Result<Request, Attempted> {
    let fresh = web_push::Fresh::draw().map_err(|fault| {
        unsendable(OutcomeKind::Retry, Cause::ConnectFailed, &fault.to_string())
    })?;
    let written = web_push::encode(prepared, told, push.padding, &fresh, now)
        .map_err(|cause| unsendable(OutcomeKind::Reject, cause, ""))?;
    push.mind_length(written.plaintext_bytes);
    Ok(written.request)
}
