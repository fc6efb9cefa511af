//! What is asked of the engine, again and again the same: endpoints, events of every guarantee,
//! orders, a batch, repeats, and another payload under a key that is taken.
//!
//! Absent here: kills, and judgement of what came of it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use postrider::cli::demo::api::{Answer, Api, Lost};
use postrider::cli::demo::evidence::{Asked, Nature, Said};
use postrider::fake::{Act, Behaviour, Fake, When};
use postrider_core::cause::Cause;
use postrider_core::policy::Guarantee::{self, AtLeastOnce, AtMostOnce, EffectivelyOnce};
use serde_json::{Value, json};

/// Longest time that one request is repeated while the engine refuses it for the moment.
const INSIST: Duration = Duration::from_secs(60);
/// Pause before it is repeated.
const AGAIN: Duration = Duration::from_millis(3);

/// The engine did not answer: it is gone, as far as anybody can tell.
#[derive(Debug)]
pub struct Gone;

impl From<Lost> for Gone {
    fn from(_: Lost) -> Gone {
        Gone
    }
}

/// The receivers: name, nature, and what it does.
fn receivers() -> Vec<(&'static str, Nature, Behaviour)> {
    let first = |path: &str, act| Behaviour::of(path).rule(When::AttemptsTo(1), act);
    let degraded = Nature::Relents(Cause::ServiceDegraded);
    let lost = Nature::Relents(Cause::ConnectionLost);
    let refuses = Nature::Refuses(Cause::BadRequest);
    let bad = Behaviour::of("/bad").rule(When::Always, Act::http_status(400));
    vec![
        ("/good", Nature::Accepts, Behaviour::of("/good")),
        ("/fine", Nature::Accepts, Behaviour::of("/fine")),
        ("/later", degraded, first("/later", Act::http_status(503))),
        ("/closes", lost, first("/closes", Act::CloseAfterRequest)),
        ("/bad", refuses, bad),
    ]
}

/// The events: receivers, guarantee, whether in the one order there is.
#[rustfmt::skip]
const EVENTS: [(&[&str], Guarantee, bool); 15] = [
    (&["/good"], AtLeastOnce, false),
    (&["/good", "/fine"], EffectivelyOnce, false),
    (&["/later"], AtMostOnce, false),
    (&["/good"], AtLeastOnce, true),
    (&["/good"], EffectivelyOnce, true),
    (&["/closes"], AtLeastOnce, false),
    (&["/later"], AtLeastOnce, false),
    (&["/good"], AtMostOnce, true),
    (&["/bad"], AtLeastOnce, false),
    (&["/fine"], AtMostOnce, false),
    (&["/closes"], AtMostOnce, false),
    (&["/later"], EffectivelyOnce, true),
    (&["/later"], AtLeastOnce, true),
    (&["/fine", "/later", "/bad"], AtLeastOnce, false),
    (&["/good"], AtLeastOnce, true),
];

/// What is asked in one request.
enum Step {
    /// These events; more than one as a batch.
    Submit(&'static [usize]),
    /// Another payload under this event's key.
    Conflict(usize),
}

/// The requests, in order.
#[rustfmt::skip]
const STEPS: [Step; 13] = [
    Step::Submit(&[0]), Step::Submit(&[1]), Step::Submit(&[2]), Step::Submit(&[3, 4, 5, 6]),
    Step::Submit(&[0]), Step::Conflict(1), Step::Submit(&[7]), Step::Submit(&[8, 9]),
    Step::Submit(&[10]), Step::Submit(&[11]), Step::Submit(&[12, 13]), Step::Submit(&[2]),
    Step::Submit(&[14]),
];

/// One round of the load, and everything that was answered.
#[derive(Clone, Debug)]
pub struct Load {
    /// Bytes by which each payload is longer than it need be.
    pad_bytes: usize,
    /// Endpoint ids by path, as far as they were answered.
    pub endpoints: BTreeMap<String, String>,
    pub asked: Vec<Asked>,
    accepted: u64,
}

impl Load {
    /// The round of this number, over endpoints that are not made yet.
    pub fn new(round: usize, pad_bytes: usize) -> Load {
        let asked = |(place, (paths, guarantee, ordered)): (usize, &(&[&str], Guarantee, bool))| {
            let id = format!("event-{round}-{place}");
            Asked {
                guarantee: *guarantee,
                ordering_key: ordered.then(|| format!("order-{round}")),
                paths: paths.iter().map(|&path| path.to_owned()).collect(),
                payload_crc32c: crc32c::crc32c(payload(&id, pad_bytes).as_bytes()),
                accepted_as: 0,
                answers: Vec::new(),
                unanswered: 0,
                conflicts: Vec::new(),
                id,
            }
        };
        Load {
            pad_bytes,
            endpoints: BTreeMap::new(),
            asked: EVENTS.iter().enumerate().map(asked).collect(),
            accepted: 0,
        }
    }

