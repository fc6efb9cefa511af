//! What is asked of the engine, again and again the same: routes, endpoints, devices, events of all
//! guarantees, orders, batches, repeats, and another payload under a key that is taken.
//!
//! Absent here: kills, and judgement of what came of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use postrider::cli::demo::api::{Answer, Api, Lost};
use postrider::cli::demo::evidence::{Asked, Said};
use postrider::cli::demo::{Way, payload};
use postrider_core::endpoint::Channel;
use postrider_core::policy::Guarantee::{self, AtLeastOnce, AtMostOnce, EffectivelyOnce};
use serde_json::{Value, json};

use crate::receivers::{Receiver, Receivers, is_webhook, named, of_round};

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

/// The events: receivers, guarantee, whether in the one order there is. Firebase is never asked
/// again within ten seconds, so in a quick load the device whose first answer it loses gets
/// at-most-once only.
#[rustfmt::skip]
const EVENTS: [(&[&str], Guarantee, bool); 25] = [
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
    (&["/web", "/apns", "/fcm"], EffectivelyOnce, false),
    (&["/web", "/apns", "/fcm"], AtMostOnce, false),
    (&["/web", "/apns", "/fcm", "/good"], AtLeastOnce, true),
    (&["/web-lost", "/apns-lost"], EffectivelyOnce, true),
    (&["/web-lost", "/apns-lost", "/fcm-lost"], AtMostOnce, false),
    (&["/web-lost", "/apns-lost"], AtLeastOnce, true),
    (&["/web-gone", "/apns-gone", "/fcm-gone"], AtLeastOnce, false),
    (&["/web-gone", "/apns-gone", "/fcm-gone"], EffectivelyOnce, false),
    (&["/web-left", "/apns-left", "/fcm-left"], AtMostOnce, false),
    (&["/fcm-lost"], EffectivelyOnce, false),
];
/// The one that a load takes up which has the time to wait for it.
const PATIENT: usize = EVENTS.len() - 1;

/// What is asked in one request.
enum Step {
    /// These events; more than one as a batch.
    Submit(&'static [usize]),
    /// Another payload under this event's key.
    Conflict(usize),
}

/// The requests, in order.
const STEPS: [Step; 19] = [
    Step::Submit(&[0]),
    Step::Submit(&[1]),
    Step::Submit(&[15]),
    Step::Submit(&[2]),
    Step::Submit(&[21]),
    Step::Submit(&[3, 4, 5, 6]),
    Step::Submit(&[0]),
    Step::Conflict(1),
    Step::Submit(&[18, 19, 20]),
    Step::Submit(&[7]),
    Step::Submit(&[8, 9]),
    Step::Submit(&[16, 17]),
    Step::Submit(&[10]),
    Step::Submit(&[11]),
    Step::Submit(&[15]),
    Step::Submit(&[12, 13]),
    Step::Submit(&[22, 23]),
    Step::Submit(&[2]),
    Step::Submit(&[14]),
];

/// What the API said that it made.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Routes, by name.
    routes: BTreeSet<String>,
    /// Ids of endpoints, by the names of their receivers.
    endpoints: BTreeMap<String, String>,
}

impl Made {
    /// Takes over what was made before.
    pub fn and(&mut self, before: Made) {
        self.routes.extend(before.routes);
        self.endpoints.extend(before.endpoints);
    }
}

/// One round of the load, and everything that was answered.
#[derive(Clone, Debug)]
pub struct Load {
    round: usize,
    /// Bytes by which the payloads of webhooks are longer than they need be.
    pad_bytes: usize,
    /// In this round and those before.
    pub made: Made,
    pub asked: Vec<Asked>,
    accepted: u64,
}

impl Load {
    /// The round of this number, over endpoints that are not made yet.
    pub fn new(round: usize, pad_bytes: usize) -> Load {
        Load::of(round, pad_bytes, PATIENT)
    }

    /// The same, which waits until Firebase may be asked again.
    pub fn patient(round: usize) -> Load {
        Load::of(round, 0, EVENTS.len())
    }

    fn of(round: usize, pad_bytes: usize, events: usize) -> Load {
        let asked = |(place, (names, guarantee, ordered)): (usize, &(&[&str], Guarantee, bool))| {
            let mut asked = Asked {
                id: format!("event-{round}-{place}"),
                guarantee: *guarantee,
                ordering_key: ordered.then(|| format!("order-{round}")),
                paths: names.iter().map(|name| named(name, round)).collect(),
                payload_crc32c: 0,
                accepted_as: 0,
                answers: Vec::new(),
                unanswered: 0,
                conflicts: Vec::new(),
            };
            let payload = said(place, &asked.id, pad_bytes);
            asked.payload_crc32c = crc32c::crc32c(payload.as_bytes());
            asked
        };
        Load {
            round,
            pad_bytes,
            made: Made::default(),
            asked: EVENTS.iter().take(events).enumerate().map(asked).collect(),
            accepted: 0,
        }
    }

    /// Paths of the endpoints, by their ids.
    pub fn paths(&self) -> HashMap<String, String> {
        let turned = |(path, id): (&String, &String)| (id.clone(), path.clone());
        self.made.endpoints.iter().map(turned).collect()
    }

