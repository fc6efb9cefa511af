//! How many notifications a second reach FCM, over one connection.
//!
//! Engine and raw clients send the same, which the channel writes, to the same sink. It is as
//! strict as Google: it looks at every body and access token. Google lets a project send 600,000 a
//! minute and asks for a ramp up to that, which the engine keeps, so pushes go to many projects.
//!
//! Absent here: Google.

use std::convert::Infallible;
use std::path::Path;
use std::time::Instant;

use http::HeaderValue;
use postrider_core::time::MINUTE_MS;
use serde_json::{Value, json};
use url::Url;

use super::load;
use super::push::{self, DEVICES};
use super::raw2::Shot;
use super::sink::Count;
use super::stage::Stage;
use super::{Sizes, raw, round};
use crate::channel::Request;
use crate::channel::fcm::{self, Prepared, ServiceAccount, Target, Tokens, oauth};
use crate::cli::demo::progress::Progress;
use crate::cli::failure::Failure;
use crate::fake::Expected;
use crate::registry::{Endpoint, TlsProfile};
use crate::transport::{Limits, Transport};

/// Share of a run's events that become notifications.
const EVENTS_SHARE: u64 = 8;
/// Fewest notifications of a run.
const NOTIFICATIONS_MIN: u64 = 1_000;
/// Projects that the devices are spread over. Each may send 2,000 a second at the foot of its ramp.
const PROJECTS: usize = 40;
/// Assertions that are signed to see what one costs.
const ASSERTIONS: u32 = 20;
/// Number of the device that raw clients write to: none of those that are counted.
const NOBODY: &str = "nobody";

/// Measures all of it on a stage of its own.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    sizes: Sizes,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let notifications = (sizes.events / EVENTS_SHARE).max(NOTIFICATIONS_MIN);
    let mut stage = Stage::set_for(program, data, "fcm", |_| Stage::ONE_CONNECTION.into()).await?;
    progress.phase("FCM: raw clients against the sink", 0);
    let account = account(&mut stage, &project(0)).await?;
    let own = ServiceAccount::parse(&account.to_string()).map_err(cannot)?;
    let token_us = token_us(&own);
    let (bearer, exchange_ms) = exchange(&stage, &own).await?;
    let request = request(&stage, &bearer)?;
    let (origin, pem) = stage.sink.tls();
    let limit = Shot::new(origin, pem, request)?.limit(sizes.raw).await?;
    let devices = devices(&mut stage).await?;
    let expected = Expected {
        prefix: "/fcm/".into(),
        first: 0,
        events: notifications * 2,
        endpoints: DEVICES as u64,
        spread: true,
    };
    stage.sink.expect(&expected).await?;
    progress.phase("FCM: full speed", notifications);
    let sent = push::full(&mut stage, &devices, Count::Tally, notifications, progress).await?;
    let counted = stage.sink.counted().await?;
    stage.engine.stop().await?;
    Ok(json!({
        "end_to_end_per_s": round(sent.per_s),
        "raw_per_s": round(limit.per_s()),
        "ratio": round(sent.per_s / limit.per_s()),
        "raw_h2_per_s": round(limit.h2_per_s),
        "raw_hyper_per_s": round(limit.hyper_per_s),
        "engine_cpu_us": round(sent.engine_cpu_us),
        "sink_cpu_us": round(sent.sink_cpu_us),
        "token_us": round(token_us),
        "token_exchange_ms": round(exchange_ms),
        "projects": PROJECTS,
        "devices": DEVICES,
        "pushes": notifications,
        "lost": sent.lost,
        "duplicates": counted.duplicates,
    }))
}

fn cannot(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::no("FCM could not be measured").because(error.into())
}

fn project(number: usize) -> String {
    format!("bench-{number}")
}

/// A service account that the sink lets in, over TLS.
async fn account(stage: &mut Stage, project: &str) -> Result<Value, Failure> {
    let path = format!("/_/fcm/account?project={project}");
    let mut account = stage.sink.ask(&path).await?;
    let token_uri = account["token_uri"]
        .as_str()
        .and_then(|uri| Url::parse(uri).ok());
    let token_uri = token_uri.ok_or_else(|| cannot("the sink gives no service account"))?;
    account["token_uri"] = format!("{}{}", stage.sink.tls().0, token_uri.path()).into();
    Ok(account)
}

/// Microseconds of signing one assertion, which is exchanged for a token that serves for an hour.
fn token_us(account: &ServiceAccount) -> f64 {
    let now = push::moment(load::now_us());
    let Ok(each_us) = push::each_us(ASSERTIONS, |number| {
        std::hint::black_box(oauth::assertion(account, now.plus(number * MINUTE_MS)));
        Ok::<_, Infallible>(())
    });
    each_us
}

/// An access token, and how many milliseconds it took to get it, connecting included.
async fn exchange(stage: &Stage, account: &ServiceAccount) -> Result<(HeaderValue, f64), Failure> {
    let transport = Transport::new(Limits::default(), raw::loopback()?);
    let endpoint = Endpoint {
        tls: tls(stage),
        ..raw::endpoint(account.token_url.clone())
    };
    let host = transport.prepared(&endpoint.into());
    let began = Instant::now();
    let fetch = async |request| transport.send(&host, request).await;
    let tokens = Tokens::default();
    let bearer = tokens
        .bearer(push::moment(load::now_us()), account, fetch)
        .await;
    let elapsed_ms = began.elapsed().as_secs_f64() * 1e3;
    Ok((bearer.map_err(cannot)?.header, elapsed_ms))
}

fn tls(stage: &Stage) -> TlsProfile {
    TlsProfile {
        ca_pem: Some(stage.sink.tls().1.to_owned()),
        ..TlsProfile::default()
    }
}

/// What the engine sends, written by the same code.
fn request(stage: &Stage, bearer: &HeaderValue) -> Result<Request, Failure> {
    let mut url = Url::parse(stage.sink.tls().0).map_err(cannot)?;
    url.set_path(fcm::send_url(&project(0)).path());
    let prepared = Prepared::new(&url).map_err(cannot)?;
    let now_us = load::now_us();
    let payload = load::payload(1, now_us);
    let now = push::moment(now_us);
    let told = push::told(&payload, now);
    let nobody = Target::Token(NOBODY).into();
    fcm::encode(&prepared, bearer, &told, nobody, now).map_err(cannot)
}

/// Makes a route for each project, and devices on them in turns. The sink counts what arrives for a
/// device by the number that its token is.
async fn devices(stage: &mut Stage) -> Result<load::Load, Failure> {
    for number in 0..PROJECTS {
        let project = project(number);
        let account = account(stage, &project).await?;
        let (server, pem) = stage.sink.tls();
        let route = json!({
            "name": project, "fcm": { "service_account": account },
            "server": server, "tls": { "ca_pem": pem },
        });
        push::route(stage, &route).await?;
    }
    let one = |number| {
        json!({
            "policy": "bench", "route": project(number % PROJECTS),
            "fcm": { "token": format!("{number:0140}") },
        })
    };
    push::devices(stage, (0..DEVICES).map(one).collect()).await
}