    /// What the receivers do in the end.
    pub fn fakes() -> BTreeMap<String, Nature> {
        let natures = receivers().into_iter();
        natures
            .map(|(path, nature, _)| (path.to_owned(), nature))
            .collect()
    }

    /// Paths of the endpoints, by their ids.
    pub fn paths(&self) -> HashMap<String, String> {
        let turned = |(path, id): (&String, &String)| (id.clone(), path.clone());
        self.endpoints.iter().map(turned).collect()
    }

    /// Deliveries that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let firsts = self.asked.iter().filter_map(|asked| asked.answers.first());
        firsts.map(|said| said.deliveries.len()).sum()
    }

    /// Asks for everything, whether it was answered before or not.
    pub async fn ask(&mut self, api: &mut Api, fake: &Fake) -> Result<(), Gone> {
        self.endpoints(api, fake).await?;
        for step in &STEPS {
            match step {
                Step::Submit(places) => self.submit(api, places).await?,
                Step::Conflict(place) => self.conflict(api, *place).await?,
            }
        }
        Ok(())
    }

    /// Makes the endpoints that nobody has answered for yet; those that were answered for must be
    /// there.
    async fn endpoints(&mut self, api: &mut Api, fake: &Fake) -> Result<(), Gone> {
        for (path, _, behaviour) in receivers() {
            if let Some(id) = self.endpoints.get(path) {
                let answer = insist(async || api.get(&format!("/v1/endpoints/{id}")).await).await?;
                assert!(answer.is_yes(), "{path} was lost: {}", answer.line());
                continue;
            }
            let body = json!({ "url": fake.url(path), "name": path, "policy": "brisk" });
            let body = body.to_string();
            let answer = insist(async || api.post("/v1/endpoints", body.clone()).await).await?;
            assert!(answer.is_yes(), "{path}: {}", answer.line());
            let made = answer.json();
            let word = |key: &str| made[key].as_str().expect("a word").to_owned();
            fake.set(behaviour.secret(&word("secret")))
                .expect("a behaviour");
            self.endpoints.insert(path.to_owned(), word("id"));
        }
        Ok(())
    }

    async fn submit(&mut self, api: &mut Api, places: &[usize]) -> Result<(), Gone> {
        let bodies: Vec<String> = places.iter().map(|&place| self.body(place)).collect();
        let answers = match &*bodies {
            [body] => insist(async || api.post("/v1/events", body.clone()).await)
                .await
                .map(|answer| vec![(answer.http_status, answer.json())]),
            bodies => self.batch(api, bodies).await,
        };
        let Ok(answers) = answers else {
            places
                .iter()
                .for_each(|&place| self.asked[place].unanswered += 1);
            return Err(Gone);
        };
        for (&place, (http_status, body)) in places.iter().zip(&answers) {
            assert!((200..300).contains(http_status), "{http_status}: {body}");
            let asked = &mut self.asked[place];
            if asked.answers.is_empty() {
                self.accepted += 1;
                asked.accepted_as = self.accepted;
            }
            asked.answers.push(said(body).expect("ids"));
        }
        Ok(())
    }