    /// The endpoints of this round that are devices: path, channel, id.
    pub fn devices(&self) -> Vec<(String, Channel, String)> {
        let device = |one: Receiver| match one.way {
            Way::Device(channel, _) => {
                let id = self.made.endpoints.get(&one.path)?.clone();
                Some((one.path, channel, id))
            }
            Way::Webhook(_) => None,
        };
        let all = of_round(self.round).into_iter();
        all.filter_map(device).collect()
    }

    /// Effectively-once notifications that devices have to show in the end.
    pub fn to_be_shown(&self) -> usize {
        let all = of_round(self.round).into_iter();
        let living = all.filter(|one| matches!(one.way, Way::Device(..)) && !one.is_gone());
        let living: BTreeSet<String> = living.map(|one| one.path).collect();
        let exactly = |asked: &&Asked| asked.guarantee == EffectivelyOnce;
        let paths = self
            .asked
            .iter()
            .filter(exactly)
            .flat_map(|asked| &asked.paths);
        paths.filter(|path| living.contains(*path)).count()
    }

    /// Deliveries that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let firsts = self.asked.iter().filter_map(|asked| asked.answers.first());
        firsts.map(|said| said.deliveries.len()).sum()
    }

    /// Asks for everything, whether it was answered before or not.
    pub async fn ask(&mut self, api: &mut Api, receivers: &Receivers) -> Result<(), Gone> {
        self.routes(api, receivers).await?;
        for receiver in of_round(self.round) {
            self.endpoint(api, receivers, receiver).await?;
        }
        if self.asked.len() > PATIENT {
            self.submit(api, &[PATIENT]).await?;
        }
        for step in &STEPS {
            match step {
                Step::Submit(places) => self.submit(api, places).await?,
                Step::Conflict(place) => self.conflict(api, *place).await?,
            }
        }
        Ok(())
    }

    /// Makes the routes that nobody has answered for yet, unless they are there; those that were
    /// answered for must be.
    async fn routes(&mut self, api: &mut Api, receivers: &Receivers) -> Result<(), Gone> {
        for (name, route) in receivers.routes() {
            let known = insist(async || api.get(&format!("/v1/routes/{name}")).await).await?;
            if !known.is_yes() {
                let answered = self.made.routes.contains(name);
                assert!(!answered, "the route {name} was lost: {}", known.line());
                let body = route.to_string();
                let made = insist(async || api.post("/v1/routes", body.clone()).await).await?;
                assert!(made.is_yes(), "{name}: {}", made.line());
            }
            self.made.routes.insert(name.to_owned());
        }
        Ok(())
    }

    /// Makes an endpoint that nobody has answered for yet; one that was answered for must be there.
    async fn endpoint(
        &mut self,
        api: &mut Api,
        receivers: &Receivers,
        receiver: Receiver,
    ) -> Result<(), Gone> {
        let path = receiver.path;
        if let Some(id) = self.made.endpoints.get(&path) {
            let answer = insist(async || api.get(&format!("/v1/endpoints/{id}")).await).await?;
            assert!(answer.is_yes(), "{path} was lost: {}", answer.line());
            return Ok(());
        }
        let (to, mut body) = match receiver.way {
            Way::Webhook(_) => {
                let url = receivers.webhooks.url(&path);
                ("/v1/endpoints", json!({ "url": url, "name": path }))
            }
            Way::Device(channel, trouble) => (
                "/v1/devices",
                receivers.registration(&path, channel, trouble),
            ),
        };
        body["policy"] = json!("brisk");
        let body = body.to_string();
        let answer = insist(async || api.post(to, body.clone()).await).await?;
        assert!(answer.is_yes(), "{path}: {}", answer.line());
        let made = answer.json();
        let word = |key: &str| made[key].as_str().expect("a word").to_owned();
        match receiver.way {
            Way::Webhook(behaviour) => {
                let known = behaviour.secret(&word("secret"));
                receivers.webhooks.set(known).expect("a behaviour");
            }
            Way::Device(..) => receivers.registered(&path),
        }
        self.made.endpoints.insert(path, word("id"));
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
            asked.answers.push(ids(body).expect("ids"));
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
        body["endpoints"] = json!([self.made.endpoints["/good"]]);
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
            .map(|path| &self.made.endpoints[path])
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
        let payload = said(place, &asked.id, self.pad_bytes);
        format!(r#"{},"payload":{payload}}}"#, &body[..body.len() - 1])
    }
}

/// The payload of an event. What goes to a device is bounded by its provider, so it is not padded.
fn said(place: usize, id: &str, pad_bytes: usize) -> String {
    let to_webhooks = EVENTS[place].0.iter().all(|name| is_webhook(name));
    let pad_bytes = if to_webhooks { pad_bytes } else { 0 };
    payload(id, &place.to_string(), &"x".repeat(pad_bytes))
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

fn ids(body: &Value) -> Option<Said> {
    let deliveries = body["deliveries"].as_array()?.iter();
    let ids = deliveries.map(|delivery| Some(delivery["id"].as_str()?.to_owned()));
    Some(Said {
        repeat: body["duplicate"].as_bool()?,
        event: body["event_id"].as_str()?.to_owned(),
        deliveries: ids.collect::<Option<Vec<String>>>()?,
    })
}
