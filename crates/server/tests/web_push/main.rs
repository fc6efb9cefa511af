//! Web Push, judged by others. `web-push` (npm) and `pywebpush` (PyPI) send to the fake push
//! service, which proves that it takes what real senders send; `http_ece` of both opens what
//! Postrider encrypts, which proves that real browsers can.

mod others;
#[path = "../package_kit/mod.rs"]
mod package_kit;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::BodyExt as _;
use others::Other;
use postrider::channel::Told;
use postrider::channel::reaction::Reactions;
use postrider::channel::web_push::encrypt::Ephemeral;
use postrider::channel::web_push::vapid::{Credentials, VapidKey};
use postrider::channel::web_push::{self, Fresh, Padding, Prepared};
use postrider::fake::push::{ACKNOWLEDGED, Agent, End, Pushed};
use postrider::fake::{Certificate, Fake, Settings, Tls};
use postrider::registry::WebPushKeys;
use postrider_core::event::Urgency;
use postrider_core::time::Time;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

const SUBJECT: &str = "mailto:ops@example.com";
const TOPIC: &str = "0123456789abcdefghijklmnopqrstuv";

/// A browser's keys.
struct Browser {
    private: String,
    p256dh: String,
    auth: String,
}

impl Browser {
    fn new() -> Browser {
        let scalar = VapidKey::generate();
        let bytes = URL_SAFE_NO_PAD.decode(scalar.expose_secret()).unwrap();
        let pair = Ephemeral::from_private(&bytes.try_into().unwrap()).unwrap();
        Browser {
            private: scalar.expose_secret().to_owned(),
            p256dh: URL_SAFE_NO_PAD.encode(pair.public()),
            auth: URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes()),
        }
    }

    /// What a package reads in a body.
    fn open(&self, other: &mut Other, body: &[u8]) -> Vec<u8> {
        let body = STANDARD.encode(body);
        let question =
            json!({ "do": "open", "private": self.private, "auth": self.auth, "body": body });
        let answer = other.ask(&question);
        let Some(plaintext) = answer["plaintext"].as_str() else {
            panic!("{}: {answer}", other.name)
        };
        STANDARD.decode(plaintext).unwrap()
    }
}

/// Payloads of every length that matters, and text that is more than ASCII.
fn payloads() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [0, 1, 1_000, 2_744, 3_993]
        .map(|length| (0..length).map(|n: usize| b'a' + (n % 26) as u8).collect())
        .into();
    all.push("Grüße, 世界 🌍".as_bytes().to_vec());
    all
}

fn whole(request: postrider::channel::Request) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let collected = runtime.unwrap().block_on(request.into_body().collect());
    collected.expect("a body in memory").to_bytes().to_vec()
}

#[test]
fn what_we_encrypt_is_opened_by_others() {
    let (browser, mut others) = (Browser::new(), Other::both(""));
    let credentials = Credentials::new(&[VapidKey::generate()], SUBJECT).unwrap();
    let keys = WebPushKeys {
        p256dh: browser.p256dh.clone(),
        auth: browser.auth.clone(),
        vapid_key: credentials.public().to_owned(),
    };
    let url = Url::parse("https://push.example.net/x").unwrap();
    let table = Reactions::parse("web_push.toml", web_push::REACTIONS).unwrap();
    let prepared = Prepared::new(&url, &keys, &Arc::new(credentials), &table).unwrap();
    for payload in payloads() {
        for padding in [Padding::None, Padding::Buckets] {
            let told = Told {
                payload: &payload,
                id: Uuid::new_v4(),
                sequence: None,
                replace_key: TOPIC.into(),
                collapses: false,
                urgency: Urgency::Normal,
                admitted_at: Time(0),
                expires_at: Time(60_000),
                receipt: None,
            };
            let fresh = Fresh::draw().unwrap();
            let written = web_push::encode(&prepared, &told, padding, &fresh, Time(0)).unwrap();
            let body = whole(written.request);
            for other in &mut others {
                let opened = browser.open(other, &body);
                assert_eq!(opened, payload, "{} {padding:?}", other.name);
            }
        }
    }
}

