//! Drives a plan: callers submit until each answer is there, while the engine is killed under them.
//!
//! A caller whose answer does not come knows nothing, so it submits the same again once the engine
//! is back. Absent here: judgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api::{Answer, Api, Lost};
use super::engine::Engine;
use super::evidence::{Asked, Outage, Said};
use super::plan::{Plan, Planned, Step, To};
use super::progress::Progress;
use super::world::World;
use crate::cli::failure::Failure;

/// Longest time that one step is tried.
const STEP_MS_MAX: u64 = 120_000;
/// Pause before a step that was refused for the moment, or lost, is tried again.
const AGAIN_MS: u64 = 20;
/// Pause between two looks at how far the callers are.
const LOOK_MS: u64 = 1;
/// Longest wait between the answer that calls for a kill and the kill.
const HESITATION_US_MAX: u64 = 20_000;

/// What callers and killer share.
struct Stage {
    plan: Arc<Plan>,
    world: Arc<World>,
    asked: Mutex<Vec<Asked>>,
    /// Answers so far, over all callers.
    answers: AtomicU64,
    /// Events that were answered with ids so far: the order of acceptance.
    accepted: AtomicU64,
    /// Whether the engine is up.
    up: watch::Receiver<bool>,
    progress: Arc<Progress>,
}

