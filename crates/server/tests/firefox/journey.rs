//! From an event that an application submits to what a person sees, and back into the ledger.
//!
//! Absent here: what the client package does alone; see `main.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use postrider::fake::{Act, Behaviour, Filter, When};
use serde_json::{Value, json};

use crate::World;
use crate::engine::Engine;

/// Ends the subscription.
const UNSUBSCRIBE: &str = r#"
    const { unsubscribe } = await import("/client/src/page.js");
    return unsubscribe();
"#;

/// A browser that has subscribed with the engine's key and is registered as carla's.
struct Carla {
    world: World,
    engine: Engine,
    /// The endpoint's id.
    endpoint: String,
    /// The path of the subscription at the push service.
    path: String,
}

impl Carla {
    async fn subscribed() -> Carla {
        let mut world = World::start().await;
        let engine = Engine::start(world.fake.address()).await;
        let registration = world.subscribe(&engine.public_key).await;
        let url = registration["endpoint"].as_str().expect("an endpoint");
        let path = url.strip_prefix(&world.fake.url("")).expect("of the fake");
        Carla {
            endpoint: engine.register("carla", &registration).await,
            path: path.to_owned(),
            world,
            engine,
        }
    }

    /// A notification for carla, under the caller's own id.
    fn event(id: &str) -> Value {
        let notification = json!({ "title": id, "body": "Grüße, 世界 🌍", "url": "/orders/7" });
        let payload = json!({ "notification": notification, "data": { "order": 7 } });
        json!({ "type": "order.paid", "id": id, "recipient": "carla", "payload": payload })
    }

    /// What the worker was asked to show under this title.
    fn shown(&self, title: &str) -> Vec<Value> {
        let mut shown = self.world.site.told("show");
        shown.retain(|show| show["title"] == title);
        shown
    }
}

fn is_confirmed(delivery: &Value) -> bool {
    delivery["state"] == "confirmed"
}

#[tokio::test]
async fn what_the_engine_sends_is_shown_and_confirmed() {
    let mut carla = Carla::subscribed().await;
    for (number, length) in [1, 1_000, 3_993].into_iter().enumerate() {
        // Text, of letters that do not fit into one byte where there is room for them.
        let text = "ü".repeat(length / 2) + &"x".repeat(length % 2);
        let payload = STANDARD.encode(&text);
        let raw = json!({ "type": "order.paid", "recipient": "carla", "payload_base64": payload });
        let delivery = carla.engine.send(raw).await;
        carla.world.site.wait("push handled", number + 1).await;
        assert_eq!(carla.world.site.told("push")[number]["bytes"], length);
        assert_eq!(carla.world.site.told("show")[number]["body"], text);
        let accepted = |delivery: &Value| delivery["state"] == "accepted";
        carla.engine.wait_for(&delivery, accepted).await;
    }

    let mut event = Carla::event("order-1");
    // Or Firefox puts it away after a while.
    event["payload"]["notification"]["requireInteraction"] = true.into();
    let delivery = carla.engine.send(event).await;
    let row = carla.engine.wait_for(&delivery, is_confirmed).await;
    assert_eq!(
        (&row["attempt"], &row["receipts"]),
        (&json!(1), &json!(["displayed"]))
    );
    let shown = carla.shown("order-1");
    assert_eq!(
        (&shown[0]["id"], &shown[0]["body"]),
        (&json!(delivery), &json!("Grüße, 世界 🌍"))
    );
    assert_eq!(
        shown[0]["tag"].as_str().map(str::len),
        Some(32),
        "the key of a repeat"
    );

    // Who was not sent the notification does not know the token.
    let forged = json!({ "id": delivery, "token": "AAAAAAAAAAAAAAAAAAAAAA", "kind": "clicked" });
    let forged = json!({ "receipts": [forged] });
    let answer = carla.engine.ask(Method::POST, "/v1/receipts", forged).await;
    assert_eq!(
        (&answer["kept"], &answer["refused"][0]["why"]),
        (&json!(0), &json!("forged"))
    );

    carla.world.firefox.click("order-1").await;
    let is_clicked = |row: &Value| row["receipts"] == json!(["displayed", "clicked"]);
    carla.engine.wait_for(&delivery, is_clicked).await;
    assert_eq!(
        carla.world.site.wait("opened", 2).await[1]["path"],
        "/orders/7"
    );
}

#[tokio::test]
async fn three_triggers_and_a_lost_answer_show_one_notification_each() {
    let carla = Carla::subscribed().await;
    let send = || carla.engine.send(Carla::event("order-1"));
    let (one, two, three) = tokio::join!(send(), send(), send());
    assert!(one == two && two == three, "one delivery for all three");
    let row = carla.engine.wait_for(&one, is_confirmed).await;
    assert_eq!(row["attempt"], 1);

    // The push service takes the push over and hands it on, and nobody is told.
    let lost = Behaviour::of(&carla.path).rule(When::First(1), Act::CloseAfterRequest);
    carla.world.fake.set(lost).expect("a behaviour");
    let delivery = carla.engine.send(Carla::event("order-2")).await;
    let is_over = |row: &Value| is_confirmed(row) && row["attempt"] == 2;
    let row = carla.engine.wait_for(&delivery, is_over).await;
    assert_eq!(row["may_have_acted"], true, "{row:#}");

    // Pushes reach a worker in the order in which they came, so behind this one nothing is left.
    let last = carla.engine.send(Carla::event("order-3")).await;
    carla.engine.wait_for(&last, is_confirmed).await;
    carla.world.site.wait("push handled", 4).await;
    assert_eq!(
        carla.world.site.told("push").len(),
        4,
        "the second order came twice"
    );
    for id in ["order-1", "order-2", "order-3"] {
        assert_eq!(carla.shown(id).len(), 1, "{id}");
    }
}

#[tokio::test]
async fn a_browser_that_unsubscribed_is_never_sent_to_again() {
    let mut carla = Carla::subscribed().await;
    assert_eq!(
        carla.world.firefox.page(UNSUBSCRIBE, Value::Null).await,
        true
    );
    let delivery = carla.engine.send(Carla::event("order-1")).await;
    let is_settled = |row: &Value| row["settled_at"].is_string();
    let row = carla.engine.wait_for(&delivery, is_settled).await;
    assert_eq!(
        (&row["state"], &row["attempt"]),
        (&json!("rejected"), &json!(1))
    );
    assert_eq!(row["last_http_status"], 410, "{row:#}");
    let path = format!("/v1/endpoints/{}", carla.endpoint);
    let is_retired = |endpoint: &Value| endpoint["state"] == "retired";
    carla.engine.wait_at(&path, is_retired).await;
    let delivery = carla.engine.send(Carla::event("order-2")).await;
    let row = carla.engine.wait_for(&delivery, is_settled).await;
    assert_eq!(
        (&row["state"], &row["attempt"]),
        (&json!("suppressed"), &json!(0))
    );
    let asked = Filter {
        path: Some(carla.path.clone()),
        ..Filter::default()
    };
    assert_eq!(
        carla.world.fake.requests(&asked).len(),
        1,
        "the one that got the 410"
    );
    assert_eq!(carla.world.fake.push().history(None), []);
}