/// A push service over TLS, and a browser that subscribed at it for one sender.
struct Meeting {
    fake: Fake,
    agent: Agent,
    browser: Browser,
    endpoint: String,
    key: SecretString,
}

impl Meeting {
    async fn new() -> Meeting {
        let tls = Tls {
            certificate: Certificate::Good,
            ..Tls::default()
        };
        let settings = Settings {
            tls: Some(([127, 0, 0, 1], 0)).map(|at| (at.into(), tls)),
            ..Settings::default()
        };
        let fake = Fake::start(settings).await.expect("it starts");
        let key = VapidKey::generate();
        let public = VapidKey::parse(&key).unwrap().public().to_owned();
        let agent = fake.push().connect(None).unwrap();
        let endpoint = agent.register("channel-1", Some(&public)).unwrap();
        Meeting {
            fake,
            agent,
            browser: Browser::new(),
            endpoint,
            key,
        }
    }

    fn others(&self) -> [Other; 2] {
        Other::both(self.fake.tls().expect("it has TLS").1)
    }

    fn push(&self, key: &SecretString, payload: &[u8]) -> Value {
        json!({
            "do": "send",
            "endpoint": self.endpoint,
            "p256dh": self.browser.p256dh,
            "auth": self.browser.auth,
            "subject": SUBJECT,
            "public": VapidKey::parse(key).unwrap().public(),
            "private": key.expose_secret(),
            "ttl": 60,
            "topic": TOPIC,
            "urgency": "high",
            "payload": STANDARD.encode(payload),
        })
    }

    /// What came in; it was pushed before, so it is there.
    fn received(&self) -> Pushed {
        let runtime = tokio::runtime::Handle::current();
        let pushed = tokio::task::block_in_place(|| runtime.block_on(self.agent.next()));
        self.agent.acknowledge(&pushed.version, ACKNOWLEDGED);
        pushed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_send_is_taken_and_can_be_opened() {
    let meeting = Meeting::new().await;
    let mut others = meeting.others();
    // An empty payload is no payload to these senders, so it is left to the other test.
    for payload in &payloads()[1..] {
        for place in 0..others.len() {
            let sender = &mut others[place];
            let answer = sender.ask(&meeting.push(&meeting.key, payload));
            assert_eq!(answer["status"], 201, "{}: {answer}", sender.name);
            assert_eq!(answer["ttl"], "60", "{}: {answer}", sender.name);
            let pushed = meeting.received();
            let location = format!("/m/{}", pushed.version);
            assert!(answer["location"].as_str().unwrap().ends_with(&location));
            assert_eq!((&*pushed.encoding, pushed.ttl_s), ("aes128gcm", 60));
            for other in &mut others {
                assert_eq!(&meeting.browser.open(other, &pushed.body), payload);
            }
        }
    }
    let history = meeting.fake.push().history(None);
    assert_eq!(history.len(), 2 * (payloads().len() - 1));
    for passage in &history {
        assert_eq!(passage.replace.as_deref(), Some(TOPIC));
        assert_eq!(
            (&*passage.urgency, passage.end),
            ("high", End::Acknowledged)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_others_report() {
    let meeting = Meeting::new().await;
    for mut sender in meeting.others() {
        let mut errno = |key: &SecretString, payload: &[u8]| {
            let answer = sender.ask(&meeting.push(key, payload));
            let body = answer["body"].as_str().unwrap_or_default();
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            (answer["status"].clone(), body["errno"].clone())
        };
        let stranger = VapidKey::generate();
        assert_eq!(errno(&stranger, b"x"), (json!(401), json!(109)));
        assert_eq!(
            errno(&meeting.key, &[b'x'; 3_994]),
            (json!(413), json!(104))
        );
    }
    assert!(meeting.agent.unregister("channel-1"));
    for mut sender in meeting.others() {
        let answer = sender.ask(&meeting.push(&meeting.key, b"x"));
        assert_eq!(answer["status"], 410, "{}: {answer}", sender.name);
    }
    assert!(meeting.fake.push().history(None).is_empty());
}
