//! A whole API in memory: the real router, registry and engine over the model store, with no
//! network. Attempts are opened and stay under way, unless a test settles them.

#![allow(dead_code)] // each test file uses its own part

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use postrider::config;
use postrider::http::intake::{Intake, Load};
use postrider::http::{Api, admin_router, body_room, router};
use postrider::observe::Metrics;
use postrider::registry::{Change, Endpoint, Gatekeeper, KeyDraft, Registry, Role, Tenant};
use postrider::stamp::OuterIds;
use postrider::store::model::{ModelLedger, ModelStore};
use postrider::store::{Ledger, Reader, Verdict};
use postrider::transport::{Limits, NetworkPolicy, Transport};
use postrider::vault::Vault;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::engine::{Config, Engine, Input, Origin, Refusal, Reply, Why};
use postrider_core::event::{LaneCounter, Seen, Submission};
use postrider_core::executor::{Executor, World};
use postrider_core::id::{Ask, DeliveryId, EndpointId, KeyDigest, OrderingKey};
use postrider_core::ledger::Record;
use postrider_core::observation::Observation;
use postrider_core::outcome::Outcome;
use postrider_core::policy::Policy;
use postrider_core::time::Time;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

/// When every test begins.
pub const START: Time = Time(1_800_000_000_000);

pub struct Kit {
    pub router: Router,
    pub admin: Router,
    pub registry: Arc<Registry>,
    pub store: ModelStore,
    pub engine: Arc<InMemory>,
    pub metrics: Arc<Metrics>,
    pub draining: watch::Sender<bool>,
    keys: Mutex<HashMap<(Role, Option<String>), String>>,
}

