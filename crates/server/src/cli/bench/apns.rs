//! How many notifications a second reach APNs, over one connection.
//!
//! Engine and raw clients send the same, which the channel writes, to the same sink. It is as
//! strict as Apple: it looks at every header and body, knows each token, and allows one stream
//! until it has accepted the first request.
//!
//! Absent here: Apple.

use std::convert::Infallible;
use std::path::Path;

use postrider_core::time::MINUTE_MS;
use serde_json::{Value, json};

use super::load;
use super::push::{self, DEVICES};
use super::raw2::Shot;
use super::sink::Count;
use super::stage::Stage;
use super::{Sizes, round};
use crate::channel::Request;
use crate::channel::apns::{self, Prepared, ProviderTokens};
use crate::cli::demo::progress::Progress;
use crate::cli::demo::world::word;
use crate::cli::failure::Failure;

/// Share of a run's events that become notifications.
const EVENTS_SHARE: u64 = 4;
/// Fewest notifications of a run.
const NOTIFICATIONS_MIN: u64 = 1_000;
/// Tokens that are signed to see what one costs.
const TOKENS: u32 = 200;
/// Time after which there is another token.
const TOKEN_MS: i64 = 30 * MINUTE_MS;
const APP: &str = "com.example.bench";

/// A provider's key that the sink lets in.
struct Key {
    team: String,
    id: String,
    p8: String,
}

/// Measures all of it on a stage of its own.
pub(super) async fn run(
    program: &Path,
    data: Option<&Path>,
    sizes: Sizes,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let notifications = (sizes.events / EVENTS_SHARE).max(NOTIFICATIONS_MIN);
    let mut stage = Stage::set_for(program, data, "apns", |_| Stage::ONE_CONNECTION.into()).await?;
    let made = stage.sink.ask("/_/apns/key").await?;
    let key = Key {
        team: word(&made, "team")?,
        id: word(&made, "key_id")?,
        p8: word(&made, "p8")?,
    };
    let tokens = ProviderTokens::new(&key.team, &key.id, &key.p8).map_err(cannot)?;
    progress.phase("APNs: raw clients against the sink", 0);
    let request = request(&stage, &tokens)?;
    let (origin, pem) = stage.sink.apns();
    let limit = Shot::new(origin, pem, request)?.limit(sizes.raw).await?;
    let before = stage.sink.ask("/_/apns").await?;
    let devices = devices(&stage, &key).await?;
    progress.phase("APNs: full speed", notifications);
    let sent = push::full(&mut stage, &devices, Count::Apns, notifications, progress).await?;
    let after = stage.sink.ask("/_/apns").await?;
    stage.engine.stop().await?;
    let since = |name: &str| Some(after[name].as_u64()? - before[name].as_u64()?);
    Ok(json!({
        "end_to_end_per_s": round(sent.per_s),
        "raw_per_s": round(limit.per_s()),
        "ratio": round(sent.per_s / limit.per_s()),
        "raw_h2_per_s": round(limit.h2_per_s),
        "raw_hyper_per_s": round(limit.hyper_per_s),
        "engine_cpu_us": round(sent.engine_cpu_us),
        "sink_cpu_us": round(sent.sink_cpu_us),
        "token_us": round(token_us(&tokens)),
        "connections": since("connections"),
        "refused_streams": since("refused_streams"),
        "devices": DEVICES,
        "pushes": notifications,
        "lost": sent.lost,
    }))
}

fn cannot(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::no("APNs could not be measured").because(error.into())
}

fn token(number: usize) -> String {
    format!("{number:064x}")
}

/// What the engine sends, written by the same code.
fn request(stage: &Stage, tokens: &ProviderTokens) -> Result<Request, Failure> {
    let url = apns::device_url(stage.sink.apns().0, &token(0)).map_err(cannot)?;
    let prepared = Prepared::new(&url, APP).map_err(cannot)?;
    let now_us = load::now_us();
    let now = push::moment(now_us);
    let payload = load::payload(1, now_us);
    let told = push::told(&payload, now);
    apns::encode(&prepared, Some(tokens.bearer(now)), &told, now).map_err(cannot)
}

/// Microseconds of signing one provider token, which serves for half an hour.
fn token_us(tokens: &ProviderTokens) -> f64 {
    let now = push::moment(load::now_us());
    let Ok(each_us) = push::each_us(TOKENS, |number| {
        std::hint::black_box(tokens.bearer(now.plus(number * TOKEN_MS)));
        Ok::<_, Infallible>(())
    });
    each_us
}

/// Makes a route and devices on it.
async fn devices(stage: &Stage, key: &Key) -> Result<load::Load, Failure> {
    let (origin, pem) = stage.sink.apns();
    let apns = json!({
        "topic": APP, "team_id": key.team, "key_id": key.id, "key_pem": key.p8,
    });
    let route = json!({
        "name": "bench-apns", "apns": apns, "server": origin, "tls": { "ca_pem": pem },
    });
    push::route(stage, &route).await?;
    let one = |number| json!({ "policy": "bench", "apns": { "token": token(number) } });
    push::devices(stage, (1..=DEVICES).map(one).collect()).await
}
