//! What a push to a browser costs, and how many a second get out.
//!
//! | figure | |
//! | --- | --- |
//! | `floor_us` | one key pair and one key agreement on P-256: what no sender can avoid |
//! | `encrypt_us` | those, and the derivation, the cipher and the body around them |
//! | `limit_per_s` | the raw client writing such pushes to the sink, without an engine |
//! | `end_to_end_per_s` | the same through the engine, over as many subscriptions |
//! | `npm_web_push_per_s` | `web-push` of npm to the same sink over TLS, where Node finds it |
//!
//! Absent here: a push service's own work. The sink takes everything and looks at nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, PrivateKey, UnparsedPublicKey, agree};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::event::Urgency;
use postrider_core::time::Time;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use super::load::{self, Load, Pace, per_s};
use super::npm;
use super::raw;
use super::stage::Stage;
use super::{CONNECTIONS, THREADS};
use crate::channel::Told;
use crate::channel::reaction::Reactions;
use crate::channel::web_push::encrypt::{Ephemeral, NoKeyPair, Receiver, encrypt};
use crate::channel::web_push::vapid::{Credentials, VapidKey};
use crate::channel::web_push::{self, Fresh, Padding, Prepared, REACTIONS};
use crate::cli::demo::api::Api;
use crate::cli::demo::progress::Progress;
use crate::cli::demo::world::{make, word};
use crate::cli::failure::Failure;
use crate::registry::WebPushKeys;
use crate::transport::{Limits, Transport};

/// Subscriptions that pushes are spread over.
const SUBSCRIPTIONS: usize = 1_000;
/// Rounds of each kind of arithmetic, in turns; the best of each counts.
const ROUNDS: usize = 20;
/// Operations of a round.
const ROUND_OPERATIONS: u32 = 100;
/// Share of a run's events that become pushes.
const EVENTS_SHARE: u64 = 20;
/// Fewest pushes of a run.
const PUSHES_MIN: u64 = 500;
/// Pause between two looks at the sink.
const LOOK_MS: u64 = 10;
/// Longest time without an arrival until what is missing counts as lost.
const STALL_MS_MAX: u64 = 15_000;
const SUBJECT: &str = "mailto:bench@example.com";

/// The settings of an engine whose push service is the sink.
pub(super) fn settings(sink: &str) -> String {
    format!("\n[push]\nextra_hosts = [\"{sink}\"]\n")
}

/// Subscriptions at the sink, as a browser would give them.
struct Crowd {
    key: SecretString,
    subscriptions: Vec<(String, WebPushKeys)>,
}

/// Measures all of it on a stage of its own.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    events: u64,
    time: Duration,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    progress.phase("Web Push: encryption", 0);
    let (encrypt_us, floor_us) = arithmetic().map_err(cannot)?;
    let pushes = (events / EVENTS_SHARE).max(PUSHES_MIN);
    let mut stage = Stage::set_for_push(program, data).await?;
    let crowd = Crowd::new(&stage).map_err(cannot)?;
    progress.phase("Web Push: raw client against the sink", 0);
    let limit_per_s = limit(&crowd, time).await?;
    progress.phase("Web Push: npm's web-push against the sink", 0);
    let (base, pem) = stage.sink.tls();
    let payload = load::payload(1, load::now_us());
    let npm_per_s = npm::per_s(base, pem, &payload, CONNECTIONS, time, stage.directory()).await?;
    progress.phase("Web Push: full speed", pushes);
    let (end_to_end_per_s, lost) = full(&mut stage, &crowd, pushes, progress).await?;
    stage.engine.stop().await?;
    Ok(json!({
        "encrypt_us": super::round(encrypt_us),
        "floor_us": super::round(floor_us),
        "encrypt_to_floor": super::round(encrypt_us / floor_us),
        "limit_per_s": super::round(limit_per_s),
        "end_to_end_per_s": super::round(end_to_end_per_s),
        "ratio": super::round(end_to_end_per_s / limit_per_s),
        "npm_web_push_per_s": npm_per_s.map(super::round),
        "subscriptions": SUBSCRIPTIONS,
        "pushes": pushes,
        "lost": lost,
    }))
}