#[derive(Debug)]
pub struct Answer {
    pub http_status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body, which has to be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The problem's code.
    pub fn code(&self) -> String {
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

impl Kit {
    pub fn new() -> Kit {
        Kit::with(config::Server::default())
    }

    pub fn with(limits: config::Server) -> Kit {
        let vault = Vault::of(&[7; 32]);
        let registry = Arc::new(Registry::in_memory(&vault).expect("a registry"));
        let ids = OuterIds::new(&vault);
        let store = ModelStore::default();
        let engine = Arc::new(InMemory::new(&store, ids.clone()));
        for policy in registry.policies().versions() {
            engine.input(Input::Policy(Arc::clone(policy)));
        }
        registry.announce_to(Arc::new(Announcer(
            Arc::clone(&engine),
            Arc::downgrade(&registry),
        )));
        let metrics = Arc::new(Metrics::default());
        let (draining, watched) = watch::channel(false);
        let (_, reader) = store.open();
        let api = Arc::new(Api {
            registry: Arc::clone(&registry),
            intake: engine.clone(),
            reader,
            locate: Arc::new(ids),
            transport: Arc::new(Transport::new(Limits::default(), NetworkPolicy::default())),
            metrics: Arc::clone(&metrics),
            body_room: body_room(&limits),
            limits,
            receipts: Arc::new(postrider::receipts::ReceiptTokens::new(
                &Vault::of(&[7; 32]),
                None,
            )),
            push_hosts: Vec::new(),
            allow_http: false,
            retry_after_ms: 1_500,
            draining: watched,
        });
        Kit {
            router: router(Arc::clone(&api)),
            admin: admin_router(api),
            registry,
            store,
            engine,
            metrics,
            draining,
            keys: Mutex::default(),
        }
    }

    pub fn tenant(&self, name: &str) -> Arc<Tenant> {
        self.registry.ensure_tenant(name, START).expect("a tenant")
    }

    /// A key with this role, in this tenant or everywhere.
    pub fn key(&self, role: Role, tenant: Option<&str>) -> String {
        let name = (role, tenant.map(str::to_owned));
        if let Some(key) = self.keys.lock().get(&name) {
            return key.clone();
        }
        let draft = KeyDraft {
            name: "test".into(),
            role,
            tenant: tenant.map(|tenant| self.tenant(tenant).id),
            expires_at: None,
            environment: "test".into(),
        };
        let (_, text) = self.registry.create_key(draft, START).expect("a key");
        let text = text.expose_secret().to_owned();
        self.keys.lock().insert(name, text.clone());
        text
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        call(&self.router, request).await
    }

    pub async fn ask(&self, key: &str, method: Method, path: &str, body: &str) -> Answer {
        self.ask_with(key, method, path, body, &[]).await
    }

    pub async fn ask_with(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(
            request
                .body(Body::from(body.to_owned()))
                .expect("a request"),
        )
        .await
    }

    pub async fn post(&self, key: &str, path: &str, body: &str) -> Answer {
        self.ask(key, Method::POST, path, body).await
    }

    pub async fn get(&self, key: &str, path: &str) -> Answer {
        self.ask(key, Method::GET, path, "").await
    }

    /// An endpoint of the tenant, by its id.
    pub async fn endpoint(&self, tenant: &str, body: &str) -> String {
        let key = self.key(Role::Admin, Some(tenant));
        let answer = self.post(&key, "/v1/endpoints", body).await;
        assert_eq!(answer.http_status, StatusCode::CREATED, "{}", answer.text);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }
}

pub async fn call(router: &Router, request: Request<Body>) -> Answer {
    use tower_service::Service as _;
    let response = router.clone().call(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    Answer {
        http_status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).expect("text"),
    }
}

/// The engine, turned by whoever asks.
pub struct InMemory {
    executor: Mutex<Executor<Memory>>,
    now_ms: AtomicI64,
    /// What `load` answers.
    pub load: Mutex<Load>,
    /// Answers every submission so, if set.
    pub refuse: Mutex<Option<Why>>,
    /// Loses every submission, as an engine that has just ended does.
    pub dead: Mutex<bool>,
}

struct Memory {
    ledger: ModelLedger,
    reader: Arc<dyn Reader>,
    replies: HashMap<Ask, Reply>,
    next: Vec<Input>,
    sent: Vec<Dispatch>,
}

impl InMemory {
    fn new(store: &ModelStore, ids: OuterIds) -> InMemory {
        let (mut ledger, reader) = store.open();
        let recovery = ledger.recover(&mut |_| {}).expect("an empty store");
        let origin = Origin {
            epoch: recovery.epoch,
            ..Origin::default()
        };
        let engine = Engine::new(Config::default(), Box::new(ids), origin);
        let memory = Memory {
            ledger,
            reader,
            replies: HashMap::new(),
            next: Vec::new(),
            sent: Vec::new(),
        };
        InMemory {
            executor: Mutex::new(Executor::new(engine, memory)),
            now_ms: AtomicI64::new(START.0),
            load: Mutex::new(Load {
                recovered: true,
                waiting_max: 100,
                window_max: 100,
                ..Load::default()
            }),
            refuse: Mutex::default(),
            dead: Mutex::default(),
        }
    }

    /// Feeds the engine, and everything that follows from it.
    pub fn input(&self, input: Input) {
        let mut executor = self.executor.lock();
        executor.turn(self.now(), [input]);
        loop {
            let next = std::mem::take(&mut executor.world().next);
            if next.is_empty() {
                break;
            }
            executor.turn(self.now(), next);
        }
    }

    /// Lets time pass.
    pub fn pass_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
        self.input(Input::Wake);
    }

    /// The attempts that were sent since this was asked last.
    pub fn sent(&self) -> Vec<Dispatch> {
        std::mem::take(&mut self.executor.lock().world().sent)
    }

    /// Answers an attempt.
    pub fn answer(&self, dispatch: &Dispatch, outcome: Outcome) {
        self.input(Input::Answered {
            delivery: dispatch.delivery,
            attempt: dispatch.attempt,
            outcome: Box::new(outcome),
            entropy: 1 << 63,
        });
    }

    fn reply(&self, ask: Ask) -> Reply {
        self.executor
            .lock()
            .world()
            .replies
            .remove(&ask)
            .expect("an answered ask")
    }
}

impl Intake for InMemory {
    fn submit(&self, submissions: Vec<Box<Submission>>) -> oneshot::Receiver<Vec<Reply>> {
        let (answer, answered) = oneshot::channel();
        if *self.dead.lock() {
            return answered;
        }
        let one = |(place, submission): (usize, Box<Submission>)| {
            if let Some(why) = *self.refuse.lock() {
                return Reply::Refused {
                    why,
                    retry_after_ms: 700,
                };
            }
            let ask = Ask(place as u64);
            self.input(Input::Submit { submission, ask });
            self.reply(ask)
        };
        let _ = answer.send(submissions.into_iter().enumerate().map(one).collect());
        answered
    }

