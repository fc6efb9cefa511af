//! Who receives, and what each of them does: webhooks at a fake, browsers and phones at the fakes
//! of their providers.
//!
//! One set serves point after point: keys of providers take longer to make than an engine lives.
//! The devices are those of `postrider demo`. Absent here: what is sent to them.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use postrider::channel::web_push::vapid::VapidKey;
use postrider::cli::demo::evidence::{Nature, Push};
use postrider::cli::demo::phones::Phones;
use postrider::cli::demo::{Fault, Presence, Trouble, Way};
use postrider::fake::{Act, Behaviour, Fake, Filter, Record, Settings, When};
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel::{self, Apns, Fcm, WebPush};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

/// Requests that the providers remember: far more than a point makes.
const RECORDS_MAX: usize = 100_000;
/// The project of Firebase.
const PROJECT: &str = "kill-points";

/// One receiver.
pub struct Receiver {
    /// Its name; of a webhook the path of its URL.
    pub path: String,
    pub nature: Nature,
    pub way: Way,
}

impl Receiver {
    /// Whether its provider says that it is gone, from the first request on.
    pub fn is_gone(&self) -> bool {
        self.nature == Nature::Gone
    }
}

/// The name, in one round, of what the table below calls so. A device that is gone is so for good,
/// so every round has one of its own; `…-left` is that of the round before.
pub fn named(name: &str, round: usize) -> String {
    match name.strip_suffix("-left") {
        Some(start) => format!("{start}-gone-{}", round.saturating_sub(1)),
        None if name.ends_with("-gone") => format!("{name}-{round}"),
        None => name.to_owned(),
    }
}

/// The receivers of one round.
#[rustfmt::skip]
pub fn of_round(round: usize) -> Vec<Receiver> {
    use Nature::{Accepts, Gone, Refuses, Relents};
    let first = |path: &str, act| Behaviour::of(path).rule(When::AttemptsTo(1), act);
    let bad = Behaviour::of("/bad").rule(When::Always, Act::http_status(400));
    let lost = Relents(Cause::ConnectionLost);
    let well = Trouble { fault: None, presence: Presence::Stays };
    let resets = Trouble { fault: Some(Fault::Reset), ..well };
    let gone = Trouble { presence: Presence::Gone, ..well };
    let webhooks = [
        ("/good", Accepts, Behaviour::of("/good")),
        ("/fine", Accepts, Behaviour::of("/fine")),
        ("/later", Relents(Cause::ServiceDegraded), first("/later", Act::http_status(503))),
        ("/closes", lost, first("/closes", Act::CloseAfterRequest)),
        ("/bad", Refuses(Cause::BadRequest), bad),
    ];
    let devices = [
        ("/web", Accepts, WebPush, well),
        ("/web-lost", lost, WebPush, resets),
        ("/web-gone", Gone, WebPush, gone),
        ("/apns", Accepts, Apns, well),
        ("/apns-lost", lost, Apns, resets),
        ("/apns-gone", Gone, Apns, gone),
        ("/fcm", Accepts, Fcm, well),
        ("/fcm-lost", lost, Fcm, resets),
        ("/fcm-gone", Gone, Fcm, gone),
    ];
    let webhooks = webhooks.map(|(name, nature, does)| (name, nature, Way::Webhook(does)));
    let devices = devices.map(|(name, nature, channel, trouble)| {
        (name, nature, Way::Device(channel, trouble))
    });
    let all = webhooks.into_iter().chain(devices);
    all.map(|(name, nature, way)| Receiver { path: named(name, round), nature, way }).collect()
}

/// Whether this name of a round is that of a webhook.
pub fn is_webhook(name: &str) -> bool {
    let mut all = of_round(0).into_iter();
    all.any(|one| one.path == named(name, 0) && matches!(one.way, Way::Webhook(_)))
}

/// Everything that arrived.
#[derive(Clone, Default)]
pub struct Arrived {
    pub records: Vec<Record>,
    /// What devices were handed.
    pub pushes: Vec<Push>,
}

/// The fakes.
pub struct Receivers {
    pub webhooks: Fake,
    phones: Phones,
    /// What is posted to `/v1/routes`, by channel.
    routes: BTreeMap<Channel, Value>,
    /// The key that browsers subscribe with.
    browsers: String,
    devices: Mutex<BTreeMap<String, Installed>>,
}

/// A device that has the app.
struct Installed {
    /// What is posted to `/v1/devices`, each time the same.
    registration: Value,
    trouble: Trouble,
}

impl Receivers {
    pub async fn start() -> Receivers {
        let phones = Phones::start(RECORDS_MAX).await.expect("the providers");
        let private = VapidKey::generate();
        let browsers = VapidKey::parse(&private).expect("a key").public().into();
        let route = |channel| {
            (
                channel,
                phones.route(channel, PROJECT).expect("credentials"),
            )
        };
        let mut routes = BTreeMap::from([WebPush, Apns, Fcm].map(route));
        let of_browsers = routes.get_mut(&WebPush).expect("its route");
        of_browsers["web_push"]["private_key"] = json!(private.expose_secret());
        Receivers {
            webhooks: Fake::start(Settings::default()).await.expect("a fake"),
            phones,
            routes,
            browsers,
            devices: Mutex::default(),
        }
    }

    /// What the engine's configuration has to have so that the providers are reached.
    pub fn settings(&self) -> String {
        self.phones.settings()
    }

    /// What is posted to `/v1/routes`, and under which name it is found there.
    pub fn routes(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.routes
            .iter()
            .map(|(channel, route)| (channel.name(), route))
    }

    /// What is posted to `/v1/devices` for this one, which gets the app now if it has not.
    pub fn registration(&self, path: &str, channel: Channel, trouble: Trouble) -> Value {
        let mut devices = self.devices.lock();
        let installed = devices.entry(path.to_owned()).or_insert_with(|| {
            let body = self.phones.install(path, channel, &self.browsers);
            Installed {
                registration: body.expect("a device"),
                trouble,
            }
        });
        installed.registration.clone()
    }

    /// The device was registered, and from now on it has its trouble: what Apple says of a device
    /// that was gone before counts for nothing after.
    pub fn registered(&self, path: &str) {
        let trouble = self.devices.lock()[path].trouble;
        self.phones.trouble(path, trouble).expect("it takes it");
    }

    /// Everything that arrived since the fakes forgot.
    pub fn arrived(&self) -> Arrived {
        let (mut records, pushes) = self.phones.received();
        records.extend(self.webhooks.requests(&Filter::default()));
        Arrived { records, pushes }
    }

    /// Forgets what arrived, and begins every trouble anew.
    pub fn clear(&self) {
        self.webhooks.clear();
        self.phones.clear();
        let devices: Vec<String> = self.devices.lock().keys().cloned().collect();
        devices.iter().for_each(|path| self.registered(path));
    }
}