fn cannot(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::no("Web Push could not be measured").because(error.into())
}

/// Microseconds of a whole encryption, and of what of it cannot be avoided.
fn arithmetic() -> Result<(f64, f64), NoKeyPair> {
    let theirs = Ephemeral::generate()?;
    let receiver = Receiver::new(theirs.public(), &[7; 16]).map_err(|_| NoKeyPair)?;
    let point = UnparsedPublicKey::new(&ECDH_P256, theirs.public());
    let point = ParsedPublicKey::try_from(point).map_err(|_| NoKeyPair)?;
    let plaintext = load::payload(1, load::now_us());
    let whole = || {
        let fresh = Fresh::draw()?;
        let body = encrypt(&receiver, &fresh.key, &fresh.salt, plaintext.as_bytes(), 0);
        body.map(drop).map_err(|_| NoKeyPair)
    };
    let bare = || {
        let ours = PrivateKey::generate(&ECDH_P256).map_err(|_| NoKeyPair)?;
        agree(&ours, point.clone(), NoKeyPair, |_| Ok(()))
    };
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        best.0 = best.0.min(each_us(whole)?);
        best.1 = best.1.min(each_us(bare)?);
    }
    Ok(best)
}

fn each_us(work: impl Fn() -> Result<(), NoKeyPair>) -> Result<f64, NoKeyPair> {
    let began = Instant::now();
    for _ in 0..ROUND_OPERATIONS {
        work()?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND_OPERATIONS))
}

impl Crowd {
    fn new(stage: &Stage) -> Result<Crowd, NoKeyPair> {
        let key = VapidKey::generate();
        let vapid_key = VapidKey::parse(&key).map_err(|_| NoKeyPair)?;
        let subscriptions = (0..SUBSCRIPTIONS).map(|number| {
            let browser = Ephemeral::generate()?;
            let keys = WebPushKeys {
                p256dh: URL_SAFE_NO_PAD.encode(browser.public()),
                auth: URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes()),
                vapid_key: vapid_key.public().to_owned(),
            };
            Ok((stage.sink.url(&format!("/push/{number}")), keys))
        });
        let subscriptions = subscriptions.collect::<Result<_, NoKeyPair>>()?;
        Ok(Crowd { key, subscriptions })
    }

    fn prepared(&self) -> Result<Vec<Prepared>, Failure> {
        let credentials = Credentials::new(std::slice::from_ref(&self.key), SUBJECT);
        let credentials = Arc::new(credentials.map_err(cannot)?);
        let table = Reactions::parse("web_push.toml", REACTIONS).map_err(cannot)?;
        let subscriptions = self.subscriptions.iter();
        subscriptions
            .map(|(url, keys)| {
                let url = Url::parse(url).map_err(cannot)?;
                Prepared::new(&url, keys, &credentials, &table).map_err(cannot)
            })
            .collect()
    }
}

/// Pushes a second that the raw client gets out with nothing but encryption in front of it.
async fn limit(crowd: &Crowd, time: Duration) -> Result<f64, Failure> {
    let prepared = Arc::new(crowd.prepared()?);
    let url = Url::parse(&crowd.subscriptions[0].0).map_err(cannot)?;
    let run = tokio::task::spawn_blocking(move || raw_pushes(&prepared, url, time));
    run.await.map_err(cannot)?
}

