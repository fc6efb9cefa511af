//! What a push to a browser costs, and how many a second get out.
//!
//! The limit that the engine is held against is what the same machine allows without one: the
//! transport's own client, with the same encryption in front of it, to the same sink.
//!
//! Absent here: a push service's own work. The sink takes everything and looks at nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, PrivateKey, UnparsedPublicKey, agree};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

use super::load::{self, Load, per_s};
use super::npm;
use super::push::{self, DEVICES};
use super::raw;
use super::sink::{Count, Sink};
use super::stage::Stage;
use super::{CONNECTIONS, Sizes, THREADS, round};
use crate::channel::reaction::Reactions;
use crate::channel::web_push::encrypt::{Ephemeral, NoKeyPair, Receiver, encrypt};
use crate::channel::web_push::vapid::{Credentials, VapidKey};
use crate::channel::web_push::{self, Fresh, Padding, Prepared, REACTIONS};
use crate::cli::demo::progress::Progress;
use crate::cli::failure::Failure;
use crate::registry::WebPushKeys;
use crate::transport::{Limits, Transport};

/// Rounds of each kind of arithmetic, in turns; the best of each counts.
const ROUNDS: usize = 200;
/// Operations of a round: so few that on a busy machine some rounds are not disturbed.
const ROUND_OPERATIONS: u32 = 10;
/// Share of a run's events that become pushes.
const EVENTS_SHARE: u64 = 20;
/// Fewest pushes of a run.
const PUSHES_MIN: u64 = 500;
const SUBJECT: &str = "mailto:bench@example.com";

/// The settings of an engine whose push service is the sink.
fn settings(sink: &Sink) -> String {
    format!("\n[push]\nextra_hosts = [\"{}\"]\n", sink.authority())
}

/// Subscriptions at the sink, as a browser would give them.
struct Crowd {
    key: SecretString,
    subscriptions: Vec<(String, WebPushKeys)>,
}

/// Measures all of it on a stage of its own. Beside the figures: why npm's package has none,
/// although it is there.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    sizes: Sizes,
    progress: &mut Progress,
) -> Result<(Value, Option<Failure>), Failure> {
    progress.phase("Web Push: encryption", 0);
    let (encrypt_us, floor_us) = arithmetic().map_err(cannot)?;
    let pushes = (sizes.events / EVENTS_SHARE).max(PUSHES_MIN);
    let mut stage = Stage::set_for(program, data, "push", settings).await?;
    let crowd = Crowd::new(&stage).map_err(cannot)?;
    progress.phase("Web Push: raw client against the sink", 0);
    let limit_per_s = limit(&crowd, sizes.raw).await?;
    progress.phase("Web Push: npm's web-push against the sink", 0);
    let payload = load::payload(1, load::now_us());
    let tls = stage.sink.tls();
    let npm = npm::per_s(tls, &payload, CONNECTIONS, sizes.raw, stage.directory()).await;
    let (npm_per_s, trouble) = npm.map_or_else(|it| (None, Some(it)), |it| (it, None));
    let devices = devices(&stage, &crowd).await?;
    progress.phase("Web Push: full speed", pushes);
    let sent = push::full(&mut stage, &devices, Count::Requests, pushes, progress).await?;
    stage.engine.stop().await?;
    let figures = json!({
        "end_to_end_per_s": round(sent.per_s),
        "limit_per_s": round(limit_per_s),
        "ratio": round(sent.per_s / limit_per_s),
        "encrypt_us": round(encrypt_us),
        "floor_us": round(floor_us),
        "encrypt_to_floor": round(encrypt_us / floor_us),
        "engine_cpu_us": round(sent.engine_cpu_us),
        "sink_cpu_us": round(sent.sink_cpu_us),
        "npm_web_push_per_s": npm_per_s.map(round),
        "times_npm_web_push": npm_per_s.map(|npm| round(sent.per_s / npm)),
        "subscriptions": DEVICES,
        "pushes": pushes,
        "lost": sent.lost,
    });
    Ok((figures, trouble))
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
    let whole = |_| {
        let fresh = Fresh::draw()?;
        let body = encrypt(&receiver, &fresh.key, &fresh.salt, plaintext.as_bytes(), 0);
        body.map(drop).map_err(|_| NoKeyPair)
    };
    let bare = |_| {
        let ours = PrivateKey::generate(&ECDH_P256).map_err(|_| NoKeyPair)?;
        agree(&ours, point.clone(), NoKeyPair, |_| Ok(()))
    };
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        best.0 = best.0.min(push::each_us(ROUND_OPERATIONS, whole)?);
        best.1 = best.1.min(push::each_us(ROUND_OPERATIONS, bare)?);
    }
    Ok(best)
}

impl Crowd {
    fn new(stage: &Stage) -> Result<Crowd, NoKeyPair> {
        let key = VapidKey::generate();
        let vapid_key = VapidKey::parse(&key).map_err(|_| NoKeyPair)?;
        let subscriptions = (0..DEVICES).map(|number| {
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
    let now = push::moment(now_us);
    let payload = load::payload(number as u64, now_us);
    let told = push::told(&payload, now);
    let fresh = Fresh::draw().map_err(|fault| fault.to_string())?;
    let written = web_push::encode(prepared, &told, Padding::None, &fresh, now);
    written
        .map(|written| written.request)
        .map_err(|cause| cause.to_string())
}

/// Registers the crowd, and a load that goes through it in turns.
async fn devices(stage: &Stage, crowd: &Crowd) -> Result<Load, Failure> {
    use secrecy::ExposeSecret as _;
    let key = crowd.key.expose_secret();
    let route = json!({
        "name": "bench", "web_push": { "subject": SUBJECT, "private_key": key },
    });
    push::route(stage, &route).await?;
    let devices = crowd.subscriptions.iter().map(|(url, keys)| {
        let keys = json!({ "p256dh": keys.p256dh, "auth": keys.auth });
        json!({ "policy": "bench", "web_push": { "endpoint": url, "keys": keys } })
    });
    push::devices(stage, devices.collect()).await
}