    /// A batch, and those of its items again that were refused for the moment.
    async fn batch(&self, api: &mut Api, bodies: &[String]) -> Result<Vec<(u16, Value)>, Gone> {
        let mut answers = vec![(0, Value::Null); bodies.len()];
        let began = Instant::now();
        let mut again = tokio::time::interval(AGAIN);
        loop {
            let refused = |answer: &(u16, Value)| matches!(answer.0, 0 | 429 | 503 | 507);
            let open = answers.iter().enumerate();
            let open: Vec<usize> = open
                .filter_map(|(at, answer)| refused(answer).then_some(at))
                .collect();
            if open.is_empty() {
                return Ok(answers);
            }
            assert!(began.elapsed() < INSIST, "{answers:?}");
            let items: Vec<&str> = open.iter().map(|&at| &*bodies[at]).collect();
            let body = format!(r#"{{"events":[{}]}}"#, items.join(","));
            let whole = insist(async || api.post("/v1/events/batch", body.clone()).await).await?;
            let whole = whole.json();
            let items = whole["items"].as_array().expect("items").iter();
            for (&at, item) in open.iter().zip(items) {
                let http_status = item["status"]
                    .as_u64()
                    .and_then(|code| code.try_into().ok());
                answers[at] = (http_status.expect("a number"), item.clone());
            }
            again.tick().await;
        }
    }

    async fn conflict(&mut self, api: &mut Api, place: usize) -> Result<(), Gone> {
        let mut body = json!({ "id": self.asked[place].id, "type": "order.paid" });
        body["guarantee"] = json!(self.asked[place].guarantee.name());
        body["endpoints"] = json!([self.endpoints["/good"]]);
        body["payload"] = json!({ "another": "one" });
        let body = body.to_string();
        let answer = insist(async || api.post("/v1/events", body.clone()).await).await?;
        self.asked[place].conflicts.push(answer.http_status == 409);
        Ok(())
    }

    fn body(&self, place: usize) -> String {
        let asked = &self.asked[place];
        let ids: Vec<&String> = asked
            .paths
            .iter()
            .map(|path| &self.endpoints[path])
            .collect();
        let mut body = json!({
            "id": asked.id,
            "type": "order.paid",
            "guarantee": asked.guarantee.name(),
            "endpoints": ids,
        });
        if let Some(key) = &asked.ordering_key {
            body["ordering_key"] = json!(key);
        }
        // The payload is spliced in as it is, because its very bytes are what has to arrive.
        let body = body.to_string();
        let payload = payload(&asked.id, self.pad_bytes);
        format!(r#"{},"payload":{payload}}}"#, &body[..body.len() - 1])
    }
}

fn payload(id: &str, pad_bytes: usize) -> String {
    format!(r#"{{"event":"{id}","pad":"{}"}}"#, "x".repeat(pad_bytes))
}

/// Asks until the engine does not refuse for the moment.
async fn insist(mut ask: impl AsyncFnMut() -> Result<Answer, Lost>) -> Result<Answer, Gone> {
    let began = Instant::now();
    let mut again = tokio::time::interval(AGAIN);
    loop {
        let answer = ask().await?;
        if !matches!(answer.http_status, 429 | 500 | 503 | 507) {
            return Ok(answer);
        }
        assert!(began.elapsed() < INSIST, "refused: {}", answer.line());
        again.tick().await;
    }
}

fn said(body: &Value) -> Option<Said> {
    let deliveries = body["deliveries"].as_array()?.iter();
    let ids = deliveries.map(|delivery| Some(delivery["id"].as_str()?.to_owned()));
    Some(Said {
        repeat: body["duplicate"].as_bool()?,
        event: body["event_id"].as_str()?.to_owned(),
        deliveries: ids.collect::<Option<Vec<String>>>()?,
    })
}