fn raw_pushes(prepared: &Arc<Vec<Prepared>>, url: Url, time: Duration) -> Result<f64, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(cannot)?;
    let transport = Arc::new(Transport::new(Limits::default(), raw::loopback()?));
    let endpoint = Arc::new(raw::endpoint(url));
    let (sent, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    let ended: Result<(), String> = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (transport, endpoint) = (Arc::clone(&transport), Arc::clone(&endpoint));
            let (prepared, next) = (Arc::clone(prepared), Arc::clone(&next));
            let sent = Arc::clone(&sent);
            clients.spawn(async move {
                let host = transport.prepared(&endpoint);
                while began.elapsed() < time {
                    let number = next.fetch_add(1, Relaxed);
                    let request = write(&prepared[number % prepared.len()], number)?;
                    let answer = transport.send(&host, request).await;
                    match answer.said {
                        Ok(response) if response.http_status == 200 => sent.fetch_add(1, Relaxed),
                        other => return Err(format!("the sink answered {other:?}")),
                    };
                }
                Ok(())
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    });
    ended.map_err(cannot)?;
    let elapsed_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(per_s(sent.load(Relaxed), elapsed_us))
}

fn write(prepared: &Prepared, number: usize) -> Result<crate::channel::Request, String> {
    let now_us = load::now_us();
    let now = Time(i64::try_from(now_us / 1_000).unwrap_or(i64::MAX));
    let payload = load::payload(number as u64, now_us);
    let told = Told {
        payload: payload.as_bytes(),
        id: Uuid::new_v4(),
        sequence: None,
        replace_key: "0123456789abcdefghijklmnopqrstuv".into(),
        collapses: false,
        urgency: Urgency::Normal,
        admitted_at: now,
        expires_at: now.plus(60_000),
        receipt: None,
    };
    let fresh = Fresh::draw().map_err(|fault| fault.to_string())?;
    let written = web_push::encode(prepared, &told, Padding::None, &fresh, now);
    written
        .map(|written| written.request)
        .map_err(|cause| cause.to_string())
}

/// Pushes a second through the engine, and how many are missing.
async fn full(
    stage: &mut Stage,
    crowd: &Crowd,
    pushes: u64,
    progress: &Progress,
) -> Result<(f64, u64), Failure> {
    let load = devices(stage, crowd).await?;
    let before = stage.sink.arrived().await?;
    let arrived = Arc::new(AtomicU64::new(0));
    let pace = Pace::Arrivals(Arc::clone(&arrived));
    let began = Instant::now();
    let arriving = async {
        let mut last = (0, Instant::now());
        loop {
            let count = stage.sink.arrived().await?.saturating_sub(before);
            progress.at(count);
            arrived.store(count, Relaxed);
            if count > last.0 {
                last = (count, Instant::now());
            }
            let stalled = last.1.elapsed() > Duration::from_millis(STALL_MS_MAX);
            if count >= pushes || stalled {
                return Ok::<_, Failure>(last);
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    let (_, (count, at)) = tokio::try_join!(load.full(0, pushes, &pace), arriving)?;
    let elapsed_us = u64::try_from((at - began).as_micros()).unwrap_or(u64::MAX);
    Ok((per_s(count, elapsed_us), pushes.saturating_sub(count)))
}

/// Registers the crowd, and a load that goes through it in turns.
async fn devices(stage: &Stage, crowd: &Crowd) -> Result<Load, Failure> {
    use secrecy::ExposeSecret as _;
    let mut api = Api::new(stage.engine.address(), &stage.key);
    let key = crowd.key.expose_secret();
    let route = json!({
        "name": "bench", "web_push": { "subject": SUBJECT, "private_key": key },
    });
    make(&mut api, "/v1/routes", &route).await?;
    let devices: Vec<Value> = crowd
        .subscriptions
        .iter()
        .map(|(url, keys)| {
            let keys = json!({ "p256dh": keys.p256dh, "auth": keys.auth });
            json!({ "policy": "bench", "web_push": { "endpoint": url, "keys": keys } })
        })
        .collect();
    let made = make(
        &mut api,
        "/v1/devices/batch",
        &json!({ "devices": devices }),
    )
    .await?;
    let made = made.as_array().map_or(&[][..], Vec::as_slice);
    let ids: Result<Vec<String>, Failure> = made.iter().map(|made| word(made, "id")).collect();
    Ok(stage.spread_over(ids?))
}