    fn cancel(&self, delivery: DeliveryId) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        self.input(Input::Cancel {
            delivery,
            ask: Ask(0),
        });
        let _ = answer.send(self.reply(Ask(0)));
        answered
    }

    fn receipt(&self, delivery: DeliveryId, receipt: u8) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        self.input(Input::Receipt {
            delivery,
            receipt,
            ask: Ask(0),
        });
        let _ = answer.send(self.reply(Ask(0)));
        answered
    }

    fn load(&self) -> Load {
        *self.load.lock()
    }

    fn now(&self) -> Time {
        Time(self.now_ms.load(Ordering::Relaxed))
    }
}

impl World for Memory {
    fn seen(&mut self, key: &KeyDigest, now: Time) -> Option<Seen> {
        self.reader.seen(key, now).expect("the model answers")
    }

    fn lane(&mut self, endpoint: EndpointId, key: OrderingKey) -> Option<LaneCounter> {
        self.reader.lane(endpoint, key).ok()
    }

    fn record(&mut self, records: Vec<Box<Record>>) {
        let records: Vec<Record> = records.into_iter().map(|record| *record).collect();
        let through = records.last().expect("a record").ticket;
        let verdicts = self.ledger.record(&records).expect("the model never fails");
        let mut refused = Vec::new();
        for (record, verdict) in records.into_iter().zip(verdicts) {
            let why = match verdict {
                Verdict::Recorded => continue,
                Verdict::Full => Refusal::Full,
                Verdict::Fenced => Refusal::Fenced,
                Verdict::Conflict(_) => Refusal::Conflict,
                Verdict::KeyTaken(seen) => Refusal::KeyTaken(seen),
            };
            refused.push((Box::new(record), why));
        }
        self.next.push(Input::Recorded { through, refused });
    }

    fn send(&mut self, dispatches: Vec<Dispatch>) {
        self.sent.extend(dispatches);
    }

    fn reply(&mut self, ask: Ask, reply: Reply) {
        self.replies.insert(ask, reply);
    }

    fn load(&mut self, ids: Vec<DeliveryId>) {
        let rows = self.reader.deliveries(&ids).expect("the model answers");
        let absent = ids
            .into_iter()
            .filter(|id| !rows.iter().any(|row| row.id == *id))
            .collect();
        let deliveries = rows
            .into_iter()
            .map(|row| (row, LaneCounter::default()))
            .collect();
        self.next.push(Input::Loaded { deliveries, absent });
    }

    fn retire(&mut self, _: EndpointId, _: Cause, _: Time) {}

    fn observe(&mut self, _: Observation) {}
}

struct Announcer(Arc<InMemory>, std::sync::Weak<Registry>);

impl Gatekeeper for Announcer {
    fn endpoint_changed(&self, endpoint: &Arc<Endpoint>, _: Change) {
        let registry = self.1.upgrade().expect("the registry that calls");
        self.0.input(Input::Endpoint(postrider::run::gate(
            endpoint,
            &registry.policies(),
        )));
    }

    fn policy_changed(&self, policy: &Arc<Policy>) {
        self.0.input(Input::Policy(Arc::clone(policy)));
    }
}
