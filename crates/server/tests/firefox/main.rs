//! The proof that a notification is seen: a real Firefox subscribes through the shipped client
//! package to the fake push service, and what the engine sends it is decrypted and shown, once.
//!
//! What counts is what the worker did: each push that reached it, and each `showNotification`. What
//! is left on the screen proves nothing, since a repeat replaces what it repeats.

use postrider::channel::web_push::encrypt;
mod engine;
mod firefox;
mod journey;
mod site;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use postrider::fake::push::{ACKNOWLEDGED, End, Missing, Parcel, Passage};
use postrider::fake::{Fake, Settings};
use serde_json::{Value, json};

use firefox::Firefox;
use site::Site;

/// Longest wait for the browser.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Some application's public key (RFC 8292 section 2.4). Nothing is signed with it here.
const PUBLIC_KEY: &str =
    "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";

/// Another (RFC 8291 appendix A).
const OTHER_PUBLIC_KEY: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";

/// Subscribes through the client package, and tells the registration.
const SUBSCRIBE: &str = r#"
    const { subscribe } = await import("/client/src/page.js");
    let registration;
    const register = async (told) => { registration = told; };
    await subscribe({ ...input, worker: "/worker.js", register });
    return registration;
"#;

/// The client package's own checks, over IndexedDB.
const CHECKS: &str = r#"
    const { run } = await import("/client/test/checks.js");
    const { IndexedStore } = await import("/client/src/store.js");
    return run((name) => new IndexedStore(name));
"#;

/// A fake that browsers may subscribe to, a site, and a browser that has opened it.
struct World {
    fake: Fake,
    site: Site,
    firefox: Firefox,
}

impl World {
    async fn start() -> World {
        let settings = Settings {
            browsers: Some(([127, 0, 0, 1], 0).into()),
            ..Settings::default()
        };
        let fake = Fake::start(settings).await.expect("it starts");
        let site = Site::start().await;
        let mut firefox = Firefox::start(&fake.browsers_url().expect("it listens")).await;
        firefox.open(&site.url("/")).await;
        World {
            fake,
            site,
            firefox,
        }
    }

    /// Subscribes through the client package; what it registers.
    async fn subscribe(&mut self, public_key: &str) -> Value {
        let key = json!({ "publicKey": public_key });
        let registration = self.firefox.page(SUBSCRIBE, key).await;
        assert_eq!(registration["application_server_key"], public_key);
        registration
    }

    /// Pushes to a browser that registered so, past the service's doors.
    fn push(&self, registration: &Value, plaintext: &str) {
        let parcel = Parcel {
            ttl_s: 60,
            encoding: "aes128gcm".into(),
            body: encrypted(registration, plaintext.as_bytes()),
            ..Parcel::default()
        };
        let pushed = self.fake.push().push(&token(registration), parcel);
        pushed.expect("a subscription");
    }
}

/// The part of an endpoint that names the subscription.
fn token(registration: &Value) -> String {
    let endpoint = registration["endpoint"].as_str().expect("an endpoint");
    endpoint.rsplit('/').next().expect("a token").to_owned()
}

/// Encrypts for the browser that registered so.
fn encrypted(registration: &Value, plaintext: &[u8]) -> Bytes {
    let key = |name: &str| {
        let text = registration["keys"][name].as_str().expect("a key");
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    };
    let receiver = encrypt::Receiver::new(&key("p256dh"), &key("auth")).expect("keys");
    let ours = encrypt::Ephemeral::generate().expect("a key pair");
    encrypt::encrypt(&receiver, &ours, &rand::random(), plaintext, 0).expect("it fits")
}

#[tokio::test]
async fn the_package_holds_over_indexed_db_and_another_key_ends_a_subscription() {
    let mut world = World::start().await;
    assert_eq!(world.firefox.page(CHECKS, Value::Null).await, json!({}));

    let first = world.subscribe(PUBLIC_KEY).await;
    let endpoint = first["endpoint"].as_str().expect("an endpoint");
    assert!(
        endpoint.starts_with(&world.fake.url("/wpush/v2/")),
        "{endpoint}"
    );
    let renewed = world.subscribe(OTHER_PUBLIC_KEY).await;
    assert_eq!(renewed["previous_endpoint"], first["endpoint"]);
    assert_ne!(renewed["endpoint"], first["endpoint"]);
    let subscriptions = world.fake.push();
    assert_eq!(subscriptions.key(&token(&first)), Err(Missing::Gone));
    assert!(subscriptions.key(&token(&renewed)).is_ok());
}

