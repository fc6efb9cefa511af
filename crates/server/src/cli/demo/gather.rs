//! Waits until everything is settled, then reads the whole ledger over the API.
//!
//! Absent here: anything but the API. A row that the API does not list does not exist.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::ledger::State;
use postrider_core::policy::Guarantee;
use serde_json::Value;
use tokio::task::JoinSet;

use super::api::Api;
use super::evidence::{Device, Row, Says, Step};
use super::plan::{Plan, Way};
use super::progress::Progress;
use super::world::World;
use crate::cli::failure::Failure;
use crate::http::words::parse_moment;

/// Longest wait until everything is settled. What is not by then is a broken promise.
const SETTLE_MS_MAX: u64 = 90_000;
/// Pause between two looks.
const LOOK_MS: u64 = 200;
/// Rows of a page.
const PAGE_ROWS: usize = 500;
/// Histories that are read at a time.
const READERS: usize = 8;

/// Waits until the API lists nothing that is unsettled, or time is up.
pub(crate) async fn settle(world: &World, progress: &Progress) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(SETTLE_MS_MAX) {
        let mut open = 0;
        for tenant in &world.tenants {
            open += unsettled(&mut Api::new(world.address, &tenant.key)).await?;
        }
        progress.at(world.arrived());
        if open == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    Ok(())
}

/// How many deliveries of one tenant the API lists as unsettled.
///
/// # Errors
/// [`Failure`] if the API does not say.
pub async fn unsettled(api: &mut Api) -> Result<usize, Failure> {
    let mut open = 0;
    for state in [State::Scheduled, State::InFlight] {
        let filter = format!("state={}&", state.name());
        open += list(api, &filter).await?.len();
    }
    if open > 0 {
        return Ok(open);
    }
    // What went from one state to the other between the two questions was in neither answer.
    let settled = |item: &Value| {
        let state = item["state"].as_str().and_then(State::from_name);
        state.is_some_and(State::is_settled)
    };
    let all = list(api, "").await?;
    Ok(all.iter().filter(|item| !settled(item)).count())
}

/// Every row of one tenant, with its history. `paths` are those of its endpoints, by their ids.
///
/// # Errors
/// [`Failure`] if the API does not list them, or lists what cannot be read.
pub async fn tenant_rows(
    api: &mut Api,
    paths: &HashMap<String, String>,
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for item in list(api, "").await? {
        rows.push(history(api, row(&item, paths)?, paths).await?);
    }
    Ok(rows)
}

/// Every row of every tenant, with its history.
pub(crate) async fn rows(
    world: &Arc<World>,
    progress: &Arc<Progress>,
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (number, tenant) in world.tenants.iter().enumerate() {
        let mut api = Api::new(world.address, &tenant.key);
        for item in list(&mut api, "").await? {
            rows.push((number, row(&item, &tenant.paths)?));
        }
    }
    let share = rows.len().div_ceil(READERS).max(1);
    let mut readers = JoinSet::new();
    while !rows.is_empty() {
        let mine = rows.split_off(rows.len().saturating_sub(share));
        let (world, progress) = (Arc::clone(world), Arc::clone(progress));
        readers.spawn(async move { histories(&world, mine, &progress).await });
    }
    let mut whole = Vec::new();
    while let Some(read) = readers.join_next().await {
        let read = read.map_err(|error| Failure::no("a reader ended badly").because(error))?;
        whole.extend(read?);
    }
    Ok(whole)
}

async fn histories(
    world: &World,
    rows: Vec<(usize, Row)>,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let mut apis: BTreeMap<usize, Api> = BTreeMap::new();
    let mut read = Vec::with_capacity(rows.len());
    for (tenant, row) in rows {
        let tenant_of = &world.tenants[tenant];
        let api = apis
            .entry(tenant)
            .or_insert_with(|| Api::new(world.address, &tenant_of.key));
        read.push(history(api, row, &tenant_of.paths).await?);
        progress.answered(1);
    }
    Ok(read)
}

async fn history(
    api: &mut Api,
    mut row: Row,
    paths: &HashMap<String, String>,
) -> Result<Row, Failure> {
    let whole = get(api, &format!("/v1/deliveries/{}", row.correlation_id)).await?;
    // What the list said and what the row says by itself have to be the same.
    let again = self::row(&whole, paths)?;
    (row.state, row.cause) = (again.state, again.cause);
    row.entries = entries(&whole)?;
    Ok(row)
}