/// Drives `plan` to the end of its submissions; returns what was asked, and when the engine was
/// dead.
pub(crate) async fn drive(
    plan: &Arc<Plan>,
    world: &Arc<World>,
    engine: &mut Engine,
    seed: u64,
    progress: &Arc<Progress>,
) -> Result<(Vec<Asked>, Vec<Outage>), Failure> {
    let (up, is_up) = watch::channel(true);
    let stage = Arc::new(Stage {
        plan: Arc::clone(plan),
        world: Arc::clone(world),
        asked: Mutex::new(
            plan.events
                .iter()
                .map(|event| unasked(plan, event))
                .collect(),
        ),
        answers: AtomicU64::new(0),
        accepted: AtomicU64::new(0),
        up: is_up,
        progress: Arc::clone(progress),
    });
    let mut callers = JoinSet::new();
    for caller in 0..plan.callers.len() {
        let stage = Arc::clone(&stage);
        callers.spawn(async move { stage.call(caller).await });
    }
    let mut rng = StdRng::seed_from_u64(seed ^ 0x6b69_6c6c);
    let mut outages = Vec::new();
    for &at in &plan.kills_at {
        while stage.answers.load(Relaxed) < at && !callers.is_empty() {
            while let Some(ended) = callers.try_join_next() {
                finished(ended)?;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        let hesitation = Duration::from_micros(rng.random_range(0..HESITATION_US_MAX));
        tokio::time::sleep(hesitation).await;
        // The receivers live as long as the stage.
        let _told = up.send(false);
        outages.push(outage(engine).await?);
        world.leave(plan, outages.len())?;
        let _told = up.send(true);
        progress.killed(
            outages.len(),
            outages.last().map_or(0, |outage| outage.recovery_ms),
        );
    }
    while let Some(ended) = callers.join_next().await {
        finished(ended)?;
    }
    let asked = std::mem::take(&mut *stage.asked.lock());
    Ok((asked, outages))
}

/// Kills the engine and starts it again.
pub(crate) async fn outage(engine: &mut Engine) -> Result<Outage, Failure> {
    let kill_us = now_us();
    engine.kill().await?;
    let dead_us = now_us();
    let recovery = engine.start().await?;
    Ok(Outage {
        kill_us,
        dead_us,
        ready_us: now_us(),
        recovery_ms: u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX),
    })
}

fn finished(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    ended.unwrap_or_else(|error| Err(Failure::no("a caller ended badly").because(error)))
}

fn unasked(plan: &Plan, event: &Planned) -> Asked {
    Asked {
        id: event.id.clone(),
        guarantee: event.guarantee,
        ordering_key: event.ordering_key.clone(),
        paths: plan.paths(event),
        payload_crc32c: crc32c::crc32c(event.payload.as_bytes()),
        accepted_as: 0,
        answers: Vec::new(),
        unanswered: 0,
        conflicts: Vec::new(),
    }
}

impl Stage {
    async fn call(&self, caller: usize) -> Result<(), Failure> {
        let caller = &self.plan.callers[caller];
        let key = &self.world.tenants[caller.tenant].key;
        let mut api = Api::new(self.world.address, key);
        let mut twin = Api::new(self.world.address, key);
        for steps in caller.steps.chunks(caller.batch) {
            match steps {
                [Step::Race(_)] => {
                    let (one, other) =
                        tokio::join!(self.insist(&mut api, steps), self.insist(&mut twin, steps),);
                    one.and(other)?;
                }
                steps => self.insist(&mut api, steps).await?,
            }
        }
        Ok(())
    }

    /// Submits until every step has its answer.
    async fn insist(&self, api: &mut Api, steps: &[Step]) -> Result<(), Failure> {
        let mut open = steps.to_vec();
        let began = Instant::now();
        while !open.is_empty() {
            let pause = match self.submit(api, &open).await {
                Ok(answers) => {
                    let mut left = Vec::new();
                    for (step, answer) in open.iter().zip(answers) {
                        if !self.note(*step, &answer)? {
                            left.push(*step);
                        }
                    }
                    self.answers
                        .fetch_add((open.len() - left.len()) as u64, Relaxed);
                    self.progress.answered((open.len() - left.len()) as u64);
                    open = left;
                    !open.is_empty()
                }
                Err(Lost(_)) => {
                    let mut asked = self.asked.lock();
                    for step in open
                        .iter()
                        .filter(|step| !matches!(step, Step::Conflict(_)))
                    {
                        asked[step.event()].unanswered += 1;
                    }
                    true
                }
            };
            if began.elapsed() > Duration::from_millis(STEP_MS_MAX) {
                let id = &self.plan.events[open[0].event()].id;
                return Err(Failure::no(format!(
                    "{id} has no answer after {STEP_MS_MAX} ms"
                )));
            }
            if pause {
                tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
                // The sender lives as long as the callers do.
                let mut up = self.up.clone();
                let _up = up.wait_for(|up| *up).await;
            }
        }
        Ok(())
    }

    /// One request; one answer for each step, as its HTTP status and body.
    async fn submit(&self, api: &mut Api, steps: &[Step]) -> Result<Vec<(u16, Value)>, Lost> {
        let bodies: Vec<String> = steps.iter().map(|step| self.body(*step)).collect();
        if let [body] = &*bodies {
            let answer = api.post("/v1/events", body.clone()).await?;
            return Ok(vec![(answer.http_status, answer.json())]);
        }
        let body = format!(r#"{{"events":[{}]}}"#, bodies.join(","));
        let answer: Answer = api.post("/v1/events/batch", body).await?;
        let whole = answer.json();
        let Some(items) = whole["items"]
            .as_array()
            .filter(|items| items.len() == steps.len())
        else {
            // Refused as a whole, so each of them was.
            return Ok(vec![(answer.http_status, whole); steps.len()]);
        };
        Ok(items.iter().map(item).collect())
    }

    fn body(&self, step: Step) -> String {
        let event = &self.plan.events[step.event()];
        let mut body = json!({
            "id": event.id,
            "type": event.event_type,
            "guarantee": event.guarantee.name(),
        });
        if let Some(key) = &event.ordering_key {
            body["ordering_key"] = json!(key);
        }
        if let Some(ttl_s) = event.ttl_s {
            body["ttl_s"] = json!(ttl_s);
        }
        match &event.to {
            To::Receivers(places) => {
                let endpoints = &self.world.tenants[event.tenant].endpoints;
                let ids: Vec<&str> = places.iter().map(|&at| endpoints[at].as_str()).collect();
                body["endpoints"] = json!(ids);
            }
            To::Recipient(name) => body["recipient"] = json!(name),
            To::Subscribers => {}
        }
        let payload = match step {
            Step::Conflict(_) => r#"{"event":"another one"}"#,
            _ => &event.payload,
        };
        // The payload is spliced in as it is, because its very bytes are what has to arrive.
        let body = body.to_string();
        format!(r#"{},"payload":{payload}}}"#, &body[..body.len() - 1])
    }

    /// Notes an answer; false if the step has to be tried again.
    fn note(&self, step: Step, (http_status, body): &(u16, Value)) -> Result<bool, Failure> {
        let mut asked = self.asked.lock();
        let asked = &mut asked[step.event()];
        match (http_status, step) {
            (429 | 503, _) => return Ok(false),
            (409, Step::Conflict(_)) => asked.conflicts.push(true),
            (200..=299, Step::Conflict(_)) => asked.conflicts.push(false),
            (200..=299, _) => {
                let said = said(body).ok_or_else(|| {
                    Failure::no(format!("the API's answer speaks of no ids: {body}"))
                })?;
                if asked.answers.is_empty() {
                    asked.accepted_as = self.accepted.fetch_add(1, Relaxed) + 1;
                }
                asked.answers.push(said);
            }
            _ => {
                let what = format!("the engine refused {}: HTTP {http_status} {body}", asked.id);
                return Err(Failure::no(what));
            }
        }
        Ok(true)
    }
}

/// One item of a batch's answer: its own HTTP status, and its own body.
fn item(item: &Value) -> (u16, Value) {
    let http_status = item["status"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    (http_status.unwrap_or(0), item.clone())
}

/// What an answer says of ids.
fn said(body: &Value) -> Option<Said> {
    let deliveries = body["deliveries"].as_array()?.iter();
    Some(Said {
        repeat: body["duplicate"].as_bool()?,
        event: body["event_id"].as_str()?.to_owned(),
        deliveries: deliveries
            .map(|delivery| Some(delivery["id"].as_str()?.to_owned()))
            .collect::<Option<Vec<String>>>()?,
    })
}

/// Microseconds since 1970 on the wall clock.
pub(super) fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