#[tokio::test]
async fn a_push_is_shown_once_and_its_receipts_are_true() {
    let mut world = World::start().await;
    let registration = world.subscribe(PUBLIC_KEY).await;
    let long = "x".repeat(3_993);
    for (number, text) in ["x", "Grüße, 世界 🌍", &long].into_iter().enumerate() {
        world.push(&registration, text);
        let handled = world.site.wait("push handled", number + 1).await;
        assert!(handled[number]["error"].is_null(), "{handled:?}");
        assert_eq!(world.site.told("show")[number]["body"], text);
    }

    // Each receipt goes to where its notification says, under its token.
    let receipts = world.site.url("/receipts");
    let notification = |id: &str, title: &str| {
        let notification = json!({
            "title": title, "body": id, "tag": "orders", "url": "/orders/7",
            // Or Firefox puts it away after a while.
            "requireInteraction": true,
        });
        let receipt = json!({ "url": receipts, "token": id });
        let postrider = json!({ "id": id, "key": "key", "receipt": receipt });
        json!({ "notification": notification, "postrider": postrider }).to_string()
    };
    world.push(&registration, &notification("first", "Ordered"));
    world.push(&registration, &notification("first", "Ordered"));
    world.push(&registration, &notification("second", "Paid"));
    world.site.wait("push handled", 6).await;
    let shown = world.site.told("show").split_off(3);
    let ids: Vec<_> = shown.iter().map(|show| show["id"].clone()).collect();
    assert_eq!(
        ids,
        ["first", "second"],
        "what comes again is not shown again"
    );
    assert_eq!(world.site.told("push").len(), 6);

    world.firefox.click("Paid").await;
    assert_eq!(world.site.wait("opened", 2).await[1]["path"], "/orders/7");
    world.push(&registration, &notification("third", "Sent"));
    world.site.wait("push handled", 7).await;
    world.firefox.dismiss("Sent").await;
    // That the second took the first one's place is nobody's doing.
    let expected = json!([
        ["first", "displayed"],
        ["second", "clicked"],
        ["second", "displayed"],
        ["third", "dismissed"],
        ["third", "displayed"],
    ]);
    let site = &world.site;
    site.wait_for(|| receipts_of(site).len() >= 5).await;
    assert_eq!(json!(receipts_of(site)), expected);

    let history = world.fake.push().history(None);
    let is_read = |passage: &Passage| (passage.end, passage.code) == (End::Acknowledged, 100);
    assert!(history.iter().all(is_read), "{history:?}");
}

/// The id and the kind of each receipt that was sent to the site, sorted.
fn receipts_of(site: &Site) -> Vec<Value> {
    let requests = site.told("receipts");
    let receipts = requests
        .iter()
        .flat_map(|request| request["receipts"].as_array().expect("a list"));
    let mut receipts: Vec<_> = receipts
        .inspect(|receipt| assert_eq!(receipt["token"], receipt["id"]))
        .map(|receipt| json!([receipt["id"], receipt["kind"]]))
        .collect();
    receipts.sort_by_key(Value::to_string);
    receipts
}

/// Presses the button of the fake's own page, and tells what the page says then.
const PRESS: &str = r#"
    const told = document.querySelector("pre");
    const said = new Promise((resolve) => {
        new MutationObserver(() => resolve()).observe(told, { childList: true });
    });
    document.querySelector("button").click();
    await said;
    return told.textContent;
"#;

#[tokio::test]
async fn the_fakes_own_page_makes_a_device_of_a_browser() {
    let mut world = World::start().await;
    let page = format!(
        "{}#{PUBLIC_KEY},http://api,secret",
        world.fake.url("/_/browser")
    );
    world.firefox.open(&page).await;
    let said = world.firefox.page(PRESS, Value::Null).await;
    let said = said.as_str().expect("text");
    assert!(
        said.contains("curl http://api/v1/devices -H 'Authorization: Bearer secret'"),
        "{said}"
    );
    let device = said.split('\'').nth(3).expect("a body");
    let device: Value = serde_json::from_str(device).expect("JSON");
    let registration = &device["web_push"];
    let key = world
        .fake
        .push()
        .key(&token(registration))
        .expect("it is subscribed");
    assert_eq!(key.as_deref(), Some(PUBLIC_KEY));
    world.push(registration, r#"{"notification":{"title":"hi"}}"#);
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    let shown = async {
        while world.fake.push().history(None)[0].end != End::Acknowledged {
            look.tick().await;
        }
    };
    let shown = tokio::time::timeout(PATIENCE, shown).await;
    shown.expect("its worker takes what comes");
    assert_eq!(world.fake.push().history(None)[0].code, ACKNOWLEDGED);
}