/// What became of each device of the plan, by its path.
pub(crate) async fn devices(
    world: &World,
    plan: &Plan,
) -> Result<BTreeMap<String, Device>, Failure> {
    let mut devices = BTreeMap::new();
    for (tenant, inhabitant) in plan.tenants.iter().zip(&world.tenants) {
        let mut api = Api::new(world.address, &inhabitant.key);
        for (receiver, id) in tenant.receivers.iter().zip(&inhabitant.endpoints) {
            if let Way::Device(channel, _) = receiver.way {
                let seen = device(&mut api, channel, id).await?;
                devices.insert(receiver.path.clone(), seen);
            }
        }
    }
    Ok(devices)
}

/// What became of the device that is this endpoint.
///
/// # Errors
/// [`Failure`] if the API does not say.
pub async fn device(api: &mut Api, channel: Channel, id: &str) -> Result<Device, Failure> {
    let path = format!("/v1/endpoints/{id}");
    let answer = api.get(&path).await;
    let answer =
        answer.map_err(|lost| Failure::no(format!("no answer to GET {path}")).because(lost))?;
    let whole = answer.json();
    let since = whole["since"].as_str().and_then(parse_moment);
    let retired = whole["state"] == "retired";
    if !answer.is_yes() && answer.http_status != 404 || retired && since.is_none() {
        return Err(Failure::no(format!("GET {path} says nothing of use")).because(answer.line()));
    }
    Ok(Device {
        channel,
        known: answer.is_yes(),
        retired_us: since
            .filter(|_| retired)
            .map(|at| u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000)),
    })
}

/// All items that a filter lists, page by page.
async fn list(api: &mut Api, filter: &str) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/deliveries?{filter}limit={PAGE_ROWS}{cursor}");
        let mut page = get(api, &path).await?;
        match page["items"].take() {
            Value::Array(more) => items.extend(more),
            _ => return Err(Failure::no(format!("GET {path} lists no items: {page}"))),
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(items),
        }
    }
}

async fn get(api: &mut Api, path: &str) -> Result<Value, Failure> {
    let answer = api.get(path).await;
    let answer =
        answer.map_err(|lost| Failure::no(format!("no answer to GET {path}")).because(lost))?;
    if answer.is_yes() {
        Ok(answer.json())
    } else {
        Err(Failure::no(format!("the engine refused GET {path}")).because(answer.line()))
    }
}

fn row(item: &Value, paths: &HashMap<String, String>) -> Result<Row, Failure> {
    let word = |key: &str| item[key].as_str().unwrap_or_default();
    let unread = || Failure::no(format!("the API lists what cannot be read: {item}"));
    Ok(Row {
        correlation_id: word("id").to_owned(),
        path: paths.get(word("endpoint_id")).cloned().unwrap_or_default(),
        guarantee: Guarantee::from_name(word("guarantee")).ok_or_else(unread)?,
        state: State::from_name(word("state")).ok_or_else(unread)?,
        cause: Cause::from_code(word("cause")).ok_or_else(unread)?,
        attempts: item["attempt"].as_u64().unwrap_or(0),
        sequence: item["sequence"].as_u64(),
        entries: Vec::new(),
    })
}

fn entries(whole: &Value) -> Result<Vec<Step>, Failure> {
    let history = whole["history"].as_array();
    let history =
        history.ok_or_else(|| Failure::no(format!("the API tells no history: {whole}")))?;
    let step = |entry: &Value| {
        Some(Step {
            version: entry["version"].as_u64()?,
            settles: entry["state"].is_string(),
            at_ms: entry["at"].as_str().and_then(parse_moment)?.0,
            says: match (entry["fact"].as_str()?, entry["outcome"].as_str()) {
                ("opened", _) => Says::Opened,
                (_, Some("gone")) => Says::Gone,
                _ => Says::Other,
            },
        })
    };
    let steps: Option<Vec<Step>> = history.iter().map(step).collect();
    steps.ok_or_else(|| Failure::no(format!("a history cannot be read: {whole}")))
}
